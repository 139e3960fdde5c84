"""``xiaozhi-hub assistants``: who answers on which device. Speaks with the hub that runs on this machine."""

from __future__ import annotations

import argparse
import json
from typing import Any

from xiaozhi_hub.cli.local_hub import add_actions_options, add_options, ask_hub, url_of

_WHY = "Only a running hub can switch"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("assistants", help="show who answers on which device, and change it",
                                   description="Show who answers on which device, and change it. The hub must be "
                                   "running.")  # fmt: skip
    add_options(parser)
    parser.set_defaults(run=run, action="list")
    actions = parser.add_subparsers(title="what to do", metavar="ACTION")
    actions.add_parser("list", help="show the assistants and the devices (default)")
    choose = actions.add_parser("set", help="let an assistant answer on a device, as the person there could ask for")
    choose.add_argument("device", metavar="DEVICE", help="its id or name")
    choose.add_argument(
        "assistant", metavar="ASSISTANT", help="its key or name; default for what the configuration says"
    )
    add_actions_options(actions.choices)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    url = url_of(args)
    if args.action == "set":
        values = {"device": args.device, "assistant": args.assistant}
        answer = ask_hub(url, "/api/assistants/choose", values, _WHY)
        text = f"{answer['device']['assistant']} answers on {answer['device']['name']}."
    else:
        answer = ask_hub(url, "/api/assistants", None, _WHY)
        text = listed(answer)
    print(json.dumps(answer, ensure_ascii=False) if args.json else text)
    return 0


def listed(answer: dict[str, Any]) -> str:
    """Assistants and devices, for people."""
    lines = []
    for each in answer["assistants"]:
        facts = [each["name"], each["language"] or "the device's language", *(["remembers"] if each["memory"] else [])]
        facts += [f"{role} {', '.join(each[role])}" for role in ("asr", "llm", "tts") if each[role]]
        lines.append(f"{each['id']:16}  {' · '.join(fact for fact in facts if fact)}")
    lines.append("")
    for device in answer["devices"]:
        how = "chosen there" if device["chosen"] else "by configuration"
        where = f" in {device['area']}" if device["area"] else ""
        lines.append(f"{device['id']:17}  {device['name']}{where}: {device['assistant']} ({how})")
    if not answer["devices"]:
        lines.append("No device has checked in yet.")
    return "\n".join(lines)


__all__ = ["add_parser", "listed", "run"]
