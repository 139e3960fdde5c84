"""The hub's own /v1: the real OpenAI client talks to it, and what it must not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from aiohttp import ClientError, ClientSession, FormData
from openai import AsyncOpenAI
from talking_model import ScriptedModel, call
from tone_words import tones

from xiaozhi_hub.audio.ogg import read_ogg, write_ogg
from xiaozhi_hub.audio.opus import decode_all, encode_all
from xiaozhi_hub.audio.pcm import read_wav, write_wav
from xiaozhi_hub.core.flow import PcmChunk, TextDelta, Transcript
from xiaozhi_hub.dialog.agent.tokens import cost, cost_of_tools, estimate
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.llm import ChatRequest, Llm, ToolRequest
from xiaozhi_hub.errors import StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import running_hub
from xiaozhi_hub.web.openai import api as openai_api
from xiaozhi_hub.web.openai.talks import Talk, Talks
from xiaozhi_hub.web.requests import streaming

CONFIGURATION = """
devices: {pairing: open}
assistants: {teller: {persona: You tell stories., llm: [second]}, quiet: {tools: []}}
voice: {vad: echo, asr: echo, tts: echo, llm: echo}
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  demo:
  echo:
    llm:
      otherwise: "You said {text}. That is all."
      rules:
        - {heard: break, say: "One sentence. Half a", fail: true}
"""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, CONFIGURATION) as running:
        yield running


@asynccontextmanager
async def client(hub: Hub, token: str = "", name: str = "A program") -> AsyncIterator[AsyncOpenAI]:
    token = token or (await hub.device_management.invite(name, "Kitchen")).token
    async with AsyncOpenAI(base_url=f"{hub.local_url}/v1", api_key=token, max_retries=0) as program:
        yield program


def user(*texts: str) -> Any:
    """A conversation in which the user begins."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


async def test_the_hub_answers_a_question(hub: Hub) -> None:
    async with client(hub) as program:
        answer = await program.chat.completions.create(model="default", messages=user("good morning"))
        assert answer.choices[0].message.content == "You said good morning. That is all."
        assert (answer.choices[0].finish_reason, answer.model) == ("stop", "default")


async def test_the_hub_does_what_it_is_told_in_the_room_of_the_client(hub: Hub) -> None:
    async with client(hub) as program:
        answer = await program.chat.completions.create(model="default", messages=user("turn on the light"))
        assert "kitchen" in (answer.choices[0].message.content or "").lower()
        assert answer.choices[0].message.tool_calls is None
    lights = [e for e in hub.entities.all() if e.area == "Kitchen" and e.domain.value == "light"]
    assert lights and all(light.state.value == "on" for light in lights)


async def test_an_answer_comes_sentence_by_sentence_and_is_remembered(hub: Hub) -> None:
    async with client(hub) as program:
        stream = await program.chat.completions.create(model="default", messages=user("good morning"), stream=True)
        chunks = [chunk async for chunk in stream]
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert said == ["You said good morning.", " That is all."]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert len({chunk.id for chunk in chunks}) == 1
    async with asyncio.timeout(20):
        while not (turns := await hub.history.turns(5)):
            await asyncio.sleep(0.01)
    assert (turns[0].heard, turns[0].channel.value) == ("good morning", "text")


async def test_a_question_that_is_asked_back_can_be_answered(hub: Hub) -> None:
    async with client(hub) as program:
        first = await program.chat.completions.create(model="default", messages=user("set a timer"))
        asked_back = first.choices[0].message.content or ""
        assert asked_back.endswith("?")
        second = await program.chat.completions.create(
            model="default", messages=user("set a timer", asked_back, "five minutes")
        )
        assert "5 minute" in (second.choices[0].message.content or "")


async def test_two_clients_do_not_share_a_conversation(hub: Hub) -> None:
    async with client(hub, name="One") as one, client(hub, name="Other") as other:
        first = await one.chat.completions.create(model="default", messages=user("set a timer"))
        asked_back = first.choices[0].message.content or ""
        second = await other.chat.completions.create(
            model="default", messages=user("set a timer", asked_back, "five minutes")
        )
        assert "You said five minutes" in (second.choices[0].message.content or "")


