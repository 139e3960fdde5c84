"""The integration `openai_compatible`: servers that answer, hear and speak, as they differ, and as they fail."""

from __future__ import annotations

import asyncio
import importlib
import json
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

from free_ports import free_port
from remotes import ANSWER, Mishap, Remote, serving  # not installed, lies beside the benchmarks

from xiaozhi_hub.audio.pcm import read_wav, resample, write_wav
from xiaozhi_hub.core.checking import check_options
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.engines.asr import AsrRequest
from xiaozhi_hub.engines.llm import ChatRequest, Message, ToolRequest, ToolSpec
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import ConfigErrors, NeedsAttention, NotReady, Place, StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.entries import EntryState
from xiaozhi_hub.plugins.loader import import_integration
from xiaozhi_hub.testing import running_hub

DOMAIN = "openai_compatible"
LIGHT = ToolSpec("home.light-on", "Switch a light on.", {"type": "object", "properties": {"room": {"type": "string"}}})


def part(name: str) -> Any:
    import_integration(builtin("integrations") / DOMAIN)
    return importlib.import_module(f"xiaozhi_hub_integrations.{DOMAIN}.{name}")


def options_of(**written: Any) -> Any:
    return check_options(part("config").SCHEMA, written, lambda path: Place("test"))


@asynccontextmanager
async def engines(*remotes: Remote, **more: Any) -> AsyncIterator[list[Any]]:
    """The engines that the integration makes of these servers, in the order of their roles."""
    servers = [{"name": f"s{number}", "url": remote.url, **more} for number, remote in enumerate(remotes)]
    async with part("server").connected(options_of(servers=servers)) as connected:
        made = {"llm": "answering.OpenAiLlm", "asr": "hearing.OpenAiAsr", "tts": "speaking.OpenAiTts"}
        yield [
            getattr(part(where.split(".")[0]), where.split(".")[1])(server)
            for server in connected
            for role, where in made.items()
            if role in server.models
        ]


def question(*, tools: bool = False) -> ChatRequest:
    messages = (Message("system", "Be kind."), Message("user", "How is the weather?"))
    return ChatRequest(messages, (LIGHT,) if tools else ())


async def answer_of(llm: Any, request: ChatRequest | None = None) -> tuple[str, list[ToolRequest]]:
    text, calls = "", []
    async with asyncio.timeout(30):
        async for piece in llm.chat(request or question()):
            if isinstance(piece, ToolRequest):
                calls.append(piece)
            else:
                text += piece.text
    return text.strip(), calls


# -- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["plain", "usage", "no-done", "thinks", "whole"])
async def test_answers_are_understood_however_servers_write_them(style: str) -> None:
    async with serving(Remote(style=style)) as remote, engines(remote) as (llm, *_):
        assert await answer_of(llm) == (ANSWER, [])


def call(**piece: Any) -> dict[str, Any]:
    function = {key: piece.pop(key) for key in ("name", "arguments") if key in piece}
    return {"type": "function", **piece, "function": function}


