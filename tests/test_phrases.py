"""The recogniser that comes with the hub, on speech that eSpeak makes: real pocketsphinx in its own process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SPEECH

from xiaozhi_hub.audio.pcm import read_wav, trim_start
from xiaozhi_hub.cli.self_test import synthesise
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.engines.base import Asr, AsrRequest
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub, speech_end_ms

CONFIGURATION = "integrations:\n  demo:\n  phrases: {pronunciations: {Zorblax Lamp: 'Z AO R B L AE K S, L AE M P'}}\n"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "config", CONFIGURATION) as hub:
        yield hub


def recogniser(hub: Hub) -> Asr:
    return hub.engines.asrs(("phrases",))[0]


async def said(hub: Hub, text: str) -> PcmChunk:
    """*text* as the hub's voice says it, with as much silence around it as a turn leaves."""
    sound = await synthesise(hub.parts.voices("en")[0], text)
    spoken = trim_start(sound).samples[: int(speech_end_ms(sound.samples) * 16)]
    return PcmChunk(np.concatenate([np.zeros(3200, np.int16), spoken, np.zeros(960, np.int16)]), 16000)


async def hear(hub: Hub, sound: PcmChunk, *, answering: bool = False) -> str:
    stream = recogniser(hub).open(AsrRequest(("en",), answering=answering))
    await stream.feed(sound)
    return (await stream.finish()).text


async def test_commands_are_written_as_intents_expect_them(hub: Hub) -> None:
    for spoken, written in [
        ("what time is it", "what time is it"),
        ("turn on the bed light", "turn on the Bed Light"),
        ("start a timer for twenty seconds", "start a timer for 20 seconds"),
        ("close the kitchen windows", "close the Kitchen windows"),
    ]:
        assert await hear(hub, await said(hub, spoken)) == written


async def test_other_speech_is_not_taken_for_a_command(hub: Hub) -> None:
    assert await hear(hub, await said(hub, "the quick brown fox jumps over the lazy dog every single morning")) == ""


async def test_noise_and_silence_are_no_words(hub: Hub) -> None:
    noise = np.random.default_rng(1).normal(0, 500, 32000).astype(np.int16)
    assert await hear(hub, PcmChunk(noise, 16000)) == ""
    assert await hear(hub, PcmChunk(np.zeros(16000, np.int16), 16000)) == ""


async def test_a_new_name_is_heard_and_an_override_says_how(hub: Hub) -> None:
    sound = await said(hub, "turn on the zorblax lamp")
    assert "Zorblax" not in await hear(hub, sound)
    hub.entities.add(Entity("light.zorblax", Domain.LIGHT, "Zorblax Lamp"), "test")
    async with asyncio.timeout(10):
        while "Zorblax Lamp" not in await hear(hub, sound):
            await asyncio.sleep(0.1)


async def test_bare_answers_are_heard_only_after_a_question(hub: Hub) -> None:
    sound = await said(hub, "in the kitchen")
    assert await hear(hub, sound) == ""
    assert "Kitchen" in await hear(hub, sound, answering=True)
    assert await hear(hub, await said(hub, "what time is it")) == "what time is it"


async def test_a_killed_process_costs_at_most_one_question(hub: Hub) -> None:
    sound = await said(hub, "what time is it")
    assert await hear(hub, sound) == "what time is it"
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    ours = [int(pid) for pid in children if "phrases" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(ours) == 1
    os.kill(ours[0], signal.SIGKILL)
    heard = []
    for _ in range(2):
        try:
            heard.append(await hear(hub, sound))
        except Exception as error:
            heard.append(type(error).__name__)
    assert heard[-1] == "what time is it"


async def test_a_question_by_voice_gets_a_spoken_answer_from_the_shipped_engines(hub: Hub) -> None:
    async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01") as device:
        result = await device.ask(await said(hub, "turn on the bed light"))
    assert result.said == "Turned on the Bed Light."
    assert hub.entities.get("light.bed_light").state.value == "on"  # type: ignore[union-attr]


@pytest.mark.skipif(not (SPEECH / "commands").is_dir(), reason=f"no recordings in {SPEECH} (set XIAOZHI_SPEECH)")
async def test_people_are_understood_and_other_talk_is_not(hub: Hub) -> None:
    async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01") as device:
        for name, heard in [("what time is it", "what time is it"), ("lock the Front Door", "lock the Front Door")]:
            sound = read_wav((SPEECH / "commands" / f"{name}.wav").read_bytes())
            assert (await device.ask(sound)).heard == heard
        sound = read_wav((SPEECH / "commands" / "oov_4.wav").read_bytes())
        assert (await device.ask(sound)).heard == ""
