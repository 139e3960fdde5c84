"""How much of a dialogue llama.cpp reads twice: 200 turns with tools, the time, dropped history, and a restart half-way.

    python bench/prefix.py [--turns 200] [--model FILE.gguf] [--context 4096] [--devices 2] [--sudden]

The conversation is shaped as the agent shapes it: instructions and tools first and always the same, what changes (time, state of the house)
at the end of each question, and old exchanges dropped by half when the context is full. Without --model a small one is written, which
takes the same ways through the library as a large one. Devices take turns, so that their states are put away and fetched. --sudden
kills the process half-way instead of restarting in order.

New is what no prompt before held: the question, the answer of a tool, and what the template writes around them. Everything evaluated
beyond that was read twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.house import House, integration
from xiaozhi_hub.core.flow import TextDelta
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.engines.llm import ChatRequest, Message, ToolRequest, ToolSpec

OFFERED = ("home.turn_on", "home.turn_off", "home.get_state", "home.set_light", "home.list_add", "home.get_weather")
PERSONA = (
    "You are the voice of a home. Answer in one or two short spoken sentences, without lists or formatting. Use the tools for "
    "everything in the house; never claim to have done what no tool has done. If you do not know, say so."
)
QUESTIONS = ("make it cosy please", "tell me something for bedtime", "and what do you think of that")
ANSWERS = {
    "cosy": '<tool_call>\n{"name": "home.turn_on", "arguments": {"name": "Bed Light"}}\n</tool_call>',
    "bedtime": "Once upon a time there was a small light that was afraid of the dark, and so it shone all night.",
    "<tool_response>": "The bed is lit, have a good night.",
}


@dataclass
class Device:
    """One device's dialogue, and what its prompts cost."""

    name: str
    history: list[Message]
    known: int = 0
    """Tokens of the latest prompt and its answer: what the next one goes on from."""
    sent: int = 0
    """Messages of the history that were in the latest prompt, or its answer."""
    dropped: bool = False
    """Has the history lost messages since?"""


@dataclass
class Tally:
    """What all prompts cost."""

    prompts: list[int] = field(default_factory=list)
    news: list[int] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    drops: int = 0
    borders: dict[tuple[str, ...], int] = field(default_factory=dict)
    """Tokens that the template writes around new messages, by their roles."""

    def add(self, model: Any, device: Device) -> None:
        """Account for the latest prompt."""
        use = model.uses[-1]
        fresh = device.history[device.sent :]
        roles = tuple(message.role for message in fresh)
        texts = sum(model.count_tokens(message.text) for message in fresh)
        if device.dropped:  # the prompt is shorter than before: its borders are as wide as they always were
            new = texts + self.borders[roles]
            self.drops += 1
        else:
            new = use.prompt - device.known
            self.borders[roles] = new - texts
        self.prompts.append(use.prompt)
        self.news.append(new)
        self.evaluated.append(use.evaluated)
        device.known, device.dropped = use.prompt + use.written, False


async def exchange(model: Any, device: Device, tools: tuple[ToolSpec, ...], text: str, tally: Tally) -> None:
    """One turn: the question and, where the model calls a tool, the tool's answer."""
    device.history.append(Message("user", text))
    for _ in range(3):
        make_room(model, device, tools)
        said, calls = "", []
        request = ChatRequest(tuple(device.history), tools, "en", device.name)
        async with aclosing(model.chat(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, TextDelta):
                    said += piece.text
                elif isinstance(piece, ToolRequest):
                    calls.append(piece)
        tally.add(model, device)
        device.history.append(Message("assistant", said, calls=tuple(calls)))
        device.sent = len(device.history)
        if not calls:
            return
        device.history += [Message("tool", f"done: {call.name}, {text[-20:]}", call.name) for call in calls]


def make_room(model: Any, device: Device, tools: tuple[ToolSpec, ...]) -> None:
    """When the context is full drop the oldest exchanges, half of the history at once."""
    room = model.context_tokens - sum(
        model.count_tokens(json.dumps(dict(tool.parameters)) + tool.name) for tool in tools
    )
    sizes = [model.count_tokens(message.text) + 16 for message in device.history]
    if sum(sizes) <= room:
        return
    while sum(sizes) > room // 2:
        end = next((at for at in range(2, len(device.history)) if device.history[at].role == "user"), None)
        if end is None:
            return
        device.dropped = True
        device.sent -= end - 1
        del device.history[1:end], sizes[1:end]


@asynccontextmanager
async def loaded(file: Path, cache: Path, context: int, threads: int) -> AsyncIterator[Any]:
    """The engine of the integration, without a hub around it."""
    part = {name: integration("llama_cpp", name) for name in ("engine", "model", "config")}
    options = part["config"].SCHEMA({"context": context, "temperature": 0, "threads": threads, "max_tokens": 60})
    async with (
        TaskScope("bench") as scope,
        part["model"].Model(part["model"].Files(file, None), options, cache, scope).running() as model,
    ):
        yield part["engine"].LlamaLlm(model)


async def measure(args: argparse.Namespace, folder: Path) -> Tally:
    file = args.model
    if file is None:
        from tests.tiny_gguf import write_tiny_gguf

        file = write_tiny_gguf(folder / "tiny.gguf", ANSWERS, "That is a good question.")
    house = House()
    tools = tuple(
        ToolSpec(tool.name, tool.description, tool.parameters) for tool in house.tools.all() if tool.name in OFFERED
    )
    devices = [Device(f"device{number}", [Message("system", PERSONA)]) for number in range(args.devices)]
    tally = Tally()
    turns = iter(range(args.turns))
    for half in (args.turns // 2, args.turns - args.turns // 2):
        async with loaded(file, folder / "cache", args.context, args.threads) as model:
            for _ in range(half):
                number = next(turns)
                lights = "one light" if number % 3 else "no light"
                state = f"(It is {7 + number // 60 % 16:02}:{number % 60:02}. In the kitchen {lights} is on.)"
                device = devices[number % len(devices)]
                await exchange(
                    model, device, tools, f"{QUESTIONS[number // len(devices) % len(QUESTIONS)]}\n\n{state}", tally
                )
            if args.sudden and model.model.process.pid is not None:
                await asyncio.sleep(3)  # the instructions are written as soon as nobody asks
                os.kill(model.model.process.pid, signal.SIGKILL)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sudden", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally = asyncio.run(measure(args, Path(folder)))
    again = [max(0, evaluated - new) for evaluated, new in zip(tally.evaluated, tally.news, strict=True)]
    prompts, news = sum(tally.prompts), sum(tally.news)
    print(
        f"{args.turns} turns, {args.devices} devices, {len(again)} prompts; a restart; history dropped {tally.drops} times"
    )
    print(f"tokens: {prompts} in prompts, {news} new, {sum(tally.evaluated)} evaluated")
    print(
        f"read again: {sum(again)} tokens = {sum(again) / prompts:.2%} of the prompts, {sum(again) / news:.2%} of the new"
    )
    print(
        f"prompts of which something was read again: {sum(count > 0 for count in again)}; at worst {max(again)} tokens"
    )


if __name__ == "__main__":
    main()