@pytest.mark.parametrize(
    ("pieces", "arguments"),
    [
        (
            [call(index=0, id="a", name="home_light-on", arguments='{"ro'), call(index=0, arguments='om": "attic"}')],
            [{"room": "attic"}],
        ),
        ([call(id="a", name="home_light-on", arguments='{"room"'), call(arguments=': "attic"}')], [{"room": "attic"}]),
        ([call(index=0, id="a", name="home_light-on", arguments={"room": "attic"})], [{"room": "attic"}]),
        ([call(index=0, id="a", name="home_light-on", arguments="")], [{}]),
        ([call(index=0, id="a", name="home_light-on", arguments='"{\\"room\\": \\"attic\\"}"')], [{"room": "attic"}]),
        (
            [call(index=0, id="a", name="home_light-on", arguments="{}"), call(index=1, id="b", name="home_light-on")],
            [{}, {}],
        ),
        (  # two whole calls under one index, as older Ollama sends them
            [call(index=0, id="a", name="home_light-on"), call(index=0, id="b", name="home_light-on")],
            [{}, {}],
        ),
        (  # the name in every piece, as llama-cpp-python sends it
            [call(index=0, id="a", name="home_light-on", arguments=piece) for piece in ("{", '"room": ', '"attic"}')],
            [{"room": "attic"}],
        ),
    ],
)
async def test_tool_calls_are_put_together_however_servers_cut_them(
    pieces: list[dict[str, Any]], arguments: list[dict[str, Any]]
) -> None:
    async with serving(Remote(calls=pieces)) as remote, engines(remote) as (llm, *_):
        text, calls = await answer_of(llm, question(tools=True))
        assert (text, [(c.name, dict(c.arguments)) for c in calls]) == ("", [("home.light-on", a) for a in arguments])
        (offered,) = remote.asked[0][1]["tools"]
        assert offered["function"]["name"] == "home_light-on"  # the API allows no dots


async def test_a_model_that_may_not_call_is_told_so_and_still_reads_the_same_beginning() -> None:
    async with (
        serving(Remote()) as remote,
        engines(remote, llm={"context_tokens": 4096, "max_tokens": 96}) as (llm, *_),
    ):
        await answer_of(llm, question(tools=True))
        await answer_of(llm, replace(question(tools=True), may_call=False))
        free, bound = (asked for _, asked in remote.asked)
        assert (free.pop("tool_choice"), bound.pop("tool_choice")) == ("auto", "none")
        assert free == bound
        assert llm.context_tokens == 4000


async def test_a_call_that_is_no_json_is_refused() -> None:
    broken = [call(index=0, id="a", name="home_light-on", arguments="room: attic")]
    async with serving(Remote(calls=broken)) as remote, engines(remote) as (llm, *_):
        with pytest.raises(StageError, match="no JSON"):
            await answer_of(llm, question(tools=True))


async def test_results_go_back_with_the_ids_of_their_calls() -> None:
    wanted = (ToolRequest("home.light-on", {"room": "attic"}), ToolRequest("clock", {}))
    messages = (
        Message("user", "Light, and the time?"),
        Message("assistant", "", calls=wanted),
        Message("tool", "done", "home.light-on"),
        Message("tool", "noon", "clock"),
        Message("tool", "nobody asked", "weather"),
    )
    async with serving(Remote()) as remote, engines(remote) as (llm, *_):
        await answer_of(llm, ChatRequest(messages, (LIGHT,)))
        sent = remote.asked[0][1]["messages"]
    one, two = sent[1]["tool_calls"]
    assert [one["function"]["name"], two["function"]["name"]] == ["home_light-on", "clock"]
    assert one["function"]["arguments"] == '{"room": "attic"}'
    assert [sent[2]["tool_call_id"], sent[3]["tool_call_id"]] == [one["id"], two["id"]]
    assert sent[5]["tool_call_id"] == sent[4]["tool_calls"][0]["id"]  # a result without a call is refused by servers
    assert len({one["id"], two["id"], sent[5]["tool_call_id"]}) == 3


@pytest.mark.parametrize(
    ("what", "after", "code"),
    [
        ("drop", 0, "llm-unreachable"),
        ("drop", 4, "llm-unreachable"),
        ("hang", 0, "llm-slow"),
        ("hang", 4, "llm-slow"),
        ("garbage", 0, "llm-failed"),
        ("garbage", 4, "llm-failed"),
        ("error", 4, "llm-failed"),
        ("end", 0, "llm-failed"),
        ("end", 4, "llm-failed"),
        ("401", 0, "llm-refused"),
        ("500", 0, "llm-refused"),
    ],
)
async def test_an_answer_that_does_not_come_to_its_end_is_a_failure(what: str, after: int, code: str) -> None:
    remote = Remote(key="sesame-open")
    remote.mishaps.extend([Mishap("llm", what, after)] * 2)  # a closed connection is tried once more
    async with serving(remote), engines(remote, key="sesame-open", timeout_s=1) as (llm, *_):
        with pytest.raises(StageError) as failed:
            await answer_of(llm)
        assert failed.value.code == code and "sesame" not in str(failed.value)


