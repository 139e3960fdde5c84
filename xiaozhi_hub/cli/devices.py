"""``xiaozhi-hub devices``: who may come in. Speaks with the hub that runs on this machine."""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime
from typing import Any

from xiaozhi_hub.cli.local_hub import LocalHub, add_actions_options, add_options, local_hub
from xiaozhi_hub.cli.table import cells, pad
from xiaozhi_hub.cli.words import Words

_WHY = "cli.devices.why"
_STATES = ("in", "out", "unknown")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("devices", help="cli.commands.devices", description="cli.devices.about")
    add_options(parser)
    parser.set_defaults(run=run, action="list")
    actions = parser.add_subparsers(title="cli.options.actions", metavar="ACTION")
    actions.add_parser("list", help="cli.devices.help.list")
    approve = actions.add_parser("approve", help="cli.devices.help.approve")
    approve.add_argument("code", metavar="CODE", help="cli.devices.help.code")
    invite = actions.add_parser("invite", help="cli.devices.help.invite")
    invite.add_argument("name", metavar="NAME", help="cli.devices.help.invite_name")
    invite.add_argument("--area", help="cli.devices.help.invite_area")
    revoke = actions.add_parser("revoke", help="cli.devices.help.revoke")
    revoke.add_argument("device", metavar="ID", help="cli.devices.help.device")
    rename = actions.add_parser("rename", help="cli.devices.help.rename")
    rename.add_argument("device", metavar="ID", help="cli.devices.help.device")
    rename.add_argument("name", metavar="NAME", help="cli.devices.help.name")
    rename.add_argument("--area", help="cli.devices.help.rename_area")
    forget = actions.add_parser("forget", help="cli.devices.help.forget")
    forget.add_argument("device", metavar="ID", help="cli.devices.help.device")
    forget.add_argument("--only-said", action="store_true", help="cli.devices.help.only_said")
    opening = actions.add_parser("open", help="cli.devices.help.open")
    opening.add_argument("--minutes", type=float, default=10.0, metavar="N", help="cli.devices.help.minutes")
    actions.add_parser("close", help="cli.devices.help.close")
    add_actions_options(actions.choices)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    hub = local_hub(args)
    words = hub.words
    match args.action:
        case "approve":
            code = re.sub(r"[ -]", "", args.code)
            given = {"code": code} if re.fullmatch(r"\d{1,6}", code) else {"device": args.code}
            answer = _ask(hub, "/approve", given)
            text = words("cli.devices.approved", device=answer["device"]["id"])
        case "invite":
            answer = _ask(hub, "/invite", {"name": args.name, "area": args.area})
            device = answer["device"]
            text = words("cli.devices.invited", name=device["name"], device=device["id"], token=answer["token"])
        case "revoke":
            answer = _ask(hub, "/revoke", {"device": args.device})
            text = words("cli.devices.revoked", device=answer["device"]["id"])
        case "forget" if args.only_said:
            answer = hub.ask("/api/history/forget", {"device": args.device}, _WHY)
            text = words("cli.devices.forgot_said", device=args.device) + _pending(answer, words)
        case "forget":
            answer = _ask(hub, "/forget", {"device": args.device})
            text = words("cli.devices.forgot", device=answer["device"]["id"]) + _pending(answer, words)
        case "rename":
            answer = _ask(hub, "/rename", {"device": args.device, "name": args.name, "area": args.area})
            device = answer["device"]
            key = "cli.devices.renamed_in" if device["area"] else "cli.devices.renamed"
            text = words(key, device=device["id"], name=device["name"], area=device["area"])
        case "open":
            answer = _ask(hub, "/open", {"minutes": args.minutes})
            text = door_line(answer["door"], words)
        case "close":
            answer = _ask(hub, "/close", {})
            text = door_line(answer["door"], words)
        case _:
            answer = _ask(hub, "", None)
            text = listed(answer, words)
    print(json.dumps(answer, ensure_ascii=False) if args.json else text)
    return 0


def _ask(hub: LocalHub, action: str, values: dict[str, Any] | None) -> dict[str, Any]:
    return hub.ask(f"/api/devices{action}", values, _WHY)


def _pending(answer: dict[str, Any], words: Words) -> str:
    return words("cli.devices.pending", names=words.joined(answer["pending"])) if answer["pending"] else ""


def door_line(door: dict[str, Any] | None, words: Words) -> str:
    """Whether everybody is let in, and until when."""
    if door is None:
        return words("cli.devices.door.closed")
    why = words.named("cli.devices.opened", door["open"])
    if door["until"] is None:
        return words("cli.devices.door.open", why=why)
    return words("cli.devices.door.until", time=_when(door["until"], words), why=why)


def listed(answer: dict[str, Any], words: Words) -> str:
    """All devices, for people."""
    lines = [door_line(answer["door"], words)]
    width = max(cells(words.named("cli.devices.state", state)) for state in _STATES)
    widest = max((cells(each["id"]) for each in (*answer["waiting"], *answer["devices"])), default=0)
    for each in answer["waiting"]:
        what = " ".join(part for part in (each["board"], each["firmware"]) if part)
        since = _when(each["since"], words)
        facts = {"code": each["code"], "device": pad(each["id"], widest), "address": each["address"]}
        lines.append(words("cli.devices.waiting", **facts, what=what, since=since))
    for each in answer["devices"]:
        name = "" if each["name"] == each["id"] else each["name"]
        where = " · ".join(part for part in (name, each["area"], f"{each['board']} {each['firmware']}".strip()) if part)
        if each["connected"]:
            now = words("page.devices.connected")
        else:
            now = words("cli.devices.seen", when=_when(each["last_seen_at"], words))
        state = pad(words.named("cli.devices.state", each["state"]), width)
        lines.append(f"{state}  {pad(each['id'], widest)}  {where}  ({now})")
        if each.get("sound") is not None:
            lines.append(f"{pad('', width)}  {sound_line(each['sound'], words)}")
    if not answer["devices"] and not answer["waiting"]:
        lines.append(words("page.devices.none"))
    return "\n".join(lines)


def sound_line(sound: dict[str, Any], words: Words) -> str:
    """How a device's sound travels, for people."""
    trip = sound["round_trip_ms"]
    told = words(
        "cli.devices.sound",
        jitter=sound["jitter_ms"],
        late=sound["late"],
        packets=sound["packets"],
        lost=sound["lost"],
        due=sound["lost"] + sound["played"],
    )
    return told if trip is None else told + words("cli.devices.round_trip", ms=trip)


def _when(seconds: float | None, words: Words) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M") if seconds else words("cli.devices.never")


__all__ = ["add_parser", "door_line", "listed", "run", "sound_line"]
