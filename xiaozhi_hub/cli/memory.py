"""``xiaozhi-hub memory``: what the hub was asked to remember. Speaks with the hub that runs on this machine."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from xiaozhi_hub.cli.local_hub import LocalHub, add_actions_options, add_options, local_hub
from xiaozhi_hub.cli.words import Words, words_for
from xiaozhi_hub.errors import HubError

PAGE = 200
_WHY = "cli.memory.why"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("memory", help="cli.commands.memory", description="cli.memory.about")
    add_options(parser)
    parser.set_defaults(run=run, action="list", about="")
    actions = parser.add_subparsers(title="cli.options.actions", metavar="ACTION")
    listing = actions.add_parser("list", help="cli.memory.help.list")
    listing.add_argument("about", metavar="WORDS", nargs="?", default="", help="cli.memory.help.about")
    export = actions.add_parser("export", help="cli.memory.help.export")
    export.add_argument("file", metavar="FILE", nargs="?", type=Path, help="cli.memory.help.file")
    forget = actions.add_parser("forget", help="cli.memory.help.forget")
    forget.add_argument("ids", metavar="ID", nargs="*", help="cli.memory.help.ids")
    forget.add_argument("--everything", action="store_true", help="cli.memory.help.everything")
    add_actions_options(actions.choices)
    parser.set_defaults(parser=forget)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    if args.action == "forget" and bool(args.ids) == args.everything:
        args.parser.error(words_for()("cli.memory.say_which"))
    hub = local_hub(args)
    if args.action == "forget":
        values: dict[str, Any] = {"everything": True} if args.everything else {"ids": args.ids}
        answer = hub.ask("/api/memory/forget", values, _WHY)
        count = answer["forgotten"]
        print(json.dumps(answer) if args.json else hub.words.counted("cli.memory.deleted", count))
        return 0 if count or args.everything else 1
    if args.action == "export":
        return _export(_everything(hub), args.file, hub.words)
    query = urlencode({"limit": PAGE, **({"about": args.about} if args.about else {})})
    answer = hub.ask(f"/api/memory?{query}", None, _WHY)
    print(json.dumps(answer, ensure_ascii=False) if args.json else listed(answer, hub.words))
    return 0


def _everything(hub: LocalHub) -> list[dict[str, Any]]:
    """All facts, the newest first, asked for page by page."""
    facts: list[dict[str, Any]] = []
    while True:
        page = {"limit": PAGE, **({"before": facts[-1]["id"]} if facts else {})}
        more = hub.ask(f"/api/memory?{urlencode(page)}", None, _WHY)["facts"]
        facts += more
        if len(more) < PAGE:
            return facts


def _export(facts: list[dict[str, Any]], file: Path | None, words: Words) -> int:
    lines = "".join(f"{json.dumps(fact, ensure_ascii=False)}\n" for fact in facts)
    if file is None:
        sys.stdout.write(lines)
        return 0
    try:
        file.write_text(lines, encoding="utf-8")
    except OSError as error:
        raise HubError(words("cli.files.unwritable", file=file, why=error.strerror)) from error
    print(words.counted("cli.memory.exported", len(facts), file=file))
    return 0


def listed(answer: dict[str, Any], words: Words) -> str:
    """Facts with their receipts, for people."""
    if not answer["facts"]:
        return words("cli.memory.none_such" if answer["count"] else "cli.memory.none")
    lines = []
    for fact in answer["facts"]:
        when = datetime.fromtimestamp(fact["noted_at"]).strftime("%Y-%m-%d %H:%M")
        turn = fact["turn"]
        said = words("cli.memory.turn_gone")
        if turn["heard"] is not None:
            said = words("cli.memory.heard", heard=turn["heard"])
        by = words("cli.memory.by_model") if fact["noted_by"] == "model" else ""
        told = fact["text"]
        if fact["person"]:
            told = words("cli.memory.of_person", person=fact["person"], fact=told)
        device = fact["device"] or words("cli.memory.in_writing")
        receipt = words("cli.memory.receipt", when=when, by=by, device=device, heard=said)
        lines.append(f"{fact['id']:>5}  {told}\n       {receipt}")
    if len(answer["facts"]) < answer["count"]:
        lines.append(words("cli.memory.part", shown=len(answer["facts"]), count=answer["count"]))
    return "\n".join(lines)


__all__ = ["add_parser", "listed", "run"]
