"""The options that commands have in common. Where a command has actions, they may stand before the action and behind it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_config(parser: argparse.ArgumentParser, help: str = "cli.options.config") -> None:
    """Describe ``-c``; *help* is the key of what is said of it."""
    _config(parser, help, default=Path("config"))


def add_port(parser: argparse.ArgumentParser) -> None:
    """Describe ``--port`` of commands that ask the running hub."""
    _port(parser, default=None)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Describe ``--json`` of commands that show what the running hub answers."""
    _json(parser, default=False)


def add_again(actions: Mapping[str, argparse.ArgumentParser], *, port: bool = False, json: bool = False) -> None:
    """Take what a command takes before its *actions* behind each of them, too. Without a default there: what was given before
    the action would be lost."""
    for action in actions.values():
        _config(action, default=argparse.SUPPRESS)
        if port:
            _port(action, default=argparse.SUPPRESS)
        if json:
            _json(action, default=argparse.SUPPRESS)


def _config(parser: argparse.ArgumentParser, help: str = "cli.options.config", *, default: Any) -> None:
    parser.add_argument("-c", "--config", type=Path, default=default, metavar="DIR", help=help)


def _port(parser: argparse.ArgumentParser, *, default: Any) -> None:
    parser.add_argument("--port", type=int, default=default, help="cli.options.port")


def _json(parser: argparse.ArgumentParser, *, default: Any) -> None:
    parser.add_argument("--json", action="store_true", default=default, help="cli.options.json")


__all__ = ["add_again", "add_config", "add_json", "add_port"]
