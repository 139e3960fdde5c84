"""Engines that take exactly the time that named models take on a named board (`profiles.yaml`), and note what was asked of them.

They understand, write and say what the bench wants; what they cost is real time on the event loop. All engines of a board share
one `Processor`: two that work at the same time slow each other down.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from xiaozhi_hub.core.flow import PcmChunk, TextDelta, Transcript
from xiaozhi_hub.dialog.agent.tokens import as_json, estimate
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message, ToolRequest
from xiaozhi_hub.engines.tts import SpeechRequest, Tts

PROFILES = Path(__file__).with_name("profiles.yaml")
SLICE_SECONDS = 0.02
"""How long one engine works before another has its turn on a shared processor."""
LATE_SECONDS = 0.03
"""A sleep ends late by no more than that, usually: who goes on at once goes on from when it should have ended."""
RATE = 22050
FIRST_MS, GROWTH = 240, 2
"""Pieces in which a computed sentence is handed over, as the piper integration does."""
CONTEXT = 3500
AHEAD = 100
"""Characters that a model reads ahead at once: about as many as llama.cpp's 32 tokens."""

_WORD = re.compile(r"\S+\s*|\s+")

Reply = Callable[[ChatRequest], Sequence[str | ToolRequest]]


@dataclass(frozen=True, slots=True)
class Board:
    """What the engines of one board cost, in seconds of an otherwise idle processor."""

    name: str
    about: str
    models: dict[str, str]
    asr_window: float
    asr_per_second: float
    """Of sound."""
    prompt_token: float
    token: float
    tts_first: float
    tts_per_second: float
    """Of sound."""
    characters_per_second: float = 15.0
    """How quickly the voice speaks."""

    @classmethod
    def named(cls, name: str) -> Board:
        profiles = yaml.safe_load(PROFILES.read_text(encoding="utf-8"))
        board = profiles["boards"][name]
        asr, llm, tts = (profiles["models"][board["models"][role]] for role in ("asr", "llm", "tts"))
        return cls(
            name=name,
            about=board["about"],
            models=board["models"],
            asr_window=asr["window_s"] / board["asr"],
            asr_per_second=asr["per_second"] / board["asr"],
            prompt_token=1 / (llm["prompt_tokens"] * board["prompt"]),
            token=1 / (llm["tokens"] * board["write"]),
            tts_first=tts["first_s"] / board["tts"],
            tts_per_second=tts["real_time"] / board["tts"],
        )


def boards() -> list[str]:
    return list(yaml.safe_load(PROFILES.read_text(encoding="utf-8"))["boards"])


class Processor:
    """Time on a board. *shared*: whoever works at the same time as others gets the processor in slices, in turn."""

    def __init__(self, *, shared: bool = True) -> None:
        self._shared = shared
        self._free_at = 0.0
        self.idle = False
        """Nothing costs anything: while a bench gets ready."""

    async def work(self, seconds: float, after: float = 0.0) -> float:
        """Return when *seconds* of work are done, and the moment when that was due: hand it in as *after* to go on from there."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self.idle:
            await asyncio.sleep(0)
            return now
        at = after if now - LATE_SECONDS < after <= now else now
        while seconds > 0:
            piece = min(seconds, SLICE_SECONDS) if self._shared else seconds
            if self._shared:
                at = self._free_at = max(at, self._free_at) + piece
            else:
                at += piece
            seconds -= piece
            await asyncio.sleep(max(0.0, at - loop.time()))
        return at


@dataclass(slots=True)
class Job:
    """One thing that an engine was asked to do. All times are loop times."""

    role: str
    what: str
    asked: float
    began: float | None = None
    """When the engine turned to it."""
    first: float | None = None
    """When there was a first result: a token, a sound."""
    finished: float | None = None
    stopped: float | None = None
    """When it was given up."""
    work: float = 0.0
    """Seconds that it costs on an otherwise idle processor."""
    marks: list[tuple[str, float, float, float]] = field(default_factory=list)
    """A model's pieces: the text, when it was written, the seconds that it worked up to there, and what that costs."""
    read: int = 0
    """Tokens of the prompt that a model had to evaluate."""
    reading: tuple[float, float] = (0.0, 0.0)
    """How long that took, and what it costs."""
    sound_ms: float = 0.0


