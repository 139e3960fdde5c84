"""Engines of other machines over Wyoming: the hub's client against servers made with the protocol's own library."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import voluptuous as vol
from house import integration
from hypothesis import given
from hypothesis import strategies as st
from tone_words import read_back, spoken, tones
from wyoming.event import Event
from wyoming.info import Info
from wyoming_remote import Remote, everything, serving, understanding

from xiaozhi_hub.core.flow import PcmChunk, TextDelta
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.engines.asr import Asr, AsrRequest
from xiaozhi_hub.engines.base import Engine, Role
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.manager import Patience
from xiaozhi_hub.testing import FakeDevice, running_hub

CONFIG = """
voice: {vad: echo, asr: [%(asr)s], tts: [%(tts)s], llm: [%(llm)s], lead_ms: 1000}
integrations:
  echo:
  demo: %(demo)s
  clock: false
  silero_vad: false
  phrases: false
  espeak: false
  wyoming: %(wyoming)s
"""
PATIENCE = Patience(retry=(0.1,))
HubMaker = Callable[..., AbstractAsyncContextManager[Hub]]


@pytest.fixture
def hub_with(tmp_path: Path) -> HubMaker:
    """A hub that uses the services named; ears and voice of its own are the scripted ones."""

    def make(
        *services: Any,
        asr: str = "wyoming/far",
        tts: str = "wyoming/far",
        llm: str = "none",
        demo: str = "false",
        **options: Any,
    ) -> AbstractAsyncContextManager[Hub]:
        wyoming = json.dumps({"services": list(services), "timeout_s": 3, **options})
        parts = {"asr": asr, "tts": tts, "llm": llm, "demo": demo, "wyoming": wyoming}
        return running_hub(tmp_path / "config", CONFIG % parts, PATIENCE)

    return make


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    async with serving(Remote()) as remote:
        yield remote


@dataclass
class Engines:
    """What one service brings, without a hub around it."""

    all: list[Engine]

    def of(self, role: str, number: int = 0) -> Any:
        return [engine for engine in self.all if engine.info.role.value == role][number]


@asynccontextmanager
async def engines_of(
    uri: str, voices: dict[str, str] | None = None, patience_s: float = 1.0, guesses: bool = True
) -> AsyncIterator[Engines]:
    """The engines of a service as the integration makes them."""
    service = integration("wyoming", "service").Service("far", uri, patience_s)
    offers = integration("wyoming", "offers")
    async with TaskScope("engines") as scope:
        how = offers.Offering(voices or {}, 0, scope, guesses)
        yield Engines(offers.engines_of(service, await service.describe(), how))


def far(remote: Remote, **more: Any) -> dict[str, Any]:
    return {"uri": remote.uri, "name": "far", **more}


def entry_of(hub: Hub) -> Entry:
    return next(entry for entry in hub.plugins.entries if entry.domain == "wyoming")


def device(hub: Hub) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01")


def asr(hub: Hub, name: str = "wyoming/far") -> Asr:
    return hub.engines.asrs([name])[0]


async def hear(engine: Asr, sound: PcmChunk, language: str = "en") -> Any:
    stream = engine.open(AsrRequest((language,)))
    try:
        for at in range(0, len(sound.samples), 960):
            await stream.feed(PcmChunk(sound.samples[at : at + 960], 16000))
        return await stream.finish()
    finally:
        await stream.aclose()


async def say(engine: Tts, request: SpeechRequest) -> str:
    async with aclosing(engine.speak(request)) as chunks:
        pieces = [chunk async for chunk in chunks]
    return tones().read_text(PcmChunk(np.concatenate([p.samples for p in pieces]), pieces[0].rate)) or ""


async def reply(engine: Llm, text: str) -> list[str]:
    request = ChatRequest([Message("system", "Be brief."), Message("user", text)])
    async with aclosing(engine.chat(request)) as pieces:
        return [piece.text async for piece in pieces if isinstance(piece, TextDelta)]


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.01)


# -- using services -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("speech_is_ready")
async def test_a_device_is_heard_and_answered_by_a_service(hub_with: HubMaker, remote: Remote) -> None:
    async with hub_with(far(remote), demo="{}") as hub, device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
        assert result.heard == "turn on the bed light"
        assert read_back(result) == result.said == "Turned on the Bed Light."
        assert result.underruns == 0
        assert hub.entities.get("light.bed_light").state.value == "on"  # type: ignore[union-attr]
    assert "Bed Light" in remote.of("transcribe")[0]["transcript_names"]


async def test_the_service_hears_while_the_person_still_speaks(remote: Remote) -> None:
    async with engines_of(remote.uri) as found:
        stream = found.of("asr").open(AsrRequest(("en",)))
        await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
        await remote.until("audio-chunk")
        assert not remote.of("audio-stop")
        await stream.aclose()
        await eventually(lambda: remote.open == 0)


async def test_engines_are_what_the_service_says_is_installed(remote: Remote) -> None:
    async with engines_of(remote.uri) as found:
        there = {(engine.info.role, engine.info.id): engine.info for engine in found.all}
    assert {(role.value, name): e.languages for (role, name), e in there.items()} == {
        ("asr", "wyoming/far"): ("en", "zh-Hans"),
        ("asr", "wyoming/far/tones-small"): ("en",),
        ("tts", "wyoming/far"): ("en", "zh-Hans"),
        ("wake", "wyoming/far"): (),
        ("llm", "wyoming/far"): ("en",),
    }
    assert there[Role.ASR, "wyoming/far"].streams_input
    assert there[Role.TTS, "wyoming/far"].detail == "alan, amy, huayan"


async def test_a_service_may_be_a_socket_of_this_machine_and_needs_no_name(hub_with: HubMaker, tmp_path: Path) -> None:
    async with serving(Remote(), tmp_path / "far.sock") as remote, hub_with(remote.uri) as hub:
        assert (await hear(asr(hub, "wyoming/far.sock"), spoken("good morning"))).text == "good morning"


@pytest.mark.parametrize("word_by_word", [False, True])
async def test_transcripts_come_whole_or_word_by_word(remote: Remote, word_by_word: bool) -> None:
    remote.word_by_word = word_by_word
    async with engines_of(remote.uri) as found:
        heard = await hear(found.of("asr"), spoken("what time is it"))
    assert (heard.text, heard.language) == ("what time is it", "en")


async def test_the_service_is_told_language_and_model(remote: Remote) -> None:
    async with engines_of(remote.uri) as found:
        await hear(found.of("asr"), spoken("yes"), "zh-Hans")
        await hear(found.of("asr", 1), spoken("yes"))
    usual, small = remote.of("transcribe")
    assert (usual.get("name"), usual["language"]) == (None, "zh")
    assert (small["name"], small["language"]) == ("tones-small", "en_US")


async def test_a_guess_can_be_taken_back(remote: Remote) -> None:
    """The person pauses, is guessed at, and goes on: the service hears the whole once more."""
    sound = spoken("turn on the light and the lamp")
    half = len(sound.samples) // 2
    async with engines_of(remote.uri) as found:
        stream = found.of("asr").open(AsrRequest(("en",)))
        await stream.feed(PcmChunk(sound.samples[:half], 16000))
        assert (await stream.guess()).text == ""
        await stream.feed(PcmChunk(sound.samples[half:], 16000))
        assert (await stream.guess()).text == "turn on the light and the lamp"
        assert (await stream.finish()).text == "turn on the light and the lamp"
        await stream.aclose()
    assert remote.heard == pytest.approx([half / 16, len(sound.samples) / 16], abs=1)


async def test_an_interrupted_guess_ends_the_connection(remote: Remote) -> None:
    async with engines_of(remote.uri) as found:
        await eventually(lambda: remote.open == 0)
        remote.hangs = True
        stream = found.of("asr").open(AsrRequest(("en",)))
        await stream.feed(spoken("yes"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await stream.guess()
        await eventually(lambda: remote.open == 0)
        remote.hangs = False
        assert (await stream.finish()).text == "yes"
        await stream.aclose()


async def test_words_are_known_while_the_person_still_speaks_where_the_service_tells_them(remote: Remote) -> None:
    remote.tells_words = True
    async with engines_of(remote.uri) as found:
        stream = found.of("asr").open(AsrRequest(("en",)))
        await stream.feed(spoken("good morning"))
        await eventually(lambda: stream.partial is not None and stream.partial.text == "good morning")
        assert not remote.of("audio-stop")
        assert (await stream.finish()).text == "good morning"
        await stream.aclose()


async def test_a_service_that_dies_while_it_hears_is_missed_before_the_person_has_finished(remote: Remote) -> None:
    async with engines_of(remote.uri) as found:
        stream = found.of("asr").open(AsrRequest(("en",)))
        await stream.feed(spoken("good"))
        await remote.until("audio-chunk")
        await remote.stop()
        with pytest.raises(StageError):
            async with asyncio.timeout(20):
                while True:
                    await stream.feed(PcmChunk(np.zeros(10, np.int16), 16000))
                    await asyncio.sleep(0.01)
        await stream.aclose()


async def test_a_slow_service_is_spared_guesses(remote: Remote) -> None:
    async with engines_of(remote.uri, guesses=False) as found:
        stream = found.of("asr").open(AsrRequest(("en",)))
        await stream.feed(spoken("good morning"))
        assert (await stream.guess()).text == ""
        assert (await stream.finish()).text == "good morning"
        await stream.aclose()
    assert len(remote.of("transcribe")) == 1


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_service_speaks(remote: Remote, streaming: bool) -> None:
    remote.info.tts[0].supports_synthesize_streaming = streaming
    async with engines_of(remote.uri) as found:
        assert await say(found.of("tts"), SpeechRequest("Good night.", "en")) == "Good night."
    assert len(remote.of("synthesize-start")) == streaming
    assert remote.of("synthesize")[0]["text"] == "Good night."


async def test_the_voice_is_the_one_asked_for_or_chosen_or_the_first_of_the_language(remote: Remote) -> None:
    async with engines_of(remote.uri, {"en": "amy#3"}) as found:
        voice = found.of("tts")
        for request in (
            SpeechRequest("a", "en", voice="alan"),
            SpeechRequest("a", "en"),
            SpeechRequest("a", "zh-Hans"),
        ):
            await say(voice, request)
        with pytest.raises(StageError) as caught:
            await say(voice, SpeechRequest("a", "en", voice="unheard-of"))
        assert caught.value.code == "voice-unknown"
        assert voice.speaks(SpeechRequest("a", "zh-Hans")) == ("zh-Hans",)
        keys = {voice.voice_key(SpeechRequest("a", "en", voice=name)) for name in ("alan", "amy", "")}
    assert [asked["voice"] for asked in remote.of("synthesize")] == [
        {"name": "alan"},
        {"name": "amy", "speaker": "3"},
        {"name": "huayan"},
    ]
    assert len(keys) == 3


@pytest.mark.parametrize("word_by_word", [False, True])
async def test_answers_come_whole_or_in_pieces(remote: Remote, word_by_word: bool) -> None:
    remote.word_by_word = word_by_word
    async with engines_of(remote.uri) as found:
        assert "".join(await reply(found.of("llm"), "how high is the moon")) == "You said how high is the moon."
        assert await reply(found.of("llm"), "nonsense") == ["I do not know that."]


async def test_a_service_answers_what_the_hub_does_not_know(hub_with: HubMaker, remote: Remote) -> None:
    async with hub_with(far(remote), llm="wyoming/far") as hub:
        record = await hub.ask("how high is the moon", "en", "")
        assert record.said == "You said how high is the moon."


async def test_a_wake_word_is_detected_by_a_service(remote: Remote) -> None:
    quiet, loud = np.zeros(960, np.int16), np.full(960, 20000, np.int16)
    async with engines_of(remote.uri) as found:
        stream = found.of("wake").open()
        assert await stream.feed(PcmChunk(quiet, 16000)) is None
        await stream.feed(PcmChunk(loud, 16000))
        async with asyncio.timeout(20):
            while (word := await stream.feed(PcmChunk(quiet, 16000))) is None:
                await asyncio.sleep(0.01)
        assert word == "bang"
        await remote.stop()
        with pytest.raises(StageError):
            async with asyncio.timeout(20):
                while True:
                    await stream.feed(PcmChunk(quiet, 16000))
                    await asyncio.sleep(0.01)
        await stream.aclose()


# -- services that fail -------------------------------------------------------------------------------------------


async def test_a_service_that_dies_in_mid_sentence_costs_no_turn(hub_with: HubMaker, remote: Remote) -> None:
    remote.dies_after = 3
    async with hub_with(far(remote), asr="wyoming/far, echo", tts="echo", demo="{}") as hub:
        async with device(hub) as speaker:
            result = await speaker.ask(spoken("turn on the bed light"))
    assert (result.heard, result.said) == ("turn on the bed light", "Turned on the Bed Light.")


async def test_a_voice_that_dies_before_its_first_sound_is_replaced(hub_with: HubMaker, remote: Remote) -> None:
    remote.dies_after = 0
    async with hub_with(far(remote), asr="echo", tts="wyoming/far, echo", demo="{}") as hub, device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
    assert read_back(result) == "Turned on the Bed Light."


async def use(engine: Engine) -> object:
    if isinstance(engine, Asr):
        return await hear(engine, spoken("yes"))
    if isinstance(engine, Tts):
        return await say(engine, SpeechRequest("yes", "en"))
    assert isinstance(engine, Llm)
    return await reply(engine, "yes")


ROLES = ("asr", "tts", "llm")


@pytest.mark.parametrize("role", ROLES)
async def test_what_goes_wrong_is_a_failure_of_the_stage(remote: Remote, role: str) -> None:
    async with engines_of(remote.uri, patience_s=0.3) as found:
        remote.refuses = "out of memory " * 500
        with pytest.raises(StageError, match="out of memory") as caught:
            await use(found.of(role))
        assert len(caught.value.message) < 300
        assert (caught.value.stage, caught.value.code) == (role, f"{role}-refused")
        remote.refuses, remote.hangs = "", True
        with pytest.raises(StageError) as caught:
            await use(found.of(role))
        assert caught.value.code == f"{role}-slow"
        await eventually(lambda: remote.open == 0)


@pytest.mark.parametrize("role", ROLES)
async def test_a_service_that_is_gone_fails_at_once(remote: Remote, role: str) -> None:
    async with engines_of(remote.uri, patience_s=60) as found:
        await remote.stop()
        async with asyncio.timeout(20):
            with pytest.raises(StageError) as caught:
                await use(found.of(role))
        assert caught.value.code == f"{role}-unreachable"


@pytest.mark.parametrize("role", ["asr", "tts"])
async def test_a_service_that_hangs_up_in_the_middle_fails_at_once(remote: Remote, role: str) -> None:
    remote.dies_after = 2
    async with engines_of(remote.uri, patience_s=60) as found:
        async with asyncio.timeout(20):
            with pytest.raises(StageError):
                await use(found.of(role))


NONSENSE = {
    "noise": b"\x00\xff\x13\n" * 100,
    "a header without end": b"x" * 100_000,
    "a list": b"[1, 2]\n",
    "a type that is none": b'{"type": 5}\n',
    "data that is none": b'{"type": "transcript", "data": [1]}\n',
    "a length below zero": b'{"type": "transcript", "data_length": "many"}\n',
    "more data than anybody needs": b'{"type": "transcript", "data_length": 999999999999}\n',
    "more sound than anybody needs": b'{"type": "audio-chunk", "payload_length": 99999999999}\n',
    "data that is no JSON": b'{"type": "transcript", "data_length": 4}\nnope',
    "JSON too deep": b"[" * 50_000 + b"\n",
    "an event cut off": b'{"type": "transcript", "data_length": 100}\n{"te',
    "a text that is none": b'{"type": "transcript", "data": {"text": 7}}\n',
    "sound in no format": b'{"type": "audio-chunk", "data": {"rate": 0, "width": 9, "channels": 1}, "payload_length": 1}\nx',
    "half a sample": b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}, "payload_length": 1}\nx',
}


@asynccontextmanager
async def talking_nonsense(nonsense: bytes) -> AsyncIterator[str]:
    """A service that says what it can do, and to everything else the same."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if json.loads(await reader.readline())["type"] == "describe":
            event = everything().event()
            writer.write(json.dumps({"type": event.type, "data": event.data}).encode() + b"\n")
        else:
            writer.write(nonsense)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize("nonsense", NONSENSE)
