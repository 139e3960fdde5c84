"""``xiaozhi-hub reload``: have the running hub read its configuration again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from xiaozhi_hub.cli.local_hub import add_options, ask_hub, url_of

WHY = "Only a running hub can read its configuration again"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "reload",
        help="have the running hub read its configuration again",
        description="Have the running hub read its configuration again and say what has changed. It does so by itself a few seconds "
        "after files are saved. The exit code is 1 when there is a mistake in them, and nothing changes; and when a part of the hub "
        "has failed to follow.",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what has changed, one key in a line, and how the integrations are that were started again."""
    told = ask_hub(url_of(args), "/api/configuration/reload", {}, WHY)
    if args.json:
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return 1 if told["trouble"] else 0
    if told["changes"]:
        print_changes(told["changes"], at_once="in force")
    else:
        print("Nothing has changed since the hub last read it.")
    for entry in told["entries"]:
        print(f"integration {entry['domain']}: {entry['state']}  {entry['reason']} {entry['hint']}".rstrip())
    if told["trouble"]:
        print(told["trouble"], file=sys.stderr)
        return 1
    return 0


def print_changes(changes: Iterable[Mapping[str, Any]], *, at_once: str) -> None:
    """Print changes, at least one, each in a line; *at_once* is said of those that need no restart."""
    rows = [
        (change["key"], change["what"], "needs a restart" if change["needs_restart"] else at_once) for change in changes
    ]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    for key, what, when in rows:
        print(f"{key.ljust(widths[0])}  {what.ljust(widths[1])}  {when}")


__all__ = ["print_changes"]