async def test_a_connection_that_the_server_closed_in_the_meantime_is_opened_again() -> None:
    async with serving(Remote()) as remote, engines(remote) as (llm, *_):
        await answer_of(llm)
        await remote.kill()
        await remote.revive()
        assert await answer_of(llm) == (ANSWER, [])


async def test_the_answer_to_an_interrupted_question_is_not_written_on() -> None:
    remote = Remote()
    remote.mishaps.append(Mishap("llm", "hang", 4))
    async with serving(remote), engines(remote) as (llm, *_):
        task = asyncio.create_task(answer_of(llm))
        async with asyncio.timeout(20):
            while not remote.hit:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            while not remote.left:
                await asyncio.sleep(0.01)


# -- sound --------------------------------------------------------------------------------------------------------


async def test_an_utterance_is_sent_as_a_wav_file() -> None:
    async with serving(Remote(heard=" Open the\n window. ")) as remote, engines(remote) as (_, asr, _):
        stream = asr.open(AsrRequest(("zh-Hans",)))
        for _ in range(30):
            await stream.feed(PcmChunk(np.full(960, 500, np.int16), 16000))
        guessed, finished = await stream.guess(), await stream.finish()
        assert guessed.text == finished.text == "Open the window."
        assert len(remote.asked) == 1  # nothing had come in between
        form = remote.asked[0][1]
        assert (form["language"], form["model"]) == ("zh", "whisper-tiny")
        sound = read_wav(form["file"])
        assert (sound.rate, len(sound.samples)) == (16000, 30 * 960)


async def test_bare_text_is_a_transcript_too_and_anything_else_is_none() -> None:
    hearing = part("hearing")
    async with serving(Remote()) as remote, engines(remote) as (_, asr, _):
        assert asr._text_of(b"just text\n", False) == "just text"
        assert asr._text_of(b'{"text": "half \\ud83d"}', True) == "half ?"
        for told in (b"{}", b"[]", b"7", b'{"text": 7}', b"{"):
            with pytest.raises(StageError):
                asr._text_of(told, True)
    assert hearing._language_of("打开灯", ("en", "zh-Hans")) == "zh-Hans"


@pytest.mark.parametrize("form", ["wav", "pcm"])
async def test_speech_is_heard_while_it_is_made(form: str) -> None:
    remote = Remote()
    async with serving(remote), engines(remote, tts={"format": form, "voices": {"zh-Hans": "xiaobei"}}) as (*_, tts):
        chunks = [chunk async for chunk in tts.speak(SpeechRequest("Hello there.", "zh-Hans", speed=1.5))]
        assert len(chunks) > 1 and {chunk.rate for chunk in chunks} == {24000}
        assert sum(chunk.ms for chunk in chunks) == pytest.approx(30 * len("Hello there."), abs=1)
        asked = remote.asked[0][1]
        assert (asked["voice"], asked["speed"], asked["model"]) == ("xiaobei", 1.5, "kokoro")


@pytest.mark.parametrize("what", ["drop", "hang", "garbage", "500"])
async def test_a_voice_that_breaks_off_says_so(what: str) -> None:
    remote = Remote()
    remote.mishaps.extend([Mishap("tts", what)] * 2)
    async with serving(remote), engines(remote, timeout_s=1) as (*_, tts):
        with pytest.raises(StageError):
            _ = [chunk async for chunk in tts.speak(SpeechRequest("Hello there.", "en"))]


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_wav_file_is_read_in_pieces_of_any_size(size: int) -> None:
    sound = PcmChunk(np.arange(-3000, 3000, dtype=np.int16), 22050)
    reader = part("wav").WavReader()
    data = write_wav(sound) + b"LIST\x04\x00\x00\x00info"
    heard = [chunk for at in range(0, len(data), size) if (chunk := reader.feed(data[at : at + size])) is not None]
    reader.end()
    assert np.array_equal(np.concatenate([chunk.samples for chunk in heard]), sound.samples)
    assert {chunk.rate for chunk in heard} == {22050}