@pytest.mark.parametrize("role", ROLES)
async def test_a_service_that_talks_nonsense_fails_its_stage(role: str, nonsense: str) -> None:
    async with talking_nonsense(NONSENSE[nonsense]) as uri, engines_of(uri) as found:
        with pytest.raises(StageError) as caught:
            await use(found.of(role))
    assert caught.value.stage == role


async def test_a_service_that_answers_without_end_is_stopped() -> None:
    endless = b'{"type": "handled-chunk", "data": {"text": "%s"}}\n' % (b"la " * 1000) * 100
    async with talking_nonsense(endless) as uri, engines_of(uri) as found:
        assert len("".join(await reply(found.of("llm"), "sing"))) < 70_000


async def test_one_event_cannot_say_more_than_a_whole_answer_may() -> None:
    at_once = b'{"type": "handled-chunk", "data_length": 1000012}\n{"text": "%s"}' % (b"la " * 333_333 + b"l")
    async with talking_nonsense(at_once) as uri, engines_of(uri) as found:
        assert len("".join(await reply(found.of("llm"), "sing"))) == 64 * 1024


async def test_what_cannot_be_read_is_quoted_in_short() -> None:
    sound = b'{"type": "audio-chunk", "data": {"rate": "%s", "width": 2, "channels": 1}, "payload_length": 2}\nxx' % (
        b"9" * 50_000
    )
    async with talking_nonsense(sound) as uri, engines_of(uri) as found:
        with pytest.raises(StageError) as caught:
            await use(found.of("tts"))
    assert "sound of 999" in caught.value.message and len(caught.value.message) < 300