async def test_a_failed_answer_is_an_error_and_not_half_an_answer(hub: Hub) -> None:
    async with client(hub) as program:
        with pytest.raises(openai.APIStatusError) as failed:
            await program.chat.completions.create(model="default", messages=user("break"))
        assert failed.value.status_code == 502
        stream = await program.chat.completions.create(model="default", messages=user("break"), stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass


async def test_an_answer_tells_what_it_has_cost_where_the_model_counts(hub: Hub) -> None:
    async with client(hub) as program:
        answer = await program.chat.completions.create(model="default", messages=user("good morning"))
        assert answer.usage is None, "the scripted engine does not count"
        counting = ScriptedModel(
            [[call("home.get_state", name="Bed Light")], ["It is off. ", "Good night."], ["Once more, with feeling."]],
            "second",
            room=4000,
        )
        hub.engines.add(counting, "test")
        answer = await program.chat.completions.create(model="teller", messages=user("tell me about the night"))
        used = answer.usage
        assert used is not None and len(counting.requests) == 2
        first, second = (
            cost(request.messages, estimate) + cost_of_tools(request.tools, estimate) for request in counting.requests
        )
        assert used.prompt_tokens == first + second > 1000
        assert 5 < used.completion_tokens < 60
        assert used.total_tokens == used.prompt_tokens + used.completion_tokens
        told = user("tell me about the night", answer.choices[0].message.content or "", "go on about that")
        stream = await program.chat.completions.create(
            model="teller", messages=told, stream=True, stream_options={"include_usage": True}
        )
        *others, last = [chunk async for chunk in stream]
        assert last.choices == [] and last.usage is not None and last.usage.completion_tokens > 0
        assert all(chunk.usage is None and chunk.choices for chunk in others)


async def test_a_command_that_no_model_was_asked_for_costs_nothing(hub: Hub) -> None:
    async with client(hub) as program:
        answer = await program.chat.completions.create(model="default", messages=user("turn on the light"))
        assert answer.usage is not None and answer.usage.total_tokens == 0


@pytest.mark.parametrize("options", ["yes", {"include_usage": "yes"}])
async def test_what_a_stream_shall_tell_is_checked(hub: Hub, options: Any) -> None:
    async with client(hub) as program:
        with pytest.raises(openai.BadRequestError):
            await program.chat.completions.create(
                model="default", messages=user("good morning"), stream=True, stream_options=options
            )


async def test_the_assistants_are_the_models(hub: Hub) -> None:
    async with client(hub) as program:
        assert {model.id async for model in program.models.list()} == {"default", "teller", "quiet"}
        assert (await program.models.retrieve("teller")).owned_by == "xiaozhi-hub"
        with pytest.raises(openai.NotFoundError) as unknown:
            await program.chat.completions.create(model="gpt-4o", messages=user("hello"))
        assert "default" in unknown.value.message


async def test_the_model_is_the_assistant_that_answers(hub: Hub) -> None:
    async with client(hub) as program:  # the teller's language model is not there
        answer = await program.chat.completions.create(model="teller", messages=user("good morning"))
        assert "You said" not in (answer.choices[0].message.content or "")
    await hub.archive.written(20)
    (turn,) = await hub.history.turns()
    assert turn.assistant == "teller"


async def test_without_a_token_of_the_owner_nothing_is_told(hub: Hub) -> None:
    async with ClientSession() as http, http.get(f"{hub.local_url}/v1/models") as answer:
        assert answer.status == 401  # although it comes from the hub's own machine
        assert (await answer.json())["error"]["type"] == "authentication_error"
    for token in ("sesame", "client-000000000000.wrong"):
        await refused(hub, token)


async def refused(hub: Hub, token: str) -> None:
    async with client(hub, token) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.models.list()
        assert "devices invite" in refused.value.message and token not in refused.value.message
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="default", messages=user("turn on the light"))
        with pytest.raises(openai.AuthenticationError):
            await stranger.audio.speech.create(model="tts-1", voice="alloy", input="hello")


