"""What it costs a person when the machine that hears, answers or speaks dies in the middle of a question.

    python bench/targets.py --kills 1000
    python bench/targets.py --kills 200 --json out.json

Each device has two remote servers for recognition, answers and voice (`remotes.py`, over real sockets). Every question is asked
twice: once undisturbed, once with the first server killed at some moment: before it is asked, before its first word, in the middle of
its answer, of a sentence that it speaks, or of its recognition. Then it is started again. ``freeze`` is a machine that loses its power: no
reset comes, only silence.

A turn is *lost* when a sentence of the answer is missing or differs, or less voice came than without the kill. *extra* is how much
later the first sound comes plus how much longer the voice stands still in between, against the same turn without kill.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
from remotes import Mishap, Remote, serving

from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.dialog.speaking.synthesis import Synthesis
from xiaozhi_hub.engines.base import Engine, Role
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, NoAnswer, Utterance, running_hub
from xiaozhi_hub.testing.turn import TurnResult

MOMENTS: tuple[tuple[str, Mishap | None], ...] = (
    ("before it is asked", None),
    ("answer", Mishap("llm", "kill", 0)),
    ("answer", Mishap("llm", "kill", 1)),
    ("answer", Mishap("llm", "kill", 5)),
    ("voice", Mishap("tts", "kill", 0)),
    ("recognition", Mishap("asr", "kill", 0)),
    ("answer", Mishap("llm", "kill", 9)),
    ("voice", Mishap("tts", "kill", 2)),
    ("answer", Mishap("llm", "kill", 14)),
    ("answer", Mishap("llm", "kill", 20)),
    ("voice", Mishap("tts", "kill", 4)),
    ("recognition", Mishap("asr", "kill", 1)),
)
FREEZES: tuple[tuple[str, Mishap | None], ...] = (
    ("freeze, answer", Mishap("llm", "hang", 0)),
    ("freeze, voice", Mishap("tts", "hang", 0)),
    ("freeze, recognition", Mishap("asr", "hang", 0)),
)
WARM_UP = 12
"""Questions before the first kill: the hub learns how quick the servers are."""
ANSWER_SECONDS = 15.0
EDGES_MS = 60.0
"""What the beginnings and ends of the pieces of a sentence may differ by."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One question, asked without and with a kill."""

    moment: str
    lost: bool
    extra_ms: float
    sound_ms: float
    """How much more sound came: words that were said twice."""
    said: str


