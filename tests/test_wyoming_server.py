"""The hub's own engines for others over Wyoming, asked with the protocol's own library, and by another hub."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import voluptuous as vol
from house import integration
from tone_words import spoken as said
from tone_words import tones
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.handle import Handled, HandledChunk, HandledStop, NotHandled
from wyoming.info import Describe, Info
from wyoming.intent import Recognize
from wyoming.ping import Ping, Pong
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)
from wyoming.wake import Detect, Detection, NotDetected
from wyoming_remote import Remote, serving

from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.core.flow import Transcript as HubTranscript
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.wake import Wake, WakeStream
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.entries import EntryState
from xiaozhi_hub.testing import FakeDevice, running_hub

CONFIG = """
voice: {vad: echo}
integrations:
  echo: %(echo)s
  demo: %(demo)s
  clock: false
  silero_vad: false
  phrases: false
  espeak: false
  wyoming: %(wyoming)s
"""
HubMaker = Callable[..., AbstractAsyncContextManager[Hub]]


@pytest.fixture
def hub_with(tmp_path: Path) -> HubMaker:
    """A hub that offers its scripted engines; the arguments are options of the server."""

    def make(
        *, echo: dict[str, Any] | None = None, demo: bool = False, services: list[Any] | None = None, **server: Any
    ) -> AbstractAsyncContextManager[Hub]:
        parts = {
            "echo": json.dumps(echo or {}),
            "demo": "{}" if demo else "false",
            "wyoming": json.dumps({"services": services or [], "server": {"port": 0, "announce": False, **server}}),
        }
        return running_hub(tmp_path / "near", CONFIG % parts)

    return make


@pytest.fixture
async def hub(hub_with: HubMaker) -> AsyncIterator[Hub]:
    async with hub_with() as hub:
        yield hub


def server_of(hub: Hub) -> Any:
    return next(entry for entry in hub.plugins.entries if entry.domain == "wyoming").runtime


class Client(AsyncTcpClient):
    """The library's client, which says things one after the other and waits for one kind of answer."""

    async def ask(self, *questions: Eventable) -> None:
        for question in questions:
            await self.write_event(question.event())

    async def hear(self) -> Event:
        async with asyncio.timeout(30):
            event = await self.read_event()
        assert event is not None, "the hub has hung up"
        return event

    async def until(self, *kinds: type[Eventable]) -> list[Event]:
        """What comes, up to and with an event of one of *kinds*."""
        events = [await self.hear()]
        while not any(kind.is_type(events[-1].type) for kind in kinds):
            events.append(await self.hear())
        return events

    async def is_hung_up_on(self) -> bool:
        async with asyncio.timeout(30):
            try:
                while await self.read_event() is not None:
                    pass
            except (OSError, asyncio.IncompleteReadError):
                pass
        return True


@asynccontextmanager
async def client_of(hub: Hub) -> AsyncIterator[Client]:
    client = Client("127.0.0.1", server_of(hub).port)
    await client.connect()
    try:
        yield client
    finally:
        client._writer.transport.abort()  # type: ignore[union-attr]


def pieces(sound: PcmChunk, *, channels: int = 1) -> list[Eventable]:
    """*sound* as one says it over Wyoming."""
    samples = np.repeat(sound.samples, channels)
    events: list[Eventable] = [AudioStart(sound.rate, 2, channels)]
    for at in range(0, len(samples), 1024):
        events.append(AudioChunk(sound.rate, 2, channels, samples[at : at + 1024].astype("<i2").tobytes()))
    return [*events, AudioStop()]


def spoken(text: str, quiet_ms: int = 1000) -> PcmChunk:
    """*text* with silence around it."""
    return said(text, quiet_ms, quiet_ms)


def sound_of(events: list[Event]) -> str:
    chunks = [AudioChunk.from_event(event) for event in events if AudioChunk.is_type(event.type)]
    samples = np.frombuffer(b"".join(chunk.audio for chunk in chunks), "<i2").astype(np.int16)
    return tones().read_text(PcmChunk(samples, chunks[0].rate)) or ""