async def test_a_token_that_was_taken_back_opens_nothing(hub: Hub) -> None:
    invited = await hub.device_management.invite("Old phone")
    async with client(hub, invited.token) as program:
        await program.models.list()
        await hub.device_management.revoke(invited.device.id)
        with pytest.raises(openai.AuthenticationError):
            await program.models.list()


async def test_no_page_from_elsewhere_is_allowed_to_read(hub: Hub) -> None:
    token = (await hub.device_management.invite("Page")).token
    headers = {"Origin": "https://evil.example", "Authorization": f"Bearer {token}"}
    async with ClientSession(headers=headers) as http:
        async with http.options(f"{hub.local_url}/v1/models") as preflight:
            assert preflight.status == 404
            assert not [name for name in preflight.headers if name.lower().startswith("access-control")]
        async with http.get(f"{hub.local_url}/v1/models") as answer:
            assert not [name for name in answer.headers if name.lower().startswith("access-control")]


# -- sound --------------------------------------------------------------------------------------------------------


def spoken(text: str) -> PcmChunk:
    sound: PcmChunk = tones().write_text(text)
    return sound


async def test_a_recording_is_transcribed(hub: Hub) -> None:
    sound = spoken("open the window")
    wav = write_wav(sound)
    files = {
        "a.wav": wav,
        "a.ogg": write_ogg(encode_all(sound), 16000),
        "a.pcm": sound.samples.astype("<i2").tobytes(),
    }
    async with client(hub) as program:
        for file in files.items():
            heard = await program.audio.transcriptions.create(model="whisper-1", file=file)
            assert heard.text == "open the window", file[0]
        text = await program.audio.transcriptions.create(model="any", file=("a.wav", wav), response_format="text")
        assert str(text).strip() == "open the window"
        told = await program.audio.transcriptions.create(
            model="any", file=("a.wav", wav), response_format="verbose_json", language="en"
        )
        assert told.duration and float(told.duration) > 0.5 and told.language == "en"


def two_sentences() -> PcmChunk:
    """A recording with a pause that ends an utterance."""
    pause = np.zeros(2 * 16000, np.int16)
    return PcmChunk(np.concatenate([spoken("open the window").samples, pause, spoken("it is warm").samples]), 16000)


async def test_the_times_of_what_was_said_are_told(hub: Hub) -> None:
    async with client(hub) as program:
        heard = await program.audio.transcriptions.create(
            model="any", file=("a.wav", write_wav(two_sentences())), response_format="verbose_json"
        )
    first, second = heard.segments or ()
    assert (first.text, second.text, heard.text) == ("open the window", "it is warm", "open the window it is warm")
    assert 0 <= first.start < first.end < second.start - 1.5 < second.end <= float(heard.duration)


class PatientEar(Asr):
    """Understands a first utterance at once, and the next when it may."""

    info = EngineInfo("patient", Role.ASR, "Patient", languages=("en",), rank=100)

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.heard = 0
        self.first = "the first"
        self.go_on = asyncio.Event()

    def open(self, request: AsrRequest) -> AsrStream:
        return PatientStream(self)


class PatientStream(AsrStream):
    def __init__(self, ear: PatientEar) -> None:
        self._ear = ear

    async def feed(self, chunk: PcmChunk) -> None:
        pass

    async def guess(self) -> Transcript:
        return await self.finish()

    async def finish(self) -> Transcript:
        self._ear.heard += 1
        if self._ear.heard == 1:
            return Transcript(self._ear.first, "en")
        await self._ear.go_on.wait()
        if self._ear.fails:
            raise StageError("asr", "the ear fell off", code="ear-gone")
        return Transcript("the second", "en")


async def test_a_transcript_is_streamed_utterance_by_utterance_while_the_rest_is_recognised(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION.replace("asr: echo", "asr: patient")) as hub, client(hub) as program:
        hub.engines.add(ear := PatientEar(), "test")
        wav = write_wav(two_sentences())
        stream = await program.audio.transcriptions.create(model="any", file=("a.wav", wav), stream=True)
        first = await anext(stream)
        assert (first.type, first.delta) == ("transcript.text.delta", "the first")
        ear.go_on.set()
        more, done = [event async for event in stream]
        assert (more.type, more.delta) == ("transcript.text.delta", " the second")
        assert (done.type, done.text) == ("transcript.text.done", "the first the second")


