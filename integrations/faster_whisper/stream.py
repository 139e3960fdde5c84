"""One utterance: recognised for practice while it comes in, then for good."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from xiaozhi_hub.plugins.api import (
    AsrRequest,
    AsrStream,
    HubError,
    PcmChunk,
    Samples,
    TaskScope,
    Transcript,
    cancel_and_wait,
    resample,
)

from .guards import RATE

if TYPE_CHECKING:
    import asyncio

    from .engine import Whisper

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60
"""What comes after is not kept: only a button that is held down makes an utterance so long."""
FIRST_SECONDS = 0.8
"""Sound that a first partial recognition needs …"""
NEW_SECONDS = 0.4
"""… and that is new for each further one."""
LOUD = 0.05
"""Part of the speech's level that is more than silence."""
FLOOR = 60.0
"""Level (of 32768) below which nothing is speech."""


class WhisperStream(AsrStream):
    """Keeps the sound, and tries it out now and then while it comes in."""

    def __init__(self, engine: Whisper, request: AsrRequest, scope: TaskScope) -> None:
        self._engine = engine
        self._languages = engine.languages_for(request)
        self._scope = scope
        self._pieces: list[Samples] = []
        self._length = 0
        self._tried = 0
        """Samples that the newest partial recognition was given."""
        self._trying: asyncio.Task[None] | None = None
        self._guessed: tuple[int, Transcript] | None = None
        """What was heard in how many samples."""
        self.closed = False

    async def feed(self, chunk: PcmChunk) -> None:
        if self.closed or self._length > LONGEST_SECONDS * RATE:
            return
        samples = (chunk if chunk.rate == RATE else resample(chunk, RATE)).samples
        self._pieces.append(samples)
        self._length += len(samples)
        new = self._length - self._tried
        due = new >= NEW_SECONDS * RATE and self._length >= FIRST_SECONDS * RATE
        if due and self._engine.partials and self._trying is None and self._engine.desk.may_try:
            self._tried = self._length
            self._trying = self._scope.start(self._try(self._samples()), name="partial")

    async def _try(self, samples: Samples) -> None:
        try:
            heard = await self._engine.try_out(samples, self._languages)
        except HubError as error:
            log.debug("a partial recognition failed: %s", error)
            heard = None
        finally:
            self._trying = None
        if heard is not None:
            self.partial = heard

    async def guess(self) -> Transcript:
        samples = self._samples()
        if self._guessed is not None and self._guessed[0] == len(samples):
            return self._guessed[1]
        await self._stop_trying()
        transcript = await self._engine.recognise(samples, self._languages)
        self._guessed = (len(samples), transcript)
        return transcript

    async def finish(self) -> Transcript:
        if self._guessed is not None:
            samples = self._samples()
            length, transcript = self._guessed
            if _is_silence(samples[length:], samples[:length]):
                return transcript
        return await self.guess()

    async def _stop_trying(self) -> None:
        if (trying := self._trying) is not None:
            await cancel_and_wait(trying)
            self._trying = None

    async def aclose(self) -> None:
        self.closed = True
        await self._stop_trying()
        self._pieces.clear()
        self._length = 0
        self._guessed = None

    def _samples(self) -> Samples:
        if len(self._pieces) != 1:
            joined: Samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
            self._pieces = [joined]
        return self._pieces[0]


def _is_silence(samples: Samples, speech: Samples) -> bool:
    """Is nothing in *samples* nearly as loud as *speech*, in pieces of 20 ms?"""
    return _loudest(samples) <= max(FLOOR, LOUD * _loudest(speech))


def _loudest(samples: Samples) -> float:
    width = RATE // 50
    count = len(samples) // width
    if not count:
        return 0.0
    whole = samples[: count * width].reshape(-1, width).astype(np.float32)
    return float(np.sqrt(np.mean(whole * whole, axis=1)).max())
