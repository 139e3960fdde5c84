"""``xiaozhi-hub check-config``: read the configuration as the hub would, and say what is wrong with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xiaozhi_hub.cli.options import add_config
from xiaozhi_hub.cli.table import cells, pad
from xiaozhi_hub.cli.words import Words, words_for
from xiaozhi_hub.core.config import MAIN_FILE, Config, load_config
from xiaozhi_hub.errors import ConfigErrors

SHOWN_ERRORS = 50


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "check-config",
        help="cli.commands.check-config",
        description="cli.check_config.about",
    )
    add_config(parser)
    parser.add_argument("--diff", action="store_true", help="cli.check_config.help.diff")
    parser.add_argument("--port", type=int, help="cli.check_config.help.port")


def run(args: argparse.Namespace) -> int:
    """Print ``OK`` and a summary, or every mistake with its file and line."""
    folder = Path(args.config).expanduser()
    words = words_for()
    try:
        config = load_config(folder)
        words = words_for(config)
        _check_integrations(config)
    except ConfigErrors as wrong:
        for error in wrong.errors[:SHOWN_ERRORS]:
            print(error, file=sys.stderr)
        count = len(wrong.errors)
        if count > SHOWN_ERRORS:
            print(words("cli.check_config.more", count=count - SHOWN_ERRORS), file=sys.stderr)
        print(words.counted("cli.check_config.mistakes", count, folder=folder), file=sys.stderr)
        return 1
    print(f"{words('cli.check_config.ok')}  {folder}")
    for line in summary(config, words):
        print(f"    {line}")
    if args.diff:
        from xiaozhi_hub.cli.local_hub import LocalHub
        from xiaozhi_hub.cli.reload import print_changes

        told = LocalHub(config, args.port).ask("/api/configuration/changes", None, "cli.check_config.why")
        if told["changes"]:
            print_changes(told["changes"], words, at_once="cli.reload.soon")
        else:
            print(words("cli.check_config.in_force"))
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


def summary(config: Config, words: Words) -> list[str]:
    """What the configuration comes to, without anything secret."""
    on = [domain for domain, options in config.integrations.items() if options is not False]
    off = [domain for domain, options in config.integrations.items() if options is False]
    engines = [
        f"{role} {', '.join(ids)}" for role in ("vad", "asr", "tts", "llm") if (ids := getattr(config.voice, role))
    ]
    server = config.server
    facts = {
        "name": words("cli.check_config.name_is", name=config.hub.name, language=config.hub.language),
        "listens": words("cli.check_config.listens_on", address=server.ip, first=server.http_port, second=server.port),
        "data": str(config.data_dir),
        "integrations": words.joined(on) or words("cli.check_config.only_built_in"),
        "switched_off": words.joined(off),
        "engines": "; ".join(engines),
        "devices": words.joined(device.name for device in config.devices.values()),
    }
    titled = [(words(f"cli.check_config.{name}"), fact) for name, fact in facts.items() if fact]
    width = max(cells(title) for title, _ in titled)
    lines = [f"{pad(title, width)}  {fact}" for title, fact in titled]
    if not (config.config_dir / MAIN_FILE).exists():
        lines.append(words("cli.check_config.defaults", file=MAIN_FILE))
    return lines
