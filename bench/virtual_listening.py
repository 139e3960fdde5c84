"""The hub's own listening in virtual time: sound arrives in frames of 60 ms, and a recognition takes as long as the processor worked
for it, or as `RECOGNITION_MS` says. So what is measured does not depend on what else the machine does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field

import psutil
from turns import DEVICE

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.audio.mic import Mic
from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.core.flow import Completeness, Packet, PcmChunk, Transcript, Wait
from xiaozhi_hub.dialog.hearing import hearing as hearing_module
from xiaozhi_hub.dialog.hearing.hearing import RATE, Ears, Heard, Hearing
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import Utterance, quiet

FRAME_MS = 60
ROOM_FRAMES = 40
RECOGNITION_MS: ContextVar[float | None] = ContextVar("recognition_ms", default=None)


@dataclass(slots=True)
class VirtualTime:
    """Milliseconds that pass when the bench says so."""

    now: float = 0.0
    computing: int = 0
    recognition_ms: float | None = None
    """How long each recognition takes; None: as long as the processor works for it."""
    workers: list[psutil.Process] = field(default_factory=list)
    """What recognises."""
    waiting: list[tuple[float, asyncio.Future[None]]] = field(default_factory=list)

    async def until(self, due: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((due, future))
        await future

    def next_due(self) -> float | None:
        self.waiting = [(due, future) for due, future in self.waiting if not future.done()]
        return min((due for due, _ in self.waiting), default=None)

    def release(self) -> None:
        for due, future in self.waiting:
            if due <= self.now and not future.done():
                future.set_result(None)


class WatchedMic(Mic):
    """Says when the hub has taken all that came."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = asyncio.Event()

    async def news(self) -> None:
        self.idle.set()
        await super().news()
        self.idle.clear()


class TimedStream(AsrStream):
    """A guess is there when the time that it really took has passed virtually, and what was still to be done for the sound before."""

    def __init__(self, inner: AsrStream, clock: VirtualTime) -> None:
        self._inner, self._clock = inner, clock
        self._free_at = 0.0

    async def feed(self, chunk: PcmChunk) -> None:
        began = processor_ms(self._clock.workers)
        await self._inner.feed(chunk)
        if not getattr(self._inner, "following", False):
            return
        self._clock.computing += 1
        try:
            while getattr(self._inner, "following", False):
                await asyncio.sleep(0.0005)
        finally:
            self._clock.computing -= 1
        self._free_at = max(self._free_at, self._clock.now) + processor_ms(self._clock.workers) - began

    async def guess(self) -> Transcript:
        return await self._timed(self._inner.guess())

    async def guess_early(self) -> Transcript:
        return await self._timed(self._inner.guess_early())

    async def _timed(self, guess: Awaitable[Transcript]) -> Transcript:
        began, at = processor_ms(self._clock.workers), max(self._clock.now, self._free_at)
        self._clock.computing += 1
        try:
            transcript = await guess
        finally:
            self._clock.computing -= 1
        fixed = self._clock.recognition_ms
        await self._clock.until(at + (processor_ms(self._clock.workers) - began if fixed is None else fixed))
        return transcript

    async def finish(self) -> Transcript:
        return Transcript("", "en")

    async def aclose(self) -> None:
        await self._inner.aclose()


class TimedAsr(Asr):
    def __init__(self, inner: Asr | None, clock: VirtualTime) -> None:
        self.info = EngineInfo("timed", Role.ASR, "Timed")
        self._inner, self._clock = inner, clock

    def open(self, request: AsrRequest) -> AsrStream:
        return TimedStream(self._inner.open(request), self._clock) if self._inner is not None else Deaf()


class Deaf(AsrStream):
    """For a fixed silence no words are needed."""

    async def feed(self, chunk: PcmChunk) -> None:
        pass

    async def guess(self) -> Transcript:
        return Transcript("", "en")

    async def finish(self) -> Transcript:
        return Transcript("", "en")


def processor_ms(hub_and_children: list[psutil.Process]) -> float:
    """What recognition has cost so far, whatever else the machine does."""
    times = [process.cpu_times() for process in hub_and_children]
    return 1000 * sum(each.user + each.system for each in times)


async def wait_of(
    utterance: Utterance,
    vad_ears: Ears,
    asr: Asr | None,
    patience: Patience,
    judge: Callable[[str, str], Completeness],
    habit: Callable[[Transcript], Wait | None] = lambda _: None,
) -> tuple[float, Hearing, str]:
    """The ms from the end of the speech to the end of the turn, negative when it was cut off; and what was heard."""
    clock = VirtualTime(recognition_ms=RECOGNITION_MS.get(), workers=psutil.Process().children(recursive=True))
    mic = WatchedMic()
    hearing = Hearing(
        mic,
        vad_ears,
        [TimedAsr(asr, clock)],
        AsrRequest(("en",)),
        patience=patience,
        judge=judge,
        stamp=lambda *_: None,
        habit=habit,
    )
    ended_at: list[float] = []
    heard: list[str] = []

    async def listen() -> None:
        async for event in hearing.run():
            if isinstance(event, Heard):
                ended_at.append(clock.now)
                heard.append(event.transcript.text if event.transcript is not None else "")

    task = asyncio.create_task(listen())

    async def settle() -> None:
        for _ in range(10):
            await asyncio.sleep(0)
        patience_left = 20  # who waits for a recognition, rather than for sound, is not idle
        while not task.done() and (clock.computing or (not mic.idle.is_set() and patience_left)):
            await asyncio.sleep(0.0005)
            patience_left -= clock.next_due() is not None and not clock.computing

    vad_ears.vad.reset()
    await settle()
    for packet in (*utterance.packets, *(list(quiet()) * 4)[:ROOM_FRAMES]):
        frame_end = clock.now + FRAME_MS
        while not task.done() and (due := clock.next_due()) is not None and due < frame_end:
            clock.now = max(clock.now, due)
            clock.release()
            await settle()
        clock.now = frame_end
        if task.done():
            break
        mic.idle.clear()
        mic.put(Packet(packet, FRAME_MS))
        await settle()
        if task.done():
            break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    wait = ended_at[0] - utterance.end_ms if ended_at else float("nan")
    return wait, hearing, heard[0] if heard else ""


async def hear(
    hub: Hub, utterance: Utterance, asr: Asr | None, patience: Patience, *, habits: bool = False
) -> tuple[float, Hearing, str]:
    def habit(guess: Transcript) -> Wait | None:
        return hub.parts.habit(DEVICE, guess, patience) if habits else None

    ears = Ears(OpusDecoder(RATE), hub.parts.engines.vads()[0].open())
    try:
        return await wait_of(utterance, ears, asr, patience, hub.intents.completeness, habit)
    finally:
        ears.decoder.close()


def stop_the_clock() -> None:
    """Real seconds no longer count: on a busy machine a device would seem to have fallen silent."""
    hearing_module.STALL_SECONDS = 3600.0
