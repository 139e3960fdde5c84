"""The recogniser as the hub sees it: sound is collected here and decoded in a child process."""

from __future__ import annotations

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
        await self._teach(book)
        self._book = book

    async def _teach(self, book: Phrasebook) -> None:
        graph = book.graph()
        arguments: tuple[Any, ...] = (
            graph.start,
            graph.states,
            graph.arcs,
            graph.ends,
            graph.polite,
            (),
            self._overrides,
        )
        unsaid = await self._worker.call("learn", book.version, *arguments)
        if unsaid:
            log.warning("nobody can say %s: give them pronunciations", ", ".join(unsaid))

    def open(self, request: AsrRequest) -> AsrStream:
        return _Utterance(self)

    async def recognise(self, sound: Samples) -> Transcript:
        """Recognise a whole utterance of 16 kHz; the text is empty when it is no known sentence."""
        book = self._book
        if book is None:
            return NOTHING
        found = await self._worker.call("recognise", book.version, sound.tobytes())
        if found is None:  # the process was started anew and knows nothing yet
            await self._teach(book)
            found = await self._worker.call("recognise", book.version, sound.tobytes())
        text, confidence = found or ("", 0.0)
        if not text or confidence < self._threshold or not book.understands(text):
            return Transcript("", LANGUAGE, confidence)
        return Transcript(book.written(text), LANGUAGE, confidence)


class _Utterance(AsrStream):
    """What was said so far."""

    def __init__(self, engine: Phrases) -> None:
        self._engine = engine
        self._heard: list[Samples] = []
        self._guess: tuple[int, Transcript] | None = None

    async def feed(self, chunk: PcmChunk) -> None:
        self._heard.append(chunk.samples)

    async def guess(self) -> Transcript:
        count = len(self._heard)
        if self._guess is None or self._guess[0] != count:
            sound = np.concatenate(self._heard) if count else np.zeros(0, np.int16)
            self._guess = (count, await self._engine.recognise(sound))
        return self._guess[1]

    async def finish(self) -> Transcript:
        return await self.guess()