CHATTER = {
    "of something else": b'{"type": "pong"}\n',
    "of no words": b'{"type": "handled-chunk", "data": {"text": ""}}\n',
    "of no sound": b'{"type": "audio-chunk", "data": {"rate": 16000, "width": 2, "channels": 1}}\n',
    "of beginnings": b'{"type": "audio-start", "data": {"rate": 16000, "width": 2, "channels": 1}}\n{"type": "intents-start"}\n',
}


@pytest.mark.parametrize("chatter", CHATTER)
@pytest.mark.parametrize("role", ("asr", "tts", "llm", "intent"))
async def test_a_service_that_chatters_and_never_answers_is_too_slow(role: str, chatter: str) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if json.loads(await reader.readline())["type"] == "describe":
                event = (understanding() if role == "intent" else everything()).event()
                writer.write(json.dumps({"type": event.type, "data": event.data}).encode() + b"\n")
                await writer.drain()
            else:
                while not writer.is_closing():
                    writer.write(CHATTER[chatter])
                    await writer.drain()
                    await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        uri = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with engines_of(uri, patience_s=0.3) as found, asyncio.timeout(20):
            with pytest.raises(StageError) as caught:
                await use(found.of("llm" if role == "intent" else role))
    assert caught.value.code == f"{caught.value.stage}-slow"