@pytest.mark.parametrize("told", [0, 0x7FFFF000, 0x7FFFFFDB, 0xFFFFFFFF], ids=hex)
async def test_a_voice_that_does_not_know_its_length_yet_may_write_any_great_one(told: int) -> None:
    """SoX, and servers that run it or espeak with a pipe behind, write 0x7ffff000."""
    sound = (np.sin(np.arange(16000) * 0.05) * 8000).astype("<i2")
    whole = bytearray(write_wav(PcmChunk(sound, 16000)))
    whole[40:44] = told.to_bytes(4, "little")
    async with answering(bytes(whole), "audio/wav", 200) as url:
        async with part("server").connected(options_of(url=url, roles=["tts"])) as (server,):
            speech = part("speaking").OpenAiTts(server).speak(SpeechRequest("Hello.", "en"))
            assert sum([len(chunk.samples) async for chunk in speech]) == len(sound)


@pytest.mark.parametrize(
    "data", [b"", b"ID3.........", b"RIFF\x00\x00\x00\x00AVI ", write_wav(PcmChunk(np.zeros(9, np.int16), 16000))[:-4]]
)
def test_what_is_no_whole_wav_file_is_refused(data: bytes) -> None:
    wav = part("wav")
    reader = wav.WavReader()
    with pytest.raises(wav.BadWav):
        reader.feed(data)
        reader.end()


# -- what a server is for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "models", "roles"),
    [
        ({}, ["qwen3-8b", "nomic-embed-text"], {"llm": "qwen3-8b"}),
        ({}, ["text-embedding-3", "Qwen/Qwen2.5-VL-7B"], {"llm": "Qwen/Qwen2.5-VL-7B", "vision": "Qwen/Qwen2.5-VL-7B"}),
        (
            {},
            ["Systran/faster-whisper-small", "speaches-ai/Kokoro-82M"],
            {"asr": "Systran/faster-whisper-small", "tts": "speaches-ai/Kokoro-82M"},
        ),
        ({}, None, {"llm": ""}),
        ({"roles": ["tts"]}, None, {"tts": ""}),
        ({"roles": ["asr"]}, ["anything"], {"asr": ""}),
        ({"llm": False}, ["qwen3-8b"], {}),
        ({"model": "gemma"}, ["qwen3-8b", "gemma"], {"llm": "gemma", "vision": "gemma"}),
        ({"model": "gemma", "vision": False}, ["gemma"], {"llm": "gemma"}),
        ({"tts": {"model": "my-voice"}}, ["qwen3-8b"], {"llm": "qwen3-8b", "tts": "my-voice"}),
        ({"vision": {}}, ["one"], {"llm": "one", "vision": "one"}),
    ],
)
def test_what_a_server_is_used_for(written: dict[str, Any], models: list[str] | None, roles: dict[str, str]) -> None:
    (options,) = options_of(servers=[{"url": "http://h/v1", **written}])["servers"]
    assert part("roles").choose(options, models) == roles


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"servers": []},
        {"url": "http://h/v1", "servers": [{"url": "http://h/v1"}]},
        {"servers": [{"url": "http://h/v1", "name": "a"}, {"url": "http://i/v1", "name": "a"}]},
        {"servers": [{"url": "http://h/v1", "name": "Attic GPU"}]},
        {"url": "http://h/v1", "roles": ["cook"]},
        {"url": "http://h/v1", "llm": {"temperatur": 0.5}},
        {"url": "http://h/v1", "key": "two\nlines"},
    ],
)
def test_options_that_make_no_sense_are_refused(written: dict[str, Any]) -> None:
    with pytest.raises(ConfigErrors):
        options_of(**written)


