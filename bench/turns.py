"""How well and how fast spoken commands are answered by the shipped voice loop, through the device protocol.

    python bench/turns.py                                  speech that the bench synthesises itself
    python bench/turns.py --speech FOLDER                  recordings: FOLDER/commands/*.wav, FOLDER/neural/*.wav, others
    python bench/turns.py --speech FOLDER --json out.json
    python bench/turns.py --engines pi5 n100               engines as slow as named models on these boards: see schedule.py

Each file is named after what is said in it; `expected.yaml` says what that means. Files whose names begin with ``oov``, and
everything outside the two folders, hold no command: whatever is done about them is wrong. A device asks one question after
the other (24 kbit/s Opus, 60 ms packets, real time). The hub runs on core 0, the device on core 1.

*first audio* is when the first packet of the answer arrives at the device, *first voice* when its first sound leaves the
speaker; both are counted from the end of the last spoken sound. They hold the silence that the hub waits for, recognition and
synthesis, and the first voice 100 ms of lead-in, too. *cut* counts answers that began before the person had finished and
missed something by it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

import schedule
from hub_process import FLEET_CORE, HubProcess, percentile, pin, running_hub
from replay import boards

from xiaozhi_hub.cli.voice import say
from xiaozhi_hub.core.flow import PcmChunk, TurnInfo
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, NoAnswer, Utterance
from xiaozhi_hub.testing import running_hub as reference_hub

DEVICE = "02:00:00:00:00:01"
CONFIGURATION = f"integrations: {{demo: }}\ndevices: {{'{DEVICE}': {{area: Office}}}}\nhistory: {{audio: false}}\n"
REFERENCE = "integrations: {demo: , phrases: false, espeak: false, silero_vad: false}\nhistory: {enabled: false}\n"
NO_ANSWER_SECONDS = 6.0
TABLE = yaml.safe_load(Path(__file__).with_name("expected.yaml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Clip:
    """Something to say to the hub."""

    group: str
    name: str
    sound: PcmChunk
    command: str | None
    """What is said, None where it is no command."""


@dataclass(slots=True)
class Outcome:
    """What came of it."""

    clip: Clip
    heard: str
    said: str
    verdict: str
    """``right``, ``wrong``, ``missed`` — or for what is no command ``refused`` or ``false``."""
    first_voice: float | None = None
    first_frame: float | None = None
    cut: bool = False
    underruns: int = 0


def recordings(folder: Path) -> Iterator[Clip]:
    """Yield the sound files of *folder*, and of each folder in it."""
    for path in sorted((*folder.rglob("*.wav"), *folder.rglob("*.flac"))):
        group = path.parent.name if path.parent != folder else "other"
        command = path.stem if path.stem in TABLE["commands"] else None
        if group == "many-voices":
            command = "turn on lights in the Office"
        yield Clip(group, path.stem, _decode(path), command)


def _decode(path: Path) -> PcmChunk:
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="mono", rate=16000)
        pieces = [out.to_ndarray()[0] for frame in container.decode(audio=0) for out in resampler.resample(frame)]
    return PcmChunk(np.concatenate(pieces).astype(np.int16), 16000)


def synthesised() -> Iterator[Clip]:
    """Say every command of the table with the voice that comes with the hub."""
    for command in TABLE["commands"]:
        sound = asyncio.run(say(command, "en-US"))
        yield Clip("synthesised", command, sound, command)


class Judge:
    """Says what a text means, with the hub's own intents, and whether that is what was asked for."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def meaning(self, text: str) -> tuple[str, str] | None:
        intent = self._hub.intents.recognise(text, TurnInfo("bench", "bench", "", "en", "Office")) if text else None
        return None if intent is None else (intent.tool, _normal(dict(intent.arguments)))

    def verdict(self, clip: Clip, heard: str) -> str:
        found = self.meaning(heard)
        if clip.command is None:
            return "refused" if found is None else "false"
        if found is None:
            return "missed"
        if clip.group == "many-voices":
            return "right" if found == self.meaning(clip.command) else "wrong"
        tool, arguments = TABLE["commands"][clip.command]
        return "right" if found == (tool, _normal(arguments)) else "wrong"


def _normal(arguments: dict[str, Any]) -> str:
    """Arguments as text, the same for phrasings with the same effect."""
    for first, *others in TABLE["same"]:
        for other in others:
            if all(arguments.get(key) == value for key, value in other.items()):
                arguments = {**{k: v for k, v in arguments.items() if k not in other}, **first}
    return json.dumps(arguments, sort_keys=True)


