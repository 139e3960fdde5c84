"""How much of a turn is spent waiting for what could have been done earlier, on boards that are too slow to hide it.

    python bench/schedule.py [--board pi4|pi5|n100] [--turns 2] [--kind long] [--alone] [--not-ahead] [--json out.json]

A real hub with the engines of `replay.py`, which take the time that named models take on a named board (derived, not measured there:
`profiles.yaml`), and a device that speaks in real time. From what the engines noted, the *critical path* of each turn is computed: when
the first sound, and the last, could have come if nobody had ever waited without need:

    end of the speech → the wait that is configured, in whole packets, and beside it recognition, from the first silent packet on
    → the model's first piece (of each round, and the tool between), for which it may read while the silence is waited for
    → the voice's first sound, or the lead-in

each stage as long as it really took (*alone*: as long as it takes when nothing else works on the board), the next piece of speech as
soon as it is written and the voice is free, and its sound when the one before has ended. *efficiency* is that divided by what the device
measured, for the first sound of the answer and for its end. All times are ms after the last sound of the question.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from replay import Board, Engines, Job, boards

from xiaozhi_hub.core.flow import PcmChunk, Sentence
from xiaozhi_hub.dialog.speaking.mouth import LEAD_IN_MS
from xiaozhi_hub.dialog.speaking.splitter import Splitter
from xiaozhi_hub.engines.llm import ChatRequest, ToolRequest
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, TurnResult, Utterance, running_hub
from xiaozhi_hub.testing.playback import TOLERANCE_MS

DEVICE = "02:00:00:00:00:01"
CONFIGURATION = """
voice: {vad: echo}
history: {audio: false}
integrations: {echo: , demo: , phrases: false, espeak: false, silero_vad: false, faster_whisper: false, llama_cpp: false, piper: false}
"""
PACKET_MS = 60
"""Of sound, in both directions."""
SPARE_MS = 20
ANSWER_SECONDS = 150.0
WORD = "One moment."
KINDS = ("command", "short", "long", "tool", "interrupted")

ANIMALS = ("fox", "hare", "mole", "wren", "toad", "seal", "crow", "lynx", "newt", "swan")
"""No sentence is said twice, because the hub would know its sound."""
STORY = (
    "Once upon a time in a very quiet house, a small {0} lived in a cupboard at the end of a long hall. "
    "The {0} listened to the house all day. "
    "In the morning the {0} heard the kettle, and in the evening it heard the rain on the roof. "
    "Nobody ever asked the {0} for a story, so it kept them all to itself. "
    "One night a child came down the stairs with a blanket and looked at the {0}. "
    "The {0} began very quietly. "
    "By the time its third story had ended, the child was asleep and so was the {0}."
)
SHORT = "I like the quiet hours of the {0} best."
JACKET = "It is cloudy and mild, so a light jacket as warm as a {0} will do for your walk."
QUESTIONS = {
    "short": "tell me something about yourself",
    "long": "i would like to hear a long story",
    "tool": "what should i wear for a walk",
    "interrupted": "i would like to hear a long story",
}


def reply(request: ChatRequest) -> Sequence[str | ToolRequest]:
    """What the model writes."""
    animal = ANIMALS[sum(message.role == "user" for message in request.messages) % len(ANIMALS)]
    last = request.messages[-1]
    asked = next(message.words for message in reversed(request.messages) if message.role == "user")
    if "story" in asked:
        return [STORY.format(animal)]
    if "wear" in asked:
        return [JACKET.format(animal)] if last.role == "tool" else [ToolRequest("home.get_weather", {})]
    return [SHORT.format(animal)]


def speech(seconds: float = 1.8) -> Utterance:
    """Speech that ends just before a packet does, as codecs blur the end a little."""
    frames = round(seconds * 1000 / PACKET_MS)
    time = np.arange(frames * PACKET_MS * 16) / 16000
    sound = np.sin(2 * np.pi * 400 * time) * 8000
    sound[-SPARE_MS * 16 :] = 0
    return Utterance.of(PcmChunk(sound.astype(np.int16), 16000))


class Listener(FakeDevice):
    """Notes when each sentence begins to sound."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.sounding: list[tuple[str, float]] = []
        self.gaps: list[tuple[float, float]] = []
        """Silence because nothing was there to play: where it ended, and its ms."""
        self._announced: list[str] = []

    async def text_came(self, text: str, now: float) -> None:
        message = json.loads(text)
        if message.get("type") == "tts" and message.get("state") == "sentence_start":
            self._announced.append(message["text"])
        await super().text_came(text, now)

    def audio_came(self, frame: bytes, now: float) -> None:
        ends_at = self._turn.playback.ends_at if self._turn is not None else None
        if ends_at is not None and now - ends_at > TOLERANCE_MS / 1000:
            self.gaps.append((now, (now - ends_at) * 1000))
        if self._announced and self._turn is not None:
            begins = max(now, self._turn.playback.ends_at or 0.0)
            self.sounding += [(text, begins) for text in self._announced]
            self._announced.clear()
        super().audio_came(frame, now)


