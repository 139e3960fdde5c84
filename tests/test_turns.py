"""A person speaks to a device, and what comes of it: through a real hub, a real socket, and scripted engines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tone_words import read_back, spoken, tones

from xiaozhi_hub.audio.ogg import read_ogg
from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.core.flow import Outcome, TurnRecord
from xiaozhi_hub.dialog.speaking import mouth
from xiaozhi_hub.engines.asr import AsrRequest, AsrStream
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile, running_hub

ECHO = """
voice: {vad: echo, asr: echo, tts: echo, llm: %s}
integrations:
  echo: {%s}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
"""

HubMaker = Callable[[str], AbstractAsyncContextManager[Hub]]


@pytest.fixture
def hub_with(tmp_path: Path) -> HubMaker:
    """A hub whose engines are scripted; the argument is the configuration of the echo integration."""
    return lambda echo: running_hub(tmp_path / "config", ECHO % ("echo" if "llm:" in echo else "none", echo))


@pytest.fixture
async def hub(hub_with: HubMaker) -> AsyncIterator[Hub]:
    async with hub_with("") as hub:
        yield hub


def device(hub: Hub, device_id: str = "02:00:00:00:00:01", **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, **more)


async def last_turn(hub: Hub, count: int = 1) -> TurnRecord:
    """The newest turn in the history, once there are *count*."""
    async with asyncio.timeout(20):
        while len(turns := await hub.history.turns(10)) < count:
            await asyncio.sleep(0.01)
    return turns[0]


@pytest.mark.usefixtures("speech_is_ready")
async def test_a_spoken_question_gets_a_spoken_answer(tmp_path: Path) -> None:
    patient = ECHO.replace("llm: %s}", "llm: %s, lead_ms: 1000}")  # no gap in the sound because this machine is busy
    async with running_hub(tmp_path, patient % ("none", "")) as hub, device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
        assert hub.entities.get("light.bed_light").state.value == "on"  # type: ignore[union-attr]
    assert result.heard == "turn on the bed light"
    assert result.said == "Turned on the Bed Light."
    assert read_back(result) == "Turned on the Bed Light."
    assert (result.underruns, result.overflows, result.dropped_early) == (0, 0, 0)


async def test_the_record_tells_what_was_done_and_when(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask(spoken("turn on the bed light"))
    record = await last_turn(hub)
    assert record.heard == "turn on the bed light"
    assert [(call.name, dict(call.arguments)) for call in record.tool_calls] == [
        ("home.turn_on", {"name": "Bed Light"})
    ]
    order = ["listen", "speech_start", "speech_end", "endpoint", "transcript", "tts_start", "first_audio", "played"]
    assert [name for name in order if name in record.stamps] == order
    assert sorted(order, key=lambda name: record.stamps[name]) == order
    assert record.outcome is Outcome.ANSWERED


async def test_both_directions_sound_is_kept_as_it_was_sent(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
    record = await last_turn(hub)
    audio = await hub.history.audio(record.id)
    assert audio.heard is not None and audio.said is not None
    assert [p.data for p in result.packets] == read_ogg(audio.said.read_bytes())
    heard = decode_all(read_ogg(audio.heard.read_bytes()))
    assert tones().read_text(heard) == "turn on the bed light"


async def test_an_answer_begins_with_silence_that_may_be_lost(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The firmware empties its queue some time after `tts start` (device-protocol: at its main task's leisure)."""
    monkeypatch.setattr(mouth, "LEAD_IN_MS", 1800)  # 100 have passed on a busy machine before there is an answer
    async with device(hub, profile=FirmwareProfile(settle_ms=0)) as quick:
        whole = await quick.ask(spoken("turn on the bed light"))
    quiet = decode_all([p.data for p in whole.packets[:30]], 24000).samples
    assert len(quiet) == 24 * 1800
    assert np.abs(quiet).max() < 200
    assert read_back(whole) == "Turned on the Bed Light."
    async with device(hub, profile=FirmwareProfile(settle_ms=1200)) as slow:
        rest = await slow.ask(spoken("turn off the bed light"))
    assert len(rest.packets) < len(whole.packets)  # something was lost …
    assert read_back(rest) == "Turned off the Bed Light."  # … but not a sound of the answer