@dataclass(slots=True)
class Feed:
    """An utterance as a recogniser got it."""

    opened: float
    pieces: list[tuple[float, float]] = field(default_factory=list)
    """When each came, and its ms."""


@dataclass(slots=True)
class Book:
    """What the engines were asked for."""

    jobs: list[Job] = field(default_factory=list)
    feeds: list[Feed] = field(default_factory=list)

    def of(self, role: str) -> list[Job]:
        return [job for job in self.jobs if job.role == role]

    def clear(self) -> None:
        self.jobs.clear()
        self.feeds.clear()

    def begin(self, role: str, what: str) -> Job:
        job = Job(role, what, _now())
        self.jobs.append(job)
        return job


def _now() -> float:
    return asyncio.get_running_loop().time()


class ReplayAsr(Asr):
    """Hears what `says` is, in the time that it would take."""

    def __init__(self, board: Board, processor: Processor, book: Book) -> None:
        self.info = EngineInfo("replay", Role.ASR, board.models["asr"], streams_input=True, rank=100)
        self.board, self.processor, self.book = board, processor, book
        self.says = ""

    def open(self, request: AsrRequest) -> AsrStream:
        return _ReplayStream(self, request)


class _ReplayStream(AsrStream):
    """Keeps count of the sound; recognises it as a whole, and again only when more has come."""

    def __init__(self, engine: ReplayAsr, request: AsrRequest) -> None:
        self._engine, self._request = engine, request
        self._feed = Feed(_now())
        self._heard_ms = 0.0
        self._done: tuple[float, Transcript] | None = None
        engine.book.feeds.append(self._feed)

    async def feed(self, chunk: PcmChunk) -> None:
        self._heard_ms += chunk.ms
        self._feed.pieces.append((_now(), chunk.ms))

    async def guess(self) -> Transcript:
        if self._done is None or self._done[0] != self._heard_ms:
            self._done = self._heard_ms, await self._recognise()
        return self._done[1]

    async def finish(self) -> Transcript:
        return await self.guess()

    async def _recognise(self) -> Transcript:
        engine, board = self._engine, self._engine.board
        job = engine.book.begin("asr", engine.says)
        job.began, job.work = job.asked, board.asr_window + board.asr_per_second * self._heard_ms / 1000
        try:
            await engine.processor.work(job.work)
        except asyncio.CancelledError:
            job.stopped = _now()
            raise
        job.first = job.finished = _now()
        return Transcript(engine.says, self._request.languages[0], 1.0)


