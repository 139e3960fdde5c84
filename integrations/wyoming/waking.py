"""Wake words detected by a Wyoming service."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Never

from wyoming.audio import AudioChunk, AudioStart
from wyoming.wake import Detect, Detection

from xiaozhi_hub.plugins.api import (
    EngineInfo,
    PcmChunk,
    StageError,
    TaskScope,
    Wake,
    WakeStream,
    cancel_and_wait,
    resample,
)

from .service import Service, Talk, heard_while
from .sound import RATE, WIDTH, raw

STAGE = "wake"
_MOST_WAITING = 50
"""Pieces of sound that are kept for a service that is behind; older ones are dropped: a wake word is wanted now or never."""
_MOST_NAME = 100


class WyomingWake(Wake):
    """All the words of one program of one service."""

    def __init__(
        self, info: EngineInfo, service: Service, program: str | None, words: Sequence[str], scope: TaskScope
    ) -> None:
        self.info = info
        self._words = tuple(words)
        self.service = service
        self.program = program
        self.scope = scope

    @property
    def words(self) -> tuple[str, ...]:
        return self._words

    def open(self) -> WakeStream:
        return _Listening(self)


class _Listening(WakeStream):
    """One connection for as long as the microphone is open. After a failure the next piece of sound opens another."""

    def __init__(self, engine: WyomingWake) -> None:
        self._engine = engine
        self._waiting: deque[bytes] = deque(maxlen=_MOST_WAITING)
        self._news = asyncio.Event()
        self._detected: deque[str] = deque(maxlen=1)
        self._task: asyncio.Task[StageError] | None = None

    async def feed(self, chunk: PcmChunk) -> str | None:
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            if not task.cancelled():
                raise task.result()
        if self._task is None:
            if self._engine.scope.is_closed():
                raise StageError(STAGE, f"{self._engine.service.name} is not used any more", code="wake-lost")
            self._task = self._engine.scope.start(self._listen(), name="wake")
        self._waiting.append(raw(resample(chunk, RATE).samples))
        self._news.set()
        return self._detected.popleft() if self._detected else None

    async def aclose(self) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)
            self._task = None

    async def _listen(self) -> StageError:
        """Stream until the service fails; return how."""
        engine = self._engine
        try:
            async with engine.service.talk(STAGE, engine.program) as talk:
                await talk.say(Detect())
                await talk.say(AudioStart(RATE, WIDTH, 1))
                await heard_while(self._speak(talk), self._hear(talk), engine.service.answer_s)
        except StageError as error:
            return error

    async def _hear(self, talk: Talk) -> Never:
        while True:
            event = await talk.hear()
            if Detection.is_type(event.type):
                self._detected.append(str(event.data.get("name") or "")[:_MOST_NAME])

    async def _speak(self, talk: Talk) -> Never:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await talk.say(AudioChunk(RATE, WIDTH, 1, self._waiting.popleft()))