async def test_the_hub_says_what_it_offers(hub_with: HubMaker) -> None:
    async with hub_with(offer=["asr", "tts", "wake", "handle"]) as hub, client_of(hub) as client:
        await client.ask(Describe(), Ping("are you there"))
        info = Info.from_event(await client.hear())
        assert Pong.from_event(await client.hear()).text == "are you there"
    ((recogniser,), (voice,), (handler,)) = (info.asr, info.tts, info.handle)
    assert [(model.name, model.languages, model.installed) for model in recogniser.models] == [
        ("echo", ["en", "en-US", "en-GB", "zh", "zh-CN"], True)
    ]
    assert [each.name for each in voice.voices] == ["echo"]
    assert (voice.supports_synthesize_streaming, handler.supports_home_control) == (True, True)
    assert (info.wake, info.intent, info.satellite) == ([], [], None)


async def test_nobody_commands_the_house_unless_the_owner_allows_it(hub_with: HubMaker) -> None:
    async with hub_with(demo=True) as hub, client_of(hub) as client:
        await client.ask(Describe(), Transcript("turn on the bed light", language="en"))
        assert Info.from_event(await client.hear()).handle == []
        assert Error.from_event(await client.hear()).code == "no-handle"
        assert hub.entities.get("light.bed_light").state.value == "off"  # type: ignore[union-attr]


async def test_speech_of_any_usual_format_is_recognised(hub: Hub) -> None:
    async with client_of(hub) as client:
        for rate, channels in ((16000, 1), (48000, 1), (22050, 2)):
            sound = resample(spoken("what time is it"), rate)
            await client.ask(Transcribe(language="en-GB"), *pieces(sound, channels=channels))
            heard = Transcript.from_event((await client.until(Transcript, Error))[-1])
            assert (heard.text, heard.language) == ("what time is it", "en")


class Closed(Asr):
    """Knows a few sentences, and not what is said here; it is preferred by its rank."""

    def __init__(self) -> None:
        self.info = EngineInfo("few", Role.ASR, "A few sentences", ("en",), rank=50, closed=True)
        self.asked = 0

    def open(self, request: AsrRequest) -> AsrStream:
        self.asked += 1
        return _Deaf()


class _Deaf(AsrStream):
    async def feed(self, chunk: PcmChunk) -> None: ...

    async def guess(self) -> HubTranscript:
        return HubTranscript("", "en")

    async def finish(self) -> HubTranscript:
        return HubTranscript("", "en")


async def test_what_a_recogniser_of_few_sentences_does_not_know_the_next_one_hears(hub: Hub) -> None:
    hub.engines.add(few := Closed(), "test")
    async with client_of(hub) as client:
        await client.ask(Transcribe(language="en"), *pieces(spoken("tell me a story")))
        heard = Transcript.from_event((await client.until(Transcript, Error))[-1])
    assert (heard.text, few.asked) == ("tell me a story", 1)


async def test_the_owner_s_choice_of_engines_goes_before_their_rank(tmp_path: Path) -> None:
    parts = {"echo": "", "demo": "false", "wyoming": json.dumps({"server": {"port": 0, "announce": False}})}
    config = CONFIG.replace("voice: {vad: echo}", "voice: {vad: echo, asr: [echo]}") % parts
    async with running_hub(tmp_path / "near", config) as hub, client_of(hub) as client:
        hub.engines.add(few := Closed(), "test")
        await client.ask(Describe(), Transcribe(language="en"), *pieces(spoken("tell me a story")))
        info = Info.from_event(await client.hear())
        assert [model.name for model in info.asr[0].models] == ["echo", "few"]
        await client.until(Transcript, Error)
        assert few.asked == 0
        await client.ask(Transcribe(name="few", language="en"), *pieces(spoken("tell me a story")))
        await client.until(Transcript, Error)
        assert few.asked == 1


async def test_silence_is_no_speech_and_never_reaches_a_recogniser(hub: Hub) -> None:
    async with client_of(hub) as client:
        await client.ask(Transcribe(), *pieces(PcmChunk(np.zeros(32000, np.int16), 16000)))
        assert Transcript.from_event(await client.hear()).text == ""
        (echo,) = hub.engines.asrs(["echo"])
        assert echo.behaviour.calls == 0  # type: ignore[attr-defined]