async def test_push_to_talk_is_answered_when_the_button_is_let_go(hub: Hub) -> None:
    async with device(hub, mode="manual") as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
    assert result.said == "Turned on the Bed Light."


async def test_an_always_listening_device_is_answered_again_without_another_start(hub: Hub) -> None:
    async with device(hub, mode="realtime") as speaker:
        first = await speaker.ask(spoken("turn on the bed light"))
        second = await speaker.ask(spoken("turn off the bed light"))
    assert [first.said, second.said] == ["Turned on the Bed Light.", "Turned off the Bed Light."]
    assert sum("→ listen start" in line for line in speaker.conversation) == 1


@pytest.mark.parametrize("mode", ["auto", "realtime"])
async def test_recognisers_are_told_that_the_hub_has_asked_something_also_where_they_listened_before(
    mode: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asr,) = hub.engines.asrs(("echo",))
    told: list[bool] = []
    listen = asr.open

    def noted(request: AsrRequest) -> AsrStream:
        told.append(request.answering)
        return listen(request)

    monkeypatch.setattr(asr, "open", noted)
    async with device(hub, mode=mode) as speaker:
        asked = await speaker.ask(spoken("set a timer"))
        answered = await speaker.ask(spoken("five minutes"))
        await speaker.ask(spoken("what time is it"))
    assert asked.said.endswith("?") and "5 minute" in answered.said
    assert told == [False, True, False]


async def test_who_speaks_into_the_answer_is_heard_and_the_answer_ends(hub_with: HubMaker) -> None:
    story = "recite a poem about frogs"
    async with hub_with("llm: {}, tts: {ms: 20000}") as hub, device(hub, mode="realtime") as speaker:
        telling = asyncio.create_task(speaker.ask(spoken(story)))
        await speaker.speaking()
        await asyncio.sleep(0.3)
        await speaker.interrupt(spoken("turn off the bed light"))
        told = await telling
        second = await speaker.answer()
        await last_turn(hub, 2)
        turns = await hub.history.turns(10)
    assert second.said == "Turned off the Bed Light."
    outcomes = {turn.heard: turn.outcome for turn in turns}
    assert outcomes[story] is Outcome.INTERRUPTED and outcomes["turn off the bed light"] is Outcome.ANSWERED
    assert told.stamps["tts_stop"] < told.stamps["tts_start"] + 15000
    assert speaker.complaints == []


async def test_nobody_speaks_into_an_answer_and_it_is_told_to_its_end(hub: Hub) -> None:
    async with device(hub, mode="realtime") as speaker:
        await speaker.ask(spoken("turn on the bed light"))
        await speaker.abort()  # harmless: nothing is playing
        result = await speaker.ask(spoken("recite a poem about frogs"))
        ring = asyncio.create_task(hub.announcer.ring(speaker.device_id, "Tea is ready.", "en", rounds=1))
        assert (await speaker.next_answer()).said == "Tea is ready."
        assert await ring
        after = await speaker.ask(spoken("turn off the bed light"))
    assert result.said == "Sorry, I don't know how to do that."
    assert after.said == "Turned off the Bed Light."


@pytest.mark.parametrize("framing", [2, 3])
async def test_a_device_is_told_how_to_frame_its_sound_and_understood(tmp_path: Path, framing: int) -> None:
    devices = f"devices: {{'02:00:00:00:00:01': {{framing: {framing}}}}}\n"
    async with running_hub(tmp_path, devices + ECHO % ("none", "")) as hub, device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
        assert speaker.ota_answer["websocket"]["version"] == framing
    assert read_back(result) == "Turned on the Bed Light."


