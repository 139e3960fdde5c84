"""Being woken and letting go: who answers, what is not lost, and how a conversation ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_time import while_the_loop_turns
from tone_words import spoken as said

from xiaozhi_hub.core.flow import Packet, PcmChunk
from xiaozhi_hub.devices.waking.arbiter import WINDOW_SECONDS, Wake, WakeArbiter, loudness
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, Utterance, running_hub

CONFIGURATION = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
conversation: {idle_s: 5%s}
integrations:
  echo:
  demo:
  silero_vad: false
  phrases: false
  espeak: false
"""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, CONFIGURATION % "") as hub:
        yield hub


def device(hub: Hub, number: int = 1, **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=f"02:00:00:00:00:{number:02x}", **more)


def spoken(text: str) -> PcmChunk:
    return said(text, before_ms=0)


def murmur(loud: float) -> tuple[bytes, ...]:
    """A second of a voice, from 0 to 1."""
    wave = np.sin(np.arange(16000) / 16000 * 2 * np.pi * 200) * 32000 * loud
    return Utterance.of(PcmChunk(wave.astype(np.int16), 16000)).packets


# -- two devices, one person ----------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two wake words count as one person's however slow this machine is just now."""
    monkeypatch.setattr("xiaozhi_hub.devices.waking.arbiter.WINDOW_SECONDS", 4.0)


