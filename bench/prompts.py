"""What the agent has a model read: tools, turns, and what is read twice, against other ways to do it.

    python bench/prompts.py [--turns 200]

Tokens are estimated (`dialog/agent/tokens.py`); nothing is asked of a real model. *Read twice* is what comes after the first byte in
which a request differs from the one before although it was there already, as a share of all prompt tokens: what an engine that
keeps its evaluation has to do again. `bench/prefix.py`, where a model is installed, measures the same in the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from house import integration, person_in
from talking_model import Home, Piece, ScriptedModel, call

from xiaozhi_hub.core.i18n import LANGUAGES
from xiaozhi_hub.dialog.agent import dialogue as dialogues
from xiaozhi_hub.dialog.agent.calls import USE_SPEC
from xiaozhi_hub.dialog.agent.dialogue import serialised
from xiaozhi_hub.dialog.agent.shortlist import USUALLY, Index, lean, offer
from xiaozhi_hub.dialog.agent.tokens import cost, cost_of_tools, estimate
from xiaozhi_hub.engines.llm import ChatRequest, ToolSpec
from xiaozhi_hub.tools.base import Tool

QUESTIONS = (
    "how are you today", "is it cosy in the kitchen", "make it a little brighter in here would you", "what about the garage",
    "tell me something about lamps", "and the bed light", "how much longer does the timer run", "put milk on my list somehow",
    "what do you see in front of you", "把窗帘拉开一点好不好", "今天怎么样", "what song was that",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One dialogue."""

    requests: Sequence[ChatRequest]
    tools: Sequence[Tool]
    index: Index


def script(request: ChatRequest) -> list[Piece]:
    """Every third turn uses tools."""
    turns = sum(message.role == "user" for message in request.messages)
    if request.messages[-1].role == "user" and turns % 3 == 1:
        return ["Let me see. ", call("home.get_state", name="Bed Light"), call("home.turn_on", name="Bed Light")]
    return ["[happy] ", "That is how it is, as far as I can tell from here."]