async def test_text_takes_the_same_path_as_speech(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask_text("turn on the bed light")
    assert (result.heard, read_back(result)) == ("turn on the bed light", "Turned on the Bed Light.")


async def test_the_wake_word_is_no_question(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.wake("你好小智")
        assert await speaker.silent_within(0.3)
        result = await speaker.ask(spoken("turn on the bed light"))
    assert result.said == "Turned on the Bed Light."


async def test_what_nobody_knows_is_answered_honestly(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask(spoken("recite a poem about frogs"))
    assert result.said == "Sorry, I don't know how to do that."
    assert (await last_turn(hub)).tool_calls == ()


async def test_a_missing_piece_is_asked_for_and_the_answer_completes_it(hub: Hub) -> None:
    async with device(hub) as speaker:
        question = await speaker.ask(spoken("turn on the lights"))
        answer = await speaker.ask(spoken("in the kitchen"))
    assert question.said == "In which room?"
    assert "Kitchen" in answer.said
    assert hub.entities.get("light.kitchen_lights").state.value == "on"  # type: ignore[union-attr]


async def test_the_room_of_the_asking_device_is_meant(tmp_path: Path) -> None:
    configuration = ECHO % ("none", "") + "devices: {'02:00:00:00:00:01': {area: Office}}\n"
    async with running_hub(tmp_path / "config", configuration) as hub, device(hub) as speaker:
        await speaker.ask_text("turn on the lights")
        assert hub.entities.get("light.standing_light").state.value == "on"  # type: ignore[union-attr]
        assert hub.entities.get("light.bed_light").state.value == "off"  # type: ignore[union-attr]


# -- interruption -------------------------------------------------------------------------------------------------

STORY = 'llm: {otherwise: "Once upon a time there was a hub. It lived in a cupboard. It was happy."}'


async def test_a_person_can_interrupt(hub_with: HubMaker) -> None:
    async with hub_with(STORY) as hub, device(hub) as speaker:
        await speaker.say(spoken("tell me a story"))
        await speaker.hears("Once upon a time")
        await asyncio.sleep(0.5)  # of listening to it
        await speaker.press_button()
        assert await speaker.silent_within(0.1)
        result = await speaker.ask(spoken("turn on the bed light"))
        assert result.said == "Turned on the Bed Light."
        turns = await hub.history.turns(10)
    story = next(turn for turn in turns if "story" in turn.heard)
    assert story.outcome is Outcome.INTERRUPTED
    assert story.said == "Once upon a time there was a hub."  # what was heard, not what was written
    assert sum("tts" in line and "stop" in line for line in speaker.conversation) == 2


async def test_what_had_not_sounded_yet_was_not_said(tmp_path: Path) -> None:
    """A sentence is on its way long before it sounds: as much earlier as the device has in store."""
    config = ECHO.replace("llm: %s}", "llm: %s, lead_ms: 1500}") % ("echo", f"{STORY}, tts: {{ms: 4000}}")
    async with running_hub(tmp_path, config) as hub, device(hub) as speaker:
        await speaker.say(spoken("tell me a story"))
        await speaker.hears("It lived in a cupboard")
        await speaker.press_button()
        story = await last_turn(hub)
    assert story.outcome is Outcome.INTERRUPTED
    assert story.said == "Once upon a time there was a hub."


async def test_saying_the_wake_word_again_interrupts(hub_with: HubMaker) -> None:
    async with hub_with(STORY) as hub, device(hub) as speaker:
        await speaker.say(spoken("tell me a story"))
        await speaker.hears("Once upon a time")
        await speaker.wake()
        assert await speaker.silent_within(0.1)


async def test_hanging_up_in_the_middle_frees_everything(hub_with: HubMaker) -> None:
    async with hub_with(STORY) as hub:
        async with device(hub) as speaker:
            await speaker.say(spoken("tell me a story"))
            await speaker.hears("Once upon a time")
            await speaker.hang_up()
        async with asyncio.timeout(20):
            while hub.devices.sessions:
                await asyncio.sleep(0.01)


async def test_a_model_that_hangs_can_be_interrupted(hub_with: HubMaker) -> None:
    async with hub_with("llm: {hang: true}") as hub, device(hub) as speaker:
        await speaker.say(spoken("tell me a story"))
        async with asyncio.timeout(20):
            while not any('"stt"' in line or " stt" in line for line in speaker.conversation):
                await asyncio.sleep(0.01)
        await speaker.abort()
        result = await speaker.answer(within=5)
        assert result.packets == ()
        assert "tts_stop" in result.stamps


async def test_a_newer_connection_of_a_device_takes_over(hub: Hub) -> None:
    async with device(hub) as old, device(hub) as new:
        await old.connect()
        await new.connect()
        await old.hung_up(20)
        assert (await new.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_the_hub_stops_while_it_speaks(hub_with: HubMaker) -> None:
    async with hub_with(STORY) as hub:
        speaker = device(hub)
        await speaker.__aenter__()
        await speaker.say(spoken("tell me a story"))
        await speaker.hears("Once upon a time")
    await speaker.hung_up(20)
    await speaker.__aexit__(None, None, None)


# -- trouble ------------------------------------------------------------------------------------------------------


async def test_a_failing_recogniser_is_told_and_the_next_question_works(hub_with: HubMaker) -> None:
    async with hub_with("asr: {fail: 1, say: turn on the bed light}") as hub, device(hub, mode="manual") as speaker:
        result = await speaker.ask(spoken("x"))
        assert result.said == "Sorry, my speech recogniser failed. Please say that again."
        assert [alert.message for alert in result.alerts] == [result.said]
        assert (await last_turn(hub)).error == "echo-failed"
        assert (await speaker.ask(spoken("x"))).said == "Turned on the Bed Light."


async def test_a_failure_whose_apology_is_cut_off_stays_a_failure(hub_with: HubMaker) -> None:
    async with hub_with("asr: {fail: true}, tts: {ms: 15000}") as hub, device(hub) as speaker:
        await speaker.say(spoken("turn on the bed light"))
        await speaker.speaking()
        await speaker.press_button()
        record = await last_turn(hub)
    assert record.outcome is Outcome.FAILED and record.error


async def test_a_failing_voice_ends_with_a_tone_and_an_alert(hub_with: HubMaker) -> None:
    async with hub_with("tts: {fail: true}") as hub, device(hub) as speaker:
        result = await speaker.ask_text("turn on the bed light")
        assert result.packets  # a sound, not silence
        assert np.abs(decode_all([p.data for p in result.packets], 24000).samples).max() > 3000
        assert "tts_stop" in result.stamps
        assert (await last_turn(hub)).error == "echo-failed"
        assert hub.entities.get("light.bed_light").state.value == "on"  # type: ignore[union-attr]


async def test_a_failing_model_is_told(hub_with: HubMaker) -> None:
    async with hub_with("llm: {fail: true}") as hub, device(hub) as speaker:
        assert (await speaker.ask_text("tell me a story")).said == "Sorry, my language model does not answer."


async def test_a_hub_that_fails_again_and_again_hangs_up(hub_with: HubMaker) -> None:
    async with hub_with("asr: {fail: true}") as hub, device(hub, mode="auto") as speaker:
        await speaker.ask(spoken("x"))
        await speaker.ask(spoken("x"))
        await speaker.hung_up(20)


async def test_the_model_can_use_tools(hub_with: HubMaker) -> None:
    script = (
        "llm: {rules: [{heard: cosy, call: {tool: home.turn_on, arguments: {name: Bed Light}}}, "
        '{result_of: home.turn_on, say: "Done. {result}"}]}'
    )
    async with hub_with(script) as hub, device(hub) as speaker:
        result = await speaker.ask_text("make it cosy please")
        assert result.said == "Done. Turned on the Bed Light."
        assert [call.name for call in (await last_turn(hub)).tool_calls] == ["home.turn_on"]


async def test_the_face_that_the_model_wants_is_the_only_one(hub_with: HubMaker) -> None:
    async with hub_with('llm: {otherwise: "😴 I am tired."}') as hub, device(hub) as speaker:
        result = await speaker.ask_text("tell me a story")
        faces = [line for line in speaker.conversation if " llm " in line]
    assert (result.said, result.emotion) == ("I am tired.", "sleepy")
    assert len(faces) == 1


async def test_sentences_are_spoken_while_the_model_still_writes(hub_with: HubMaker) -> None:
    slow = 'llm: {word_delay: 0.05, otherwise: "One two. Three four five six seven eight nine ten."}'
    async with hub_with(slow) as hub, device(hub) as speaker:
        result = await speaker.ask_text("a story")
        record = await last_turn(hub)
    assert result.said == "One two. Three four five six seven eight nine ten."
    assert record.stamps["first_audio"] < record.stamps["sent"] - 200


async def test_noise_alone_is_not_answered(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.wake()
        assert await speaker.silent_within(0.5)
        assert await hub.history.turns(10) == []


async def test_somebody_who_expects_chinese_is_told_once(tmp_path: Path) -> None:
    own = tmp_path / "config" / "integrations" / "english"
    own.mkdir(parents=True)
    (own / "manifest.json").write_text(
        json.dumps({"domain": "english", "name": "E", "version": "1", "kinds": ["engines"], "online": False})
    )
    (own / "__init__.py").write_text(
        "from xiaozhi_hub.plugins.api import *\n"
        "from xiaozhi_hub.plugins.api import hookimpl, Asr, AsrStream, EngineInfo, Role, Transcript\n"
        "class Stream(AsrStream):\n"
        "    async def feed(self, chunk): pass\n"
        "    async def guess(self): return Transcript('', 'en')\n"
        "    async def finish(self): return Transcript('', 'en')\n"
        "class English(Asr):\n"
        "    info = EngineInfo('english', Role.ASR, 'English', languages=('en',))\n"
        "    def open(self, request): return Stream()\n"
        "@hookimpl\n"
        "def register_engines(register): register(English())\n"
    )
    configuration = (ECHO % ("none", "")).replace("asr: echo", "asr: english") + "  english:\n"
    async with (
        running_hub(tmp_path / "config", configuration) as hub,
        device(hub, language="zh-CN", mode="manual") as speaker,
    ):
        first = await speaker.ask(spoken("x"))
        second = await speaker.ask(spoken("x"))
    assert "Whisper" in first.said and "英语" in first.said
    assert second.said == "抱歉，我没有听清。"


# -- the hub speaks first -----------------------------------------------------------------------------------------


async def test_a_timer_rings_on_the_device_that_asked(hub: Hub) -> None:
    async with device(hub) as asking, device(hub, "02:00:00:00:00:02") as other:
        await other.connect()
        await asking.ask_text("set a timer for 1 second")
        ring = await asking.next_answer()
    assert "timer" in ring.said
    assert not any("timer" in line for line in other.conversation)


async def test_a_ring_can_be_silenced(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask_text("set a timer for 1 second")
        await speaker.hears("done")
        await speaker.press_button()
        assert await speaker.silent_within(0.1)


# -- the frame ----------------------------------------------------------------------------------------------------


async def test_many_devices_talk_at_once_and_each_gets_its_own_answer(hub: Hub) -> None:
    async def talk(number: int) -> tuple[str, str]:
        async with device(hub, f"02:00:00:00:01:{number:02x}") as speaker:
            wanted = "Bed Light" if number % 2 else "Standing Light"
            return wanted, (await speaker.ask_text(f"turn on the {wanted}")).said

    for wanted, said in await asyncio.gather(*(talk(number) for number in range(20))):
        assert said == f"Turned on the {wanted}."