async def ask(hub: HubProcess, clip: Clip, judge: Judge) -> Outcome:
    """Say *clip* to the hub and see."""
    utterance = await asyncio.to_thread(Utterance.of, clip.sound)
    async with FakeDevice(ota_url=hub.ota_url, device_id=DEVICE) as device:
        try:
            result = await device.ask(utterance, NO_ANSWER_SECONDS + 30)
        except NoAnswer:
            return Outcome(clip, "", "", judge.verdict(clip, ""))
    verdict = judge.verdict(clip, result.heard)
    return Outcome(
        clip,
        result.heard,
        result.said,
        verdict,
        result.stamps.get("first_voice"),
        result.stamps.get("first_frame"),
        result.cut_short and verdict != "right",
        result.underruns,
    )


def summary(outcomes: list[Outcome]) -> dict[str, Any]:
    """The figures of one group."""
    commands = [o for o in outcomes if o.clip.command is not None]
    others = [o for o in outcomes if o.clip.command is None]
    # An answer to half a command is early by being wrong: it says nothing about how quick the hub is.
    # Nor does one before a click at the end of a file.
    voices = [
        o.first_voice for o in commands if o.first_voice is not None and o.first_voice > 0 and o.verdict == "right"
    ]
    audio = [
        o.first_frame for o in commands if o.first_frame is not None and o.first_frame > 0 and o.verdict == "right"
    ]
    count = max(1, len(commands))
    return {
        "commands": len(commands),
        "right_percent": round(100 * sum(o.verdict == "right" for o in commands) / count, 1),
        "wrong_percent": round(100 * sum(o.verdict == "wrong" for o in commands) / count, 1),
        "missed_percent": round(100 * sum(o.verdict == "missed" for o in commands) / count, 1),
        "cut": sum(o.cut for o in commands),
        "first_audio_ms_p50": round(percentile(audio, 0.5)) if audio else None,
        "first_audio_ms_p95": round(percentile(audio, 0.95)) if audio else None,
        "first_voice_ms_p50": round(percentile(voices, 0.5)) if voices else None,
        "first_voice_ms_p95": round(percentile(voices, 0.95)) if voices else None,
        "others": len(others),
        "false_actions": sum(o.verdict == "false" for o in others),
        "underruns": sum(o.underruns for o in outcomes),
    }


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speech", type=Path, help="a folder with recordings; without it the bench speaks itself")
    parser.add_argument("--only", default="", help="only files whose names contain this")
    parser.add_argument("--json", type=Path, help="write every outcome there")
    parser.add_argument(
        "--engines",
        nargs="+",
        metavar="BOARD",
        choices=boards(),
        help=f"engines that take the time of named models there, as schedule.py measures: {', '.join(boards())}",
    )
    parser.add_argument("--no-pin", action="store_true", help="leave the processes on any core")
    args = parser.parse_args()
    if args.engines:
        rows = await schedule.tell(args.engines, schedule.KINDS, turns=1)
        if args.json:
            args.json.write_text(json.dumps(rows, indent=1) + "\n")
        return
    clips = list(recordings(args.speech)) if args.speech else await asyncio.to_thread(lambda: list(synthesised()))
    clips = [clip for clip in clips if args.only in clip.name]
    if not args.no_pin:
        pin(FLEET_CORE)
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        async with (
            reference_hub(Path(folder), REFERENCE) as reference,
            running_hub(CONFIGURATION, core=None if args.no_pin else 0) as hub,
        ):
            print(f"hub: OTA answers after {hub.ota_seconds} s, healthy after {hub.ready_seconds} s, {hub.usage()}")
            judge = Judge(reference)
            for clip in clips:
                outcome = await ask(hub, clip, judge)
                outcomes.append(outcome)
                late = f"{outcome.first_voice:5.0f} ms" if outcome.first_voice is not None else "       "
                mark = " CUT" if outcome.cut else ""
                print(f"{outcome.verdict:8}{late}{mark}  {clip.group}/{clip.name} → {outcome.heard!r}", flush=True)
            print(f"hub afterwards: {hub.usage()}")
    groups = dict.fromkeys(o.clip.group for o in outcomes)
    report = {group: summary([o for o in outcomes if o.clip.group == group]) for group in groups}
    both = [o for o in outcomes if o.clip.group in ("commands", "neural")]
    if both:
        report["commands + neural"] = summary(both)
    print(json.dumps(report, indent=1))
    if args.json:
        rows = [
            {"group": o.clip.group, "name": o.clip.name, "heard": o.heard, "said": o.said, "verdict": o.verdict,
             "first_voice_ms": o.first_voice, "first_frame_ms": o.first_frame, "cut": o.cut}
            for o in outcomes
        ]  # fmt: skip
        args.json.write_text(json.dumps({"summary": report, "turns": rows}, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
