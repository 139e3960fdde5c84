"""How long the hub waits, and whom it cuts off, in a house that it knows.

    python bench/habits.py --speech FOLDER --clips 13 --times 20 --recognition 100

The hub first hears each recording so many times, and learns from these turns as from any others. Two houses are rehearsed: one that
pauses as it is measured then, each time for one of the lengths by chance, and one that never pauses. Who was cut off says the whole
sentence again. Then both are measured as in `endpointing.py`, and a house of which nothing is known. *asked* is the silence that the
hub decided to wait for: no matter of speed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from endpointing import PAUSES_MS, Said, add_what_is_said, lost_percent, row_of, usable, with_pause
from turns import CONFIGURATION, DEVICE, Clip
from virtual_listening import RECOGNITION_MS, hear, stop_the_clock

from xiaozhi_hub.core.flow import Channel, Completeness, Outcome, ToolCall, TurnRecord
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.engines.asr import Asr
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import running_hub


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


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_what_is_said(parser)
    parser.add_argument("--times", type=int, default=20, help="how often each was said before")
    args = parser.parse_args()
    RECOGNITION_MS.set(args.recognition)
    stop_the_clock()
    with tempfile.TemporaryDirectory() as folder:
        async with running_hub(Path(folder), CONFIGURATION) as hub:
            clips = await usable(hub, args.speech, args.clips)
            rows = await rehearsed(hub, clips, hub.parts.engines.asrs((), "en")[0], args.times)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