class ReplayLlm(Llm):
    """Writes what *reply* gives, token by token; reads only what is new in a conversation. Does one thing at a time."""

    def __init__(self, board: Board, processor: Processor, book: Book, reply: Reply, *, ahead: bool = True) -> None:
        self.info = EngineInfo(
            "replay", Role.LLM, board.models["llm"], streams_output=True, rank=100, reads_ahead=ahead
        )
        self.board, self.processor, self.book, self.reply = board, processor, book, reply
        self._one = asyncio.Lock()
        self._asked = 0
        self._evaluated: dict[str, str] = {}

    @property
    def context_tokens(self) -> int | None:
        return CONTEXT

    def count_tokens(self, text: str) -> int | None:
        return estimate(text)

    async def prepare(self, request: ChatRequest) -> None:
        if self._asked or self._one.locked():
            return
        job = self.book.begin("ahead", request.messages[-1].words)
        try:
            async with self._one:
                job.began = due = _now()
                prompt = _prompt(request)
                at = _same(self._evaluated.get(request.conversation, ""), prompt)
                while at < len(prompt) and not self._asked:
                    self._evaluated[request.conversation] = prompt[:at]
                    piece = prompt[at : at + AHEAD]
                    cost = self.board.prompt_token * estimate(piece)
                    due = await self.processor.work(cost, due)
                    at += len(piece)
                    job.read, job.work = job.read + estimate(piece), job.work + cost
                self._evaluated[request.conversation] = prompt[:at]
                job.finished = _now()
        finally:
            if job.finished is None:
                job.stopped = _now()

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        job = self.book.begin("llm", request.messages[-1].words)
        self._asked += 1
        try:
            async with self._one:
                job.began = _now()
                prompt = _prompt(request)
                known = _same(self._evaluated.get(request.conversation, ""), prompt)
                job.read = estimate(prompt[known:])
                self._evaluated[request.conversation] = prompt
                job.work, cost = self.board.prompt_token * job.read, 0.0
                due = await self.processor.work(job.work, job.began)
                worked = max(0.0, _now() - job.began)
                job.reading = worked, job.work
                said = ""
                calls: tuple[ToolRequest, ...] = ()
                for piece in self.reply(request):
                    for text in _WORD.findall(piece) if isinstance(piece, str) else [_call(piece)]:
                        begun = _now()
                        cost += self.board.token * estimate(text)
                        due = await self.processor.work(cost, due)
                        job.work, cost = job.work + cost, 0.0
                        worked += max(0.0, _now() - begun)
                        job.first = job.first or _now()
                        if isinstance(piece, str):
                            said += text
                            job.marks.append((text, _now(), worked, job.work))
                            yield TextDelta(text)
                    if isinstance(piece, ToolRequest):
                        calls += (piece,)
                        job.marks.append(("", _now(), worked, job.work))
                        yield piece
                self._evaluated[request.conversation] = prompt + _written(Message("assistant", said, calls=calls))
                job.finished = _now()
        finally:
            self._asked -= 1
            if job.finished is None:
                job.stopped = _now()


def _prompt(request: ChatRequest) -> str:
    tools = as_json([[tool.name, tool.description, dict(tool.parameters)] for tool in request.tools])
    return tools + "".join(_written(message) for message in request.messages)


def _same(old: str, new: str) -> int:
    """How many characters of the beginning are the same."""
    if new.startswith(old):
        return len(old)
    return next((at for at, (left, right) in enumerate(zip(old, new, strict=False)) if left != right), len(new))


def _call(request: ToolRequest) -> str:
    return as_json([request.name, dict(request.arguments)])


def _written(message: Message) -> str:
    return f"\n{message.role}: {message.text}{''.join(map(_call, message.calls))}"


class ReplayTts(Tts):
    """Speaks in a tone, a whole piece at a time. Does one thing at a time, in the order in which it was asked."""

    def __init__(self, board: Board, processor: Processor, book: Book) -> None:
        self.info = EngineInfo("replay", Role.TTS, board.models["tts"], rank=100)
        self.board, self.processor, self.book = board, processor, book
        self._one = asyncio.Lock()

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        job = self.book.begin("tts", request.text)
        seconds = len(request.text) / self.board.characters_per_second
        job.sound_ms = seconds * 1000
        try:
            async with self._one:
                job.began = _now()
                job.work = self.board.tts_first + self.board.tts_per_second * seconds
                await self.processor.work(job.work)
                job.first = job.finished = _now()
            time = np.arange(int(seconds * RATE)) / RATE
            sound = (np.sin(2 * np.pi * 300 * time) * 9000).astype(np.int16)
            at, size = 0, RATE * FIRST_MS // 1000
            while at < len(sound):
                yield PcmChunk(sound[at : at + size], RATE)
                at, size = at + size, size * GROWTH
        finally:
            if job.finished is None:
                job.stopped = _now()


@dataclass(frozen=True, slots=True)
class Engines:
    """The three of one board."""

    asr: ReplayAsr
    llm: ReplayLlm
    tts: ReplayTts
    processor: Processor
    book: Book

    @classmethod
    def of(cls, board: Board, reply: Reply, *, shared: bool = True, ahead: bool = True) -> Engines:
        processor, book = Processor(shared=shared), Book()
        return cls(
            ReplayAsr(board, processor, book),
            ReplayLlm(board, processor, book, reply, ahead=ahead),
            ReplayTts(board, processor, book),
            processor,
            book,
        )

    def join(self, hub: Any) -> None:
        """Become the engines of a running hub."""
        for engine in (self.asr, self.llm, self.tts):
            hub.engines.add(engine, "bench")
