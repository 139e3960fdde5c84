"""The voices as the hub sees them: one engine that speaks what its voices speak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from xiaozhi_hub.plugins.api import (
    EngineInfo,
    HubError,
    ModelShelf,
    PcmChunk,
    Role,
    Samples,
    SpeechRequest,
    StageError,
    Tts,
    Worker,
    language_of,
)

from .studio import Manner, Studio
from .voices import Catalogue, VoiceFile, find_voices

MOST_CHARACTERS = 5000
"""Of one request; what is longer is cut."""
FIRST_MS, GROWTH = 240, 2
"""A sentence is computed as a whole; it is handed on in pieces, each so many times as long as the one before, so that the
first packets need not wait for the last to be encoded."""


class PiperTts(Tts):
    """Piper, in a thread of its own."""

    def __init__(self, catalogue: Catalogue, studio: Studio, manner: Manner, worker: Worker) -> None:
        self._catalogue = catalogue
        self._studio = studio
        self._manner = manner
        self._worker = worker
        self.info = EngineInfo(
            id="piper",
            role=Role.TTS,
            name="Piper",
            languages=catalogue.languages,
            licence="GPL-3.0-or-later; voices have licences of their own",
            detail=", ".join(catalogue.of_language[language].name for language in catalogue.languages),
            rank=10,
        )

    def voice_key(self, request: SpeechRequest) -> str:
        try:
            voice = self._catalogue.voice_for(request)
        except StageError:  # `speak` says so
            return super().voice_key(request)
        manner = self._manner
        scales = (manner.length_scale, manner.noise_scale, manner.noise_w_scale, manner.sentence_silence)
        said = "/".join("" if scale is None else f"{scale:g}" for scale in scales)
        speaker = "" if voice.speaker is None else voice.speaker
        return f"piper/{voice.name}@{voice.identity}#{speaker}/{said}/{request.speed:g}"

    def speaks(self, request: SpeechRequest) -> tuple[str, ...]:
        try:
            return (self._catalogue.voice_for(request).language,)
        except StageError:
            return self.info.languages

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        voice = self._catalogue.voice_for(request)
        rate = int(voice.description["audio"]["sample_rate"])
        sentences = self._studio.say(voice, request.text[:MOST_CHARACTERS], request.speed, self._manner)
        try:
            # One job for each sentence: between two of them the thread serves others, and sees that nobody listens.
            while (sound := await self._next(voice, sentences)) is not None:
                size, at = rate * FIRST_MS // 1000, 0
                while at < len(sound):
                    yield PcmChunk(sound[at : at + size], rate)
                    at, size = at + size, size * GROWTH
        finally:
            self._worker.post(sentences.close)  # the thread may still be in it

    async def _next(self, voice: VoiceFile, sentences: Generator[Samples, None, None]) -> Samples | None:
        try:
            return await self._worker.run(next, sentences, None)
        except asyncio.CancelledError:
            raise
        except HubError as error:
            raise StageError("tts", error.message, hint=error.hint) from error
        except Exception as error:  # a library's own: whatever it is, this sentence cannot be said
            raise StageError(
                "tts", f"Piper failed with the voice {voice.name}: {type(error).__name__}: {error}"
            ) from error


@asynccontextmanager
async def running(models: ModelShelf, options: Mapping[str, Any], language: str) -> AsyncIterator[PiperTts]:
    """Find the voices, and keep those in memory that speak. The one for *language* is read at once: so a voice that cannot
    be used is known now, and the first answer need not wait for it."""
    worker = Worker("piper")
    studio = Studio(options["keep"], options["threads"])
    try:
        catalogue = await worker.run(find_voices, models, options)
        usual = language_of(language) if language_of(language) in catalogue.languages else catalogue.languages[0]
        await worker.run(studio.load, catalogue.of_language[usual])
        manner = Manner(
            options.get("length_scale"),
            options.get("noise_scale"),
            options.get("noise_w_scale"),
            options["sentence_silence"],
        )
        yield PiperTts(catalogue, studio, manner, worker)
    finally:
        worker.post(studio.close)
        await worker.close()


__all__ = ["PiperTts", "running"]
