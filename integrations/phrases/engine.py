"""The engine: teaches the decoder what the hub understands, and lets it hear utterances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    EngineInfo,
    HubError,
    NeedsAttention,
    PcmChunk,
    Phrasebook,
    ProcessWorker,
    Role,
    Samples,
    SentenceGraph,
    StageError,
    Transcript,
    Worker,
    WorkerLost,
    language_of,
    resample,
)

log = logging.getLogger(__name__)

RATE = 16000
LONGEST_SECONDS = 10
"""The decoder refuses more; what comes after is not even kept."""
NOISE = 35.0
"""Digital silence upsets the acoustic model; noise of this sigma (of 32768) beneath everything does not."""
TAIL = RATE // 10
"""Samples of silence that are put after a word that has only just been said: the decoder takes it for another without them."""
LOUD = 0.1
"""Part of the speech's level that is more than silence."""
FLOOR = 60.0
"""Level (of 32768) below which nothing is speech."""
MOST_LETTERS = 4
"""A name's word in capitals that is no longer than this may be said letter by letter: TV, NAS."""

Graph = tuple[int, int, tuple[tuple[int, int, str, float], ...], tuple[tuple[int, float], ...], tuple[str, ...]]
"""A `SentenceGraph` as the decoder, which knows nothing of the hub, takes it."""
Pronunciations = Mapping[str, tuple[tuple[str, ...], ...]]


@dataclass(frozen=True, slots=True)
class Lesson:
    """Everything that the decoder has to know of one phrasebook."""

    book: Phrasebook
    graphs: tuple[tuple[bool, Graph], ...]
    spelled: tuple[str, ...]

    @property
    def version(self) -> str:
        return self.book.version


class Phrases(Asr):
    """Recognises the sentences of the phrasebook, and nothing else."""

    def __init__(
        self, process: ProcessWorker, worker: Worker, pronunciations: Pronunciations, threshold: float
    ) -> None:
        self.info = EngineInfo(
            id="phrases",
            role=Role.ASR,
            name="Phrases (PocketSphinx)",
            languages=("en",),
            licence="BSD-2-Clause",
            detail="acoustic model en-us, sentences of this hub",
            rank=10,
            closed=True,
        )
        self._process = process
        self._worker = worker
        self._overrides = {
            word: sounds
            for name, words in pronunciations.items()
            for word, sounds in zip(name.lower().split(), words, strict=True)
        }
        self._threshold = threshold
        self._lesson: Lesson | None = None
        self._teaching = asyncio.Lock()
        self._unsayable: tuple[str, ...] = ()
        self.decoded = 0
        """How many utterances were decoded."""

    @classmethod
    @asynccontextmanager
    async def running(cls, pronunciations: Pronunciations, threshold: float) -> AsyncIterator[Phrases]:
        """Run the decoder's process as long as the block lasts; `NeedsAttention` when it cannot run."""
        process = ProcessWorker("phrases", Path(__file__).with_name("decoder.py"))
        worker = Worker("phrases-book")
        try:
            try:
                await process.call("version")
            except HubError as error:
                raise NeedsAttention(
                    f"the recogniser's process does not start: {error.message}",
                    code="recogniser-unusable",
                    hint="Run: pip install --force-reinstall pocketsphinx   The hub's log has the cause.",
                ) from error
            yield cls(process, worker, pronunciations, threshold)
        finally:
            await process.close()
            await worker.close()

    @property
    def pid(self) -> int | None:
        """The decoder's process."""
        return self._process.pid

    # -- learning -------------------------------------------------------------------------------------------------

    async def learn(self, book: Phrasebook) -> None:
        """Take in an English phrasebook. Until that is done the one before stays in use."""
        if language_of(book.language) != "en":
            return
        async with self._teaching:
            if self._lesson is not None and self._lesson.version == book.version:
                return
            lesson = await self._worker.run(_prepare, book)
            await self._teach(lesson)
            self._lesson = lesson

    async def _teach(self, lesson: Lesson) -> None:
        unsayable = await self._call("learn", lesson.version, lesson.graphs, lesson.spelled, self._overrides)
        if unsayable and unsayable != self._unsayable:
            log.warning(
                "nobody knows how to say %s: see the pronunciations of integration phrases", ", ".join(unsayable)
            )
        self._unsayable = unsayable

    # -- hearing --------------------------------------------------------------------------------------------------

    def open(self, request: AsrRequest) -> AsrStream:
        return PhrasesStream(self, request)

    async def recognise(self, samples: Samples, answering: bool, tail: int = 0) -> Transcript:
        """Say which sentence *samples* (16 kHz) are, with *tail* samples of silence after them.

        The text is empty when it is none, or none that is certain enough.
        """
        lesson = self._lesson
        if lesson is None:
            raise StageError("asr", "the recogniser has not learned any sentences yet", code="recogniser-not-ready")
        pcm = _with_noise(samples, tail).tobytes()
        try:
            found = await self._ask(lesson, pcm, answering)
        except WorkerLost as error:
            raise StageError("asr", error.message, code="recogniser-lost") from error
        self.decoded += 1
        text, confidence, unfinished = found
        if not text or confidence < self._threshold or not lesson.book.understands(text):
            return Transcript("", "en", confidence, unfinished)
        return Transcript(lesson.book.written(text), "en", confidence)

    async def _ask(self, lesson: Lesson, pcm: bytes, answering: bool) -> tuple[str, float, bool]:
        """Ask the decoder; teach it first where it has just been started and knows nothing."""
        found: Any = await self._call("recognise", lesson.version, answering, pcm)
        if found is None:
            async with self._teaching:
                current = self._lesson or lesson
                await self._teach(current)
            found = await self._call("recognise", current.version, answering, pcm)
        if found is None:
            raise StageError("asr", "the recogniser was taught something else meanwhile", code="recogniser-not-ready")
        text, confidence, unfinished = found
        return str(text), float(confidence), bool(unfinished)

    async def _call(self, method: str, *args: Any) -> Any:
        """Ask the process; once more where it died, since asking twice for the same changes nothing."""
        try:
            return await self._process.call(method, *args)
        except WorkerLost as error:
            log.warning("%s; it is started again", error.message)
            return await self._process.call(method, *args)


