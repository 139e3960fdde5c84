"""A device of the hub as a satellite: a server as Home Assistant is one hears, answers and speaks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import voluptuous as vol
from house import integration
from tone_words import read_back, spoken, tones
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.timer import TimerFinished, TimerStarted
from wyoming.tts import Synthesize

from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

DEVICE = "02:00:00:00:00:01"
CONFIG = """
voice: {vad: echo, asr: echo, tts: echo, lead_ms: 1000}
devices:
  "02:00:00:00:00:01": {name: Kitchen, area: Kitchen}
integrations:
  echo:
  demo:
  clock: false
  silero_vad: false
  phrases: false
  espeak: false
  wyoming: {timeout_s: 20, server: {port: 0, announce: false, allow: [127.0.0.1], satellites: {"02:00:00:00:00:01": 0}}}
"""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "config", CONFIG) as hub:
        yield hub


def satellite_of(hub: Hub) -> tuple[Any, int]:
    (entry,) = (entry for entry in hub.plugins.entries if entry.domain == "wyoming")
    found: tuple[Any, int] = entry.runtime.satellites[DEVICE]
    return found


@dataclass
class HomeAssistant:
    """Behaves as its Wyoming integration does: runs the satellite, pings it, and answers what it hears."""

    client: AsyncTcpClient
    answer: str = "It is 20 °C."
    streams: bool = False
    """Speak before the whole text is known."""
    refuses: str = ""
    silent: bool = False
    says_half: bool = False
    """Hang up before the end of the answer."""
    heard: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def say(self, *events: Any) -> None:
        for event in events:
            await self.client.write_event(event.event())

    async def run(self) -> None:
        await self.say(RunSatellite(), Describe(), Ping())
        sound = bytearray()
        while (event := await self.client.read_event()) is not None:
            self.events.append(event)
            if RunPipeline.is_type(event.type):
                sound.clear()
                await self.say(Transcribe(language="en"))
            elif AudioChunk.is_type(event.type):
                sound += event.payload or b""
            elif AudioStop.is_type(event.type):
                await self._answer(bytes(sound))
            self.news.set()

    async def _answer(self, sound: bytes) -> None:
        text = tones().read_text(PcmChunk(np.frombuffer(sound, "<i2").astype(np.int16), 16000)) or ""
        self.heard.append(text)
        if self.silent:
            return
        if self.refuses:
            await self.say(Error("it has failed", self.refuses))
            return
        await self.say(Transcript(text))
        if not self.streams:
            await self.say(Synthesize(self.answer))
        speech = tones().write_text(self.answer, 22050)
        await self.say(AudioStart(speech.rate, 2, 1))
        for at in range(0, len(speech.samples), 1024):
            await self.say(AudioChunk(speech.rate, 2, 1, speech.samples[at : at + 1024].astype("<i2").tobytes()))
            if self.says_half:
                assert self.client._writer is not None
                self.client._writer.transport.abort()
                return
        await self.say(AudioStop())

    async def until(self, kind: str) -> Event:
        async with asyncio.timeout(30):
            while not (found := [event for event in self.events if event.type == kind]):
                self.news.clear()
                await self.news.wait()
        return found[-1]


@asynccontextmanager
async def home_assistant(hub: Hub, **how: Any) -> AsyncIterator[HomeAssistant]:
    satellite, port = satellite_of(hub)
    client = AsyncTcpClient("127.0.0.1", port)
    await client.connect()
    home = HomeAssistant(client, **how)
    running = asyncio.create_task(home.run())
    try:
        await home.until("pong")
        assert satellite.is_run
        yield home
    finally:
        running.cancel()
        await asyncio.wait([running])
        if client._writer is not None:
            client._writer.transport.abort()
        async with asyncio.timeout(20):
            while satellite.is_run:
                await asyncio.sleep(0.01)


def device(hub: Hub, device_id: str = DEVICE) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id)


def bed_light(hub: Hub) -> str:
    return hub.entities.get("light.bed_light").state.value  # type: ignore[union-attr]


@pytest.mark.usefixtures("speech_is_ready")
async def test_the_server_hears_answers_and_speaks_for_the_device(hub: Hub) -> None:
    async with home_assistant(hub) as home, device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
        await home.until("played")
        info = Info.from_event(await home.until("info")).satellite
        run = RunPipeline.from_event(await home.until("run-pipeline"))
    assert home.heard == ["turn on the bed light"]
    assert (result.heard, result.said) == ("turn on the bed light", "It is 20 °C.")
    assert read_back(result) == "It is 20 °C."
    assert result.underruns == 0
    assert bed_light(hub) == "off", "the hub must not act beside its device's own brain"
    assert info is not None and (info.name, info.area, info.installed) == ("Kitchen", "Kitchen", True)
    assert (run.start_stage, run.end_stage) == (PipelineStage.ASR, PipelineStage.TTS)


async def test_an_answer_may_sound_before_its_text_is_known(hub: Hub) -> None:
    async with home_assistant(hub, streams=True), device(hub) as speaker:
        result = await speaker.ask(spoken("tell me a story"))
    assert read_back(result) == "It is 20 °C."


async def test_the_hub_answers_when_no_server_runs_the_satellite(hub: Hub) -> None:
    async with device(hub) as speaker:
        async with home_assistant(hub) as home:
            await home.say(PauseSatellite(), Ping())
            async with asyncio.timeout(20):
                while satellite_of(hub)[0].is_run:
                    await asyncio.sleep(0.01)
        result = await speaker.ask(spoken("turn on the bed light"))
    assert result.said == "Turned on the Bed Light."
    assert (home.heard, bed_light(hub)) == ([], "on")


async def test_other_devices_keep_the_hub(hub: Hub) -> None:
    async with home_assistant(hub) as home, device(hub, "02:00:00:00:00:02") as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
    assert (result.said, home.heard) == ("Turned on the Bed Light.", [])


async def test_a_server_that_dies_while_the_person_speaks_costs_no_turn(hub: Hub) -> None:
    async with device(hub) as speaker:
        async with home_assistant(hub) as home:
            asking = asyncio.create_task(speaker.ask(spoken("turn on the bed light")))
            await home.until("audio-chunk")
        result = await asking
    assert (result.heard, result.said, home.heard) == ("turn on the bed light", "Turned on the Bed Light.", [])


async def test_a_server_that_has_heard_nothing_makes_the_hub_say_so(hub: Hub) -> None:
    async with home_assistant(hub, refuses="stt-no-text-recognized"), device(hub) as speaker:
        result = await speaker.ask(spoken("mumble"))
    assert "didn't catch that" in result.said and read_back(result) == result.said


@pytest.mark.parametrize("code", ["stt-no-text-recognized", "intent-failed"])
async def test_an_announcement_after_a_question_that_failed_is_not_waited_for(hub: Hub, code: str) -> None:
    """Home Assistant waits for ``played`` before it goes on."""
    async with home_assistant(hub, refuses=code) as home, device(hub) as speaker:
        await speaker.ask(spoken("mumble"))
        await home.say(AudioStart(16000, 2, 1), AudioChunk(16000, 2, 1, bytes(2000)), AudioStop())
        await home.until("played")


async def test_an_announcement_on_a_new_connection_is_no_answer_to_an_old_question(hub: Hub) -> None:
    async with device(hub) as speaker:
        async with home_assistant(hub, says_half=True) as home:
            await speaker.ask(spoken("tell me a story"))
        async with home_assistant(hub) as home:
            await home.say(AudioStart(16000, 2, 1), AudioChunk(16000, 2, 1, bytes(2000)), AudioStop())
            await home.until("played")


async def test_a_server_that_is_too_slow_to_hear_is_helped_out(tmp_path: Path) -> None:
    hasty = running_hub(tmp_path / "config", CONFIG.replace("timeout_s: 20", "timeout_s: 1"))
    async with hasty as hub, home_assistant(hub, silent=True) as home, device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
        assert not satellite_of(hub)[0].is_run, "it is called off: a command must not be carried out twice"
    assert home.heard == ["turn on the bed light"]
    assert result.said == "Turned on the Bed Light."


async def test_who_hangs_up_in_mid_sentence_has_commanded_nothing(hub: Hub) -> None:
    """The server must not take the sound for complete."""
    async with home_assistant(hub) as home:
        async with device(hub) as speaker:
            asking = asyncio.create_task(speaker.ask(spoken("turn on the bed light " * 4)))
            await home.until("audio-chunk")
            asking.cancel()
            await asyncio.wait([asking])
        async with asyncio.timeout(20):
            while satellite_of(hub)[0].is_run:
                await asyncio.sleep(0.01)
    assert home.heard == []


async def test_a_timer_of_the_server_rings_on_the_device(hub: Hub) -> None:
    async with home_assistant(hub) as home, device(hub) as speaker:
        await speaker.ask(spoken("set a timer"))
        await home.say(TimerStarted("t1", 60, name="tea"), TimerFinished("t1"))
        await speaker.hears("Your tea timer is done.")


async def test_the_end_of_an_earlier_answer_is_not_taken_for_the_next_one() -> None:
    pipeline = integration("wyoming", "pipeline").Pipeline(5.0)
    late = AudioChunk(16000, 2, 1, b"\1\0" * 100)
    for event in (Synthesize("The old one."), AudioStart(16000, 2, 1), late, AudioStop()):
        pipeline.take(event.event())
    assert (pipeline.text, pipeline.sounding, pipeline.over) == (None, False, False)
    for event in (Transcript("and now"), Synthesize("The new one."), AudioStart(16000, 2, 1), late, AudioStop()):
        pipeline.take(event.event())
    assert (await pipeline.heard(), await pipeline.answer()) == ("and now", "The new one.")
    assert sum([len(chunk.samples) async for chunk in pipeline.sound()]) == 100


def test_who_hears_a_room_has_to_be_named() -> None:
    schema = integration("wyoming", "config").SCHEMA
    with pytest.raises(vol.Invalid, match="allow"):
        schema({"server": {"satellites": {DEVICE: 10701}}})
    server = schema({"server": {"satellites": {DEVICE.upper(): 10701}, "allow": ["192.168.1.20"]}})["server"]
    assert server["satellites"] == {DEVICE: 10701}
