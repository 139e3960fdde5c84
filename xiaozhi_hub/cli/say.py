"""``xiaozhi-hub say``: have the hub say something on its devices, and see who has heard it."""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from typing import Any

from xiaozhi_hub.cli.local_hub import add_options, ask_hub, url_of

_STATES = {
    "waiting": "waits for the next wake-up",
    "heard": "heard",
    "shown": "shown while it slept",
    "expired": "nobody came in time",
    "failed": "could not be spoken",
}
_WAYS = {
    "now": "is being told now",
    "shown": "sleeps, made a sound and shows it",
    "later": "hears it when somebody wakes it",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("say", help="say something on devices",
                                   description="Say something on devices: now, or when they are woken next. The hub must be "
                                   "running.")  # fmt: skip
    add_options(parser)
    parser.add_argument("text", metavar="TEXT", nargs="?", help="what to say")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--device", metavar="ID", help="on this device: its id or name")
    where.add_argument("--room", metavar="AREA", help="on all devices of this room")
    where.add_argument("--everywhere", action="store_true", help="on all devices")
    parser.add_argument(
        "--message", action="store_true", help="as a message: not now, but when somebody talks to the device"
    )
    parser.add_argument("--expires", type=float, metavar="MINUTES",
                        help="forget it when nobody came by then (default: an hour, a message: a week)")  # fmt: skip
    parser.add_argument("--receipts", action="store_true", help="instead, show who has heard what")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    why = "Only a running hub can speak"
    if args.receipts:
        answer = ask_hub(url_of(args), "/api/announcements", None, why)
        text = listed(answer)
    else:
        if not args.text:
            args.parser.error("say what to say")
        if not (args.device or args.room or args.everywhere):
            args.parser.error("say where: --device, --room or --everywhere")
        values: dict[str, Any] = {
            "text": args.text,
            "device": args.device,
            "room": args.room,
            "everywhere": args.everywhere,
            "message": args.message,
        }
        if args.expires is not None:
            values["expires_s"] = args.expires * 60
        answer = ask_hub(url_of(args), "/api/announce", values, why)
        text = "\n".join(f"{each['name']} {told}." for way, told in _WAYS.items() for each in answer[way])
    print(json.dumps(answer, ensure_ascii=False) if args.json else text)
    return 0


def listed(answer: dict[str, Any]) -> str:
    """All announcements, for people."""
    lines = []
    for each in answer["announcements"]:
        what = f"“{each['text']}”" if each["text"] else "a recording"
        lines.append(f"{_when(each['created_at'])}  {each['kind']}  {what}{' (voice)' if each['voice'] else ''}")
        lines += [
            f"    {receipt['name'] or receipt['device']}: {_STATES.get(receipt['state'], receipt['state'])},"
            f" {_when(receipt['at'])}"
            for receipt in each["receipts"]
        ]
    return "\n".join(lines) or "Nothing has been announced yet."


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


__all__ = ["add_parser", "listed", "run"]
