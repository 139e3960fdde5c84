"""``xiaozhi-hub reload``: have the running hub read its configuration again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from xiaozhi_hub.cli.local_hub import RESTART_SECONDS, add_options, local_hub
from xiaozhi_hub.cli.table import print_table
from xiaozhi_hub.cli.words import Words

WHY = "cli.reload.why"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("reload", help="cli.commands.reload", description="cli.reload.about")
    add_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what has changed, one key in a line, and how the integrations are that were started again."""
    hub = local_hub(args)
    told = hub.ask("/api/configuration/reload", {}, WHY, within_s=RESTART_SECONDS)
    if args.json:
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return 1 if told["trouble"] else 0
    if told["changes"]:
        print_changes(told["changes"], hub.words, at_once="cli.reload.in_force")
    else:
        print(hub.words("cli.reload.nothing"))
    for entry in told["entries"]:
        state = hub.words.named("cli.entry", entry["state"])
        line = hub.words("cli.reload.integration", domain=entry["domain"], state=state)
        print(f"{line}  {entry['reason']} {entry['hint']}".rstrip())
    if told["trouble"]:
        print(told["trouble"], file=sys.stderr)
        return 1
    return 0


def print_changes(changes: Iterable[Mapping[str, Any]], words: Words, *, at_once: str) -> None:
    """Print changes, each in a line; the text *at_once* is said of those that need no restart."""
    print_table(
        [
            (change["key"], _what(change, words), words("cli.reload.restart" if change["needs_restart"] else at_once))
            for change in changes
        ]
    )


def _what(change: Mapping[str, Any], words: Words) -> str:
    """What `xiaozhi_hub.core.changes.Change.what` says, in the language of *words*."""
    what: str = change["what"]
    if " → " in what:
        before, after = (change[name] or words("cli.reload.empty") for name in ("before", "after"))
        return f"{before} → {after}"
    if what.startswith("now "):
        return words("cli.reload.now", value=change["after"])
    return words.named("cli.reload", what)


__all__ = ["print_changes"]