@asynccontextmanager
async def saying(words: bytes) -> AsyncIterator[str]:
    """A service that says this to everybody who says anything, and stays."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            writer.write(words)
            await reader.read()
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("part", ["data_length", "payload_length"])
async def test_more_than_anybody_needs_is_not_waited_for(part: str) -> None:
    async with saying(b'{"type": "info", "%s": 4194305}\n' % part.encode()) as uri, asyncio.timeout(20):
        with pytest.raises(StageError, match="an event may have 4194304 bytes"):
            await integration("wyoming", "service").Service("far", uri, 60.0).describe()


async def test_who_does_not_say_what_it_can_do_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integration("wyoming", "service"), "DESCRIBE_S", 0.1)
    async with saying(b"") as uri, asyncio.timeout(20):
        with pytest.raises(StageError) as caught:
            await integration("wyoming", "service").Service("far", uri, 60.0).describe()
    assert caught.value.code == "wyoming-slow"


async def test_one_service_is_asked_so_much_at_once_and_no_more(remote: Remote) -> None:
    module = integration("wyoming", "service")
    service = module.Service("far", remote.uri, 1.0)
    async with AsyncExitStack() as talks:
        for _ in range(module.MOST_CONVERSATIONS):
            await talks.enter_async_context(service.talk("llm"))
        with pytest.raises(StageError) as caught:
            async with service.talk("llm"):
                pass
        assert caught.value.code == "llm-busy"
        assert await service.describe()


JUNK: list[Any] = [None, 0, True, "x", [], {}, [1], [None], [[1]], {"name": 3}, "\ud800"]


@given(st.data())
def test_whatever_a_service_says_of_itself_makes_engines_or_is_refused(data: st.DataObject) -> None:
    """Somewhere in what it says stands something else."""
    offers, wire = integration("wyoming", "offers"), integration("wyoming", "wire")
    told = json.loads(json.dumps(everything().event().data | {"intent": understanding().event().data["intent"]}))
    node: Any = told
    while True:
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        if not isinstance(node[key], dict | list) or not node[key] or data.draw(st.booleans()):
            node[key] = data.draw(st.sampled_from(JUNK))
            break
        node = node[key]
    try:
        info = Info.from_event(Event("info", told))
    except wire.NOT_AN_EVENT:
        return
    service = integration("wyoming", "service").Service("far", "tcp://127.0.0.1:1", 1.0)
    for engine in offers.engines_of(service, info, offers.Offering({}, 0, TaskScope("engines"))):
        assert engine.info.id.startswith("wyoming/far")


async def test_who_stops_in_the_middle_of_a_goodbye_keeps_nothing_for_a_service_that_takes_nothing() -> None:
    wire, size = integration("wyoming", "wire"), 32 * 2**20
    may_read, taken = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        count = 0
        try:
            while data := await reader.read(2**20):
                count += len(data)
        except ConnectionError:
            pass
        writer.close()
        taken.set_result(count)

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server, asyncio.timeout(20):
        connection = await wire.Connection.to(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", 100)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await connection.write(Event("x", {}, bytes(size)))
        closing = asyncio.ensure_future(connection.close())
        await asyncio.sleep(0)  # it has begun
        closing.cancel()
        await asyncio.wait([closing])
        may_read.set()
        assert await taken < size


# -- services that come and go ------------------------------------------------------------------------------------


async def test_the_entry_waits_until_a_service_is_there(hub_with: HubMaker) -> None:
    async with serving(Remote()) as remote:
        port = int(remote.uri.rsplit(":", 1)[1])
    async with hub_with(far(remote)) as hub:
        entry = entry_of(hub)
        await eventually(lambda: entry.state is EntryState.RETRYING and remote.uri in entry.reason)
        async with serving(Remote(), port=port):
            await eventually(lambda: entry.state is EntryState.READY)
            assert hub.engines.asrs(["wyoming/far"])


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["nothing", "another protocol"])
async def test_the_entry_says_what_is_wrong_with_what_is_no_service(
    hub_with: HubMaker, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    monkeypatch.setattr(integration("wyoming", "service"), "DESCRIBE_S", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        uri = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with hub_with(uri) as hub:
            entry = entry_of(hub)
            await eventually(lambda: entry.state is EntryState.RETRYING)
            assert uri in entry.reason


async def test_who_goes_on_speaking_while_the_integration_is_reloaded_is_heard_by_the_next(
    hub_with: HubMaker, remote: Remote
) -> None:
    async with hub_with(far(remote)) as hub:
        stream = asr(hub).open(AsrRequest(("en",)))
        await stream.feed(spoken("yes"))
        await stream.guess()
        await hub.plugins.reload("wyoming")
        with pytest.raises(StageError, match="is not used any more"):
            await stream.feed(spoken("yes"))
        await stream.aclose()


async def test_one_service_that_answers_is_enough_and_the_other_is_followed(hub_with: HubMaker, remote: Remote) -> None:
    async with serving(Remote()) as second:
        port = int(second.uri.rsplit(":", 1)[1])
    async with hub_with(far(remote), {"uri": second.uri, "name": "other"}, look_s=1) as hub:
        entry = entry_of(hub)
        assert entry.state is EntryState.READY
        assert second.uri in entry.reason
        assert not hub.engines.asrs(["wyoming/other"])
        async with serving(Remote(), port=port) as second:
            await eventually(lambda: bool(hub.engines.asrs(["wyoming/other"])))
            assert entry.reason == ""
            await hear(asr(hub, "wyoming/other"), spoken("yes"))
            await eventually(lambda: bool(second.of("transcribe")))
        await eventually(lambda: not hub.engines.asrs(["wyoming/other"]))
        assert second.uri in entry.reason
        assert entry.state is EntryState.READY


async def test_a_service_that_lets_somebody_down_is_looked_at_soon(hub_with: HubMaker, remote: Remote) -> None:
    async with hub_with(far(remote), asr="", tts="", look_s=3600) as hub:
        voice = hub.engines.ttss(["wyoming/far"])[0]
        await remote.stop()
        with pytest.raises(StageError):
            await say(voice, SpeechRequest("Hello.", "en"))
        await eventually(lambda: voice not in hub.engines.ttss(["wyoming/far"]))


async def test_a_recogniser_that_comes_later_learns_the_names(hub_with: HubMaker, remote: Remote) -> None:
    info, remote.info = remote.info, Info()
    async with hub_with(far(remote), demo="{}", server={"port": 0, "announce": False}, look_s=1) as hub:
        assert not hub.engines.asrs(["wyoming/far"])
        remote.info = info
        await eventually(lambda: bool(hub.engines.asrs(["wyoming/far"])))
        async with asyncio.timeout(20):
            while "transcript_names" not in (remote.of("transcribe") or [{}])[-1]:
                await hear(asr(hub), spoken("yes"))


async def test_services_leave_with_the_integration(hub_with: HubMaker, remote: Remote) -> None:
    async with hub_with(far(remote)) as hub:
        await hub.plugins.reload("wyoming")
        assert len(hub.engines.asrs(["wyoming/far"])) == 1
    assert not [engine for engine in hub.engines.all() if engine.id.startswith("wyoming/")]


@pytest.mark.parametrize(
    "service",
    [
        *(
            "192.168.1.30:10300",
            "http://far:1",
            "tcp://far",
            "tcp://:10300",
            "tcp://192.168.1..30:10300",
            "unix://",
            "tcp://me:secret@far:1",
            5,
            None,
        ),
        {"uri": "far"},
    ],
)
def test_addresses_that_are_none_are_refused(service: Any) -> None:
    with pytest.raises(vol.Invalid, match=r"tcp://192\.168\.1\.30:10300"):
        integration("wyoming", "config").SCHEMA({"services": [service]})


def test_two_services_of_one_name_are_refused() -> None:
    with pytest.raises(vol.Invalid, match="a name of its own"):
        integration("wyoming", "config").SCHEMA({"services": ["tcp://a:1", {"uri": "tcp://b:1", "name": "a:1"}]})