@dataclass(slots=True)
class Measured:
    """One turn. Milliseconds after the end of the speech."""

    kind: str
    first_alone: float
    first_path: float
    first: float
    last_path: float
    last: float
    gap_ms: float
    gap_path_ms: float
    """Silence between sentences that the engines' speed makes necessary."""
    read: list[int] = field(default_factory=list)
    """Tokens that the model evaluated, by round."""
    ahead: int = 0
    """Tokens that it evaluated before the turn was over."""
    word: bool = False
    """The hub said that it takes a moment."""
    stopped: float | None = None
    """Of an interrupted answer: how long after that the last engine worked."""

    @property
    def first_efficiency(self) -> float:
        return self.first_path / self.first

    @property
    def last_efficiency(self) -> float:
        return self.last_path / self.last


@dataclass(slots=True)
class CriticalPath:
    """The earliest moments that the engines' own times allow. Loop times."""

    heard: float
    first: float
    last: float
    gaps: float


def critical_path(end: float, waited_ms: float, jobs: list[Job], *, alone: bool = False) -> CriticalPath:
    """The critical path of a turn whose speech ended at *end* and whose silence is *waited_ms* long."""

    def taken(job: Job) -> float:
        assert job.began is not None and job.finished is not None
        return job.work if alone else job.finished - job.began

    guess = [job for job in jobs if job.role == "asr" and job.finished is not None][-1]
    silent = end + SPARE_MS / 1000
    wait = math.ceil(waited_ms / PACKET_MS) * PACKET_MS / 1000
    known = PACKET_MS / 1000 + taken(guess)
    heard = silent + max(wait, known)
    at = heard + _left_to_read(jobs, max(0.0, wait - known), alone=alone)
    written: dict[str, float] = {}
    for job in (job for job in jobs if job.role == "llm" and job.marks):
        splitter = Splitter("en", clause_first=not written)
        for text, _, worked, cost in job.marks:
            for piece in splitter.feed(text):
                if isinstance(piece, Sentence):
                    written.setdefault(piece.text, at + (cost if alone else worked))
        at += job.marks[-1][3 if alone else 2]
        for piece in splitter.flush():
            if isinstance(piece, Sentence):
                written.setdefault(piece.text, at)
    free = sounded = 0.0
    first = gaps = 0.0
    for job in (job for job in jobs if job.role == "tts" and job.what != WORD and job.finished is not None):
        begin = max(written.get(job.what, heard), free)
        free = begin + taken(job)
        sounds = max(free, sounded, heard + LEAD_IN_MS / 1000)
        first = first or sounds
        gaps += max(0.0, sounds - sounded) if sounded else 0.0
        sounded = sounds + math.ceil(job.sound_ms / PACKET_MS) * PACKET_MS / 1000
    return CriticalPath(heard, first, sounded, gaps)


def _left_to_read(jobs: list[Job], time: float, *, alone: bool) -> float:
    """How much longer, or if negative shorter, than it did a model would read after the turn is over, if it had used the *time* before
    that as well as it can."""
    asked = next((job for job in jobs if job.role == "llm" and job.marks), None)
    ahead = [job for job in jobs if job.role == "ahead" and job.began is not None]
    if asked is None or not ahead:
        return 0.0
    read = asked.reading[alone]
    before = sum(job.work if alone else (job.finished or job.stopped or 0.0) - (job.began or 0.0) for job in ahead)
    return max(0.0, read + before - time) - read


