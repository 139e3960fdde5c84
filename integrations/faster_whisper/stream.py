"""One utterance: recognised for practice while it comes in, then for good."""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from xiaozhi_hub.plugins.api import (
    AsrStream,
    HubError,
    PcmChunk,
    Samples,
    StageError,
    TaskScope,
    Transcript,
    cancel_and_wait,
    resample,
)

from .guards import RATE
from .recogniser import Recogniser

log = logging.getLogger(__name__)

LONGEST_SECONDS = 60
"""What comes after is not kept: only a button that is held down makes an utterance so long."""
FIRST_SECONDS = 0.8
"""Sound that a first partial recognition needs …"""
NEW_SECONDS = 0.4
"""… and that is new for each further one."""
SILENT = 0.05
"""Part of the speech's level that is silence, however long …"""
FADING, FADING_SECONDS = 0.25, 0.13
"""… and that is no more than the last word fading away, for so long."""
GRACE_SECONDS = 0.1
"""How long work goes on when nobody waits for it."""
FLOOR = 60.0
"""Level (of 32768) below which nothing is speech."""


class WhisperStream(AsrStream):
    """Keeps the sound, and tries it out now and then while it comes in."""

    def __init__(self, recogniser: Recogniser, languages: tuple[str, ...], scope: TaskScope) -> None:
        self._recogniser = recogniser
        self._languages = languages
        self._scope = scope
        self._pieces: list[Samples] = []
        self._length = 0
        self._tried = 0
        """Samples that the newest partial recognition was given."""
        self._trying: asyncio.Task[None] | None = None
        self._work: _Work | None = None
        self.closed = False

    async def feed(self, chunk: PcmChunk) -> None:
        if self.closed or self._length > LONGEST_SECONDS * RATE:
            return
        samples = (chunk if chunk.rate == RATE else resample(chunk, RATE)).samples
        self._pieces.append(samples)
        self._length += len(samples)
        if self._work is not None and not self._work.covers(self._samples()):
            await self._give_up()
        new = self._length - self._tried
        due = new >= NEW_SECONDS * RATE and self._length >= FIRST_SECONDS * RATE
        if due and self._trying is None and self._recogniser.may_try:
            self._tried = self._length
            self._trying = self._scope.start(self._try(self._samples()), name="partial")

    async def _try(self, samples: Samples) -> None:
        try:
            heard = await self._recogniser.try_out(samples, self._languages)
        except HubError as error:
            log.debug("a partial recognition failed: %s", error)
            heard = None
        finally:
            self._trying = None
        if heard is not None:
            self.partial = heard

    async def guess(self) -> Transcript:
        samples = self._samples()
        work = self._work
        if work is None or not work.covers(samples):
            await self._stop_trying()
            await self._give_up()
            work = self._work = _Work(samples, self._scope.start(self._recognise(samples), name="recognise"))
        work.stay()
        try:
            await asyncio.wait([work.task])  # not the task itself: it may outlive us for a moment
        except asyncio.CancelledError:
            work.leave()
            raise
        if work.task.cancelled():
            raise StageError("asr", "the recognition was given up", code="abandoned")
        outcome = work.task.result()
        if isinstance(outcome, HubError):
            self._work = None  # the next one may do better
            raise outcome
        return outcome

    async def finish(self) -> Transcript:
        return await self.guess()

    async def _recognise(self, samples: Samples) -> Transcript | HubError:
        try:
            return await self._recogniser.recognise(samples, self._languages)
        except HubError as error:  # for who waits, if anybody does
            return error

    async def _stop_trying(self) -> None:
        if (trying := self._trying) is not None:
            await cancel_and_wait(trying)
            self._trying = None

    async def _give_up(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.stay()
            await cancel_and_wait(work.task)

    async def aclose(self) -> None:
        self.closed = True
        await self._stop_trying()
        await self._give_up()
        self._pieces.clear()
        self._length = 0

    def _samples(self) -> Samples:
        if len(self._pieces) != 1:
            joined: Samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
            self._pieces = [joined]
        return self._pieces[0]


class _Work:
    """A recognition that was begun, and perhaps done. Whoever leaves it may come back in a moment: the hub asks anew when a last
    sound has faded away, which changes nothing."""

    def __init__(self, samples: Samples, task: asyncio.Task[Transcript | HubError]) -> None:
        self.task = task
        self._length = len(samples)
        self._loudest = _loudest(samples)
        self._leaving: asyncio.TimerHandle | None = None

    def covers(self, samples: Samples) -> bool:
        """Is there nothing to hear in *samples* beyond what it was given? It was not given up, either."""
        more = samples[self._length :]
        faint = FADING if len(more) <= FADING_SECONDS * RATE else SILENT
        return not self.task.cancelled() and _loudest(more) <= max(FLOOR, faint * self._loudest)

    def leave(self) -> None:
        """Nobody waits: give it up if that remains so."""
        self._leaving = asyncio.get_running_loop().call_later(GRACE_SECONDS, self.task.cancel)

    def stay(self) -> None:
        """Somebody waits, or sees to its end."""
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None


def _loudest(samples: Samples) -> float:
    width = RATE // 50
    count = len(samples) // width
    if not count:
        return 0.0
    whole = samples[: count * width].reshape(-1, width).astype(np.float32)
    return float(np.sqrt(np.mean(whole * whole, axis=1)).max())