async def test_a_streamed_transcript_that_fails_has_no_end(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION.replace("asr: echo", "asr: patient")) as hub, client(hub) as program:
        hub.engines.add(ear := PatientEar(fails=True), "test")
        ear.go_on.set()
        wav = write_wav(two_sentences())
        told: list[str] = []
        stream = await program.audio.transcriptions.create(model="any", file=("a.wav", wav), stream=True)
        with pytest.raises(openai.APIError, match="fell off"):
            async for event in stream:
                told.append(event.type)
        assert told == ["transcript.text.delta"]
        with pytest.raises(openai.InternalServerError, match="fell off"):  # nothing was said before: a status can tell
            await program.audio.transcriptions.create(
                model="any", file=("a.wav", write_wav(spoken("open the window"))), stream=True
            )


async def test_half_a_character_that_a_recogniser_wrote_ends_no_answer(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION.replace("asr: echo", "asr: patient")) as hub, client(hub) as program:
        hub.engines.add(ear := PatientEar(), "test")
        ear.first = "half \ud83d"
        file = ("a.wav", write_wav(spoken("open the window")))
        assert (await program.audio.transcriptions.create(model="any", file=file)).text == "half \ud83d"
        ear.heard = 0
        stream = await program.audio.transcriptions.create(model="any", file=file, stream=True)
        *_, done = [event async for event in stream]
        assert done.type == "transcript.text.done" and done.text == "half \ud83d"


async def test_a_silent_recording_is_a_stream_with_an_end_alone(hub: Hub) -> None:
    silence = write_wav(PcmChunk(np.zeros(16000, np.int16), 16000))
    async with client(hub) as program:
        stream = await program.audio.transcriptions.create(model="any", file=("a.wav", silence), stream=True)
        (done,) = [event async for event in stream]
        assert (done.type, done.text) == ("transcript.text.done", "")


@pytest.mark.parametrize("more", [{"stream": "perhaps"}, {"stream": "true", "response_format": "verbose_json"}])
async def test_a_stream_that_cannot_be_had_is_refused(hub: Hub, more: dict[str, str]) -> None:
    token = (await hub.device_management.invite("Program")).token
    form = FormData(more)
    form.add_field("file", write_wav(spoken("open the window")), filename="a.wav")
    async with (
        ClientSession(headers={"Authorization": f"Bearer {token}"}) as http,
        http.post(f"{hub.local_url}/v1/audio/transcriptions", data=form) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, "field_invalid")


