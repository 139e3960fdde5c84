"""The engine: teaches the decoder what the hub understands, and lets it hear utterances."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
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
    Phrasebook,
    ProcessWorker,
    Role,
    Samples,
    SentenceGraph,
    StageError,
    TaskScope,
    Transcript,
    Worker,
    WorkerLost,
    language_of,
)

from .stream import LONGEST_SECONDS, RATE, PhrasesStream

log = logging.getLogger(__name__)

NOISE = 35.0
"""Digital silence upsets the acoustic model; noise of this sigma (of 32768) beneath everything does not."""
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
        self, process: ProcessWorker, worker: Worker, scope: TaskScope, pronunciations: Pronunciations, threshold: float
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
        self._scope = scope
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
        self.followed: object | None = None
        self._utterances = 0

    @classmethod
    @asynccontextmanager
    async def running(cls, pronunciations: Pronunciations, threshold: float) -> AsyncIterator[Phrases]:
        """Run the decoder's process as long as the block lasts; `NeedsAttention` when it cannot run."""
        process = ProcessWorker("phrases", Path(__file__).with_name("decoder"))
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
            async with TaskScope("phrases") as scope:
                yield cls(process, worker, scope, pronunciations, threshold)
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

    # -- hearing: what its streams ask (`Listener`) ------------------------------------------------------------------

    def open(self, request: AsrRequest) -> AsrStream:
        return PhrasesStream(self, self._scope, request)

    def new_utterance(self) -> int:
        self._utterances += 1
        return self._utterances

    async def follow(self, utterance: int, answering: bool, samples: Samples, place: int) -> bool:
        lesson = self._lesson
        if lesson is None:
            return False
        pcm = _with_noise(samples, place)
        try:
            return bool(await self._process.call("follow", lesson.version, answering, utterance, 2 * place, pcm))
        except RuntimeError as error:  # the decoder's own
            raise StageError("asr", str(error), code="recogniser-failed") from error

    async def recognise(
        self, samples: Samples, answering: bool, tail: int = 0, utterance: int | None = None
    ) -> Transcript:
        lesson = self._lesson
        if lesson is None:
            raise StageError("asr", "the recogniser has not learned any sentences yet", code="recogniser-not-ready")
        pcm = _with_noise(np.pad(samples, (0, tail)))
        try:
            lesson, found = await self._ask(lesson, answering, pcm, utterance)
        except WorkerLost as error:
            raise StageError("asr", error.message, code="recogniser-lost") from error
        except RuntimeError as error:
            raise StageError("asr", str(error), code="recogniser-failed") from error
        self.decoded += 1
        text, confidence = found
        if not text or confidence < self._threshold or not lesson.book.understands(text):
            return Transcript("", "en", confidence)
        return Transcript(lesson.book.written(text), "en", confidence)

    async def _ask(
        self, lesson: Lesson, answering: bool, pcm: bytes, utterance: int | None
    ) -> tuple[Lesson, tuple[str, float]]:
        """Ask the decoder; teach it first where it has just been started and knows nothing. Returns what it knew, too."""
        found: Any = None
        try:
            found = await self._call("recognise", lesson.version, answering, pcm, utterance)
        except RuntimeError as error:  # the decoder's own: it has begun anew and knows nothing
            log.warning("the recogniser for known sentences failed: %s", error)
        if found is None:
            async with self._teaching:
                lesson = self._lesson or lesson  # which it may have been taught meanwhile
                found = await self._call("recognise", lesson.version, answering, pcm)
                if found is None:
                    await self._teach(lesson)
                    found = await self._call("recognise", lesson.version, answering, pcm)
        if found is None:
            raise StageError("asr", "the recogniser has forgotten what it was taught", code="recogniser-not-ready")
        text, confidence = found
        return lesson, (str(text), float(confidence))

    async def _call(self, method: str, *args: Any) -> Any:
        """Ask the process; once more where it died, since asking twice for the same changes nothing."""
        try:
            return await self._process.call(method, *args)
        except WorkerLost as error:
            log.warning("%s; it is started again", error.message)
            return await self._process.call(method, *args)


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


@lru_cache(maxsize=1)
def _noise() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Always the same: so is the result."""
    return np.random.default_rng(1).normal(0.0, NOISE, (LONGEST_SECONDS + 1) * RATE).astype(np.float32)


def _with_noise(samples: Samples, place: int = 0) -> bytes:
    """The sound that begins at *place* of an utterance, as the decoder takes it."""
    noise = _noise()[place : place + len(samples)]
    noisy: Samples = np.clip(samples[: len(noise)] + noise, -32768, 32767).astype(np.int16)
    return noisy.tobytes()


__all__ = ["Lesson", "Phrases"]