def test_a_key_may_come_from_a_file_that_ends_its_line() -> None:
    assert options_of(url="http://h/v1", key="sesame-open\n")["servers"][0]["key"] == "sesame-open"


async def test_a_server_that_is_away_at_the_start_is_used_when_it_comes() -> None:
    there, away = Remote(answer="I am there."), Remote(answer="I am back.")
    async with serving(there), serving(away):
        await away.kill()
        async with engines(there, away) as made:
            *_, llm = made
            assert [engine.info.id for engine in made] == ["s0", "s0", "s0", "s1"]
            with pytest.raises(StageError):
                await answer_of(llm)
            await away.revive()
            assert await answer_of(llm) == ("I am back.", [])
            assert away.asked[-1][1]["model"] == "tiny-chat"


async def test_the_key_is_told_to_nobody() -> None:
    remote = Remote(key="sesame-open")
    async with serving(remote):
        with pytest.raises(Exception, match="refuses the key") as refused:
            async with engines(remote, key="another-key"):
                pass
        assert "sesame" not in str(refused.value) and "another" not in str(refused.value)


async def test_one_server_that_refuses_leaves_no_question_to_another_open() -> None:
    remote, asked = Remote(key="sesame-open"), asyncio.Event()

    async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async with serving(remote), await asyncio.start_server(says_nothing, "127.0.0.1", 0) as silent:
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}/v1"
        servers = [{"name": "one", "url": remote.url}, {"name": "two", "url": url}]
        before = asyncio.all_tasks()
        with pytest.raises(NeedsAttention, match="refuses the key"):
            async with part("server").connected(options_of(servers=servers)):
                pass
        assert [task for task in asyncio.all_tasks() - before if "meet" in repr(task)] == []


GOOD = b'{"choices": [{"delta": {"content": "Hello."}, "finish_reason": "stop"}], "text": "Hello."}'
HOSTILE = {
    "good JSON without measure": b" " * 2**21 + GOOD,
    "a good line without measure": b"data: " + b" " * 2**21 + GOOD + b"\n\n",
    "JSON too deep": b"[" * 100_000,
    "JSON too deep in a stream": b"data: " + b"[" * 100_000 + b"\n\n",
    "JSON without end": b'"' + b"x" * 2**21,
    "a line without end": b"data: " + b"x" * 2**21,
}


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("body", HOSTILE)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "audio/wav"])
async def test_whatever_a_server_sends_is_a_failure_of_the_stage(body: str, kind: str, status: int) -> None:
    async with answering(HOSTILE[body], kind, status) as url:
        async with part("server").connected(options_of(url=url, roles=["llm", "asr", "tts"])) as (server,):
            llm, asr = part("answering").OpenAiLlm(server), part("hearing").OpenAiAsr(server)
            with pytest.raises(StageError):
                await answer_of(llm)
            with pytest.raises(StageError):
                _ = [chunk async for chunk in part("speaking").OpenAiTts(server).speak(SpeechRequest("Hello.", "en"))]
            if kind == "application/json" or status != 200:
                with pytest.raises(StageError):
                    await asr.open(AsrRequest(("en",))).finish()


