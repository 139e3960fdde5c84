"""The command ``xiaozhi-hub``. Each subcommand is a module with ``add_parser(subparsers)`` and ``run(args) -> int``."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

from xiaozhi_hub import __version__
from xiaozhi_hub.errors import HubError

COMMANDS = {
    "run": "start the hub",
    "reload": "have the running hub read its configuration again, and see what has changed",
    "check-config": "say whether the configuration is right, and what is wrong with it",
    "device": "be a device: ask the hub something and hear its answer",
    "devices": "list the devices, approve new ones, shut out others",
    "assistants": "show who answers on which device, and change it",
    "memory": "show, export or delete what the hub was asked to remember",
    "say": "say something on devices, now or at their next wake-up, and see who has heard it",
    "turns": "list what was asked and answered, or look closely at one turn",
    "doctor": "look at the hub as a device does, and say what is wrong and what to do",
    "firmware": "list firmware images, release one to devices, stop it, or pin a device to a version",
    "conformance": "check a server against the device protocol",
    "models": "list the models, see which fit this board, fetch them, bring them on a stick",
    "integrations": "list the integrations and whether they can run",
}
"""What each command is for. Its module is imported only when it is called, so that help and checks come at once."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 is good, 1 failed with a message, 2 was called wrongly."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without arrows or Chinese shows question marks
    given = list(sys.argv[1:] if arguments is None else arguments)
    called = next((word for word in given if not word.startswith("-")), "")
    parser = argparse.ArgumentParser(
        prog="xiaozhi-hub", description="An offline-first voice hub for the home.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"XiaoZhi Hub {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name == called:
            command = importlib.import_module(f"xiaozhi_hub.cli.{name.replace('-', '_')}")
            command.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
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
