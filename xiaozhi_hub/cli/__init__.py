"""The command ``xiaozhi-hub``. Each subcommand is a module with ``add_parser(subparsers)`` and ``run(args) -> int``."""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence

from xiaozhi_hub import __version__
from xiaozhi_hub.cli.parser import Parser, Saying
from xiaozhi_hub.errors import HubError

COMMANDS = (
    "run",
    "reload",
    "check-config",
    "device",
    "devices",
    "assistants",
    "memory",
    "say",
    "turns",
    "doctor",
    "firmware",
    "conformance",
    "models",
    "integrations",
)
"""The module of a command is imported only when it is called, so that help and checks come at once. What each is for stands in the
translation files."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 is good, 1 failed with a message, 2 was called wrongly."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without arrows or Chinese shows question marks
    given = list(sys.argv[1:] if arguments is None else arguments)
    called = next((word for word in given if not word.startswith("-")), "")
    parser = Parser(prog="xiaozhi-hub", description="cli.about", allow_abbrev=False)
    parser.add_argument("--version", action=Saying, const=f"XiaoZhi Hub {__version__}", help="cli.options.version")
    subparsers = parser.add_subparsers(title="cli.options.commands", dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        if name == called:
            command = importlib.import_module(f"xiaozhi_hub.cli.{name.replace('-', '_')}")
            command.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=f"cli.commands.{name}")
    args = parser.parse_args(given)
    try:
        return int(command.run(args))
    except HubError as error:
        print(f"xiaozhi-hub: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain once more when it closes the stream at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


__all__ = ["COMMANDS", "main"]
