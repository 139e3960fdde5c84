"""How long the hub waits after the last word, and how often it cuts people off who pause inside a sentence.

    python bench/endpointing.py --speech FOLDER            recordings: FOLDER/commands/*.wav, FOLDER/neural/*.wav
    python bench/endpointing.py --speech FOLDER --clips 20 --json out.json
    python bench/endpointing.py --speech FOLDER --household 20     in a house where each was said 20 times before

Into each recording a pause of 100 to 800 ms of a quiet room is put, at the quietest place in its middle third. The shipped detector,
recogniser and sentences hear it through the hub's own listening (`dialog/hearing/hearing.py`), in virtual time: sound arrives in frames of
60 ms, and a recognition takes as long as the processor worked for it, or as ``--recognition`` says. The same is done with a fixed
silence that ends every turn. A turn that ends before the last word was said is *cut*; the wait is counted from the end of the last sound.
Something is *lost* in those that are answered otherwise than the whole sentence; of "turn on the TV … in the kitchen" nothing is, where
there is one TV. With fixed silences nothing is recognised, so what is lost there is not known.

With ``--household N`` the hub first hears each recording N times and learns from these turns as from any others. Two
houses are rehearsed: one that pauses as it is measured then, each time for one of the lengths by chance, and one that never pauses. Who
was cut off says the whole sentence again. *asked* is the silence that the hub decided to wait for: no matter of speed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hub_process import percentile
from turns import CONFIGURATION, DEVICE, Clip, recordings

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.audio.mic import Mic
from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.core.flow import (
    Channel,
    Completeness,
    Outcome,
    Packet,
    PcmChunk,
    Samples,
    ToolCall,
    Transcript,
    TurnRecord,
    Wait,
)
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.dialog.hearing import hearing as hearing_module
from xiaozhi_hub.dialog.hearing.hearing import RATE, Ears, Heard, Hearing
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import Utterance, quiet, running_hub

FRAME_MS = 60
PAUSES_MS = (0, 100, 200, 300, 400, 500, 600, 700, 800)
FIXED_MS = (200, 300, 400, 500, 600, 700, 800, 900, 1000)
PATIENCE_TIMES = (0.7, 1.0, 1.4, 1.8)
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


def with_pause(sound: PcmChunk, ms: int) -> Utterance:
    """Put *ms* of the recording's own room into the quietest 40 ms of the middle third of the speech."""
    whole = Utterance.of(sound)
    if not ms:
        return whole
    samples = sound.samples
    width = sound.rate // 50
    levels = np.sqrt(np.mean(samples[: len(samples) // width * width].reshape(-1, width).astype(np.float32) ** 2, 1))
    loud = np.flatnonzero(levels[: int(whole.end_ms // 20)] > 0.05 * levels.max())
    first, last = int(loud[0]), int(loud[-1])
    low, high = first + (last - first) // 3, first + 2 * (last - first) // 3
    pairs = levels[low : high - 1] + levels[low + 1 : high]
    at = (low + int(np.argmin(pairs)) + 1) * width
    hiss = max(6.0, float(np.percentile(levels, 5)))
    room = np.random.default_rng(at).normal(0, hiss, sound.rate * ms // 1000).astype(np.int16)
    joined: Samples = np.concatenate([samples[:at], room, samples[at:]])
    return replace(Utterance.of(PcmChunk(joined, sound.rate)), end_ms=whole.end_ms + ms)


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


async def rehearse(hub: Hub, clips: list[Clip], asr: Asr, pauses: Sequence[int], times: int) -> None:
    """Have people say each of *clips* so often, with one of *pauses* by chance, and let the hub learn from these turns."""
    await hub.forgetting.forget(Forget())
    chance = random.Random(1)
    said = [clip for clip in clips for _ in range(times)]
    chance.shuffle(said)
    for number, clip in enumerate(said):
        utterance = with_pause(clip.sound, chance.choice(pauses))
        wait, hearing, heard = await hear(hub, utterance, asr, hub.parts.patience, habits=True)
        found = hub.intents.meaning(heard, "en")
        calls = (ToolCall(found.tool, found.arguments, ""),) if found is not None else ()
        at = time.time() + 60.0 * number
        record = TurnRecord(
            id=f"rehearsal-{number}",
            session_id="rehearsal",
            device_id=DEVICE,
            started_at=at,
            channel=Channel.VOICE,
            mode="auto",
            language="en",
            heard=heard,
            said="",
            outcome=Outcome.ANSWERED if heard else Outcome.NOT_UNDERSTOOD,
            tool_calls=calls,
            wait=hearing.wait,
            pauses=tuple(hearing.pauses),
        )
        hub.archive.remember(record)
        if wait < 0 and clip.command is not None:
            again = replace(
                record, id=f"{record.id}-again", heard=clip.command, started_at=at + 3, wait=None, pauses=()
            )
            hub.archive.remember(again)


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody says, with a pause in it."""

    utterance: Utterance
    command: str
    """The words."""


async def is_answered_otherwise(hub: Hub, heard: str, command: str) -> bool:
    """Does the hub not do for what it *heard* what it does for all of *command*?"""
    return not heard or (await hub.ask(heard, "en", DEVICE)).said != (await hub.ask(command, "en", DEVICE)).said


def row_of(waits: Sequence[float]) -> dict[str, float]:
    heard = [wait for wait in waits if wait == wait]
    whole = [wait for wait in heard if wait >= 0]
    return {
        "turns": len(heard),
        "cut_percent": round(100 * (len(heard) - len(whole)) / max(1, len(heard)), 2),
        "wait_ms_mean": round(sum(whole) / max(1, len(whole))),
        "wait_ms_p50": round(percentile(whole, 0.5)) if whole else 0,
        "wait_ms_p95": round(percentile(whole, 0.95)) if whole else 0,
    }


async def lost_percent(hub: Hub, turns: Sequence[tuple[Said, float, Hearing, str]]) -> float:
    lost = [wait < 0 and await is_answered_otherwise(hub, heard, said.command) for said, wait, _, heard in turns]
    return round(100 * sum(lost) / max(1, len(lost)), 2)


async def measure(hub: Hub, sounds: Sequence[Said], asr: Asr | None, patience: Patience) -> dict[str, float]:
    turns = [(said, *(await hear(hub, said.utterance, asr, patience))) for said in sounds]
    row = row_of([wait for _, wait, _, _ in turns])
    return row if asr is None else row | {"lost_percent": await lost_percent(hub, turns)}


async def rehearsed(hub: Hub, clips: list[Clip], asr: Asr, times: int) -> dict[str, dict[str, float]]:
    """The rows of houses that have spoken before; of all sentences, and of those that may go on, which is what habits are about."""
    rows: dict[str, dict[str, float]] = {}
    may_go_on = [hub.intents.completeness(clip.command or "", "en") is Completeness.EXTENDABLE for clip in clips]
    for house, pauses in (("nothing learned", ()), ("never pauses", (0,)), ("pauses", PAUSES_MS)):
        await rehearse(hub, clips, asr, pauses, times if pauses else 0)
        for how, lengths in (("without pauses", (0,)), ("with pauses", PAUSES_MS)):
            sounds = [Said(with_pause(clip.sound, ms), clip.command or "") for clip in clips for ms in lengths]
            heard = [
                (said, *(await hear(hub, said.utterance, asr, hub.parts.patience, habits=True))) for said in sounds
            ]
            of = [open_ended for open_ended in may_go_on for _ in lengths]
            for which, chosen in (
                ("", heard),
                (", may go on", [each for each, it in zip(heard, of, strict=True) if it]),
            ):
                asked = [hearing.wait.ms for _, _, hearing, _ in chosen if hearing.wait is not None]
                row = row_of([wait for _, wait, _, _ in chosen]) | {
                    "lost_percent": await lost_percent(hub, chosen),
                    "asked_ms_mean": round(sum(asked) / max(1, len(asked))),
                }
                rows[f"{house}, {how}{which}"] = row
                print(f"{house}, {how}{which}: {row}", flush=True)
    return rows


async def ends_in_speech(hub: Hub, sound: PcmChunk) -> bool:
    """False for a recording that ends in a click some time after the last word: it marks no end of speech."""
    row = await measure(hub, [Said(Utterance.of(sound), "")], None, Patience(300, 300, 300, 300))
    return row["wait_ms_p50"] >= 200


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True, help="a folder with recordings")
    parser.add_argument("--clips", type=int, default=0, help="only so many of the recordings")
    parser.add_argument("--household", type=int, default=0, help="say each so often before, and measure only that")
    parser.add_argument(
        "--recognition", type=float, metavar="MS", help="each recognition takes so long, on any machine"
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    args = parser.parse_args()
    RECOGNITION_MS.set(args.recognition)
    hearing_module.STALL_SECONDS = 3600.0  # real ones: on a busy machine a device would seem to have fallen silent
    clips = [clip for clip in recordings(args.speech) if clip.command is not None and clip.group != "many-voices"]
    clips = clips[:: max(1, len(clips) // args.clips)] if args.clips else clips
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with running_hub(Path(folder), CONFIGURATION) as hub:
            asr = hub.parts.engines.asrs((), "en")[0]
            clips = [clip for clip in clips if await ends_in_speech(hub, clip.sound)]
            sounds = [Said(with_pause(clip.sound, ms), clip.command or "") for clip in clips for ms in PAUSES_MS]
            print(f"{len(clips)} recordings, {len(sounds)} turns each", flush=True)
            for ms in FIXED_MS if not args.household else ():
                rows[f"fixed {ms} ms"] = await measure(hub, sounds, None, Patience(ms, ms, ms, ms))
                print(f"fixed {ms} ms: {rows[f'fixed {ms} ms']}", flush=True)
            usual = hub.parts.patience
            for times in PATIENCE_TIMES if not args.household else ():
                patience = Patience(
                    usual.complete_ms,
                    usual.extendable_ms * times,
                    usual.unfinished_ms * times,
                    usual.unknown_ms * times,
                )
                rows[f"hub × {times:g}"] = await measure(hub, sounds, asr, patience)
                print(f"hub × {times:g}: {rows[f'hub × {times:g}']}", flush=True)
            if args.household:
                rows |= await rehearsed(hub, clips, asr, args.household)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