async def test_text_is_spoken_whole_or_as_it_is_written(hub: Hub) -> None:
    voice = SynthesizeVoice(name="echo")
    async with client_of(hub) as client:
        await client.ask(Synthesize("Good night. Sleep well", voice))
        whole = await client.until(AudioStop, Error)
        await client.ask(SynthesizeStart(voice), SynthesizeChunk("Good ni"), SynthesizeChunk("ght. Sleep"))
        first = await client.until(AudioChunk)  # the first sentence is spoken before the second is known
        await client.ask(SynthesizeChunk(" well"), Synthesize("Good night. Sleep well", voice), SynthesizeStop())
        streamed = first + await client.until(SynthesizeStopped, Error)
    assert sound_of(whole) == sound_of(streamed)
    assert "Good night." in sound_of(whole) and "Sleep well" in sound_of(whole)
    frames = [[event.type for event in events if "chunk" not in event.type] for events in (whole, streamed)]
    assert frames == [["audio-start", "audio-stop"], ["audio-start", "audio-stop", "synthesize-stopped"]]


async def test_a_question_gets_the_hub_s_own_answer(hub_with: HubMaker) -> None:
    async with hub_with(offer=["handle"], demo=True) as hub, client_of(hub) as client:
        await client.ask(Transcript("turn on the bed light", language="en"))
        events = await client.until(Handled, NotHandled, Error)
        assert Handled.from_event(events[-1]).text == "Turned on the Bed Light."
        assert "".join(e.data["text"] for e in events if HandledChunk.is_type(e.type)) == "Turned on the Bed Light. "
        assert hub.entities.get("light.bed_light").state.value == "on"  # type: ignore[union-attr]
        await client.until(HandledStop)
        await client.ask(Transcript("把床头灯关掉", language="zh-CN"))
        answered = (await client.until(Handled, NotHandled, Error))[-1]
        assert NotHandled.is_type(answered.type) or "灯" in answered.data["text"]


async def test_who_asks_for_an_intent_is_told_how_to_ask(hub_with: HubMaker) -> None:
    async with hub_with(offer=["handle"], demo=True) as hub, client_of(hub) as client:
        await client.ask(Recognize("turn on the bed light"))
        assert Error.from_event(await client.hear()).code == "no-intents"
        assert hub.entities.get("light.bed_light").state.value == "off"  # type: ignore[union-attr]


async def test_without_a_wake_engine_nothing_is_detected(hub: Hub) -> None:
    async with client_of(hub) as client:
        await client.ask(Detect(), AudioStart(16000, 2, 1))
        assert Error.from_event(await client.hear()).code == "no-wake"


class Bang(Wake):
    """Wakes up at a loud sound."""

    info = EngineInfo("bang", Role.WAKE, "Bang")
    words = ("bang",)

    def open(self) -> WakeStream:
        return BangStream()


class BangStream(WakeStream):
    async def feed(self, chunk: PcmChunk) -> str | None:
        return "bang" if np.abs(chunk.samples).max() > 10_000 else None


async def test_a_wake_word_is_detected_by_the_hub_s_engine(hub: Hub) -> None:
    hub.engines.add(Bang(), "test")
    quiet, loud = PcmChunk(np.zeros(1024, np.int16), 16000), PcmChunk(np.full(1024, 20_000, np.int16), 16000)
    async with client_of(hub) as client:
        await client.ask(Describe())
        assert [model.name for model in Info.from_event(await client.hear()).wake[0].models] == ["bang"]
        await client.ask(Detect(["bang"]), *pieces(quiet)[:-1], *pieces(loud)[1:])
        assert Detection.from_event(await client.hear()).name == "bang"
        assert NotDetected.is_type((await client.hear()).type)  # at the end of the sound
        await client.ask(Detect(["another"]), *pieces(loud))
        assert NotDetected.is_type((await client.hear()).type)


