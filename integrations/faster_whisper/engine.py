"""The engine: one model for all devices, and what it is told about the house."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    EngineInfo,
    InstalledModel,
    ModelShelf,
    Phrasebook,
    Role,
    TaskScope,
    Worker,
    language_of,
)

from .languages import codes_of
from .loading import load
from .model import Model
from .recogniser import Recogniser
from .stream import WhisperStream

DOMAIN = "faster_whisper"
RANK = 5
FEWEST_LETTERS = 2
"""Shorter names are no help."""


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
        self.recogniser = Recogniser(model, worker, options)
        self._worker = worker
        self._scope = scope
        self._language: str = options["language"]
        self._use_hot_words: bool = options["hot_words"]

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
                engine.recogniser.close()
                worker.post(model.close)  # in the thread, which may still be using it
        finally:
            await worker.close()

    async def learn(self, book: Phrasebook) -> None:
        """Take in the names of rooms and things, as people write them."""
        if not self._use_hot_words:
            return
        language = language_of(book.language)
        names = tuple(dict.fromkeys(name.strip() for name in book.names() if len(name.strip()) >= FEWEST_LETTERS))
        separator = "、" if language == "zh-Hans" else ", "
        fitting = await self._worker.run(self.recogniser.model.fit_hot_words, names, separator)
        self.recogniser.hot_words[language] = fitting

    def open(self, request: AsrRequest) -> AsrStream:
        return WhisperStream(self.recogniser, self._languages_for(request), self._scope)

    def _languages_for(self, request: AsrRequest) -> tuple[str, ...]:
        """Whisper's codes of what may be spoken: one, or several of which the sound decides."""
        if self._language == "detect":
            return self._codes((*request.languages, *self.info.languages))
        wanted = request.languages if self._language == "device" else (self._language,)
        return self._codes(wanted) or self._codes(self.info.languages)

    def _codes(self, languages: Sequence[str]) -> tuple[str, ...]:
        return codes_of(tuple(language for language in languages if language in self.info.languages))


__all__ = ["Whisper"]