class Bench:
    """A hub, a device, and the engines of one board."""

    def __init__(self, hub: Hub, engines: Engines, device: Listener) -> None:
        self.hub, self.engines, self.device = hub, engines, device
        self._commands = 0

    async def ready(self) -> None:
        """As a hub is that has run for a while: usual phrases are known, the beginning of the conversation is evaluated."""
        self.engines.processor.idle = True
        self.engines.join(self.hub)
        self.hub.prewarm.again()
        async with asyncio.timeout(30):
            while not any(job.what == WORD and job.finished for job in self.engines.book.of("tts")):
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)
        self.engines.asr.says = "say hello to me"
        await self.device.ask(speech())
        self.engines.processor.idle = False

    def question(self, kind: str) -> tuple[str, float]:
        """What to say, and the silence that the hub waits for after it."""
        patience = self.hub.parts.patience
        if kind != "command":
            return QUESTIONS[kind], patience.unknown_ms
        self._commands += 1  # the answer to one that was given before would be known
        return f"set the bed light to {20 + self._commands} percent", patience.complete_ms

    async def turn(self, kind: str) -> Measured:
        if kind == "interrupted":
            stopped = await self._interrupt()
            measured = await self._ask("short", kind)
            measured.stopped = stopped
            return measured
        return await self._ask(kind, kind)

    async def _ask(self, question: str, kind: str) -> Measured:
        self.engines.book.clear()
        self.device.sounding.clear()
        self.device.gaps.clear()
        self.engines.asr.says, waited = self.question(question)
        await self.device.say(speech())
        assert self.device._asked is not None and self.device._asked.zero_at is not None
        end = self.device._asked.zero_at
        result = await self.device.answer(ANSWER_SECONDS)
        return await self._measured(kind, end, waited, result)

    async def _measured(self, kind: str, end: float, waited: float, result: TurnResult) -> Measured:
        book = self.engines.book
        path = critical_path(end, waited, book.jobs)
        alone = critical_path(end, waited, book.jobs, alone=True)
        sounding = [at for text, at in self.device.sounding if text != WORD]
        first = sounding[0] if sounding and result.sentences[0] == WORD else end + result.stamps["first_voice"] / 1000
        return Measured(
            kind,
            (alone.first - end) * 1000,
            (path.first - end) * 1000,
            (first - end) * 1000,
            (path.last - end) * 1000,
            result.stamps["played"],
            sum(ms for at, ms in self.device.gaps if at > first + 0.001),
            path.gaps * 1000,
            [job.read for job in book.of("llm")],
            sum(job.read for job in book.of("ahead")),
            WORD in result.sentences,
        )

    async def _interrupt(self) -> float:
        """Ask for a story, stop it when it has begun, and see when the engines are at rest: ms."""
        self.engines.book.clear()
        self.engines.asr.says, _ = self.question("interrupted")
        await self.device.say(speech())
        await self.device.hears("all day", ANSWER_SECONDS)
        await asyncio.sleep(0.5)
        at = asyncio.get_running_loop().time()
        await self.device.press_button()
        await self.device.answer(ANSWER_SECONDS)
        ends = [job.stopped or job.finished or math.inf for job in self.engines.book.jobs]
        return max(0.0, max(ends) - at) * 1000


async def run(board: Board, kinds: Sequence[str], turns: int, *, shared: bool, ahead: bool) -> list[Measured]:
    """Measure *turns* of each kind on *board*."""
    found: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        async with running_hub(Path(folder), CONFIGURATION) as hub:
            engines = Engines.of(board, reply, shared=shared, ahead=ahead)
            async with Listener(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=DEVICE) as device:
                bench = Bench(hub, engines, device)
                await bench.ready()
                for _ in range(turns):
                    for kind in kinds:
                        found.append(await bench.turn(kind))
                        print(f"  {row(board.name, kind, found[-1:])}", flush=True)
    return found


HEAD = (
    "| board | kind | first sound: alone | path | measured | efficiency | end of sound: path | measured | efficiency "
    "| silence inside: needed | measured | tokens read | |\n" + "|---" * 13 + "|"
)


def row(board: str, kind: str, turns: Sequence[Measured]) -> str:
    """A line of the table: means of *turns*."""

    def mean(name: str) -> float:
        return fmean(getattr(turn, name) for turn in turns)

    notes = [f"{turns[-1].ahead} tokens read ahead"] if turns[-1].ahead else []
    notes += ["says “one moment” first"] if any(turn.word for turn in turns) else []
    if turns[0].stopped is not None:
        notes.append(f"engines at rest {max(turn.stopped or 0 for turn in turns):.0f} ms after the interruption")
    read = "/".join(str(tokens) for tokens in turns[-1].read) or "–"
    return (
        f"| {board} | {kind} | {mean('first_alone'):.0f} "
        f"| {mean('first_path'):.0f} | {mean('first'):.0f} | **{mean('first_efficiency'):.3f}** "
        f"| {mean('last_path'):.0f} | {mean('last'):.0f} | **{mean('last_efficiency'):.3f}** "
        f"| {mean('gap_path_ms'):.0f} | {mean('gap_ms'):.0f} | {read} | {'; '.join(notes)} |"
    )


async def tell(
    names: Sequence[str], kinds: Sequence[str], turns: int, *, shared: bool = True, ahead: bool = True
) -> list[Any]:
    """Measure these boards and print the table; return every turn."""
    with contextlib.suppress(OSError):  # where it is allowed: what else runs here is not what is measured
        os.setpriority(os.PRIO_PROCESS, 0, -12)
    table, rows = [HEAD], []
    for name in names:
        board = Board.named(name)
        print(f"{board.about}: {', '.join(board.models.values())} (derived, not measured on the board)", flush=True)
        measured = await run(board, kinds, turns, shared=shared, ahead=ahead)
        rows += [{"board": name, **asdict(turn)} for turn in measured]
        table += [
            row(name, kind, [turn for turn in measured if turn.kind == kind])
            for kind in dict.fromkeys(turn.kind for turn in measured)
        ]
    print("\n".join(table))
    return rows


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--board", choices=boards(), action="append")
    parser.add_argument("--turns", type=int, default=2, help="of each kind")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--alone", action="store_true", help="engines do not slow each other down")
    parser.add_argument("--not-ahead", action="store_true", help="the model reads only what it is asked")
    parser.add_argument("--json", type=Path, help="write every turn there")
    args = parser.parse_args()
    names, kinds = args.board or boards(), args.kind or KINDS
    rows = await tell(names, kinds, args.turns, shared=not args.alone, ahead=not args.not_ahead)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