async def test_words_that_are_none_are_passed_over(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    hub.engines.add(Bang(), "test")
    loud = PcmChunk(np.full(1024, 20_000, np.int16), 16000)
    for names in (5, [[1], {}], {"bang": 1}):
        async with client_of(hub) as client:
            await client.write_event(Event("detect", {"names": names}))
            await client.ask(*pieces(loud))
            assert Detection.from_event(await client.hear()).name == "bang"
    assert "failed" not in caplog.text


async def test_engines_of_other_services_are_not_passed_on(hub_with: HubMaker) -> None:
    async with serving(Remote()) as remote:
        async with hub_with(services=[{"uri": remote.uri, "name": "far"}]) as hub, client_of(hub) as client:
            assert hub.engines.asrs()[0].info.id == "wyoming/far"
            await client.ask(Describe(), Transcribe(name="wyoming/far"), *pieces(spoken("yes")))
            info = Info.from_event(await client.hear())
            assert [model.name for model in info.asr[0].models] == ["echo"]
            assert Transcript.from_event(await client.hear()).text == "yes"
            await client.ask(Detect(), AudioStart(16000, 2, 1))
            assert Error.from_event(await client.hear()).code == "no-wake"
        assert not remote.of("transcribe")


async def test_a_failing_engine_is_replaced_by_the_next_or_told(hub_with: HubMaker) -> None:
    async with hub_with(echo={"asr": {"fail": True}, "tts": {"fail": True}}) as hub, client_of(hub) as client:
        await client.ask(Transcribe(), *pieces(spoken("yes")))
        assert Error.from_event((await client.until(Transcript, Error))[-1]).code == "echo-failed"
        await client.ask(Synthesize("yes"))
        assert Error.from_event((await client.until(AudioStop, Error))[-1]).code == "echo-failed"
        await client.ask(Ping())
        assert Pong.is_type((await client.hear()).type)


async def test_who_hangs_up_is_not_worked_for_any_more(hub_with: HubMaker) -> None:
    async with hub_with(echo={"tts": {"hang": True}, "asr": {"hang": True}}) as hub:
        behaviours = [engine.behaviour for engine in (*hub.engines.asrs(), *hub.engines.ttss())]  # type: ignore[attr-defined]
        async with client_of(hub) as first, client_of(hub) as second:
            await first.ask(Transcribe(), *pieces(spoken("yes")))
            await second.ask(Synthesize("yes"))
            async with asyncio.timeout(20):
                while not all(behaviour.calls for behaviour in behaviours):
                    await asyncio.sleep(0.01)
        async with asyncio.timeout(20):
            while server_of(hub).guests or not all(behaviour.cancelled for behaviour in behaviours):
                await asyncio.sleep(0.01)


# -- who is not trusted -------------------------------------------------------------------------------------------

RUDE = {
    "noise": b"\x00\xff\x13\n",
    "a web browser": b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n",
    "a header without end": b"x" * 200_000,
    "no event": b'{"no": "type"}\n',
    "no object": b"[]\n",
    "a huge part": b'{"type": "audio-chunk", "payload_length": 4000000}\n',
    "lengths that are none": b'{"type": "describe", "data_length": 1.5}\n',
    "JSON too deep": b'{"a":' * 10_000 + b"\n",
    "sound in no format": b'{"type": "audio-start", "data": {"rate": 1, "width": 2, "channels": 1}}\n',
    "sound without beginning": b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}}\n',
    "a text that is none": b'{"type": "synthesize", "data": {"text": {}}}\n',
    "an endless text": b'{"type": "synthesize", "data_length": 30013}\n{"text": "%s"}' % (b"a" * 30_000) + b"\n\n",
}


async def test_rudeness_ends_only_its_own_connection(hub: Hub) -> None:
    async with client_of(hub) as witness:
        for name, rude in RUDE.items():
            async with client_of(hub) as client:
                assert client._writer is not None
                client._writer.write(rude)
                try:
                    await client._writer.drain()
                    assert await client.is_hung_up_on(), name
                except ConnectionError:
                    pass
            await witness.ask(Ping())
            assert Pong.is_type((await witness.hear()).type), name


async def test_odd_but_harmless_things_are_passed_over(hub: Hub) -> None:
    async with client_of(hub) as client:
        assert client._writer is not None
        for odd in (
            b'{"type": "no-such-thing", "data": {"a": 1}, "data_length": 2}\n{}',
            b'{"type": "audio-stop", "data": null}\n',
            b'{"type": "synthesize-chunk", "data": {"text": "nobody began"}}\n',
            b'{"type": "transcribe", "data": {"name": 5, "language": []}}\n',
            b'{"type": "detect", "data": {"names": null}}\n',
        ):
            client._writer.write(odd)
        await client.ask(Ping("still there"))
        assert Pong.from_event((await client.until(Pong))[-1]).text == "still there"


async def test_text_with_half_a_character_is_spoken(hub: Hub) -> None:
    async with client_of(hub) as client:
        assert client._writer is not None
        client._writer.write(b'{"type": "synthesize", "data": {"text": "a\\ud800b"}}\n')
        assert sound_of(await client.until(AudioStop, Error)) == "a?b"


