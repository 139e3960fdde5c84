"""``xiaozhi-hub say``: have the hub say something on its devices, and see who has heard it."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from typing import Any

from xiaozhi_hub.cli.local_hub import add_options, local_hub
from xiaozhi_hub.cli.words import Words, words_for

_WAYS = ("now", "shown", "later")
"""How a device comes to say it."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("say", help="cli.commands.say", description="cli.say.about")
    add_options(parser)
    parser.add_argument("text", metavar="TEXT", nargs="?", help="cli.say.help.text")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", metavar="ID", help="cli.say.help.device")
    where.add_argument("--room", metavar="AREA", help="cli.say.help.room")
    where.add_argument("--everywhere", action="store_true", help="cli.say.help.everywhere")
    parser.add_argument("--message", action="store_true", help="cli.say.help.message")
    parser.add_argument("--expires", type=float, metavar="MINUTES", help="cli.say.help.expires")
    parser.add_argument("--receipts", action="store_true", help="cli.say.help.receipts")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    if not args.receipts:
        if not args.text:
            args.parser.error(words_for()("cli.say.what"))
        if not (args.device or args.room or args.everywhere):
            args.parser.error(words_for()("cli.say.where"))
    hub, why = local_hub(args), "cli.say.why"
    if args.receipts:
        answer = hub.ask("/api/announcements", None, why)
        text = listed(answer, hub.words)
    else:
        values: dict[str, Any] = {
            "text": args.text,
            "device": args.device,
            "room": args.room,
            "everywhere": args.everywhere,
            "message": args.message,
        }
        if args.expires is not None:
            values["expires_s"] = args.expires * 60
        answer = hub.ask("/api/announce", values, why)
        text = "\n".join(hub.words(f"cli.say.{way}", name=each["name"]) for way in _WAYS for each in answer[way])
    print(json.dumps(answer, ensure_ascii=False) if args.json else text)
    return 0


def listed(answer: dict[str, Any], words: Words) -> str:
    """All announcements, for people."""
    lines = []
    for each in answer["announcements"]:
        what = words("cli.say.text", text=each["text"]) if each["text"] else words("cli.say.recording")
        if each["voice"]:
            what = words("cli.say.voice", what=what)
        lines.append(f"{_when(each['created_at'])}  {words.named('cli.say.kind', each['kind'])}  {what}")
        for receipt in each["receipts"]:
            state = words.named("cli.say.state", receipt["state"])
            device = receipt["name"] or receipt["device"]
            lines.append("    " + words("cli.say.receipt", device=device, state=state, when=_when(receipt["at"])))
    return "\n".join(lines) or words("cli.say.none")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


__all__ = ["add_parser", "listed", "run"]
