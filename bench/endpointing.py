"""How long the hub waits after the last word, and how often it cuts people off who pause inside a sentence.

    python bench/endpointing.py --speech FOLDER            recordings: FOLDER/commands/*.wav, FOLDER/neural/*.wav
    python bench/endpointing.py --speech FOLDER --clips 20 --json out.json
    python bench/endpointing.py --speech FOLDER --recognition 100 --only-hub 300 800

Into each recording a pause of 100 to 800 ms of a quiet room is put, at the quietest place in its middle third. The shipped detector,
recogniser and sentences hear it through the hub's own listening (`dialog/hearing/hearing.py`), in virtual time
(`virtual_listening.py`). The same is done with a fixed silence that ends every turn. A turn that ends before the last word was said is
*cut*; the wait is counted from the end of the last sound. Something is *lost* in those that are answered otherwise than the whole
sentence. With fixed silences nothing is recognised, so what is lost there is not known.

The rows of the hub differ in how long it waits after a command that may go on; `Patience` has what is shipped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hub_process import percentile
from turns import CONFIGURATION, DEVICE, Clip, recordings
from virtual_listening import RECOGNITION_MS, hear, stop_the_clock

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.core.flow import PcmChunk, Samples
from xiaozhi_hub.dialog.hearing.hearing import Hearing
from xiaozhi_hub.engines.asr import Asr
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import Utterance, running_hub

PAUSES_MS = (0, 100, 200, 300, 400, 500, 600, 700, 800)
FIXED_MS = (200, 300, 400, 500, 600, 700, 800, 900, 1000)
MAY_GO_ON_MS = (200, 300, 420, 600, 800)


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


async def ends_in_speech(hub: Hub, sound: PcmChunk) -> bool:
    """False for a recording that ends in a click some time after the last word: it marks no end of speech."""
    row = await measure(hub, [Said(Utterance.of(sound), "")], None, Patience(300, 300, 300, 300))
    return row["wait_ms_p50"] >= 200


async def usable(hub: Hub, speech: Path, most: int) -> list[Clip]:
    """The recordings of one command each that mark the end of speech; of about *most*, or of all (0)."""
    clips = [clip for clip in recordings(speech) if clip.command is not None and clip.group != "many-voices"]
    clips = clips[:: max(1, len(clips) // most)] if most else clips
    return [clip for clip in clips if await ends_in_speech(hub, clip.sound)]


def add_what_is_said(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--speech", type=Path, required=True, help="a folder with recordings")
    parser.add_argument("--clips", type=int, default=0, help="only so many of the recordings")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument(
        "--recognition", type=float, metavar="MS", help="each recognition takes so long, on any machine"
    )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_what_is_said(parser)
    parser.add_argument(
        "--only-hub",
        type=float,
        nargs="+",
        metavar="MS",
        help="no fixed silences, and these waits after what may go on",
    )
    args = parser.parse_args()
    RECOGNITION_MS.set(args.recognition)
    stop_the_clock()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with running_hub(Path(folder), CONFIGURATION) as hub:
            asr = hub.parts.engines.asrs((), "en")[0]
            clips = await usable(hub, args.speech, args.clips)
            sounds = [Said(with_pause(clip.sound, ms), clip.command or "") for clip in clips for ms in PAUSES_MS]
            print(f"{len(clips)} recordings, {len(sounds)} turns each", flush=True)
            for ms in () if args.only_hub else FIXED_MS:
                rows[f"fixed {ms} ms"] = await measure(hub, sounds, None, Patience(ms, ms, ms, ms))
                print(f"fixed {ms} ms: {rows[f'fixed {ms} ms']}", flush=True)
            for ms in args.only_hub or MAY_GO_ON_MS:
                name = f"hub, {ms:g} ms after what may go on"
                rows[name] = await measure(hub, sounds, asr, replace(hub.parts.patience, extendable_ms=ms))
                print(f"{name}: {rows[name]}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
