"""The engine: one model for all devices, and what it is told about the house."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    EngineInfo,
    InstalledModel,
    ModelShelf,
    Phrasebook,
    Role,
    Samples,
    StageError,
    TaskScope,
    Transcript,
    Worker,
    language_of,
)

from .desk import Desk
from .guards import RATE, Floats, Piece, believed, goes_in_circles, is_speech
from .languages import OURS, codes_of, simplified
from .model import PARTIAL_WINDOWS, WINDOWS, Model, Task, load
from .stream import WhisperStream

T = TypeVar("T")

DOMAIN = "faster_whisper"
RANK = 5
WHOLE_WINDOW = (30,)
LOOK_AGAIN = -0.7
"""Mean log probability below which a sentence is read once more in a whole window."""
FEWEST_LETTERS = 2
"""Shorter names are no help."""
WAIT_SECONDS = 30.0
"""A person has gone away by then: too slow a machine for the model, or too many people at once."""


class Whisper(Asr):
    """Writes down what people say."""

    def __init__(
        self, model: Model, installed: InstalledModel, worker: Worker, options: Mapping[str, Any], scope: TaskScope
    ) -> None:
        languages = ("en", "zh-Hans") if model.multilingual else ("en",)
        self.info = EngineInfo(
            id=DOMAIN,
            role=Role.ASR,
            name="Whisper",
            languages=languages,
            streams_input=True,
            licence="MIT",
            detail=installed.name,
            rank=RANK,
        )
        self.model = model
        self.desk = Desk(worker, options["partial_share"])
        self.partials: bool = options["partials"]
        self._worker = worker
        self._scope = scope
        self._language: str = options["language"]
        self._beam: int = options["beam"]
        self._partial_beam: int = options["partial_beam"]
        self._fitted: bool = options["window"] == "fitted"
        self._prompt: str = options["prompt"].strip()
        self._use_hot_words: bool = options["hot_words"]
        self._hot_words: dict[str, str] = {}
        self.refused = 0
        """How many utterances were taken for noise, or for made up."""
        self.looked_again = 0
        """How many were read a second time, in a whole window."""

    @classmethod
    @asynccontextmanager
    async def running(cls, models: ModelShelf, options: Mapping[str, Any], scope: TaskScope) -> AsyncIterator[Whisper]:
        """Load the model and keep it while the block lasts. `NotInstalled` when there is none."""
        worker = Worker("faster-whisper")
        try:
            installed = await worker.run(models.find, DOMAIN, options["model"])
            model = await worker.run(load, installed, options["device"], options["compute_type"], options["threads"])
            engine = cls(model, installed, worker, options, scope)
            try:
                yield engine
            finally:
                engine.partials = False
                engine.desk.close()
                worker.post(model.close)  # in the thread, which may still be using it
        finally:
            await worker.close()

    # -- learning -------------------------------------------------------------------------------------------------

    async def learn(self, book: Phrasebook) -> None:
        """Take in the names of rooms and things, as people write them."""
        if not self._use_hot_words:
            return
        language = language_of(book.language)
        names = tuple(dict.fromkeys(name.strip() for name in book.names() if len(name.strip()) >= FEWEST_LETTERS))
        separator = "、" if language == "zh-Hans" else ", "
        self._hot_words[language] = await self._worker.run(self.model.fit_hot_words, names, separator)

    def hot_words(self, language: str) -> str:
        """What is expected in *language*."""
        return self._hot_words.get(language, "")

    # -- hearing --------------------------------------------------------------------------------------------------

    def open(self, request: AsrRequest) -> AsrStream:
        return WhisperStream(self, request, self._scope)

    def languages_for(self, request: AsrRequest) -> tuple[str, ...]:
        """Whisper's codes of what may be spoken: one, or several of which the sound decides."""
        if self._language == "detect":
            return self.whisper_codes((*request.languages, *self.info.languages))
        wanted = request.languages if self._language == "device" else (self._language,)
        return self.whisper_codes(wanted) or self.whisper_codes(self.info.languages)

    def whisper_codes(self, languages: Sequence[str]) -> tuple[str, ...]:
        return codes_of(tuple(language for language in languages if language in self.info.languages))

    async def recognise(self, samples: Samples, languages: tuple[str, ...]) -> Transcript:
        """Write down *samples* (16 kHz). The text is empty for what is no speech or not to be believed."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._asked(self.desk.final(partial(self._hear, samples, languages, final=True)))
        except TimeoutError as error:
            raise StageError(
                "asr", f"Whisper was not done within {WAIT_SECONDS:g} s", code="recogniser-slow"
            ) from error

    async def try_out(self, samples: Samples, languages: tuple[str, ...]) -> Transcript | None:
        """The same, quicker and less exact, and only if nobody else needs the model; None then."""
        return await self._asked(self.desk.partial(partial(self._hear, samples, languages, final=False)))

    async def _asked(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except (RuntimeError, ValueError, MemoryError) as error:  # the native code's own
            raise StageError(
                "asr", f"Whisper failed: {type(error).__name__}: {error}", code="recogniser-failed"
            ) from error

    # -- in the thread --------------------------------------------------------------------------------------------

    def _hear(self, samples: Samples, languages: tuple[str, ...], stop: threading.Event, *, final: bool) -> Transcript:
        sound: Floats = samples.astype(np.float32) / np.float32(32768)
        if not is_speech(sound):
            self.refused += final
            return Transcript("", OURS[languages[0]], 0.0)
        windows = (WINDOWS if final else PARTIAL_WINDOWS) if self._fitted else WHOLE_WINDOW
        hot_words = {code: self.hot_words(OURS[code]) for code in languages}
        task = Task(sound, languages, self._beam if final else self._partial_beam, windows, hot_words, self._prompt)
        written = self.model.recognise(stop, task)
        if final and written.window < WHOLE_WINDOW[0] and _is_suspect(written.pieces):
            self.looked_again += 1
            written = self.model.recognise(stop, replace(task, languages=(written.language,), windows=WHOLE_WINDOW))
        pieces = written.pieces
        if written.language == "zh":
            pieces = tuple(replace(piece, text=simplified(piece.text)) for piece in pieces)
        prompted = (self._prompt, hot_words.get(written.language, ""))
        text, confidence = believed(pieces, len(samples) / RATE, written.language, prompted)
        self.refused += final and not text
        return Transcript(text, OURS[written.language], confidence)


def _is_suspect(pieces: Sequence[Piece]) -> bool:
    """Does it look as if the short window had upset the model?"""
    return any(goes_in_circles(piece) or piece.sureness < LOOK_AGAIN for piece in pieces)


__all__ = ["Whisper"]
