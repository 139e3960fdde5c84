"""The API for programs on the hub's own machine: through a real hub, real sockets, and scripted engines."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientPayloadError, ClientSession, web
from aiohttp.test_utils import make_mocked_request
from tone_words import spoken as said
from tone_words import tones

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.audio.ogg import read_ogg, write_ogg
from xiaozhi_hub.audio.opus import decode_all, encode_all
from xiaozhi_hub.audio.pcm import read_wav, resample, write_wav
from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.core.flow import Packet, PcmChunk
from xiaozhi_hub.dialog.transcribe import Span, utterances_of, widen
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import running_hub
from xiaozhi_hub.web.programs.local import local_only
from xiaozhi_hub.web.programs.voice_names import VoiceChoice, choose_voice

ECHO = """
voice: {vad: echo, asr: echo, tts: %s, llm: %s}
integrations:
  echo: {%s}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
"""

HubMaker = Callable[..., AbstractAsyncContextManager["Client"]]


class Client:
    """A program on the hub's machine."""

    def __init__(self, hub: Hub, http: ClientSession) -> None:
        self.hub = hub
        self.http = http

    async def get(self, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
        async with self.http.get(self.hub.local_url + path, headers=headers) as response:
            return response.status, await response.json()

    async def post(self, path: str, json: Any = None, **more: Any) -> tuple[int, dict[str, Any]]:
        async with self.http.post(self.hub.local_url + path, json=json, **more) as response:
            return response.status, await response.json()

    async def sound(self, path: str, body: bytes, kind: str = "audio/wav") -> tuple[int, dict[str, Any]]:
        return await self.post(path, data=io.BytesIO(body), headers={"Content-Type": kind})


@pytest.fixture
def client_with(tmp_path: Path) -> HubMaker:
    """A hub with scripted engines and a client; the argument is the configuration of the echo integration."""

    @asynccontextmanager
    async def make(echo: str, tts: str = "echo") -> AsyncIterator[Client]:
        configuration = ECHO % (tts, "echo" if "llm:" in echo else "none", echo)
        async with running_hub(tmp_path / "config", configuration) as hub, ClientSession() as http:
            yield Client(hub, http)

    return make


@pytest.fixture
async def client(client_with: HubMaker) -> AsyncIterator[Client]:
    async with client_with("") as client:
        yield client


def spoken(text: str, before_ms: int = 600, after_ms: int = 900) -> PcmChunk:
    return said(text, before_ms, after_ms)


def joined(*sounds: PcmChunk) -> PcmChunk:
    return PcmChunk(np.concatenate([sound.samples for sound in sounds]), 16000)


def as_wav(sound: PcmChunk) -> bytes:
    return write_wav(sound)


def as_ogg(sound: PcmChunk) -> bytes:
    return write_ogg(encode_all(sound), 16000)


def as_pcm(sound: PcmChunk) -> bytes:
    return sound.samples.astype("<i2").tobytes()


FORMS: list[tuple[Callable[[PcmChunk], bytes], str]] = [
    (as_wav, "audio/wav"),
    (lambda sound: as_wav(resample(sound, 44100)), "audio/x-wav"),
    (as_wav, "application/x-www-form-urlencoded"),  # as curl sends it
    (as_ogg, "audio/ogg"),
    (as_ogg, "application/octet-stream"),
    (as_pcm, "audio/pcm"),
    (as_pcm, "application/octet-stream"),
]

# -- halves of characters -------------------------------------------------------------------------------------------

CUT = b'{"message": "turn on \\ud83d", "text": "\\ud83d"}'
"""What a program writes that cuts texts in the middle of a character."""


async def test_a_question_that_was_cut_in_the_middle_of_a_character_is_answered_and_remembered(
    client_with: HubMaker, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_with("llm: {otherwise: 'You said {text}.'}") as client:
        post = client.http.post(client.hub.local_url + "/api/chat", data=CUT)
        async with post as answer:
            assert (await answer.json())["response"] == "You said turn on?."
        async with asyncio.timeout(20):
            while not (turns := await client.hub.history.turns(10)):
                await asyncio.sleep(0.01)
        assert turns[0].heard == "turn on ?"
    assert "failed" not in caplog.text


# -- hearing ------------------------------------------------------------------------------------------------------


async def test_a_recording_is_recognised_in_every_form(client: Client) -> None:
    for form, kind in FORMS:
        status, answer = await client.sound("/api/asr", form(spoken("turn on the bed light")), kind)
        assert (status, answer["success"], answer["text"]) == (200, True, "turn on the bed light"), kind
        assert (answer["language"], answer["confidence"]) == ("en", 1.0)
        assert {"audio_ms", "vad_ms", "asr_ms", "total_ms"} <= answer["timings"].keys()


async def test_the_language_of_a_recording_can_be_said(client: Client) -> None:
    _, answer = await client.sound("/api/asr?language=zh-CN", as_wav(spoken("打开床头灯")))
    assert (answer["text"], answer["language"]) == ("打开床头灯", "zh-Hans")


async def test_silence_holds_no_words(client_with: HubMaker) -> None:
    silence = as_wav(PcmChunk(np.zeros(32000, np.int16), 16000))
    async with client_with("asr: {say: never asked}") as client:
        asr = await client.sound("/api/asr", silence)
        vad = await client.sound("/api/vad", silence)
    assert (asr[0], asr[1]["text"], asr[1]["confidence"]) == (200, "", None)
    assert (vad[0], vad[1]["has_speech"], vad[1]["segments"]) == (200, False, [])


async def test_several_sentences_are_all_recognised(client: Client) -> None:
    both = joined(spoken("turn on the bed light"), spoken("what time is it"))
    _, answer = await client.sound("/api/asr", as_wav(both))
    assert answer["text"] == "turn on the bed light what time is it"


async def test_voice_activity_says_where_the_speech_is(client: Client) -> None:
    sound = spoken("hi", before_ms=600, after_ms=1200)
    length = round(tones().write_text("hi").ms)
    status, answer = await client.sound("/api/vad", as_wav(sound))
    assert (status, answer["success"], answer["has_speech"]) == (200, True, True)
    [segment] = answer["segments"]
    assert abs(segment["start_ms"] - 600) <= 60
    assert abs(segment["end_ms"] - (600 + length)) <= 120
    assert len(answer["probabilities"]) == -(-len(sound.samples) // 960)
    assert set(answer["probabilities"]) == {0.0, 1.0}


BAD_SOUNDS = [
    (b"", "audio/wav", 400, "AUDIO_MISSING"),
    (b"RIFF\0\0\0\0WAVE", "audio/wav", 400, "AUDIO_UNREADABLE"),
    (b"OggS nothing that follows is right", "audio/ogg", 400, "AUDIO_UNREADABLE"),
    (b"\1\2\3", "audio/pcm", 400, "AUDIO_UNREADABLE"),
    (b"\1\2\3\4", "audio/wav", 415, "AUDIO_TYPE"),
    (b"ID3\4" + bytes(100), "application/octet-stream", 415, "AUDIO_TYPE"),
    (b'{"audio": ""}', "application/json", 415, "AUDIO_TYPE"),
    (bytes(10 * 2**20 + 2), "audio/pcm", 413, "REQUEST_ENTITY_TOO_LARGE"),
    (write_ogg([Packet(b"\x1b\x06", 120)] * 3000, 16000), "audio/ogg", 413, "AUDIO_TOO_LONG"),
]


async def test_what_is_no_sound_is_refused_with_a_reason(client: Client) -> None:
    for body, kind, status, code in BAD_SOUNDS:
        for path in ("/api/vad", "/api/asr"):
            got, answer = await client.sound(path, body, kind)
            assert (got, answer["success"], answer["error_code"]) == (status, False, code)
            assert answer["error"]


async def test_an_endless_body_is_cut_off(client: Client) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield bytes(2**20)

    status, _ = await client.post("/api/vad", data=endless(), headers={"Content-Type": "audio/pcm"})
    assert status == 413


async def test_the_largest_recording_is_taken(client: Client) -> None:
    status, answer = await client.sound("/api/vad", bytes(10 * 2**20), "audio/pcm")
    assert (status, answer["has_speech"]) == (200, False)


async def test_a_recogniser_that_fails_is_told(client_with: HubMaker) -> None:
    async with client_with("asr: {fail: true}") as client:
        status, answer = await client.sound("/api/asr", as_wav(spoken("x")))
    assert (status, answer["success"], answer["error_code"]) == (502, False, "ECHO_FAILED")


def test_a_recording_is_cut_where_a_turn_would_end() -> None:
    quiet, speech = [0.0] * 13, [1.0] * 10
    assert utterances_of([*quiet, *speech, *quiet, *speech], Patience(), 46 * 60.0) == (
        Span(780.0, 1380.0),
        Span(2160.0, 2760.0),
    )
    assert utterances_of([*speech, *[0.0] * 8, *speech], Patience(), 28 * 60.0) == (Span(0.0, 1680.0),)


def test_a_recogniser_hears_the_faint_beginning_and_the_margins() -> None:
    probabilities = [0.0] * 10 + [0.1] * 2 + [1.0] * 10
    assert widen(Span(720.0, 1320.0), probabilities, 0.0) == Span(400.0, 1520.0)
    assert widen(Span(720.0, 1320.0), probabilities, 500.0) == Span(500.0, 1520.0)


# -- answering ----------------------------------------------------------------------------------------------------


async def test_a_text_is_answered_and_told_what_was_done(client: Client) -> None:
    status, answer = await client.post("/api/chat", {"message": "turn on the bed light"})
    assert (status, answer["success"], answer["response"]) == (200, True, "Turned on the Bed Light.")
    [call] = answer["tool_calls"]
    assert (call["name"], call["arguments"], call["error"]) == ("home.turn_on", {"name": "Bed Light"}, "")
    assert answer["turn_id"]
    assert client.hub.entities.get("light.bed_light").state.value == "on"  # type: ignore[union-attr]


async def test_a_text_is_answered_in_the_language_that_is_asked_for(client: Client) -> None:
    _, english = await client.post("/api/chat", {"message": "recite a poem about frogs", "language": "en-GB"})
    _, chinese = await client.post("/api/chat", {"message": "recite a poem about frogs", "language": "zh-CN"})
    assert (english["language"], chinese["language"]) == ("en", "zh-Hans")
    assert english["response"] != chinese["response"]


async def events(client: Client, message: str) -> list[dict[str, Any]]:
    url = f"{client.hub.local_url}/api/chat"
    async with client.http.post(url, json={"message": message, "stream": True}) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        told = (await response.text()).split("\n\n")
    assert told.pop() == ""
    return [json.loads(event.removeprefix("data: ")) for event in told]


async def test_an_answer_can_be_streamed_sentence_by_sentence(client_with: HubMaker) -> None:
    async with client_with('llm: {otherwise: "Once there was a hub. It was happy."}') as client:
        *sentences, last = await events(client, "tell me a story")
    assert sentences == [
        {"response": "Once there was a hub.", "done": False},
        {"response": "It was happy.", "done": False},
    ]
    assert (last["done"], last["success"], last["response"]) == (True, True, "Once there was a hub. It was happy.")
    assert last["turn_id"] and last["tool_calls"] == []


async def test_a_streamed_answer_begins_before_it_is_known_to_its_end(client_with: HubMaker) -> None:
    slow = 'llm: {word_delay: 0.05, otherwise: "One. Two three four five six seven eight nine ten."}'
    async with client_with(slow) as client:
        url = f"{client.hub.local_url}/api/chat"
        async with client.http.post(url, json={"message": "count", "stream": True}) as response:
            first = await response.content.readuntil(b"\n\n")
            assert b"One." in first
            assert await client.hub.history.turns(1) == []


async def test_a_failing_model_is_told_in_the_envelope(client_with: HubMaker) -> None:
    async with client_with("llm: {fail: true}") as client:
        status, answer = await client.post("/api/chat", {"message": "tell me a story"})
        *_, last = await events(client, "tell me a story")
    assert (status, answer["success"], answer["error_code"]) == (502, False, "LLM_FAILED")
    assert answer["error"] == answer["response"]
    assert (last["success"], last["done"]) == (False, True)


BAD_QUESTIONS = [
    (b"", "JSON_INVALID"),
    (b"hello", "JSON_INVALID"),
    (b"[1]", "JSON_INVALID"),
    (b"[" * 60000, "JSON_INVALID"),
    (b"{}", "FIELD_MISSING"),
    (b'{"message": "  "}', "FIELD_MISSING"),
    (b'{"message": 5}', "FIELD_INVALID"),
    (b'{"message": "x", "stream": "yes"}', "FIELD_INVALID"),
    (json.dumps({"message": "x" * 4001}).encode(), "FIELD_INVALID"),
]


async def test_a_question_that_is_none_is_refused(client: Client) -> None:
    for body, code in BAD_QUESTIONS:
        status, answer = await client.sound("/api/chat", body, "application/json")
        assert (status, answer["success"], answer["error_code"]) == (400, False, code), body[:40]


# -- speaking -----------------------------------------------------------------------------------------------------


async def say(client: Client, **values: Any) -> tuple[str, bytes]:
    async with client.http.post(f"{client.hub.local_url}/api/tts", json=values) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Transfer-Encoding"] == "chunked"
        return response.content_type, await response.read()


async def test_a_text_is_read_aloud_as_a_wav_file(client: Client) -> None:
    kind, sound = await say(client, text="Hello there. How are you?", voice="en-US-JennyNeural")
    assert kind == "audio/wav"
    assert tones().read_texts(read_wav(sound)) == ["Hello there.", "How are you?"]


async def test_a_text_is_read_aloud_as_an_ogg_file(client: Client) -> None:
    for form in ("ogg", "opus"):
        kind, sound = await say(client, text="Hello there. How are you?", format=form)
        assert kind == "audio/ogg"
        assert tones().read_texts(decode_all(read_ogg(sound))) == ["Hello there.", "How are you?"]


UNSPEAKABLE: list[tuple[dict[str, str], int, str]] = [
    ({"text": ""}, 400, "FIELD_MISSING"),
    ({"text": "x", "format": "mp3"}, 400, "FIELD_INVALID"),
    ({"text": "x", "voice": "-rm /"}, 400, "VOICE_INVALID"),
    ({"text": "\N{GRINNING FACE}"}, 422, "NOTHING_TO_SAY"),
]


async def test_what_cannot_be_said_is_refused(client: Client) -> None:
    for asked, status, code in UNSPEAKABLE:
        got, answer = await client.post("/api/tts", asked)
        assert (got, answer["success"], answer["error_code"]) == (status, False, code)


async def test_a_hub_without_a_voice_says_so(client_with: HubMaker) -> None:
    async with client_with("", tts="none") as client:
        for form in ("wav", "ogg"):
            status, answer = await client.post("/api/tts", {"text": "x", "format": form})
            assert (status, answer["error_code"]) == (502, "NO_TTS")


async def test_a_voice_that_fails_in_the_middle_breaks_off(client_with: HubMaker) -> None:
    async with client_with("tts: {fail_after: 3, ms: 2000}") as client:
        with pytest.raises(ClientPayloadError):
            await say(client, text="half of this")
        status, _ = await client.get("/health")
    assert status == 200


@pytest.mark.parametrize(
    ("voice", "language", "text", "choice"),
    [
        ("zh-CN-XiaoxiaoNeural", "", "你好", VoiceChoice("zh-Hans")),
        ("zh-CN-liaoning-XiaobeiNeural", "", "hello", VoiceChoice("zh-Hans")),
        ("en-US-AvaMultilingualNeural", "", "hello", VoiceChoice("en")),
        ("fr-FR-DeniseNeural", "", "bonjour", VoiceChoice("fr")),
        ("alloy", "", "你好", VoiceChoice("zh-Hans")),
        ("", "", "hello", VoiceChoice("en")),
        ("", "zh-TW", "OK", VoiceChoice("zh-Hans")),
        ("zh-CN-XiaoxiaoNeural", "en-US", "hello", VoiceChoice("en")),
        ("en-us+f3", "", "hello", VoiceChoice("en", "en-us+f3")),
    ],
)
def test_cloud_voices_have_local_ones_in_their_place(voice: str, language: str, text: str, choice: VoiceChoice) -> None:
    assert choose_voice(voice, language, text) == choice


# -- what was said ------------------------------------------------------------------------------------------------


async def test_what_was_said_can_be_looked_up(client: Client) -> None:
    device = "02:00:00:00:00:01"
    _, said = await client.post("/api/chat", {"message": "turn on the bed light", "device_id": device})
    async with asyncio.timeout(20):
        while not await client.hub.history.turns(1):
            await asyncio.sleep(0.01)
    status, told = await client.get(f"/api/v2/chat-history/{device}")
    assert (status, told["success"], told["device_id"]) == (200, True, device)
    [turn] = told["turns"]
    assert (turn["turn_id"], turn["message"], turn["response"]) == (
        said["turn_id"],
        "turn on the bed light",
        "Turned on the Bed Light.",
    )
    assert [(call["name"], call["arguments"]) for call in turn["tool_calls"]] == [
        ("home.turn_on", {"name": "Bed Light"})
    ]
    [session] = told["real_time_sessions"]
    assert [message["role"] for message in session["messages"]][0] == "user"
    assert (told["statistics"]["turns"], told["statistics"]["tool_calls"]) == (1, 1)
    assert told["last_updated"].endswith("+00:00")


async def test_a_device_that_nobody_knows_has_said_nothing(client: Client) -> None:
    status, told = await client.get("/api/v2/chat-history/nobody")
    assert status == 200
    assert (told["real_time_sessions"], told["turns"], told["last_updated"]) == ([], [], None)


# -- health -------------------------------------------------------------------------------------------------------


async def test_a_whole_hub_is_healthy(client: Client) -> None:
    status, brief = await client.get("/health")
    assert (status, brief["status"]) == (200, "healthy")
    assert brief["version"]
    _, detailed = await client.get("/health/detailed")
    assert detailed["status"] == "healthy"
    assert detailed["timestamp"]
    services = {"database", "voice_loop", "models", "plugins", "disk", "clock", "discovery"}
    assert services <= detailed["services"].keys()
    assert {service["status"] for service in detailed["services"].values()} == {"healthy"}


async def test_a_hub_without_a_recogniser_is_degraded(tmp_path: Path) -> None:
    configuration = "integrations: {echo: false, silero_vad: false, phrases: false, espeak: false}\n"
    async with running_hub(tmp_path / "config", configuration) as hub, ClientSession() as http:
        client = Client(hub, http)
        assert (await client.get("/health"))[1]["status"] == "degraded"
        _, detailed = await client.get("/health/detailed")
        status, failure = await client.sound("/api/vad", as_pcm(PcmChunk(np.zeros(1600, np.int16), 16000)), "audio/pcm")
    assert detailed["status"] == "degraded"
    assert detailed["services"]["voice_loop"] == {"status": "unhealthy", "detail": "missing: vad, asr, tts"}
    assert (status, failure["error_code"]) == (502, "NO_VAD")
    assert failure["hint"]


async def test_a_hub_that_starts_says_so(tmp_path: Path) -> None:
    own = tmp_path / "config" / "integrations" / "slow"
    own.mkdir(parents=True)
    manifest = {"domain": "slow", "name": "S", "version": "1", "kinds": ["engines"], "online": False}
    (own / "manifest.json").write_text(json.dumps(manifest))
    (own / "__init__.py").write_text(
        "import asyncio, contextlib\n"
        "from xiaozhi_hub.plugins.api import hookimpl\n"
        "@hookimpl\n"
        "@contextlib.asynccontextmanager\n"
        "async def entry_context(entry):\n"
        "    while not (entry.data_dir / 'go').exists():\n"
        "        await asyncio.sleep(0.01)\n"
        "    yield\n"
    )
    (tmp_path / "config" / "configuration.yaml").write_text((ECHO % ("echo", "none", "")) + "  slow:\n")
    config = load_config(tmp_path / "config")
    config = replace(
        config,
        server=replace(config.server, ip="127.0.0.1", port=0, http_port=0),
        discovery=replace(config.discovery, enabled=False),
    )
    async with Hub(config) as hub, ClientSession() as http:
        client = Client(hub, http)
        assert (await client.get("/health"))[1]["status"] == "starting"
        _, detailed = await client.get("/health/detailed")
        assert (detailed["status"], detailed["services"]) == ("starting", {})


# -- who may ask --------------------------------------------------------------------------------------------------

CLOSED = [
    ("POST", "/api/vad"),
    ("POST", "/api/asr"),
    ("POST", "/api/chat"),
    ("POST", "/api/tts"),
    ("GET", "/api/v2/chat-history/x"),
    ("GET", "/health/detailed"),
]
FOREIGN = [
    {"Origin": "https://evil.example.com"},
    {"Origin": "http://evil.local"},
    {"Origin": "http://127.0.0.1.evil.example.com"},
    {"Origin": "http://localhost@evil.example.com"},
    {"Origin": "http://[bad"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Host": "evil.local"},
    {"X-Forwarded-For": "127.0.0.1"},
    {"x-forwarded-for": "127.0.0.1"},
    {"FORWARDED": "for=127.0.0.1"},
]


async def test_pages_from_elsewhere_and_proxies_are_refused(client: Client) -> None:
    for method, path in CLOSED:
        for headers in FOREIGN:
            url = client.hub.local_url + path
            async with client.http.request(method, url, data=b"{}", headers=headers) as response:
                answer = await response.json()
                assert (response.status, answer["success"]) == (403, False), (path, headers)
                assert answer["hint"]
                assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize("remote", ["192.168.1.7", "2001:db8::1", "::ffff:192.168.1.7", ""])
async def test_other_machines_are_refused(remote: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        raise AssertionError("it was let through")

    request = make_mocked_request("GET", "/health/detailed", headers={"Host": "127.0.0.1:8003"}).clone(remote=remote)
    response = await local_only(handler)(request)
    assert isinstance(response, web.Response) and isinstance(response.body, bytes)
    assert (response.status, json.loads(response.body)["error_code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.0.1.1", "::1", "::ffff:127.0.0.1"])
async def test_this_machine_is_served(remote: str) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    request = make_mocked_request("GET", "/health/detailed", headers={"Host": "127.0.0.1:8003"}).clone(remote=remote)
    assert (await local_only(handler)(request)).status == 200


async def test_pages_of_this_machine_are_served(client: Client) -> None:
    for origin in ("http://127.0.0.1:3000", "http://localhost:8003", "http://[::1]:8003"):
        status, answer = await client.post(
            "/api/chat", {"message": "turn on the bed light"}, headers={"Origin": origin}
        )
        assert (status, answer["success"]) == (200, True), origin


async def test_everybody_may_ask_whether_the_hub_lives(client: Client) -> None:
    status, answer = await client.get("/health", **{"X-Forwarded-For": "192.0.2.1", "Host": "192.168.1.20:8003"})
    assert (status, answer["status"]) == (200, "healthy")
