"""How soon a phrase begins to sound: from its text to its first packet.

    python bench/phrases.py                 Piper with a voice that hums (tests/tiny_piper.py), and eSpeak
    python bench/phrases.py --voice FILE    Piper with a real voice (NAME.onnx, NAME.onnx.json beside it)

For each voice: computed for the first time, read from the disk after a restart, and kept in memory. The hub is a whole one, idle.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import aclosing
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from hub_process import percentile

from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import running_hub

PHRASES = tuple(f"Number {number} is on, and the temperature is {number / 2:g} °C." for number in range(1, 51))
CONFIGURATION = (
    "voice: {{phrase_cache_mb: 16, tts: {voice}}}\nintegrations: {{silero_vad: false, phrases: false{more}}}\n"
)


async def first_packet_ms(hub: Hub, text: str) -> float:
    """From the text of a sentence to its first packet; the rest is read, too."""
    request = SpeechRequest(text, "en")
    began = time.perf_counter()
    rendering = hub.speaker.render(hub.parts.voices("en"), request, hub.parts.voices)
    first: float | None = None
    try:
        async with aclosing(rendering.packets()) as packets:
            async for _ in packets:
                first = first or (time.perf_counter() - began) * 1000
    finally:
        rendering.leave()
    assert first is not None
    return first


def tell(what: str, values: list[float]) -> None:
    figures = "  ".join(
        f"{name} {percentile(values, part):7.3f}" for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    )
    print(f"{what:42s} {figures}  max {max(values):7.3f} ms  ({len(values)})", flush=True)


async def measure(folder: Path, voice: str, more: str, rounds: int) -> None:
    hub_of = partial(running_hub, folder, CONFIGURATION.format(voice=voice, more=more))
    async with hub_of() as hub:
        tell(f"{voice}, computed", [await first_packet_ms(hub, text) for text in PHRASES])
        kept = [await first_packet_ms(hub, text) for _ in range(rounds) for text in PHRASES]
        tell(f"{voice}, kept in memory", kept)
    async with hub_of() as hub:
        tell(f"{voice}, from the disk after a restart", [await first_packet_ms(hub, text) for text in PHRASES])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", type=Path, help="the .onnx file of a Piper voice")
    parser.add_argument("--rounds", type=int, default=40, help="how often each kept phrase is said")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.voice is not None:
            model = options.voice.absolute()
        else:
            from tiny_piper import write_voice

            model = write_voice(folder / "voices", "en_US-hum-low")
        await measure(folder / "piper", "piper", f", piper: {{voices: {{en: {model}}}}}", options.rounds)
        await measure(folder / "espeak", "espeak", "", options.rounds)


if __name__ == "__main__":
    asyncio.run(main())
