"""The device that tests and people use, against a hub that follows a script."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest
from aiohttp import WSCloseCode
from loop_time import while_the_loop_turns
from scripted_hub import FRAME_S, VOICE, ScriptedHub, Talk, answers_each, says_nothing, serve, tone

from xiaozhi_hub.audio.opus import packet_ms, silence
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing import (
    PROFILES,
    DeviceState,
    FakeDevice,
    FirmwareProfile,
    NoAnswer,
    Playback,
    TurnResult,
    Utterance,
    quiet,
    speech_end_ms,
)

QUESTION = Utterance.of(tone(0.2))


def device(hub: ScriptedHub, **options: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"http://127.0.0.1:{hub.port}/ota/", device_id="24:6f:28:aa:bb:cc", **options)


# -- check-in and handshake ---------------------------------------------------------------------------------------


async def test_it_checks_in_as_firmware_does() -> None:
    async with serve(says_nothing) as hub, device(hub, language="zh-CN") as fake:
        headers, body = hub.check_ins[0]
        assert headers["Device-Id"] == "24:6f:28:aa:bb:cc"
        assert headers["Client-Id"] == body["uuid"] == fake.client_id
        assert headers["User-Agent"] == "bread-compact-wifi/2.4.2"
        assert headers["Accept-Language"] == body["language"] == "zh-CN"
        assert headers["Connection"] == "close"
        assert body["application"]["version"] == "2.4.2"
        assert not fake.connected, "it connects only when there is something to say"


async def test_it_connects_as_firmware_does() -> None:
    async with serve(says_nothing) as hub:
        hub.websocket = {"token": "t0k3n"}
        async with device(hub) as fake:
            await fake.connect()
            headers = hub.talks[0].headers
            assert headers["Host"] == "127.0.0.1"
            assert headers["Authorization"] == "Bearer t0k3n"
            assert headers["Protocol-Version"] == "1"
            assert not {"Origin", "User-Agent", "Sec-WebSocket-Extensions"} & set(headers)
            assert hub.talks[0].hello["features"] == {"mcp": True}
            assert hub.talks[0].hello["audio_params"]["frame_duration"] == 60


async def test_a_token_with_a_space_is_sent_as_it_is() -> None:
    async with serve(says_nothing) as hub:
        hub.websocket = {"token": "Basic abc"}
        async with device(hub) as fake:
            await fake.connect()
        assert hub.talks[0].headers["Authorization"] == "Basic abc"


async def test_old_firmware_says_nothing_of_features() -> None:
    profile = FirmwareProfile(features=None, stores_session_id=False)
    async with serve(says_nothing) as hub, device(hub, profile=profile) as fake:
        await fake.press_button()
        assert "features" not in hub.talks[0].hello
        async with asyncio.timeout(20):
            assert (await hub.talks[0].messages.get())["session_id"] == ""


@pytest.mark.parametrize(
    ("name", "extra", "says"),
    [
        ("mqtt", {"mqtt": {}}, "mqtt"),
        ("no websocket", {"websocket": None}, "websocket.url"),
        ("a url without port", {"websocket": {"url": "ws://127.0.0.1/ws"}}, "no port"),
    ],
)
async def test_an_answer_that_leads_the_device_astray_is_named(name: str, extra: dict[str, Any], says: str) -> None:
    async with serve(says_nothing) as hub:
        hub.extra = extra
        with pytest.raises(HubError, match=says):
            async with device(hub):
                pass


async def test_a_hub_that_is_not_there_is_named() -> None:
    with pytest.raises(HubError, match="Is the hub running"):
        async with FakeDevice(ota_url="http://127.0.0.1:1/ota/"):
            pass


async def test_a_hub_without_hello_is_given_up() -> None:
    async with serve(says_nothing, hello={"type": "hello", "session_id": "x"}) as hub:
        async with device(hub, profile=FirmwareProfile(hello_seconds=0.2)) as fake:
            with pytest.raises(HubError, match="hello"):
                await fake.ask(QUESTION)
            assert any("crashes" in complaint for complaint in fake.complaints)


# -- a turn -------------------------------------------------------------------------------------------------------


async def test_a_question_gets_its_answer() -> None:
    async with serve(answers_each) as hub, device(hub) as fake:
        result = await fake.ask(QUESTION)
        assert result.heard == "what time is it"
        assert result.said == "It is nine."
        assert result.emotion == "happy"
        assert [packet.data for packet in result.packets] == VOICE
        assert (result.underruns, result.overflows, result.dropped_early, result.unplayable) == (0, 0, 0, 0)
        assert result.asked and not result.cut_short
        assert fake.complaints == []
        assert set(result.summary()) == {"heard", "said", "emotion", "stamps", "underruns", "overflows"}


async def test_the_stamps_tell_the_story_in_order() -> None:
    async with serve(answers_each) as hub, device(hub) as fake:
        stamps = (await fake.ask(QUESTION)).stamps
    order = ["speech_start", "speech_sent", "stt", "tts_start", "first_frame", "first_voice", "tts_stop", "played"]
    assert [name for name in stamps if name in order] == order
    assert stamps["speech_start"] == pytest.approx(-200, abs=1)
    assert 0 <= stamps["speech_sent"] < 1000, "the packet with the last sample goes out when it has been recorded"
    assert stamps["played"] - stamps["first_frame"] == pytest.approx(480, abs=1)


async def test_the_first_voice_is_where_the_silence_ends() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.answer(packets=[packet.data for packet in silence(120)] + VOICE)

    async with serve(script) as hub, device(hub) as fake:
        stamps = (await fake.ask(QUESTION)).stamps
    assert stamps["first_voice"] - stamps["first_frame"] == pytest.approx(120, abs=15)


async def test_it_listens_again_when_it_has_played_everything() -> None:
    async def script(talk: Talk) -> None:
        for _ in range(2):
            await talk.listens()
            await talk.uplink(len(talk.packets) + 5)
            await talk.answer(lead=len(VOICE))

    async with serve(script) as hub, device(hub) as fake:
        first = await fake.ask(QUESTION)
        assert fake.state is DeviceState.LISTENING
        assert first.stamps["played"] - first.stamps["tts_stop"] > 200, "the hub stopped before anything had sounded"
        second = await fake.ask(QUESTION)
        assert second.said == "It is nine."
        assert len(hub.talks) == 1


async def test_frames_are_sent_in_real_time_and_a_hiccup_is_made_up_for() -> None:
    async def script(talk: Talk) -> None:
        await talk.uplink(5)
        time.sleep(0.6)  # everything stands still, as on a machine that is busy

    async with serve(script) as hub, device(hub) as fake:
        await fake.say(Utterance.of(tone(1.2)))
        await hub.talks[0].uplink(20)
        times = [at for at, _ in hub.talks[0].packets][:20]
    assert times[-1] - times[0] == pytest.approx(19 * FRAME_S, abs=0.55)


async def test_it_streams_quiet_until_the_hub_speaks_and_then_stops() -> None:
    seen: dict[str, int] = {}
    speaking = asyncio.Event()

    def watch(_: float, sent: bool, frame: str | bytes) -> None:
        if not sent and isinstance(frame, str) and '"start"' in frame:
            speaking.set()

    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(12)
        await talk.tell(type="tts", state="start")
        await speaking.wait()
        await while_the_loop_turns(0.2)
        seen["at start"] = len(talk.packets)
        await while_the_loop_turns(0.2)
        seen["later"] = len(talk.packets)
        await talk.tell(type="tts", state="stop")

    async with serve(script) as hub, device(hub, watch=watch) as fake:
        await fake.ask(QUESTION)
        packets = [data for _, data in hub.talks[0].packets]
    assert seen["later"] == seen["at start"]
    assert packets[: len(QUESTION.packets)] == list(QUESTION.packets)
    assert all(data in quiet() for data in packets[len(QUESTION.packets) : 12])


async def test_sound_is_dropped_unless_it_speaks() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.speak(VOICE[:3])
        await talk.tell(type="tts", state="start")
        await talk.speak(VOICE)
        await talk.tell(type="tts", state="stop")
        await talk.ws.send_bytes(VOICE[0])

    async with serve(script) as hub, device(hub) as fake:
        result = await fake.ask(QUESTION)
    assert result.dropped_early == 4
    assert len(result.packets) == len(VOICE)


async def test_a_slow_main_task_loses_what_follows_tts_start_too_soon() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.tell(type="tts", state="start")
        await talk.speak(VOICE[:6], lead=6)
        await asyncio.sleep(1.0)
        await talk.speak(VOICE[6:])
        await talk.tell(type="tts", state="stop")

    async with serve(script) as hub, device(hub, profile=FirmwareProfile(settle_ms=900)) as fake:
        result = await fake.ask(QUESTION)
    assert result.dropped_early == 6
    assert len(result.packets) == len(VOICE) - 6


async def test_a_flood_overflows_the_queue() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.tell(type="tts", state="start")
        await talk.speak(VOICE[:1] * 50, gap_s=0)
        await talk.tell(type="tts", state="stop")

    async with serve(script) as hub, device(hub, profile=FirmwareProfile(queue_packets=4)) as fake:
        result = await fake.ask(QUESTION)
    assert result.overflows + len(result.packets) == 50
    assert 4 + 2 + 1 <= len(result.packets) < 20, "the queue, and what was played while the flood came"


async def test_late_packets_are_underruns() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.tell(type="tts", state="start")
        await talk.speak(VOICE[:2])
        await asyncio.sleep(0.3)
        await talk.speak(VOICE[2:4])
        await talk.tell(type="tts", state="stop")

    async with serve(script) as hub, device(hub) as fake:
        result = await fake.ask(QUESTION)
    assert result.underruns == 1
    assert result.stall_ms > 120


@pytest.mark.parametrize("packet", [b"", b"\xff" * 40, silence(120)[0].data + b"x" * 1500, bytes([31 << 3 | 3, 6])])
async def test_what_it_cannot_play_is_counted(packet: bytes) -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.answer(packets=[packet, *VOICE])

    async with serve(script) as hub, device(hub) as fake:
        result = await fake.ask(QUESTION)
    assert result.unplayable == 1
    assert fake.complaints


@pytest.mark.parametrize("version", [2, 3])
async def test_other_framings_are_spoken_both_ways(version: int) -> None:
    header = bytes.fromhex("0002000000000000000000000000") if version == 2 else bytes.fromhex("0000")

    def wrap(packet: bytes) -> bytes:
        return header + len(packet).to_bytes(16 - len(header) if version == 2 else 2, "big") + packet

    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.answer(packets=[wrap(packet) for packet in VOICE])

    async with serve(script) as hub:
        hub.websocket = {"version": version}
        async with device(hub) as fake:
            result = await fake.ask(QUESTION)
        assert hub.talks[0].packets[0][1] == wrap(QUESTION.packets[0])
        assert hub.talks[0].headers["Protocol-Version"] == str(version)
    assert [packet.data for packet in result.packets] == VOICE


async def test_a_hub_that_does_not_let_the_person_finish_is_found_out() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(2)
        await talk.tell(type="stt", text="what")
        await talk.answer()

    async with serve(script) as hub, device(hub) as fake:
        result = await fake.ask(Utterance.of(tone(1.0)))
    assert result.cut_short
    assert result.stamps["stt"] < 0


async def test_without_an_answer_it_says_so_and_shows_the_conversation() -> None:
    async with serve(says_nothing) as hub:
        with pytest.raises(NoAnswer, match=r"within 0\.2 s") as caught:
            async with device(hub) as fake:
                await fake.ask(QUESTION, 0.2)
    assert "listen start auto" in "".join(caught.value.__notes__)


async def test_it_notices_when_the_hub_hangs_up() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(3)
        await talk.ws.close(code=WSCloseCode.GOING_AWAY)

    async with serve(script) as hub, device(hub) as fake:
        with pytest.raises(NoAnswer, match="ended before the answer"):
            await fake.ask(QUESTION)
        await fake.hung_up(20)
        assert fake.close_code == WSCloseCode.GOING_AWAY
        assert fake.state is DeviceState.IDLE


async def test_after_a_hang_up_the_next_question_calls_again() -> None:
    async with serve(answers_each) as hub, device(hub) as fake:
        await fake.ask(QUESTION)
        await fake.hang_up()
        assert (await fake.ask(QUESTION)).said == "It is nine."
        assert len(hub.talks) == 2


# -- modes and interruptions --------------------------------------------------------------------------------------


async def test_push_to_talk_ends_with_the_last_word_and_rests_afterwards() -> None:
    async def script(talk: Talk) -> None:
        assert (await talk.listens())["mode"] == "manual"
        assert (await talk.listens())["state"] == "stop"
        await talk.answer()

    async with serve(script) as hub, device(hub, mode="manual") as fake:
        result = await fake.ask(QUESTION)
        assert result.said == "It is nine."
        assert fake.state is DeviceState.IDLE and fake.connected
        assert len(hub.talks[0].packets) == len(QUESTION.packets)


async def test_full_duplex_goes_on_listening_and_says_so_once() -> None:
    heard_out = asyncio.Event()

    async def script(talk: Talk) -> None:
        assert (await talk.listens())["mode"] == "realtime"
        await talk.uplink(6)
        await talk.answer()
        await heard_out.wait()
        count = len(talk.packets)
        await talk.uplink(count + 6)
        await talk.answer("It is ten.")

    async with serve(script) as hub, device(hub, mode="realtime") as fake:
        assert (await fake.ask(QUESTION)).said == "It is nine."
        heard_out.set()
        assert (await fake.ask(QUESTION)).said == "It is ten."
        assert len(hub.talks[0].packets) > 2 * 8, "the microphone stayed open while the hub spoke"
        assert hub.talks[0].messages.empty()


async def test_a_text_is_a_turn_without_sound() -> None:
    async def script(talk: Talk) -> None:
        message = await talk.listens()
        assert (message["state"], message["text"]) == ("detect", "what time is it")
        await talk.answer()

    async with serve(script) as hub, device(hub) as fake:
        result = await fake.ask_text("what time is it")
    assert result.said == "It is nine."
    assert 0 <= result.stamps["tts_start"] < 10_000
    assert "speech_start" not in result.stamps


async def test_it_is_told_of_a_ringing_timer_that_it_did_not_ask_for() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.answer("Timer set.")
        await talk.listens()
        await talk.answer("Your timer is done.")

    async with serve(script) as hub, device(hub) as fake:
        assert (await fake.ask(QUESTION)).said == "Timer set."
        ringing = await fake.next_answer()
        assert ringing.said == "Your timer is done."
        assert not ringing.asked
        assert ringing.stamps["tts_start"] == 0
        with pytest.raises(NoAnswer, match="nothing by itself"):
            await fake.next_answer(0.05)


async def test_a_person_can_interrupt() -> None:
    aborts: list[dict[str, Any]] = []

    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.tell(type="tts", state="start")
        await talk.tell(type="tts", state="sentence_start", text="Once upon a time")
        await talk.speak(VOICE)
        aborts.append(await talk.messages.get())
        await talk.tell(type="tts", state="stop")

    async with serve(script) as hub, device(hub) as fake:
        await fake.say(QUESTION)
        await fake.hears("Once upon a time")
        await fake.press_button()
        assert await fake.silent_within(0.6, watch=0.1)
        assert (await fake.answer()).said == "Once upon a time"
    assert [message["type"] for message in aborts] == ["abort"]


async def test_the_wake_word_interrupts_and_listens_at_once() -> None:
    async def script(talk: Talk) -> None:
        await talk.uplink(33)
        assert (await talk.listens())["text"] == "你好小智"
        await talk.listens()
        await talk.tell(type="tts", state="start")
        await talk.speak(VOICE[:1] * 20, lead=20)
        await talk.tell(type="tts", state="sentence_start", text="Long ago")
        message = await talk.messages.get()
        assert (message["type"], message["reason"]) == ("abort", "wake_word_detected")
        await talk.listens()

    async with serve(script) as hub, device(hub) as fake:
        await fake.wake()
        await fake.hears("Long ago", 5)
        await fake.wake()
        assert fake.state is DeviceState.LISTENING
        assert (await fake.next_answer(1)).cut_ms > 500


async def test_pressing_the_button_while_it_listens_hangs_up_without_a_close_frame() -> None:
    async with serve(says_nothing) as hub, device(hub) as fake:
        await fake.press_button()
        assert fake.state is DeviceState.LISTENING
        await fake.press_button()
        assert not fake.connected
        async with asyncio.timeout(20):
            await hub.talks[0].gone.wait()
        assert hub.talks[0].ws.close_code == WSCloseCode.ABNORMAL_CLOSURE


async def test_firmware_before_2_2_2_cuts_the_tail() -> None:
    async with serve(answers_each) as hub, device(hub, profile=FirmwareProfile(drains=False)) as fake:
        result = await fake.ask(QUESTION)
    assert result.cut_ms > 200
    assert result.stamps["played"] == pytest.approx(result.stamps["tts_stop"], abs=30)


async def test_a_greeting_that_comes_before_it_listens_is_heard() -> None:
    async def script(talk: Talk) -> None:
        await talk.answer("Hello.")

    async with serve(script) as hub, device(hub) as fake:
        await fake.connect()
        assert (await fake.next_answer(5)).said == "Hello."


async def test_a_device_may_leave_pings_without_an_answer() -> None:
    async def script(talk: Talk) -> None:
        await talk.ws.ping(b"x")
        await talk.tell(type="tts", state="start")
        await talk.tell(type="tts", state="stop")

    async with serve(script) as hub, device(hub, profile=FirmwareProfile(answers_pings=False)) as fake:
        await fake.connect()
        await fake.next_answer(5)


# -- tools, alerts, rules -----------------------------------------------------------------------------------------


async def test_it_offers_tools_as_firmware_does() -> None:
    replies: list[dict[str, Any]] = []
    answered = asyncio.Event()

    async def script(talk: Talk) -> None:
        async def ask(**request: Any) -> None:
            await talk.tell(type="mcp", payload={"jsonrpc": "2.0", **request})

        await ask(method="notifications/keepalive")
        await ask(id="text", method="tools/list")
        await ask(id=1, method="tools/list", params=None)
        await ask(id=2, method="initialize", params={})
        await ask(id=3, method="tools/list", params={"cursor": ""})
        call = {"name": "self.audio_speaker.set_volume", "arguments": {"volume": 40}}
        await ask(id=4, method="tools/call", params=call)
        await ask(id=5, method="tools/call", params={**call, "arguments": {"volume": "40"}})
        for _ in range(4):
            replies.append((await talk.messages.get())["payload"])
        answered.set()

    async with serve(script) as hub, device(hub) as fake:
        await fake.connect()
        async with asyncio.timeout(20):
            await answered.wait()
        assert fake.tools.volume == 40
    assert [reply["id"] for reply in replies] == [2, 3, 4, 5]
    assert {tool["name"] for tool in replies[1]["result"]["tools"]} >= {"self.audio_speaker.set_volume"}
    assert replies[3]["error"] == {"message": "Missing valid argument: volume"}


async def test_alerts_are_shown() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.uplink(5)
        await talk.tell(type="alert", status="Hub", message="No voice", emotion="sad")
        await talk.answer()

    async with serve(script) as hub, device(hub) as fake:
        result = await fake.ask(QUESTION)
    assert [(alert.status, alert.message) for alert in result.alerts] == [("Hub", "No voice")]


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("stt.text is no text", {"type": "stt", "text": None}),
        ("tts.state is no text", {"type": "tts"}),
        ("unknown face", {"type": "llm", "emotion": "ecstatic"}),
        ("face outside of speaking", {"type": "llm", "emotion": "happy"}),
        ("unknown message", {"type": "weather"}),
        ("a second hello", {"type": "hello", "transport": "websocket"}),
        ("not a message", {"no": "type"}),
        ("alert.status is no text", {"type": "alert", "message": "x", "emotion": "sad"}),
    ],
)
async def test_it_complains_when_the_hub_breaks_a_rule(says: str, message: dict[str, Any]) -> None:
    async def script(talk: Talk) -> None:
        await talk.tell(**message)
        await talk.tell(type="tts", state="start")
        await talk.tell(type="tts", state="stop")

    async with serve(script) as hub, device(hub) as fake:
        await fake.connect()
        await fake.next_answer(5)
        assert any(says in complaint for complaint in fake.complaints), fake.transcript()


# -- the parts that decide ----------------------------------------------------------------------------------------


def test_speech_ends_where_the_samples_say_not_the_file() -> None:
    samples = np.concatenate([np.zeros(1600, np.int16), tone(0.5).samples, np.zeros(16000, np.int16)])
    assert speech_end_ms(samples) == 600
    assert Utterance.of(PcmChunk(samples, 16000)).last_packet == 9
    hush = np.zeros(8000, np.int16)
    faint = np.concatenate([tone(0.5).samples, tone(0.5, loudness=0.3 * 10 ** (-39 / 20)).samples, hush])
    assert speech_end_ms(faint) == 1000
    fainter = np.concatenate([tone(0.5).samples, tone(0.5, loudness=0.3 * 10 ** (-42 / 20)).samples, hush])
    assert speech_end_ms(fainter) == 500
    hiss = np.random.default_rng(1).normal(0, 300, 16000).astype(np.int16)
    assert speech_end_ms(np.concatenate([hiss[:8000], tone(0.5).samples, hiss])) == 1000


def test_a_knock_after_the_last_word_is_no_speech() -> None:
    hush = np.zeros(8000, np.int16)
    knock = np.zeros(8000, np.int16)
    knock[3840:4480] = tone(0.04).samples
    assert speech_end_ms(np.concatenate([tone(0.5).samples, knock, knock, hush])) == 500
    plosive = np.concatenate([tone(0.5).samples, np.zeros(640, np.int16), tone(0.02).samples, hush])
    assert speech_end_ms(plosive) == 560, "the t of a last word comes after a stop"
    assert speech_end_ms(np.concatenate([hush, knock])) == 780, "there is nothing else"


@pytest.mark.parametrize("samples", [np.zeros(0, np.int16), np.zeros(16000, np.int16)])
def test_a_recording_of_nothing_is_refused(samples: np.ndarray[tuple[int], np.dtype[np.int16]]) -> None:
    with pytest.raises(HubError, match="no sound"):
        speech_end_ms(samples)


def test_a_question_of_any_rate_becomes_packets_of_60_ms() -> None:
    packets = Utterance.of(tone(0.5, 22050)).packets
    assert [packet_ms(packet) for packet in packets] == [60] * 9


def test_playback_begins_at_once_and_keeps_time() -> None:
    speaker = Playback()
    assert [speaker.add(10.0, 60) for _ in range(3)] == [10.0, 10.06, pytest.approx(10.12)]
    assert speaker.left_ms(10.1) == pytest.approx(80)
    assert speaker.lead_ms == pytest.approx(180)
    assert speaker.add(10.18, 60) == pytest.approx(10.18)
    assert speaker.underruns == 0


@pytest.mark.parametrize(("gap_ms", "underruns"), [(0, 0), (4, 0), (6, 1), (500, 1)])
def test_only_a_gap_that_can_be_heard_is_an_underrun(gap_ms: float, underruns: int) -> None:
    speaker = Playback()
    speaker.add(10.0, 60)
    speaker.add(10.06 + gap_ms / 1000, 60)
    assert speaker.underruns == underruns


def test_the_queue_holds_what_the_firmware_holds() -> None:
    speaker = Playback(queue_packets=40)
    taken = [speaker.add(10.0, 60) is not None for _ in range(60)]
    assert sum(taken) == 43  # 40 in the queue, two decoded, one sounding
    assert speaker.overflows == 17
    assert speaker.add(10.07, 60) is not None, "one has been played, so one has room"


@pytest.mark.parametrize(
    ("sentences", "said"),
    [((), ""), (("One.", "Two."), "One. Two."), (("现在九点。", "今天周一。"), "现在九点。今天周一。")],
)
def test_sentences_are_joined_as_their_language_does(sentences: tuple[str, ...], said: str) -> None:
    assert TurnResult(sentences=sentences).said == said


# -- generations of firmware --------------------------------------------------------------------------------------


async def answers_old(talk: Talk) -> None:
    """As `answers_each`, to a device that also tells of its things."""
    while True:
        while (await talk.messages.get())["type"] != "listen":
            pass
        await talk.uplink(len(talk.packets) + 6)
        await talk.answer()


async def test_old_firmware_describes_its_things_and_tells_only_what_changed() -> None:
    async with serve(answers_old) as hub, device(hub, profile=PROFILES["1.6.2"]) as fake:
        await fake.ask(QUESTION)
        fake.settings.volume = 31
        await fake.ask(QUESTION)
    sent = [line for line in fake.conversation if "→ iot" in line]
    assert ["descriptors" in line for line in sent] == [True, True, True, False, False]
    assert '"name": "Speaker"' in sent[0] and "theme" in sent[3]
    assert '"volume": 31' in sent[4] and "theme" not in sent[4]
    assert all("session_id" not in line for line in sent)


async def test_old_firmware_obeys_commands_and_would_crash_on_wrong_ones() -> None:
    async def script(talk: Talk) -> None:
        await talk.tell(type="iot", commands=[{"name": "Speaker", "method": "SetVolume", "parameters": {"volume": 9}}])
        await talk.tell(type="iot", commands=[{"name": "Speaker", "method": "SetVolume", "parameters": {}}])
        await talk.tell(type="iot", commands=[{"method": "SetVolume"}])
        await answers_old(talk)

    async with serve(script) as hub, device(hub, profile=PROFILES["1.7"]) as fake:
        await fake.ask(QUESTION)
    assert [complaint.partition(":")[0] for complaint in fake.complaints] == [
        "Speaker.SetVolume without a number volume",
        "a command without name and method",
    ]
    assert fake.settings.volume == 9


async def test_before_1_7_2_sound_is_played_while_it_listens() -> None:
    async def script(talk: Talk) -> None:
        await talk.uplink(5)
        await talk.speak(VOICE[:3])
        await talk.answer()

    async with serve(script) as hub, device(hub, profile=PROFILES["1.6.2"]) as fake:
        result = await fake.ask(QUESTION)
    assert result.dropped_early == 0


async def test_the_wake_word_in_an_answer_makes_only_new_firmware_listen_at_once() -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.tell(type="tts", state="start")
        await talk.speak(VOICE)

    for version, state in (("2.0", DeviceState.SPEAKING), ("2.4.2", DeviceState.LISTENING)):
        async with serve(script) as hub, device(hub, profile=PROFILES[version]) as fake:
            await fake.press_button()
            await fake.speaking()
            await fake.wake()
            assert fake.state is state


@pytest.mark.parametrize("version", PROFILES)
async def test_a_check_in_looks_as_the_generation_does(version: str) -> None:
    async with serve(says_nothing) as hub, device(hub, profile=PROFILES[version]):
        headers, body = hub.check_ins[0]
    newest = version == "2.4.2"
    assert headers["Activation-Version"] == ("2" if newest else "1")
    assert len(headers.get("Serial-Number", "")) == (32 if newest else 0)
    assert ("display" in body) == (version not in ("1.6.2", "1.7", "1.8"))
