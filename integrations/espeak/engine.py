"""The voice as the hub sees it, whichever eSpeak there is."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np

from xiaozhi_hub.plugins.api import (
    EngineInfo,
    NeedsAttention,
    PcmChunk,
    Role,
    Samples,
    SpeechRequest,
    TaskScope,
    Tts,
    Worker,
)

from . import program
from .library import CURE, Library, find_library
from .voices import Speaking, Voices

log = logging.getLogger(__name__)

GROWTH = 2
"""Each piece that is handed over holds this many times as many blocks as the one before: the first comes at once, and a
long text does not wake the event loop for every block."""


class EspeakTts(Tts):
    """What every eSpeak has in common."""

    def __init__(self, voices: Voices, detail: str) -> None:
        self._voices = voices
        self.info = EngineInfo(
            id="espeak",
            role=Role.TTS,
            name="eSpeak NG",
            languages=("en", "zh-Hans"),
            streams_output=True,
            licence="GPL-3.0-or-later",
            detail=detail,
        )

    def voice_key(self, request: SpeechRequest) -> str:
        speaking = self._voices.speaking(request)
        return f"espeak/{speaking.voice}/{speaking.rate}/{speaking.pitch}"


class LibraryTts(EspeakTts):
    """eSpeak as a library, in a thread of its own."""

    def __init__(self, voices: Voices, library: Library, worker: Worker, scope: TaskScope) -> None:
        super().__init__(voices, f"{voices.english}, library {library.place.library}")
        self._library = library
        self._worker = worker
        self._scope = scope

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        speaking = self._voices.speaking(request)
        if not speaking.text:
            return
        # Not `Worker.iterate`: that makes the thread wait for its reader, who is as slow as speech, while other devices
        # wait for the thread. eSpeak is 400 times as fast as speech, so it runs through. Bounded by MOST_CHARACTERS.
        pieces: asyncio.Queue[Samples | Exception | None] = asyncio.Queue()
        stop = threading.Event()
        task = self._scope.start(self._produce(speaking, pieces, stop), name="speak")
        try:
            while (piece := await pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield PcmChunk(piece, self._library.rate)
        finally:
            stop.set()
            task.cancel()

    async def _produce(
        self, speaking: Speaking, pieces: asyncio.Queue[Samples | Exception | None], stop: threading.Event
    ) -> None:
        loop = asyncio.get_running_loop()

        def hand_over(piece: Samples) -> None:
            try:
                loop.call_soon_threadsafe(pieces.put_nowait, piece)
            except RuntimeError:  # the loop has closed: nobody listens any more
                stop.set()

        end: Exception | None = None
        try:
            await self._worker.run(self._synthesise, speaking, hand_over, stop)
        except Exception as error:  # raised again by the reader, who would wait for ever otherwise
            end = error
        pieces.put_nowait(end)

    def _synthesise(self, speaking: Speaking, hand_over: Callable[[Samples], None], stop: threading.Event) -> None:
        blocks: list[Samples] = []
        wanted = 1

        def take(block: Samples) -> bool:
            nonlocal wanted
            blocks.append(block)
            if len(blocks) >= wanted:
                hand_over(np.concatenate(blocks))
                blocks.clear()
                wanted *= GROWTH
            return not stop.is_set()

        self._library.speak(speaking, take)
        if blocks:
            hand_over(np.concatenate(blocks))


class ProgramTts(EspeakTts):
    """eSpeak as a program, started for each sentence."""

    def __init__(self, voices: Voices, path: str) -> None:
        super().__init__(voices, f"{voices.english}, program {path}")
        self._path = path

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        speaking = self._voices.speaking(request)
        if not speaking.text:
            return
        async with aclosing(program.speak(self._path, speaking)) as chunks:
            async for chunk in chunks:
                yield chunk


@asynccontextmanager
async def running(options: Mapping[str, Any]) -> AsyncIterator[EspeakTts]:
    """Find eSpeak NG and keep it ready as long as the block lasts; `NeedsAttention` when there is none."""
    voices = Voices.from_options(options)
    worker = Worker("espeak")
    try:
        library = await worker.run(_load, options.get("library"))
        if library is None:
            path = program.find_program()
            if path is None:
                raise NeedsAttention(
                    "Neither the eSpeak NG library nor the program espeak-ng is installed.",
                    code="library-missing",
                    hint=CURE,
                )
            yield ProgramTts(voices, path)
        else:
            try:
                async with TaskScope("espeak") as scope:
                    yield LibraryTts(voices, library, worker, scope)
            finally:
                worker.post(library.close)
    finally:
        await worker.close()


def _load(folder: str | None) -> Library | None:
    place = find_library(folder)
    if place is None:
        return None
    try:
        return Library(place)
    except NeedsAttention as error:
        if folder is not None or program.find_program() is None:
            raise
        log.warning("the program %s speaks instead of the library: %s", program.NAME, error)
        return None
