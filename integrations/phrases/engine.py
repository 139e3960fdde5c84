"""The recogniser as the hub sees it: sound is collected here and decoded in a child process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    EngineInfo,
    PcmChunk,
    Phrasebook,
    ProcessWorker,
    Role,
    Samples,
    Transcript,
)

log = logging.getLogger(__name__)

LANGUAGE = "en"
NOTHING = Transcript("", LANGUAGE, 0.0)


class Phrases(Asr):
    """pocketsphinx, following the automaton of what the hub understands."""

    def __init__(
        self, worker: ProcessWorker, pronunciations: Mapping[str, tuple[tuple[str, ...], ...]], threshold: float
    ) -> None:
        self.info = EngineInfo(
            "phrases",
            Role.ASR,
            "Recogniser for known sentences",
            languages=(LANGUAGE,),
            licence="BSD-2-Clause",
            detail="pocketsphinx en-us",
        )
        self._worker = worker
        self._threshold = threshold
        self._overrides = {
            word.lower(): sounds
            for name, words in pronunciations.items()
            for word, sounds in zip(name.split(), words, strict=True)
        }
        self._book: Phrasebook | None = None
        self._taught: tuple[str, bool] | None = None
        """What the process was taught last: a version, and whether with bare answers."""

    @classmethod
    @asynccontextmanager
    async def running(
        cls, pronunciations: Mapping[str, tuple[tuple[str, ...], ...]], threshold: float
    ) -> AsyncIterator[Self]:
        worker = ProcessWorker("phrases", Path(__file__).with_name("decoder.py"))
        try:
            yield cls(worker, pronunciations, threshold)
        finally:
            await worker.close()

    async def learn(self, book: Phrasebook) -> None:
        """Take in the sentences and names of now; the old ones stay in use until the new ones are ready."""
        if book.language != LANGUAGE or (self._book is not None and self._book.version == book.version):
            return
        await self._teach(book, False)
        self._book = book

    async def prepare(self, answering: bool) -> None:
        """Listen for bare answers too, or not: there are so many that they would be heard everywhere."""
        if self._book is not None and self._taught != (self._book.version, answering):
            await self._teach(self._book, answering)

    async def _teach(self, book: Phrasebook, answering: bool) -> None:
        graph = await asyncio.to_thread(book.graph, answering)
        version = _version(book, answering)
        arguments: tuple[Any, ...] = (
            graph.start,
            graph.states,
            graph.arcs,
            graph.ends,
            graph.polite,
            (),
            self._overrides,
        )
        unsaid = await self._worker.call("learn", version, *arguments)
        self._taught = (book.version, answering)
        if unsaid:
            log.warning("nobody can say %s: give them pronunciations", ", ".join(unsaid))

    def open(self, request: AsrRequest) -> AsrStream:
        return _Utterance(self, request.answering)

    async def recognise(self, sound: Samples, answering: bool) -> Transcript:
        """Recognise a whole utterance of 16 kHz; the text is empty when it is no known sentence."""
        book = self._book
        if book is None:
            return NOTHING
        version = _version(book, answering)
        found = await self._worker.call("recognise", version, sound.tobytes())
        if found is None:  # the process was started anew, or another device has been asked something
            await self._teach(book, answering)
            found = await self._worker.call("recognise", version, sound.tobytes())
        text, confidence = found or ("", 0.0)
        if not text or confidence < self._threshold or not book.understands(text):
            return Transcript("", LANGUAGE, confidence)
        return Transcript(book.written(text), LANGUAGE, confidence)


def _version(book: Phrasebook, answering: bool) -> str:
    return f"{book.version}{'+answers' if answering else ''}"


class _Utterance(AsrStream):
    """What was said so far."""

    def __init__(self, engine: Phrases, answering: bool) -> None:
        self._engine = engine
        self._answering = answering
        self._heard: list[Samples] = []
        self._guess: tuple[int, Transcript] | None = None

    async def feed(self, chunk: PcmChunk) -> None:
        if not self._heard:  # there is time for it now, while the person speaks
            await self._engine.prepare(self._answering)
        self._heard.append(chunk.samples)

    async def guess(self) -> Transcript:
        count = len(self._heard)
        if self._guess is None or self._guess[0] != count:
            sound = np.concatenate(self._heard) if count else np.zeros(0, np.int16)
            self._guess = (count, await self._engine.recognise(sound, self._answering))
        return self._guess[1]

    async def finish(self) -> Transcript:
        return await self.guess()
