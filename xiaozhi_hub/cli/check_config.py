"""``xiaozhi-hub check-config``: read the configuration as the hub would, and say what is wrong with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xiaozhi_hub.cli.options import add_config
from xiaozhi_hub.core.config import MAIN_FILE, Config, load_config
from xiaozhi_hub.errors import ConfigErrors

SHOWN_ERRORS = 50


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "check-config",
        help="say whether the configuration is right",
        description="Read the configuration as the hub would. Exit code 1 when something is wrong with it.",
    )
    add_config(parser)
    parser.add_argument("--diff", action="store_true", help="say what is not in force yet in the hub that runs")
    parser.add_argument("--port", type=int, help="with --diff: the hub's port, where it was started with --port")


def run(args: argparse.Namespace) -> int:
    """Print ``OK`` and a summary, or every mistake with its file and line."""
    folder = Path(args.config).expanduser()
    try:
        config = load_config(folder)
        _check_integrations(config)
    except ConfigErrors as wrong:
        for error in wrong.errors[:SHOWN_ERRORS]:
            print(error, file=sys.stderr)
        count = len(wrong.errors)
        if count > SHOWN_ERRORS:
            print(f"… and {count - SHOWN_ERRORS} more", file=sys.stderr)
        print(f"{count} mistake{'s' if count != 1 else ''} in {folder}", file=sys.stderr)
        return 1
    print(f"OK  {folder}")
    for line in summary(config):
        print(f"    {line}")
    if args.diff:
        from xiaozhi_hub.cli.local_hub import ask_hub, url_of
        from xiaozhi_hub.cli.reload import print_changes

        told = ask_hub(url_of(args), "/api/configuration/changes", None, "Only a running hub knows what is in force")
        if told["changes"]:
            print_changes(told["changes"], at_once="will be in force in a moment")
        else:
            print("All of it is in force in the hub that runs.")
    return 0


def _check_integrations(config: Config) -> None:
    """Raise `ConfigErrors` for integrations that do not exist and for options that they do not take."""
    from xiaozhi_hub.plugins.checking import check_integrations  # a mistake in the files themselves is told without it
    from xiaozhi_hub.plugins.loader import find_integrations

    known, errors = find_integrations(config.config_dir / "integrations")
    checked = check_integrations(config, known, config.integrations)
    for note in checked.unchecked:
        print(note, file=sys.stderr)
    if errors or checked.errors:
        raise ConfigErrors([*errors, *checked.errors])


def summary(config: Config) -> list[str]:
    """What the configuration comes to, without anything secret."""
    on = [domain for domain, options in config.integrations.items() if options is not False]
    off = [domain for domain, options in config.integrations.items() if options is False]
    engines = [
        f"{role} {', '.join(ids)}" for role in ("vad", "asr", "tts", "llm") if (ids := getattr(config.voice, role))
    ]
    lines = [
        f"name          {config.hub.name}.local, language {config.hub.language}",
        f"listens       {config.server.ip}, ports {config.server.http_port} and {config.server.port}",
        f"data          {config.data_dir}",
        f"integrations  {', '.join(on) or 'none beyond the built-in ones'}",
    ]
    if off:
        lines.append(f"switched off  {', '.join(off)}")
    if engines:
        lines.append(f"engines       {'; '.join(engines)}")
    if config.devices:
        lines.append(f"devices       {', '.join(device.name for device in config.devices.values())}")
    if not (config.config_dir / MAIN_FILE).exists():
        lines.append(f"(there is no {MAIN_FILE} yet: these are the defaults)")
    return lines
