"""``xiaozhi-hub assistants``: who answers on which device. Speaks with the hub that runs on this machine."""

from __future__ import annotations

import argparse
import json
from typing import Any

from xiaozhi_hub.cli.local_hub import add_actions_options, add_options, local_hub
from xiaozhi_hub.cli.table import pad
from xiaozhi_hub.cli.words import Words

_WHY = "cli.assistants.why"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser("assistants", help="cli.commands.assistants", description="cli.assistants.about")
    add_options(parser)
    parser.set_defaults(run=run, action="list")
    actions = parser.add_subparsers(title="cli.options.actions", metavar="ACTION")
    actions.add_parser("list", help="cli.assistants.help.list")
    choose = actions.add_parser("set", help="cli.assistants.help.set")
    choose.add_argument("device", metavar="DEVICE", help="cli.assistants.help.device")
    choose.add_argument("assistant", metavar="ASSISTANT", help="cli.assistants.help.assistant")
    add_actions_options(actions.choices)


def run(args: argparse.Namespace) -> int:
    """Ask the running hub; returns 1 with a message when it is not there or refuses."""
    hub = local_hub(args)
    if args.action == "set":
        values = {"device": args.device, "assistant": args.assistant}
        answer = hub.ask("/api/assistants/choose", values, _WHY)
        device = answer["device"]
        text = hub.words("cli.assistants.answers", assistant=device["assistant"], device=device["name"])
    else:
        answer = hub.ask("/api/assistants", None, _WHY)
        text = listed(answer, hub.words)
    print(json.dumps(answer, ensure_ascii=False) if args.json else text)
    return 0


def listed(answer: dict[str, Any], words: Words) -> str:
    """Assistants and devices, for people."""
    lines = []
    for each in answer["assistants"]:
        facts = [each["name"], each["language"] or words("cli.assistants.device_language")]
        if each["memory"]:
            facts.append(words("cli.assistants.remembers"))
        facts += [f"{role} {', '.join(each[role])}" for role in ("asr", "llm", "tts") if each[role]]
        lines.append(f"{pad(each['id'], 16)}  {' · '.join(fact for fact in facts if fact)}")
    lines.append("")
    for device in answer["devices"]:
        name = device["name"]
        if device["area"]:
            name = words("cli.assistants.in_area", device=name, area=device["area"])
        how = "cli.assistants.chosen" if device["chosen"] else "cli.assistants.configured"
        lines.append(f"{pad(device['id'], 17)}  {words(how, device=name, assistant=device['assistant'])}")
    if not answer["devices"]:
        lines.append(words("page.devices.none"))
    return "\n".join(lines)


__all__ = ["add_parser", "listed", "run"]