async def test_a_form_has_measure(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    token = (await hub.device_management.invite("Program")).token
    wav = write_wav(spoken("open the window"))

    async def refused(form: FormData | AsyncGenerator[bytes, None], **headers: str) -> tuple[int, str]:
        url = f"{hub.local_url}/v1/audio/transcriptions"
        async with ClientSession(headers={"Authorization": f"Bearer {token}", **headers}) as http:
            async with http.post(url, data=form) as answer:
                return answer.status, (await answer.json())["error"]["code"]

    long = FormData({"prompt": "x" * (2**14 + 1)})
    long.add_field("file", wav, filename="a.wav")
    assert await refused(long) == (413, "too_long")
    many = FormData({f"field{number}": "x" for number in range(16)})
    many.add_field("file", wav, filename="a.wav")
    assert await refused(many) == (400, "audio_missing")
    monkeypatch.setattr(openai_api, "SECONDS", 0.1)
    rest = asyncio.Event()

    async def slow() -> AsyncGenerator[bytes, None]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
        await rest.wait()

    assert await refused(slow(), **{"Content-Type": "multipart/form-data; boundary=b"}) == (400, "body_timeout")


async def test_all_programs_together_ask_so_much_at_once_and_no_more(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_api, "IN_ALL", 1)
    model = ScriptedModel(lambda _: [300.0], "second")
    hub.engines.add(model, "test")
    async with client(hub, name="One") as one, client(hub, name="Two") as two, asyncio.timeout(60):
        asking = asyncio.create_task(one.chat.completions.create(model="teller", messages=user("tell me")))
        while not model.requests:
            await asyncio.sleep(0.01)
        with pytest.raises(openai.RateLimitError):
            await two.models.list()
        asking.cancel()
        await asyncio.wait([asking])
        while True:  # who has gone is not worked for any more
            try:
                await two.models.list()
                break
            except openai.RateLimitError:
                await asyncio.sleep(0.05)


def test_so_many_conversations_are_remembered_and_each_is_its_clients() -> None:
    talks = Talks()
    first = Talk("a")
    talks.keep("a", [("user", "hi")], first)
    assert talks.find("a", [("user", "hi")]) is first and talks.find("b", [("user", "hi")]) is not first
    for number in range(256):
        talks.keep("a", [("user", str(number))], Talk("a"))
    assert talks.find("a", [("user", "hi")]) is not first


async def test_what_is_no_recording_is_refused(hub: Hub) -> None:
    wrong = [
        (b"ID3 music", "a.mp3", 415),
        (b"", "a.wav", 400),
        (b"RIFF....WAVEjunk", "a.wav", 400),
        (b"\x00\x01", "a.bin", 415),
        (b"\x00" * (openai_api.BYTES + 1), "a.wav", 413),
    ]
    async with client(hub) as program:
        for file, name, status in wrong:
            with pytest.raises(openai.APIStatusError) as refusal:
                await program.audio.transcriptions.create(model="any", file=(name, file))
            assert refusal.value.status_code == status, name


async def test_a_text_is_read_aloud(hub: Hub) -> None:
    decoders: dict[Any, Callable[[bytes], PcmChunk]] = {
        "wav": read_wav,
        "pcm": lambda data: PcmChunk(np.frombuffer(data, "<i2").astype(np.int16), 24000),
        "opus": lambda data: decode_all(read_ogg(data), 24000),
    }
    text = "The kettle boils. Take it off."
    async with client(hub) as program:
        for kind, decode in decoders.items():
            reply = await program.audio.speech.create(model="tts-1", voice="alloy", input=text, response_format=kind)
            assert tones().read_text(decode(reply.content)) == text, kind


ASKED = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
WRONG: list[tuple[str, Any, str]] = [
    ("audio/speech", {"input": "hello", "response_format": "mp3"}, "field_invalid"),
    ("audio/speech", {"input": ""}, "field_missing"),
    ("audio/speech", {"input": "hello", "speed": 9}, "field_invalid"),
    ("audio/speech", {"input": "hello", "speed": True}, "field_invalid"),
    ("audio/speech", {"input": "x" * 5000}, "field_invalid"),
    ("audio/speech", ["hello"], "json_invalid"),
    ("chat/completions", {**ASKED, "model": None}, "field_missing"),
    ("chat/completions", {**ASKED, "messages": []}, "messages_invalid"),
    ("chat/completions", {**ASKED, "messages": "hi"}, "messages_invalid"),
    ("chat/completions", {**ASKED, "messages": [{"role": "assistant", "content": "hi"}]}, "messages_invalid"),
    ("chat/completions", {**ASKED, "messages": [{"role": "user", "content": 7}]}, "messages_invalid"),
    ("chat/completions", {**ASKED, "messages": [{"role": "user", "content": "x" * 5000}]}, "messages_invalid"),
    ("chat/completions", {**ASKED, "n": 3}, "field_invalid"),
    ("chat/completions", {**ASKED, "stream": "yes"}, "field_invalid"),
    ("chat/completions", {**ASKED, "tool_choice": "required"}, "tools_unsupported"),
    (
        "chat/completions",
        {**ASKED, "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "content_unsupported",
    ),
    ("embeddings", {"input": "hi"}, "not_found"),
]


async def test_what_cannot_be_done_is_told_in_the_form_of_the_api(hub: Hub) -> None:
    token = (await hub.device_management.invite("Program")).token
    async with ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        for path, body, code in WRONG:
            async with http.post(f"{hub.local_url}/v1/{path}", json=body) as answer:
                error = (await answer.json())["error"]
                assert 400 <= answer.status < 500, (path, body)
                assert (error["code"], bool(error["message"]), bool(error["type"])) == (code, True, True), (path, body)


async def test_a_broken_form_is_refused(hub: Hub) -> None:
    token = (await hub.device_management.invite("Program")).token
    url = f"{hub.local_url}/v1/audio/transcriptions"
    async with ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
        for body in (b"", b"not a form", b"--x\r\n\r\n", b"--x--"):
            headers = {"Content-Type": "multipart/form-data; boundary=x"}
            async with http.post(url, data=body, headers=headers) as answer:
                assert answer.status == 400 and "error" in await answer.json(), body
        form = FormData({"model": "whisper-1"})
        form.add_field("note", b"x", filename="x.txt")
        async with http.post(url, data=form) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (400, "audio_missing")


class Halting(Llm):
    """Says a sentence, and goes on when it may."""

    info = EngineInfo("second", Role.LLM, "Second", streams_output=True, rank=100)

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        try:
            yield TextDelta("It was in Zanzibar. ")
            await self.go_on.wait()
            yield TextDelta("There it ended.")
        finally:
            self.ended.set()


@pytest.mark.parametrize("everything", [False, True])
async def test_what_is_being_answered_when_a_client_is_forgotten_is_not_remembered(hub: Hub, everything: bool) -> None:
    hub.engines.add(model := Halting(), "test")
    invited = await hub.device_management.invite("Leaving")
    asked = {"model": "teller", "messages": user("where was it"), "stream": True}
    headers = {"Authorization": f"Bearer {invited.token}"}
    async with (
        ClientSession() as http,
        http.post(f"{hub.local_url}/v1/chat/completions", json=asked, headers=headers) as told,
    ):
        while b"Zanzibar" not in await told.content.readline():
            pass
        if everything:
            assert await hub.device_management.forget_said(None) == ()
        else:
            assert (await hub.device_management.forget(invited.device.id))[1] == ()
        model.go_on.set()
        with pytest.raises(ClientError):
            await told.read()
        await asyncio.wait_for(model.ended.wait(), 20)
    await hub.archive.written(20)
    assert await hub.history.turns() == []


async def test_one_client_cannot_take_all_the_places(tmp_path: Path) -> None:
    slow = CONFIGURATION.replace("otherwise:", "hang: true\n      otherwise:")
    async with running_hub(tmp_path, slow) as hub, client(hub) as greedy, client(hub, name="Other") as other:
        asked = [
            asyncio.create_task(greedy.chat.completions.create(model="default", messages=user("wait")))
            for _ in range(openai_api.AT_ONCE)
        ]
        llm = next(engine for engine in hub.engines.llms())
        async with asyncio.timeout(30):
            while llm.behaviour.calls < openai_api.AT_ONCE:  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
        with pytest.raises(openai.RateLimitError):
            await greedy.models.list()
        assert [model.id async for model in other.models.list()]
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)


async def test_who_takes_nothing_of_an_answer_does_not_keep_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALLED_S", 0.5)
    spoken = CONFIGURATION.replace("espeak: false", "espeak:").replace("tts: echo", "tts: espeak")
    body = json.dumps({"input": "This goes on and on, for a good while. " * 100, "response_format": "pcm"}).encode()
    async with running_hub(tmp_path, spoken) as hub, asyncio.timeout(60):
        token = (await hub.device_management.invite("A program", "Kitchen")).token
        head = (
            f"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        ).encode()
        asleep = [await asyncio.open_connection("127.0.0.1", hub.port, limit=1024) for _ in range(openai_api.AT_ONCE)]
        try:
            for _, writer in asleep:
                writer.write(head + body)
            begun = await asyncio.gather(*(reader.readline() for reader, _ in asleep))
            assert all(line.startswith(b"HTTP/1.1 200") for line in begun)
            async with client(hub, token) as program:
                while True:
                    try:
                        await program.models.list()
                        break
                    except openai.RateLimitError:
                        await asyncio.sleep(0.05)
            ends = []
            for reader, _ in asleep:
                last = b""
                with suppress(ConnectionError):
                    while piece := await reader.read(65536):
                        last = piece
                ends.append(last[-5:])
            assert any(end != b"0\r\n\r\n" for end in ends), "half of it must not look like the whole"
        finally:
            for _, writer in asleep:
                writer.transport.abort()
