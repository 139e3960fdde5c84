"""From turn to turn on one connection, with engines that note what is asked of them."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tone_words import spoken

from xiaozhi_hub.core.flow import PcmChunk, Transcript
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.vad import Vad, VadStream
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

CONFIGURATION = """
voice: {vad: %s, asr: %s, tts: echo, llm: none}
integrations:
  echo: {tts: {ms: 1500}}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
"""


class Detector(Vad):
    """Another one's, counting how often a turn begins and when sound comes."""

    def __init__(self, other: Vad) -> None:
        self.info = EngineInfo("noting", Role.VAD, "Noting")
        self.other = other
        self.noted: list[str] = []

    def open(self) -> VadStream:
        return _Detection(self, self.other.open())


class _Detection(VadStream):
    def __init__(self, detector: Detector, other: VadStream) -> None:
        self._detector, self._other = detector, other

    async def feed(self, chunk: PcmChunk) -> float:
        if self._detector.noted[-1:] != ["sound"]:
            self._detector.noted.append("sound")
        return await self._other.feed(chunk)

    def reset(self) -> None:
        self._detector.noted.append("reset")
        self._other.reset()


class Polyglot(Asr):
    """Understands the same whatever it hears, in a language of its own choice."""

    def __init__(self, says: str, language: str) -> None:
        self.info = EngineInfo("polyglot", Role.ASR, "Polyglot", ("en", "zh-Hans"))
        self.heard = Transcript(says, language)

    def open(self, request: AsrRequest) -> AsrStream:
        return _Hearing(self.heard)


class _Hearing(AsrStream):
    def __init__(self, heard: Transcript) -> None:
        self._heard = heard

    async def feed(self, chunk: PcmChunk) -> None: ...

    async def guess(self) -> Transcript:
        return self._heard

    async def finish(self) -> Transcript:
        return self._heard


def device(hub: Hub) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01")


async def test_each_turn_begins_with_a_detector_that_has_heard_nothing(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION % ("noting", "echo")) as hub:
        (echo,) = hub.engines.vads(("echo",))
        detector = Detector(echo)
        hub.engines.add(detector, "test")
        async with device(hub) as speaker:
            for word in ("on", "off"):
                assert (await speaker.ask(spoken(f"turn {word} the bed light"))).said == f"Turned {word} the Bed Light."
    assert detector.noted[:4] == ["reset", "sound", "reset", "sound"]


async def test_who_speaks_another_language_is_answered_in_it(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION % ("echo", "polyglot")) as hub:
        hub.engines.add(Polyglot("现在几点", "zh-Hans"), "test")
        async with device(hub) as speaker:
            result = await speaker.ask(spoken("turn on the bed light"))
            assert result.heard == "现在几点" and re.search("[一-鿿]", result.said), result.said


async def test_who_goes_on_after_goodbye_is_not_hung_up_on(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION % ("echo", "echo")) as hub, device(hub) as speaker:
        await speaker.say(spoken("goodbye"))
        await speaker.hears("Goodbye")
        await speaker.wake()
        await speaker.ask(spoken("wubble the flumox"))  # nothing that the hub knows, and no end of anything
        session = hub.devices.sessions[speaker.device_id]
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."
        assert hub.devices.sessions[speaker.device_id] is session
        await asyncio.sleep(0)
        assert sum("connect to" in line for line in speaker.conversation) == 1