class PhrasesStream(AsrStream):
    """One utterance. It is recognised whole: decoding it as it comes in costs accuracy."""

    def __init__(self, engine: Phrases, request: AsrRequest) -> None:
        self._engine = engine
        self._answering = request.answering
        self._lead = round(request.lead_ms * RATE / 1000)
        self._pieces: list[Samples] = []
        self._length = 0
        self._guessed: tuple[int, Transcript] | None = None
        """What was understood, and in how many samples."""

    async def feed(self, chunk: PcmChunk) -> None:
        if self._length > LONGEST_SECONDS * RATE:  # no sentence any more
            return
        samples = (chunk if chunk.rate == RATE else resample(chunk, RATE)).samples
        self._pieces.append(samples)
        self._length += len(samples)

    async def guess(self) -> Transcript:
        samples = self._samples()
        transcript = await self._engine.recognise(samples, self._answering)
        self._guessed = (len(samples), transcript)
        return transcript

    async def guess_early(self) -> Transcript:
        samples = self._samples()
        transcript = await self._engine.recognise(samples, self._answering, TAIL)
        self._guessed = (len(samples), transcript)
        return transcript

    async def finish(self) -> Transcript:
        samples = self._samples()
        if self._guessed is not None:
            length, transcript = self._guessed
            if transcript.text and _is_silence(samples[length:], samples[:length]):
                return transcript
        transcript = Transcript("", "en")
        if self._guessed is None or self._guessed[1].text:
            transcript = await self.guess()
        if not transcript.text and self._lead:
            # A click or a breath before the first word can spoil a sentence, and costs more than the cut-off beginning.
            transcript = await self._engine.recognise(samples[self._lead :], self._answering)
        return transcript

    async def aclose(self) -> None:
        self._pieces.clear()
        self._guessed = None

    def _samples(self) -> Samples:
        if len(self._pieces) != 1:
            joined: Samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
            self._pieces = [joined]
        return self._pieces[0]


def _prepare(book: Phrasebook) -> Lesson:
    spelled = {
        word.lower()
        for name in book.names()
        for word in name.split()
        if word.isalpha() and word.isupper() and 1 < len(word) <= MOST_LETTERS
    }
    graphs = tuple((answering, _plain(book.graph(answering))) for answering in (False, True))
    return Lesson(book, graphs, tuple(sorted(spelled)))


def _plain(graph: SentenceGraph) -> Graph:
    return (graph.start, graph.states, graph.arcs, graph.ends, graph.polite)


def _with_noise(samples: Samples, tail: int) -> Samples:
    noise = np.random.default_rng(1).normal(0.0, NOISE, len(samples) + tail)  # always the same: so is the result
    noise[: len(samples)] += samples
    noisy: Samples = np.clip(noise, -32768, 32767).astype(np.int16)
    return noisy


def _is_silence(samples: Samples, speech: Samples) -> bool:
    """Is nothing in *samples* nearly as loud as *speech*, in pieces of 20 ms?"""
    loud = max(_levels(speech), default=0.0)
    return max(_levels(samples), default=0.0) <= max(FLOOR, LOUD * loud)


def _levels(samples: Samples) -> list[float]:
    width = RATE // 50
    whole = samples[: len(samples) // width * width].reshape(-1, width).astype(np.float32)
    levels: list[float] = np.sqrt(np.mean(whole * whole, axis=1)).tolist()
    return levels


__all__ = ["Lesson", "Phrases", "PhrasesStream"]
