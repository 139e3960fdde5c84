"""How much of a dialogue llama.cpp reads twice when the agent leads it: tools, the time, rooms, dropped turns, a restart half-way.

    python bench/agent_prefix.py [--turns 200] [--model FILE.gguf] [--context 4096] [--devices 2] [--ahead]

`bench/prefix.py` measures the engine with a dialogue of its own; here every prompt is what `dialog/agent/` makes, and devices take
turns. Without --model a small one is written. New is what no prompt of that device held before. With --ahead each question is guessed
and read before it is asked: then what is evaluated is what a person still waits for.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from house import person_in
from prefix import ANSWERS, QUESTIONS, loaded
from talking_model import Home

from xiaozhi_hub.dialog.agent.dialogue import Dialogue, serialised


class Tally:
    """What the prompts of all devices cost."""

    def __init__(self) -> None:
        self.prompts = self.news = self.evaluated = self.again = self.asked = self.ahead = 0
        self._before: dict[str, tuple[int, set[str]]] = {}

    def add(self, model: Any, request: Any, use: Any) -> None:
        """Account for one request."""
        known, messages = self._before.get(use.conversation, (0, set()))
        now = {serialised((), [message]) for message in request.messages}
        kept = messages <= now | {""}
        if kept and known:
            new = use.prompt - known
        else:  # turns were dropped, or nothing was known: the newest message is new
            new = use.prompt if not known else sum(model.count_tokens(m.text) + 16 for m in request.messages[-1:])
        self._before[use.conversation] = (use.prompt + use.written, now)
        self.asked += 1
        self.prompts += use.prompt
        self.news += new
        self.evaluated += use.evaluated
        self.again += max(0, use.evaluated - new)


async def measure(args: argparse.Namespace, folder: Path) -> tuple[Tally, int]:
    file = args.model
    if file is None:
        from tests.tiny_gguf import write_tiny_gguf

        file = write_tiny_gguf(folder / "tiny.gguf", ANSWERS, "That is a good question.")
    tally = Tally()
    home = Home()
    dialogues = [Dialogue() for _ in range(args.devices)]
    turns = iter(range(args.turns))
    for half in (args.turns // 2, args.turns - args.turns // 2):
        async with loaded(file, folder / "cache", args.context, args.threads) as model:
            requests: list[Any] = []
            chat = model.chat

            def noted(request: Any, chat: Any = chat, requests: list[Any] = requests) -> Any:
                requests.append(request)
                return chat(request)

            model.chat = noted
            home.models = (model,)
            for _ in range(half):
                number = next(turns)
                which = number % len(dialogues)
                home.dialogue = dialogues[which]
                turn = dataclasses.replace(person_in(("Kitchen", "Bedroom")[which % 2]), device_id=f"device{which}")
                first = len(requests)
                text = f"{QUESTIONS[number // len(dialogues) % len(QUESTIONS)]} {number}"
                if args.ahead:
                    expected = await home.agent.expected(model, turn, text, home.assistant, home.dialogue)
                    assert expected is not None
                    await model.prepare(expected)
                await home.say(text, turn)
                asked = requests[first:]
                for request, use in zip(asked, list(model.uses)[-len(asked) :], strict=True):
                    tally.add(model, request, use)
                home.later(1)
            tally.ahead += model.read_ahead
    return tally, sum(dialogue.dropped for dialogue in dialogues)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ahead", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tally, dropped = asyncio.run(measure(args, Path(folder)))
    print(f"{args.turns} turns, {args.devices} devices, {tally.asked} prompts, a restart; {dropped} turns dropped")
    print(
        f"tokens: {tally.prompts} in prompts, {tally.news} new, {tally.evaluated} evaluated, {tally.ahead} before that ahead"
    )
    print(f"read again: {tally.again} tokens = {tally.again / tally.prompts:.2%} of the prompts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