async def talk(turns: int, room: int) -> Run:
    model = ScriptedModel(script, room=room)
    home = Home(model)
    for domain in ("clock",):
        home.add_sentences(domain)
    await home.intents.warm()
    for tool in clock_tools():
        home.tools.add(tool, "clock")
    for number in range(turns):
        room_name = ("Kitchen", "Bedroom", None)[number // 20 % 3]
        await home.say(f"{QUESTIONS[number % len(QUESTIONS)]} {number}", person_in(room_name))
        home.later(1)
        bed = home.entities.get("light.bed_light")
        if bed is not None and number % 7 == 0:
            bed.set_state("off")
    tools = [tool for tool in home.tools.all() if not (tool.owner_only or tool.confirm)]
    wording = {language: home.intents.wording(language) for language in LANGUAGES}
    said = {tool.name: " ".join(words.get(tool.name, "") for words in wording.values()) for tool in tools}
    return Run(model.requests, tools, Index(tools, said))


def clock_tools() -> list[Tool]:
    """The clock's tools; none of them is called."""
    return list(integration("clock", "tools").clock_tools(SimpleNamespace(wording=None)))


PLAIN = {
    "make it a bit louder please": "device.change_volume", "turn the volume down": "device.change_volume",
    "set your volume to fifty": "device.set_volume", "dim the display": "device.change_brightness",
    "take a picture of this": "device.take_photo", "how full is your battery": "device.get_battery",
    "be quiet, mute yourself": "device.mute", "switch to the dark theme": "device.set_theme",
    "再大声一点": "device.change_volume", "拍张照片": "device.take_photo",
}  # fmt: skip
ROUNDABOUT = {
    "i can barely hear you": "device.change_volume", "the baby is asleep so keep it down": "device.change_volume",
    "do not shout at me": "device.change_volume", "your face hurts my eyes at night": "device.change_brightness",
    "tell me what i am holding": "device.take_photo", "do you need to be charged": "device.get_battery",
    "not a sound from you now": "device.mute", "i like it better white on black": "device.set_theme",
    "我听不清你说话": "device.change_volume", "看看我手里是什么": "device.take_photo",
}  # fmt: skip
"""What people say who want something of the device they talk to: with its words, and without them."""


def told_of(run: Run, asked: dict[str, str]) -> int:
    """How many of these questions come with the line of the tool that they need."""
    return sum(tool in {found.name for found in run.index.best(text)} for text, tool in asked.items())


Write = Callable[[ChatRequest], str]


def read_twice(requests: Sequence[ChatRequest], write: Write) -> tuple[float, int]:
    """The share of tokens that are read twice, and all tokens."""
    again = total = 0
    before = write(requests[0])
    sent = Counter(serialised((), [message]) for message in requests[0].messages)
    for request in requests[1:]:
        text = write(request)
        total += estimate(text)
        kept = len(os.path.commonprefix([before, text]))  # noqa: RUF071 (texts, not paths)
        messages = Counter(serialised((), [message]) for message in request.messages)
        new = sum(map(estimate, (messages - sent).elements()))
        again += max(0, estimate(text[kept:]) - new)
        sent = messages
        before = text
    return again / total, total


def chosen_each_time(run: Run) -> Write:
    """Tools by the question, ten of them, where templates write them: in the beginning."""

    def write(request: ChatRequest) -> str:
        asked = next(message.words for message in reversed(request.messages) if message.role == "user")
        found = run.index.best(asked, 10)
        specs: tuple[ToolSpec, ...] = lean(sorted(found, key=lambda tool: tool.name))
        return serialised(specs, request.messages)

    return write


def time_in_the_beginning(request: ChatRequest) -> str:
    """The time where most put it: in the system message."""
    minute = sum(message.role == "user" for message in request.messages)
    first, *rest = request.messages
    return serialised(request.tools, [type(first)("system", f"{first.text} It is 14:{minute % 60:02}."), *rest])


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--turns", type=int, default=200)
    options = parser.parse_args()
    run = await talk(options.turns, 4000)
    chosen = offer(run.tools, USE_SPEC, USUALLY, estimate)
    full = [ToolSpec(tool.name, tool.description, tool.parameters) for tool in run.tools]
    print(
        f"{len(run.tools)} tools: {cost_of_tools(full, estimate)} tokens as they are, {cost_of_tools(lean(run.tools), estimate)} lean;"
    )
    print(
        f"in the beginning {len(chosen.tools)}: {cost_of_tools(chosen.tools, estimate)}: {', '.join(t.name for t in chosen.tools)}"
    )
    (use,) = (tool for tool in chosen.tools if tool.name == USE_SPEC.name)
    print(f"of these, naming the others: {cost_of_tools((use,), estimate) - cost_of_tools((USE_SPEC,), estimate)}")
    print(
        f"the device's tools come with {told_of(run, PLAIN)} of {len(PLAIN)} questions in their words, and with "
        f"{told_of(run, ROUNDABOUT)} of {len(ROUNDABOUT)} in other words"
    )
    first = run.requests[0]
    print(f"the beginning in all: {cost(first.messages[:1], estimate) + cost_of_tools(first.tools, estimate)} tokens")
    asked = {message.text: message.words for r in run.requests for message in r.messages if message.role == "user"}
    asides = [text[len(words) :] for text, words in asked.items()]
    print(f"what the hub adds to a question: {sum(map(estimate, asides)) / len(asides):.0f} tokens on average")

    def plain(request: ChatRequest) -> str:
        return serialised(request.tools, request.messages)

    for room in (3000, 4000, 8000):
        share, total = read_twice((await talk(options.turns, room)).requests, plain)
        print(f"{options.turns} turns, {room} tokens at once: {share:.2%} of {total} read twice")
    for name, write in (
        ("tools chosen for each question", chosen_each_time(run)),
        ("time in the beginning", time_in_the_beginning),
    ):
        print(f"{name}, 4000: {read_twice(run.requests, write)[0]:.1%}")
    dialogues.KEPT = 2
    print(
        f"half of the history kept when dropping, 4000: {read_twice((await talk(options.turns, 4000)).requests, plain)[0]:.2%}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