async def test_a_list_of_models_that_is_none_is_told_and_the_key_is_not() -> None:
    what = "something else than JSON"
    for body in (b"[" * 100_000, b'"' + b"x" * 2**21, b" " * 2**21 + b'{"data": [{"id": "m"}]}'):
        async with answering(b"", "application/json", 200, models=body) as url:
            with pytest.raises(NeedsAttention, match=what):
                async with part("server").connected(options_of(url=url)):
                    pass

    async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        writer.write(
            head.partition("Authorization: ")[2].encode() + b"\r\n\r\n"
        )  # what was sent, in place of an answer
        writer.close()

    async with await asyncio.start_server(no_http, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        with pytest.raises(NotReady) as caught:
            async with part("server").connected(options_of(url=url, key="sesame-open")):
                pass
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_connection_that_the_server_has_given_up_is_opened_again(how: str) -> None:
    """A server that was restarted knows nothing of the connections that were kept to it, and resets them."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        first = True
        with suppress(asyncio.IncompleteReadError):
            while (head := (await reader.readuntil(b"\r\n\r\n")).lower()) and first:
                asked += 1
                first = False
                _, _, length = head.partition(b"content-length: ")
                await reader.readexactly(int(length.split()[0]) if length else 0)
                body = json.dumps({"data": [{"id": "m"}], "choices": [{"message": {"content": "Here."}}]}).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            if how == "resets":
                socket_of = writer.get_extra_info("socket")
                socket_of.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with part("server").connected(options_of(url=url, roles=["llm"])) as (known,):
            assert await answer_of(part("answering").OpenAiLlm(known)) == ("Here.", [])
            assert await answer_of(part("answering").OpenAiLlm(known)) == ("Here.", [])
    assert asked == 3


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://192.168.1.30:8080/v1", True),
        ("http://[fd00::1]/v1", True),
        ("http://nas/v1", True),
        ("http://nas.local/v1", True),
        ("http://8.8.8.8/v1", False),
        ("https://api.example.com/v1", False),
    ],
)
async def test_whether_a_server_is_in_the_house_is_told_by_its_address(address: str, local: bool) -> None:
    async with aiohttp.ClientSession() as http:
        assert part("server").Server(http, options_of(url=address)["servers"][0]).local is local


async def test_a_model_with_half_a_character_in_its_name_spoils_no_page(tmp_path: Path) -> None:
    models = b'{"data": [{"id": "tiny-\\ud83d-model"}]}'
    async with answering(b"", "application/json", 200, models=models) as url, aiohttp.ClientSession() as http:
        async with running_hub(tmp_path, f"{QUIET}openai_compatible: {{url: '{url}'}}}}\n") as hub:
            async with http.get(f"{hub.local_url}/") as page:
                assert (page.status, "tiny-?-model" in await page.text()) == (200, True)


@pytest.mark.parametrize(("told", "room"), [(4096, 4096 - 800), (600, 0), (True, None), (-1, None), ("4096", None)])
async def test_how_much_a_request_may_come_to_is_what_the_server_tells(told: Any, room: int | None) -> None:
    models = json.dumps({"data": [{"id": "m", "max_model_len": told}]}).encode()
    async with answering(b"", "application/json", 200, models=models) as url:
        async with part("server").connected(options_of(url=url, roles=["llm"])) as (server,):
            assert part("answering").OpenAiLlm(server).context_tokens == room


async def test_a_refusal_in_json_is_not_played_as_sound() -> None:
    told = json.dumps({"detail": "No such voice. " * 100}).encode()
    async with answering(told, "application/json", 200) as url:
        options = options_of(url=url, roles=["tts"], tts={"format": "pcm"})
        async with part("server").connected(options) as (server,):
            with pytest.raises(StageError, match="JSON"):
                _ = [_ async for _ in part("speaking").OpenAiTts(server).speak(SpeechRequest("Hello.", "en"))]


async def test_no_answer_and_no_transcript_is_longer_than_anybody_says() -> None:
    told = {"choices": [{"delta": {"content": "la " * 100_000}, "finish_reason": "stop"}], "text": "la " * 100_000}
    async with answering(json.dumps(told).encode(), "application/json", 200) as url:
        async with part("server").connected(options_of(url=url, roles=["llm", "asr"])) as (server,):
            assert len((await answer_of(part("answering").OpenAiLlm(server)))[0]) <= 64 * 1024
            transcript = await part("hearing").OpenAiAsr(server).open(AsrRequest(("en",))).finish()
            assert len(transcript.text) == 8000


@asynccontextmanager
async def answering(
    body: bytes, kind: str, status: int, models: bytes = b'{"data": [{"id": "m"}]}'
) -> AsyncIterator[str]:
    """A server that answers everything with the same, but the question for its models."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body, content_type=kind, status=status)

    async def listed(_: web.Request) -> web.Response:
        return web.Response(body=models, content_type="application/json")

    app = web.Application()
    app.add_routes([web.get("/v1/models", listed), web.post("/v1/{what:.*}", answer)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("lists_elsewhere", [True, False])
async def test_nothing_is_sent_on_to_where_a_server_sends_us(lists_elsewhere: bool) -> None:
    elsewhere: list[str] = []

    async def stranger(request: web.Request) -> web.Response:
        elsewhere.append(request.headers.get("Authorization", ""))
        return web.json_response({"data": [{"id": "m"}]})

    async def sends_on(request: web.Request) -> web.Response:
        if request.method == "GET" and not lists_elsewhere:
            return web.json_response({"data": [{"id": "m"}]})
        raise web.HTTPTemporaryRedirect(f"http://localhost:{request.url.port}/elsewhere")

    app = web.Application()
    app.add_routes([web.route("*", "/elsewhere", stranger), web.route("*", "/v1/{what:.*}", sends_on)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    options = options_of(url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", key="sesame-open", roles=["llm"])
    with pytest.raises((StageError, NeedsAttention), match="status 307"):
        async with part("server").connected(options) as (server,):
            await answer_of(part("answering").OpenAiLlm(server))
    await runner.cleanup()
    assert elsewhere == []


@pytest.mark.parametrize("role", ["llm", "tts"])
async def test_a_server_that_never_comes_to_an_end_is_left(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if role == "llm":
        monkeypatch.setattr(part("server"), "ANSWER_S", 0.5)
    monkeypatch.setattr(part("speaking"), "_MOST_BYTES", 2**16)

    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        with suppress(ConnectionError):
            while True:
                await response.write(b": still thinking\n" if role == "llm" else bytes(2**12))
                await asyncio.sleep(0.01)
        return response

    app = web.Application()
    app.add_routes([web.post("/v1/{what:.*}", trickle)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    options = options_of(
        url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1", model="m", roles=[role], tts={"format": "pcm"}
    )
    async with asyncio.timeout(60), part("server").connected(options) as (server,):
        with pytest.raises(StageError) as caught:
            if role == "llm":
                await answer_of(part("answering").OpenAiLlm(server))
            else:
                _ = [_ async for _ in part("speaking").OpenAiTts(server).speak(SpeechRequest("Hello.", "en"))]
    assert caught.value.code == ("llm-slow" if role == "llm" else "tts-failed")
    await runner.cleanup()


def test_tools_without_measure_are_not_asked_for() -> None:
    events = part("events")
    many = [{"index": number, "function": {"name": f"t{number}", "arguments": ""}} for number in range(17)]
    long = [{"index": 0, "function": {"name": "t", "arguments": "x" * (2**16 + 1)}}]
    for calls in (many, long):
        with pytest.raises(events.Unreadable, match="too m"):
            _ = [*events.Answer().feed({"choices": [{"delta": {"tool_calls": calls}}]})]


# -- in a hub -----------------------------------------------------------------------------------------------------

QUIET = "history: {enabled: false}\nintegrations: {phrases: false, silero_vad: false, espeak: false, echo: , "


async def test_servers_become_engines_under_their_names_and_help_each_other_out(tmp_path: Path) -> None:
    one, two = Remote(), Remote()
    one.mishaps.append(Mishap("llm", "kill", 9))
    async with serving(one), serving(two):
        servers = (
            f"openai_compatible: {{servers: [{{name: gpu, url: '{one.url}'}}, {{name: nas, url: '{two.url}'}}]}}}}"
        )
        async with running_hub(tmp_path, f"voice: {{llm: [gpu, nas], tts: [echo]}}\n{QUIET}{servers}\n") as hub:
            assert _entry(hub).state is EntryState.READY, _entry(hub).reason
            assert [llm.info.id for llm in hub.engines.llms(["gpu", "nas"])] == ["gpu", "nas"]
            record = await hub.ask("tell me something nice", "en", "")
            assert (record.said, record.error) == (ANSWER, "")
            assert two.asked and one.hit == 1


async def test_a_hub_can_be_the_second_machine_of_another(tmp_path: Path) -> None:
    talks = "echo: {llm: {otherwise: 'Upstairs they say {text}.'}}}\ndevices: {pairing: open}\n"
    quiet = QUIET.replace("echo: , ", "")
    async with running_hub(tmp_path / "up", f"{quiet}{talks}") as upstairs:
        token = (await upstairs.device_management.invite("Downstairs")).token
        server = f"{{name: up, url: '{upstairs.local_url}/v1', key: {token}, roles: [llm, asr, tts]}}"
        more = f"openai_compatible: {{servers: [{server}]}}}}\nvoice: {{llm: up, asr: up, tts: up, vad: echo}}\n"
        async with running_hub(tmp_path / "down", f"{QUIET}{more}") as hub, asyncio.timeout(20):
            assert _entry(hub).state is EntryState.READY, _entry(hub).reason
            record = await hub.ask("tell me something nice", "en", "")
            assert record.said == "Upstairs they say tell me something nice."
            (voice,), (ear,) = hub.engines.ttss(["up"]), hub.engines.asrs(["up"])
            stream = ear.open(AsrRequest(("en",)))
            async for chunk in voice.speak(SpeechRequest("It is warm.", "en")):
                await stream.feed(resample(chunk, 16000))
            assert (await stream.finish()).text == "It is warm."


def _entry(hub: Hub) -> Any:
    return next(entry for entry in hub.plugins.entries if entry.domain == DOMAIN)


# -- llama-cpp-python's own server --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The real server, with a real if tiny model."""
    pytest.importorskip(
        "llama_cpp.server.app", reason="LOUDLY: llama-cpp-python[server] is not installed; see docs/models.md"
    )
    gguf = pytest.importorskip("tiny_gguf")
    model = tmp_path_factory.mktemp("model") / "tiny.gguf"
    gguf.write_tiny_gguf(model, {"weather": ANSWER}, template=gguf.CHATML, context=2048)
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "llama_cpp.server",
        "--model",
        str(model),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(
        [*command, "--n_ctx", "2048", "--n_threads", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    yield f"http://127.0.0.1:{port}/v1"
    process.kill()
    process.wait(10)


async def test_llama_cpps_own_server_answers_and_asks_for_tools(llama_server: str) -> None:
    async with asyncio.timeout(180), aiohttp.ClientSession() as http:
        while True:
            try:
                async with http.get(f"{llama_server}/models"):
                    break
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
    forced = {"tool_choice": {"type": "function", "function": {"name": "home_light-on"}}}
    servers = [
        {"name": "plain", "url": llama_server, "llm": {"temperature": 0}},
        {"name": "forced", "url": llama_server, "llm": {"max_tokens": 64, "extra": forced}},
    ]
    async with part("server").connected(options_of(servers=servers)) as (plain, obliged):
        make = part("answering").OpenAiLlm
        assert await answer_of(make(plain)) == (ANSWER, [])
        strict = ToolSpec(
            "home.light-on", "Light.", {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
        )
        _, calls = await answer_of(make(obliged), ChatRequest(question().messages, (strict,)))
        assert [call.name for call in calls] == ["home.light-on"] and isinstance(calls[0].arguments["on"], bool)
        after = (
            *question().messages,
            Message("assistant", "", calls=tuple(calls)),
            Message("tool", "weather: warm", "home.light-on"),
        )
        assert (await answer_of(make(plain), ChatRequest(after)))[0]
