"""``xiaozhi-hub memory``: what the hub was asked to remember. Speaks with the hub that runs on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from xiaozhi_hub.cli.local_hub import add_actions_options, add_options, ask_hub, url_of
from xiaozhi_hub.errors import HubError

PAGE = 200
_WHY = "Only a running hub knows what it remembers"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("memory", help="show, export or delete what the hub was asked to remember",
                                   description="Show, export or delete what the hub was asked to remember. The hub must be "
                                   "running.")  # fmt: skip
    add_options(parser)
    parser.set_defaults(run=run, action="list", about="")
    actions = parser.add_subparsers(title="what to do", metavar="ACTION")
    listing = actions.add_parser("list", help="show what is remembered, the newest first (default)")
    listing.add_argument("about", metavar="WORDS", nargs="?", default="", help="only what has to do with these words")
    export = actions.add_parser("export", help="write everything, one JSON object for each fact, with its receipt")
    export.add_argument("file", metavar="FILE", nargs="?", type=Path, help="to this file (default: print it)")
    forget = actions.add_parser("forget", help="delete facts for good")
    forget.add_argument("ids", metavar="ID", nargs="*", help="the numbers that the list shows")
    forget.add_argument("--everything", action="store_true", help="delete all facts")
    add_actions_options(actions.choices)
    parser.set_defaults(parser=forget)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    url = url_of(args)
    if args.action == "forget":
        if bool(args.ids) == args.everything:
            args.parser.error("say which: ids, or --everything")
        values: dict[str, Any] = {"everything": True} if args.everything else {"ids": args.ids}
        answer = ask_hub(url, "/api/memory/forget", values, _WHY)
        count = answer["forgotten"]
        print(json.dumps(answer) if args.json else f"Deleted {count} {'fact' if count == 1 else 'facts'}.")
        return 0 if count or args.everything else 1
    if args.action == "export":
        return _export(_everything(url), args.file)
    query = urlencode({"limit": PAGE, **({"about": args.about} if args.about else {})})
    answer = ask_hub(url, f"/api/memory?{query}", None, _WHY)
    print(json.dumps(answer, ensure_ascii=False) if args.json else listed(answer))
    return 0


def _everything(url: str) -> list[dict[str, Any]]:
    """All facts, the newest first, asked for page by page."""
    facts: list[dict[str, Any]] = []
    while True:
        page = {"limit": PAGE, **({"before": facts[-1]["id"]} if facts else {})}
        more = ask_hub(url, f"/api/memory?{urlencode(page)}", None, _WHY)["facts"]
        facts += more
        if len(more) < PAGE:
            return facts


def _export(facts: list[dict[str, Any]], file: Path | None) -> int:
    lines = "".join(f"{json.dumps(fact, ensure_ascii=False)}\n" for fact in facts)
    if file is None:
        sys.stdout.write(lines)
        return 0
    try:
        file.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise HubError(f"{file} cannot be written: {error.strerror}.") from error
    print(f"{len(facts)} {'fact' if len(facts) == 1 else 'facts'} in {file}")
    return 0


def listed(answer: dict[str, Any]) -> str:
    """Facts with their receipts, for people."""
    if not answer["facts"]:
        return "Nothing of that kind is remembered." if answer["count"] else "Nothing is remembered yet."
    lines = []
    for fact in answer["facts"]:
        when = datetime.fromtimestamp(fact["noted_at"]).strftime("%Y-%m-%d %H:%M")
        turn = fact["turn"]
        said = f"“{turn['heard']}”" if turn["heard"] is not None else "the turn is gone"
        by = "noted by a model, " if fact["noted_by"] == "model" else ""
        who = f"{fact['person']}: " if fact["person"] else ""
        lines.append(
            f"{fact['id']:>5}  {who}{fact['text']}\n       {when}, {by}{fact['device'] or 'in writing'}: {said}"
        )
    if len(answer["facts"]) < answer["count"]:
        lines.append(f"({len(answer['facts'])} of {answer['count']})")
    return "\n".join(lines)


__all__ = ["add_parser", "listed", "run"]