class House:
    """One device with its two servers."""

    def __init__(self, number: int, hub: Hub, device: FakeDevice, first: Remote, second: Remote) -> None:
        self._number = number
        self._hub = hub
        self._device = device
        self._first = first
        self._second = second
        self._count = 0

    def _engines(self) -> list[Engine]:
        names = [f"first{self._number}", f"second{self._number}"]
        return [engine for role in (Role.LLM, Role.TTS, Role.ASR) for engine in self._hub.engines.chain(role, names)]

    async def _ask(self, *, by_voice: bool) -> tuple[str, TurnResult | None]:
        """Ask something that was never asked before, so that no sentence is known by heart; return what should be said as well."""
        self._count += 1
        number = "".join("bdfgklmn"[self._count // 8**place % 8] + "aeiouy"[self._number % 6] for place in range(4))
        # A name and no number: those are read out in words of different length.
        answer = f"Story {number} begins in the garden, near the gate. What {number} does goes on, for a while. And so {number} ends."
        self._second.goes_on = self._count % 4 < 2
        for remote in (self._first, self._second):
            remote.answer, remote.heard = answer, f"tell me story {number}"
        try:
            if by_voice:
                return answer, await self._device.ask(SPEECH, ANSWER_SECONDS)
            return answer, await self._device.ask_text(f"tell me story {number}", ANSWER_SECONDS)
        except NoAnswer:
            return answer, None

    async def warm_up(self, questions: int) -> None:
        for number in range(questions):
            await self._ask(by_voice=number % 4 == 3)

    async def pair(self, moment: str, mishap: Mishap | None) -> Pair:
        """Ask a question twice, and kill the first server in the second one."""
        by_voice = mishap is not None and mishap.role == "asr"
        _, calm = await self._ask(by_voice=by_voice)
        hits = self._first.hit
        if mishap is None:
            await self._first.kill()
        else:
            self._first.mishaps.append(mishap)
        answer, killed = await self._ask(by_voice=by_voice)
        assert self._first.hit > hits or mishap is None, f"{moment} {mishap}: nothing has happened"
        await self._first.kill()
        await self._first.revive()
        for (
            engine
        ) in self._engines():  # as if a long time had passed: the next kill must hit the server that is asked first
            engine.health.succeeded()
        self._hub.speaker.synthesis = Synthesis()
        if killed is None or calm is None:
            return Pair(moment, True, 0.0, 0.0, "" if killed is None else killed.said)
        sound = round(_voice_ms(killed) - _voice_ms(calm), 1)
        lost = killed.said != answer or sound < -EDGES_MS or bool(killed.alerts)
        return Pair(moment, lost, round(_waited(killed) - _waited(calm), 1), sound, killed.said)


def _waited(result: TurnResult) -> float:
    """How long the person waited in all: for the first sound, and in between."""
    return result.stamps["first_frame"] + result.stall_ms


def _voice_ms(result: TurnResult) -> float:
    """How much of the answer is voice: without the silence before it, and what fills up packets."""
    sound = decode_all([packet.data for packet in result.packets], 24000)
    pieces = sound.samples[: len(sound.samples) // 240 * 240].reshape(-1, 240).astype(np.float32)
    return 10.0 * float(np.count_nonzero(np.sqrt(np.mean(pieces**2, axis=1)) > 1000))


def _speech() -> Utterance:
    """Something to be heard; the servers know what it means."""
    wave = np.sin(np.arange(16000 * 6 // 10) * 0.15) * 9000
    return Utterance.of(PcmChunk(wave.astype(np.int16), 16000))


SPEECH = _speech()


def configuration(remotes: list[tuple[Remote, Remote]]) -> str:
    servers = [
        f"      - {{name: {name}{number}, url: '{remote.url}', timeout_s: 10}}"
        for number, pair in enumerate(remotes)
        for name, remote in zip(("first", "second"), pair, strict=True)
    ]
    assistants = [
        f"  a{number}: {{llm: [{names}], tts: [{names}], asr: [{names}]}}"
        for number in range(len(remotes))
        for names in [f"first{number}, second{number}"]
    ]
    devices = [f"  '{_device_id(number)}': {{assistant: a{number}}}" for number in range(len(remotes))]
    return "\n".join(
        [
            "history: {enabled: false}",
            "voice: {vad: echo}",
            "integrations:",
            "  phrases: false\n  silero_vad: false\n  espeak: false\n  echo:",
            "  openai_compatible:\n    servers:",
            *servers,
            "assistants:",
            *assistants,
            "devices:\n  pairing: open",
            *devices,
        ]
    )


def _device_id(number: int) -> str:
    return f"02:00:00:00:01:{number:02x}"


async def run(
    kills: int, devices: int, *, freezes: int = 0, warm_up: int = WARM_UP, verbose: bool = False
) -> list[Pair]:
    """Kill *kills* times, and let freeze *freezes* times; return what came of it."""
    pairs: list[Pair] = []
    work = iter(
        [
            *itertools.islice(itertools.cycle(MOMENTS), kills),
            *itertools.islice(itertools.cycle(FREEZES), freezes),
        ]
    )
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        remotes = [
            (
                await stack.enter_async_context(serving(Remote(ms_per_char=10.0, token_s=0.004))),
                await stack.enter_async_context(serving(Remote(ms_per_char=10.0, token_s=0.004))),
            )
            for _ in range(devices)
        ]
        hub = await stack.enter_async_context(running_hub(Path(folder), configuration(remotes)))

        async def live(number: int) -> None:
            url = f"{hub.local_url}/xiaozhi/ota/"
            async with FakeDevice(ota_url=url, device_id=_device_id(number), listens=False) as device:
                house = House(number, hub, device, *remotes[number])
                await house.warm_up(warm_up)
                for moment, mishap in work:
                    pair = await house.pair(moment, mishap)
                    pairs.append(pair)
                    if verbose:
                        mark = "LOST " if pair.lost else ""
                        print(
                            f"{len(pairs):5} {mark}{pair.extra_ms:7.0f} ms {pair.sound_ms:6.0f} ms  {pair.moment}  {pair.said}",
                            flush=True,
                        )

        async with asyncio.TaskGroup() as group:
            for number in range(devices):
                group.create_task(live(number))
    return pairs


def summary(pairs: list[Pair]) -> dict[str, dict[str, float]]:
    """The figures, over all kills and for each moment."""
    groups = {"killed": [pair for pair in pairs if not pair.moment.startswith("freeze")]}
    for pair in pairs:
        groups.setdefault(pair.moment, []).append(pair)
    return {name: _figures(group) for name, group in groups.items() if group}


def _figures(pairs: list[Pair]) -> dict[str, float]:
    extras = sorted(pair.extra_ms for pair in pairs)
    return {
        "turns": len(pairs),
        "lost": sum(pair.lost for pair in pairs),
        "extra_ms_p50": extras[len(extras) // 2],
        "extra_ms_p95": extras[min(len(extras) - 1, int(len(extras) * 0.95))],
        "extra_ms_most": extras[-1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--freezes", type=int, default=0)
    parser.add_argument("--devices", type=int, default=4, help="that ask at the same time, up to 6")
    parser.add_argument("--json", type=Path, help="write every turn there")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.getLogger("xiaozhi_hub").setLevel(logging.ERROR)  # that servers fail is no news here
    pairs = asyncio.run(run(args.kills, min(args.devices, 6), freezes=args.freezes, verbose=args.verbose))
    figures = summary(pairs)
    for name, values in figures.items():
        print(f"{name:22}", "  ".join(f"{key} {value:g}" for key, value in values.items()))
    if args.json:
        args.json.write_text(json.dumps({"figures": figures, "turns": [asdict(pair) for pair in pairs]}, indent=1))


if __name__ == "__main__":
    main()