async def test_an_utterance_without_end_is_hung_up_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration("wyoming", "ear"), "MOST_SECONDS", 1)
    async with client_of(hub) as client:
        await client.ask(Transcribe(), *pieces(PcmChunk(np.zeros(16000, np.int16), 16000))[:-1])
        await client.ask(Ping())
        await client.until(Pong)  # so much may come
        await client.ask(*pieces(PcmChunk(np.zeros(1024, np.int16), 16000))[1:-1])
        assert await client.is_hung_up_on()


async def test_who_says_nothing_is_hung_up_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration("wyoming", "guest"), "IDLE_S", 0.1)
    async with client_of(hub) as client:
        assert await client.is_hung_up_on()


async def test_who_does_not_take_what_was_asked_for_is_hung_up_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration("wyoming", "wire"), "WRITE_S", 0.1)
    async with client_of(hub) as client:
        await client.ask(*(Synthesize("a long story. " * 1000) for _ in range(8)))
        async with asyncio.timeout(60):
            while server_of(hub).guests:
                await asyncio.sleep(0.01)


async def test_one_address_can_hold_so_many_connections_and_no_more(hub: Hub) -> None:
    most = integration("wyoming", "server").MOST_OF_ONE
    clients = [Client("127.0.0.1", server_of(hub).port) for _ in range(most + 1)]
    try:
        for client in clients:
            await client.connect()
        assert await clients[-1].is_hung_up_on()
        await clients[0].ask(Ping())
        assert Pong.is_type((await clients[0].hear()).type)
    finally:
        for client in clients:
            client._writer.transport.abort()  # type: ignore[union-attr]


async def test_one_address_can_ask_so_much_and_no_more(hub: Hub) -> None:
    async with client_of(hub) as client:
        for _ in range(100):
            await client.ask(Synthesize("a"))
        events: list[Event] = []
        while not any(Error.is_type(event.type) for event in events):
            events.append(await client.hear())
        assert Error.from_event(events[-1]).code == "too-many"


async def test_only_known_networks_are_let_in(hub_with: HubMaker) -> None:
    async with hub_with(allow=["192.168.7.0/24"]) as hub, client_of(hub) as client:
        assert await client.is_hung_up_on()
        server = server_of(hub)
        assert server._is_allowed("192.168.7.9") and server._is_allowed("::ffff:192.168.7.9")
        assert not server._is_allowed("192.168.8.9") and not server._is_allowed("nonsense")


def test_by_default_these_are_the_private_ones() -> None:
    schema = integration("wyoming", "config").SCHEMA
    allowed = schema({"server": {}})["server"]["allow"]
    assert "192.168.0.0/16" in allowed and "0.0.0.0/0" not in allowed
    assert "server" not in schema({})
    assert schema({"server": None})["server"]["port"] == 10300
    with pytest.raises(vol.Invalid, match="a network"):
        schema({"server": {"allow": ["everybody"]}})


async def test_a_port_that_is_taken_is_told(hub_with: HubMaker) -> None:
    taken = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    try:
        async with hub_with(port=port) as hub:
            (entry,) = (entry for entry in hub.plugins.entries if entry.domain == "wyoming")
            assert entry.state is EntryState.FAILED
            assert str(port) in entry.reason
    finally:
        taken.close()


# -- two hubs -----------------------------------------------------------------------------------------------------


async def test_a_device_of_one_hub_is_heard_answered_and_spoken_to_by_another(
    hub_with: HubMaker, tmp_path: Path
) -> None:
    """The stronger machine has the engines and knows the house; the other has the device."""
    async with hub_with(offer=["asr", "tts", "handle"], demo=True) as strong:
        uri = f"tcp://127.0.0.1:{server_of(strong).port}"
        parts = {
            "echo": "{asr: {fail: true}, tts: {fail: true}}",
            "demo": "false",
            "wyoming": json.dumps({"services": [{"uri": uri, "name": "strong"}]}),
        }
        async with running_hub(tmp_path / "weak", CONFIG % parts) as weak:
            ota = f"{weak.local_url}/xiaozhi/ota/"
            async with FakeDevice(ota_url=ota, device_id="02:00:00:00:00:01") as speaker:
                result = await speaker.ask(spoken("turn on the bed light", 300))
        assert (result.heard, result.said) == ("turn on the bed light", "Turned on the Bed Light.")
        sound = decode_all([packet.data for packet in result.packets], result.rate)
        assert tones().read_text(sound) == "Turned on the Bed Light."
        assert strong.entities.get("light.bed_light").state.value == "on"  # type: ignore[union-attr]
