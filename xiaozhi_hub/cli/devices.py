"""``xiaozhi-hub devices``: who may come in. Speaks with the hub that runs on this machine."""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime
from typing import Any

from xiaozhi_hub.cli.local_hub import add_actions_options, add_options, ask_hub, url_of

_WHY = "Only a running hub can approve and shut out"
_STATES = {"in": "let in", "out": "shut out", "unknown": "not met yet"}
_KINDS = {
    "first-day": "this hub is new",
    "window": "opened by the owner",
    "open": "by configuration: devices → pairing: open",
}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("devices", help="list the devices, approve new ones, shut out others",
                                   description="Say which devices may come in. The hub must be running.")  # fmt: skip
    add_options(parser)
    parser.set_defaults(run=run, action="list")
    actions = parser.add_subparsers(title="what to do", metavar="ACTION")
    actions.add_parser("list", help="show all devices, and those that wait with their codes (default)")
    approve = actions.add_parser("approve", help="let in the device that shows this code, or keep one that is in")
    approve.add_argument(
        "code", metavar="CODE", help="the six digits that the device shows and speaks; or an id or name"
    )
    invite = actions.add_parser("invite", help="make a token for a phone or a page that talks to the hub directly")
    invite.add_argument("name", metavar="NAME", help="what to call it, in lists and to shut it out")
    invite.add_argument("--area", help='where it is: what "the light" means there')
    revoke = actions.add_parser("revoke", help="shut a device out, at once")
    revoke.add_argument("device", metavar="ID", help="its id or name")
    rename = actions.add_parser("rename", help="give a device a name")
    rename.add_argument("device", metavar="ID", help="its id or name")
    rename.add_argument("name", metavar="NAME")
    rename.add_argument("--area", help='where it stands: what "the light" means there; empty for nowhere')
    forget = actions.add_parser("forget", help="delete a device and everything that was said on it, for good")
    forget.add_argument("device", metavar="ID", help="its id or name")
    forget.add_argument("--only-said", action="store_true",
                        help="delete only what was said: turns, recordings, photos, messages; it may still come in")  # fmt: skip
    opening = actions.add_parser("open", help="let every device in for some minutes")
    opening.add_argument("--minutes", type=float, default=10.0, metavar="N", help="how long (default: 10)")
    actions.add_parser("close", help="let nobody in without approval")
    add_actions_options(actions.choices)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    url = url_of(args)
    match args.action:
        case "approve":
            code = re.sub(r"[ -]", "", args.code)
            given = {"code": code} if re.fullmatch(r"\d{1,6}", code) else {"device": args.code}
            answer = _ask(url, "/approve", given)
            text = f"{answer['device']['id']} is let in. It goes on by itself within a minute."
        case "invite":
            answer = _ask(url, "/invite", {"name": args.name, "area": args.area})
            device = answer["device"]
            text = (
                f"{device['name']} ({device['id']}) may come in with this token. It is shown only now:\n\n"
                f"    {answer['token']}\n\n"
                f"Take it back: xiaozhi-hub devices revoke {device['id']}"
            )
        case "revoke":
            answer = _ask(url, "/revoke", {"device": args.device})
            text = f"{answer['device']['id']} is shut out."
        case "forget" if args.only_said:
            answer = ask_hub(url, "/api/history/forget", {"device": args.device}, _WHY)
            text = f"What was said on {args.device} is deleted.{_pending(answer)}"
        case "forget":
            answer = _ask(url, "/forget", {"device": args.device})
            text = f"{answer['device']['id']} is forgotten, with everything that was said on it.{_pending(answer)}"
        case "rename":
            answer = _ask(url, "/rename", {"device": args.device, "name": args.name, "area": args.area})
            device = answer["device"]
            text = f"{device['id']} is called {device['name']}" + (f", in {device['area']}." if device["area"] else ".")
        case "open":
            answer = _ask(url, "/open", {"minutes": args.minutes})
            text = door_line(answer["door"])
        case "close":
            answer = _ask(url, "/close", {})
            text = door_line(answer["door"])
        case _:
            answer = _ask(url, "", None)
            text = listed(answer)
    print(json.dumps(answer, ensure_ascii=False) if args.json else text)
    return 0


def _ask(hub: str, action: str, values: dict[str, Any] | None) -> dict[str, Any]:
    return ask_hub(hub, f"/api/devices{action}", values, _WHY)


def _pending(answer: dict[str, Any]) -> str:
    names = ", ".join(answer["pending"])
    return f" Not finished yet: {names}; see the log." if names else ""


def door_line(door: dict[str, Any] | None) -> str:
    """Whether everybody is let in, and until when."""
    if door is None:
        return "The door is closed: new devices show a code and wait. Approve: xiaozhi-hub devices approve CODE"
    why = _KINDS.get(door["open"], door["open"])
    if door["until"] is None:
        return f"The door is open ({why}): every device in the network is let in."
    return (
        f"The door is open until {_when(door['until'])} ({why}): every device in the network is let in."
        " Close it: xiaozhi-hub devices close"
    )


def listed(answer: dict[str, Any]) -> str:
    """All devices, for people."""
    lines = [door_line(answer["door"])]
    for each in answer["waiting"]:
        what = " ".join(part for part in (each["board"], each["firmware"]) if part)
        lines.append(f"code {each['code']}  {each['id']:17}  {what} at {each['address']}, since {_when(each['since'])}")
    for each in answer["devices"]:
        name = "" if each["name"] == each["id"] else each["name"]
        where = " · ".join(part for part in (name, each["area"], f"{each['board']} {each['firmware']}".strip()) if part)
        now = "in conversation" if each["connected"] else f"seen {_when(each['last_seen_at'])}"
        lines.append(f"{_STATES.get(each['state'], each['state']):11}  {each['id']:17}  {where}  ({now})")
        if each.get("sound") is not None:
            lines.append(f"{'':11}  {sound_line(each['sound'])}")
    if not answer["devices"] and not answer["waiting"]:
        lines.append("No device has checked in yet.")
    return "\n".join(lines)


def sound_line(sound: dict[str, Any]) -> str:
    """How a device's sound travels, for people."""
    trip = "" if sound["round_trip_ms"] is None else f", {sound['round_trip_ms']:g} ms there and back"
    return (
        f"sound: jitter {sound['jitter_ms']:g} ms, {sound['late']} of {sound['packets']} packets late,"
        f" {sound['lost']} of {sound['lost'] + sound['played']} that it should have played lost{trip}"
    )


def _when(seconds: float | None) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else "never"


__all__ = ["add_parser", "door_line", "listed", "run", "sound_line"]