async def test_of_two_devices_that_hear_the_wake_word_the_louder_one_answers(hub: Hub, at_once: None) -> None:
    async with device(hub, 1) as far, device(hub, 2) as near:
        await asyncio.gather(far.connect(), near.connect())
        await far.wake(sound=murmur(0.05))
        await near.wake(sound=murmur(0.5))
        await far.hung_up(20)
        assert near.connected
        assert (await near.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."
    assert not any("tts" in line for line in far.conversation)


async def test_a_device_that_has_gone_again_takes_nothing_from_the_one_that_heard_better(
    hub: Hub, at_once: None
) -> None:
    async with device(hub, 1) as far, device(hub, 2) as near:
        await far.wake("Alexa", murmur(0.05))
        await far.hang_up()
        async with asyncio.timeout(10):
            while far.device_id in hub.devices.sessions:
                await asyncio.sleep(0.01)
        await near.wake("Alexa", murmur(0.5))
        assert (await near.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."
        assert near.connected


async def test_of_two_devices_that_are_equally_near_the_first_one_answers(hub: Hub, at_once: None) -> None:
    async with device(hub, 1) as first, device(hub, 2) as second:
        await asyncio.gather(first.connect(), second.connect())
        await first.wake(sound=murmur(0.3))
        await second.wake(sound=murmur(0.3))
        await second.hung_up(20)
        assert first.connected
    assert not any("tts" in line for line in second.conversation)  # not because nobody spoke for long


async def test_devices_that_are_woken_one_after_the_other_both_answer(hub: Hub) -> None:
    async with device(hub, 1) as kitchen, device(hub, 2) as office:
        await asyncio.gather(kitchen.connect(), office.connect())
        await kitchen.wake(sound=murmur(0.3))
        await while_the_loop_turns(WINDOW_SECONDS + 0.1)
        await office.wake(sound=murmur(0.3))
        assert (await kitchen.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."
        assert (await office.ask(spoken("turn off the bed light"))).said == "Turned off the Bed Light."


def test_of_three_devices_the_loudest_is_left() -> None:
    arbiter, gone = WakeArbiter(), []
    for name, loud, at in (("a", 0.1, 0.0), ("b", 0.4, 0.05), ("c", 0.2, 0.1)):
        sound = [Packet(packet, 60) for packet in murmur(loud)]
        arbiter.woken(Wake(name, at, sound, lambda name=name: gone.append(name)))  # type: ignore[misc]
    assert gone == ["a", "c"]


def test_broken_sound_of_a_wake_word_is_silence() -> None:
    assert loudness([Packet(b"\xff\xff\xff", 60)]) == loudness([])


# -- no word is lost --------------------------------------------------------------------------------------------------


async def test_who_goes_straight_on_after_the_wake_word_is_understood_from_the_first_sound(hub: Hub) -> None:
    """The first 120 ms of the question are in the sound of the wake word."""
    question = Utterance.of(spoken("turn on the bed light"))
    async with device(hub) as speaker:
        await speaker.connect()
        for packet in (*murmur(0.0002)[:10], *question.packets[:2]):
            await speaker.send_binary(packet)
        await speaker.send_text('{"type":"listen","state":"detect","text":"你好小智"}')
        rest = Utterance(question.packets[2:], question.end_ms - 120, question.frame_ms)
        assert (await speaker.ask(rest)).said == "Turned on the Bed Light."


async def test_the_wake_word_itself_is_not_part_of_the_question(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.wake(sound=Utterance.of(spoken("xiaozhi")).packets)
        assert (await speaker.ask(spoken("turn on the bed light"))).heard == "turn on the bed light"


# -- the end ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bye", "said", "language"), [("goodbye", "Goodbye.", "en-US"), ("再见", "再见。", "zh-CN")])
async def test_goodbye_ends_the_conversation(hub: Hub, bye: str, said: str, language: str) -> None:
    async with device(hub, language=language) as speaker:
        assert (await speaker.ask_text(bye)).said == said
        await speaker.hung_up(20)
        assert sum("tts start" in line for line in speaker.conversation) == 1  # not because nobody spoke for long


async def test_with_a_timer_running_goodbye_leaves_the_line_open(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask_text("set a timer for 3 seconds")
        assert (await speaker.ask_text("goodbye")).said == "Goodbye."
        await speaker.hears("Your 3 second timer is done.")


async def test_who_falls_silent_is_told_goodbye_before_the_hub_hangs_up(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask(spoken("turn on the bed light"))
        assert (await speaker.next_answer(25)).said == "Goodbye."
        await speaker.hung_up(20)


async def test_without_a_farewell_the_hub_just_hangs_up(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION % ", farewell: false") as hub, device(hub) as speaker:
        await speaker.ask(spoken("turn on the bed light"))
        await speaker.hung_up(25)
    assert not any("Goodbye" in line for line in speaker.conversation)


async def test_a_quiet_line_is_kept_alive(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device takes a link for dead on which nothing came for two minutes."""
    monkeypatch.setattr("xiaozhi_hub.devices.sessions.session.KEEPALIVE_SECONDS", 0.2)
    monkeypatch.setattr("xiaozhi_hub.devices.sessions.registry.TICK_SECONDS", 0.1)
    async with device(hub) as speaker:
        await speaker.connect()
        hub.announcer.keep_line(speaker.device_id, "test", time.time() + 1000)
        async with asyncio.timeout(30):  # the next look is a tick away
            while sum("notifications/keepalive" in line for line in speaker.conversation) < 2:
                await asyncio.sleep(0.02)
        assert speaker.connected


async def test_a_device_that_goes_while_another_is_hung_up_on_ends_nobody_s_care(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi_hub.devices.sessions.registry.TICK_SECONDS", 0.1)
    async with device(hub, 1) as silent, device(hub, 2) as talker, device(hub, 3) as last:
        for speaker in (silent, talker, last):
            await speaker.connect()
        await talker.ask_text("turn on the bed light")
        sessions = hub.devices.sessions
        going = sessions[talker.device_id]
        hang_up = sessions[silent.device_id].link.close

        async def slowly(reason: str = "") -> None:
            going.active_at -= 100
            await talker.hang_up()
            async with asyncio.timeout(10):
                while talker.device_id in sessions:
                    await asyncio.sleep(0.01)
            await hang_up(reason)

        monkeypatch.setattr(sessions[silent.device_id].link, "close", slowly)
        sessions[silent.device_id].active_at -= 100
        await silent.hung_up(20)
        assert talker.device_id not in sessions
        sessions[last.device_id].active_at -= 100
        await last.hung_up(20)
