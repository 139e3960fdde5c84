"""Phones and pages that talk to the hub without being devices: over real sockets, with a token from the owner."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType, WSServerHandshakeError
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from seeing_model import Server, serving
from tone_words import spoken, tones

import xiaozhi_hub
from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.cli import main
from xiaozhi_hub.core.flow import Channel, Outcome, PcmChunk, TurnRecord
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.client import ClientMistake, parse_client_message
from xiaozhi_hub.testing import Utterance, running_hub
from xiaozhi_hub.web.devices import client_link

CONFIGURATION = """
devices: {pairing: open}
http: {origins: ["https://Home.example/"]}
voice: {vad: echo, asr: echo, tts: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, demo: , echo: }
"""
QUESTION = "turn on the kitchen light"


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, CONFIGURATION) as running:
        yield running


class Client:
    """What a person would write with docs/clients.md beside it."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def say(self, **message: Any) -> None:
        await self.socket.send_json(message)

    async def hear(self, kind: str, state: str = "") -> dict[str, Any]:
        """The next message of this kind; sound and others before it are left out."""
        async with asyncio.timeout(30):
            while True:
                frame = await self.socket.receive()
                assert frame.type in (WSMsgType.TEXT, WSMsgType.BINARY), (frame.type, frame.data, frame.extra)
                if frame.type is WSMsgType.TEXT:
                    message: dict[str, Any] = json.loads(frame.data)
                    assert kind == "error" or message["type"] != "error", message
                    if message["type"] == kind and message.get("state", "") == state:
                        return message

    async def complaint(self) -> str:
        message = await self.hear("error")
        assert message["message"] and message["code"]
        return str(message["code"])

    async def answer(self) -> SimpleNamespace:
        """What is heard, said and sounds until the end of the answer."""
        got = SimpleNamespace(heard="", said=[], sound=[])
        async with asyncio.timeout(30):
            async for frame in self.socket:
                if frame.type is WSMsgType.BINARY:
                    got.sound.append(frame.data)
                    continue
                match json.loads(frame.data):
                    case {"type": "stt", "text": text}:
                        got.heard = text
                    case {"type": "tts", "state": "sentence_start", "text": text}:
                        got.said.append(text)
                    case {"type": "tts", "state": "stop"}:
                        return got
                    case {"type": "error"} as error:
                        raise AssertionError(error)
        raise AssertionError(f"closed: {self.socket.close_code}")

    async def ended(self) -> int:
        """The code with which the hub closes."""
        async with asyncio.timeout(30):
            while (frame := await self.socket.receive()).type is not WSMsgType.CLOSE:
                assert frame.type in (WSMsgType.TEXT, WSMsgType.BINARY), frame
        return int(frame.data)


@asynccontextmanager
async def client(
    hub: Hub, token: str, hello: dict[str, Any] | None = None, *, query: str = "", **more: Any
) -> AsyncIterator[Client]:
    headers = {**({"Authorization": f"Bearer {token}"} if token else {}), **more}
    url = f"{hub.local_url}/xiaozhi/v1/{query}"
    async with ClientSession() as http, http.ws_connect(url, headers=headers, autoclose=False) as socket:
        person = Client(socket)
        if hello is not None:
            await person.say(type="hello", **hello)
            greeting = await person.hear("hello")
            assert greeting["session_id"] and greeting["transport"] == "websocket"
        yield person


async def invited(hub: Hub, name: str = "Phone") -> str:
    return (await hub.device_management.invite(name)).token


def read_back(sound: PcmChunk) -> str:
    text: str = tones().read_text(sound)
    return text


async def turns(hub: Hub, count: int = 1) -> list[TurnRecord]:
    async with asyncio.timeout(20):
        while len(found := await hub.history.turns(10)) < count:
            await asyncio.sleep(0.01)
    return list(found)


def pcm(rate: int, channels: int = 1) -> dict[str, Any]:
    return {"audio_params": {"format": "pcm", "sample_rate": rate, "channels": channels}}


# -- texts --------------------------------------------------------------------------------------------------------


async def test_a_written_question_is_answered_in_writing(hub: Hub) -> None:
    async with client(hub, await invited(hub), {}) as phone:
        await phone.say(type="text", text=QUESTION)
        answer = await phone.answer()
        assert answer.heard == QUESTION and "kitchen light" in " ".join(answer.said).lower()
        assert answer.sound == []  # its hello did not ask for sound
        (turn,) = await turns(hub)
        assert (turn.channel, turn.heard, turn.outcome) == (Channel.TEXT, QUESTION, Outcome.ANSWERED)
        assert turn.device_id.startswith("client-")


async def test_a_client_is_spoken_to_in_its_language(hub: Hub) -> None:
    token = await invited(hub)
    async with client(hub, token, {"language": "zh-CN"}) as phone:
        await phone.say(type="dance")
        assert "未知的消息类型" in (await phone.hear("error"))["message"]
        await phone.say(type="text", text="打开厨房的灯")
        assert re.search("[\u4e00-\u9fff]", "".join((await phone.answer()).said))


async def test_a_new_question_interrupts_the_answer_to_the_last(hub: Hub) -> None:
    async with client(hub, await invited(hub), pcm(16000)) as phone:
        await phone.say(type="text", text=QUESTION)
        await phone.hear("tts", "sentence_start")
        await phone.say(type="text", text="turn off the kitchen light")
        await phone.hear("tts", "stop")
        assert (await phone.answer()).heard == "turn off the kitchen light"
        assert [turn.outcome for turn in await turns(hub, 2)] == [Outcome.ANSWERED, Outcome.INTERRUPTED]


# -- sound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "channels"), [(16000, 1), (48000, 2), (22050, 1)])
async def test_a_recording_in_plain_samples_is_heard_and_answered_alike(hub: Hub, rate: int, channels: int) -> None:
    samples = np.repeat(resample(spoken(QUESTION), rate).samples, channels).astype("<i2").tobytes()
    async with client(hub, await invited(hub), pcm(rate, channels)) as phone:
        await phone.say(type="listen", state="start", mode="manual")
        for at in range(0, len(samples), 60_000):
            await phone.socket.send_bytes(samples[at : at + 60_000])
        await phone.say(type="listen", state="stop")
        answer = await phone.answer()
        assert answer.heard == QUESTION
        sound = PcmChunk(np.frombuffer(b"".join(answer.sound), "<i2").astype(np.int16), rate)
        assert read_back(resample(sound, 24000)) == " ".join(answer.said)
        (turn,) = await turns(hub)
        assert turn.channel is Channel.VOICE and turn.mode == "manual"


async def test_a_whole_recording_fits_into_one_message(hub: Hub) -> None:
    data = base64.b64encode(spoken("stop").samples.astype("<i2").tobytes()).decode()
    async with client(hub, await invited(hub), pcm(16000)) as phone:
        await phone.say(type="audio", data=data)
        assert (await phone.hear("stt"))["text"] == "stop"


async def test_opus_packets_are_heard_and_opus_comes_back(hub: Hub) -> None:
    packets = Utterance.of(spoken(QUESTION)).packets
    hello = {"audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60}}
    async with client(hub, await invited(hub), hello) as phone:
        await phone.say(type="audio", data=[base64.b64encode(packet).decode() for packet in packets])
        answer = await phone.answer()
        assert answer.heard == QUESTION
        assert read_back(decode_all(answer.sound, 24000)) == " ".join(answer.said)


async def test_a_microphone_may_stream_and_the_hub_notices_the_end(hub: Hub) -> None:
    quiet = np.zeros(16000, np.int16)
    samples = np.concatenate([spoken(QUESTION).samples, quiet]).astype("<i2").tobytes()
    async with client(hub, await invited(hub), pcm(16000)) as page:
        await page.say(type="listen", state="start", mode="auto")
        for at in range(0, len(samples), 3200):
            await page.socket.send_bytes(samples[at : at + 3200])
        assert (await page.answer()).heard == QUESTION


async def test_more_sound_than_anybody_can_speak_is_left_out_and_told(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi_hub.web.devices.client_link.SOUND_PACE", 0.0)  # however long it takes to send that
    async with client(hub, await invited(hub), pcm(8000)) as phone:
        await phone.say(type="listen", state="start", mode="manual")
        for _ in range(5):
            await phone.socket.send_bytes(bytes(8000 * 2 * 3))
        await phone.socket.send_bytes(bytes(8000 * 2 * 3))
        assert await phone.complaint() == "sound-too-much"
        await phone.say(type="text", text=QUESTION)
        assert (await phone.answer()).heard == QUESTION


# -- pictures -----------------------------------------------------------------------------------------------------


def picture(width: int = 320, height: int = 240) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, "JPEG")
    return out.getvalue()


def noisy_picture() -> bytes:
    out = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 255, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(out, "PNG")
    return out.getvalue()


@asynccontextmanager
async def seeing(folder: Path, server: Server, more: str = "") -> AsyncIterator[Hub]:
    async with serving(server) as model:
        url = f"  openai_compatible: {{url: 'http://127.0.0.1:{model.port}/v1'}}\n"
        quiet = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n  echo:\n"
        async with running_hub(folder, f"{more}{quiet}{url}") as hub:
            yield hub


async def test_a_picture_is_looked_at_and_the_question_answered(tmp_path: Path) -> None:
    server = Server()
    async with seeing(tmp_path, server) as hub, client(hub, await invited(hub), {}) as phone:
        data = base64.b64encode(picture()).decode()
        await phone.say(type="image", question="what is on the desk?", data=data)
        answer = await phone.answer()
        assert (answer.heard, answer.said) == ("what is on the desk?", ["A red mug on a desk."])
        assert server.asked[0]["messages"][1]["content"][0]["text"] == "what is on the desk?"
        assert server.seen.size == (320, 240)
        (turn,) = await turns(hub)
        assert (turn.heard, turn.said, turn.outcome) == (
            "what is on the desk?",
            "A red mug on a desk.",
            Outcome.ANSWERED,
        )


async def test_a_large_picture_comes_in_pieces_and_is_kept_with_its_turn_by_choice(tmp_path: Path) -> None:
    data = noisy_picture()
    assert len(data) > 65535
    async with (
        seeing(tmp_path, Server(), "history: {photos: true}\n") as hub,
        client(hub, await invited(hub), {}) as phone,
    ):
        await phone.say(type="image", size=len(data))
        for at in range(0, len(data), 60_000):
            await phone.socket.send_bytes(data[at : at + 60_000])
        answer = await phone.answer()
        assert answer.heard == "What do you see?" and answer.said == ["A red mug on a desk."]
        (turn,) = await turns(hub)
        assert len(await hub.services.photos.of_turn(turn.id)) == 1


async def test_a_picture_that_cannot_be_used_is_told_and_the_conversation_goes_on(tmp_path: Path) -> None:
    server = Server()
    async with seeing(tmp_path, server) as hub, client(hub, await invited(hub), {}) as phone:
        await phone.say(type="image", data=base64.b64encode(b"no picture at all").decode())
        assert await phone.complaint() == "picture-invalid"
        await phone.say(type="image", size=5 * 2**20)
        assert await phone.complaint() == "picture-too-large"
        await phone.say(type="image", size=100)
        await phone.socket.send_bytes(bytes(101))
        assert await phone.complaint() == "picture-unfinished"
        await phone.say(type="image", question="and this?", data=base64.b64encode(picture()).decode())
        assert (await phone.answer()).said == ["A red mug on a desk."]
        assert len(server.asked) == 1


async def test_pictures_that_never_come_do_not_keep_others_waiting_for_long(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = base64.b64encode(b"no picture").decode()
    async with contextlib.AsyncExitStack() as stack:
        slow = [
            await stack.enter_async_context(client(hub, await invited(hub, f"Slow {number}"), {}))
            for number in range(8)
        ]
        for phone in slow:
            await phone.say(type="image", size=100)
        quick = await stack.enter_async_context(client(hub, await invited(hub, "Quick"), {}))
        codes = []
        async with asyncio.timeout(30):
            while not codes or codes[-1] == "picture-invalid":  # until all eight have begun
                await quick.say(type="image", data=broken)
                codes.append(await quick.complaint())
        assert codes[-1] == "picture-later"
        await slow[0].say(type="ping")
        assert await slow[0].complaint() == "picture-unfinished"
        await quick.say(type="image", data=broken)
        assert await quick.complaint() == "picture-invalid"
        monkeypatch.setattr(client_link, "PICTURE_S", 0.1)
        await quick.say(type="image", size=100)
        assert await quick.complaint() == "picture-unfinished"
        await quick.say(type="text", text=QUESTION)
        assert (await quick.answer()).heard == QUESTION


async def test_without_anything_that_can_see_the_person_is_told_so(hub: Hub) -> None:
    async with client(hub, await invited(hub), {}) as phone:
        await phone.say(type="image", question="what is this?", data=base64.b64encode(picture()).decode())
        assert "no model for pictures" in " ".join((await phone.answer()).said)


# -- who comes in -------------------------------------------------------------------------------------------------


async def refused(hub: Hub, token: str = "", *, query: str = "", **headers: str) -> int:
    with pytest.raises(WSServerHandshakeError) as error:
        async with client(hub, token, query=query, **headers):
            pass
    return error.value.status


async def test_a_browser_shows_its_token_in_the_address_or_in_the_hello(hub: Hub) -> None:
    token = await invited(hub)
    async with client(hub, "", {}, query=f"?token={token}") as page:
        await page.say(type="text", text=QUESTION)
        assert (await page.answer()).said
    async with client(hub, "", {"token": token}, query="?client") as page:
        await page.say(type="text", text=QUESTION)
        assert (await page.answer()).said


async def test_a_wrong_token_opens_nothing_however_open_the_door_is(hub: Hub) -> None:
    token = await invited(hub)
    client_id = token.partition(".")[0]
    assert await refused(hub, f"{client_id}.guess") == 401
    assert await refused(hub, f"{client_id}.") == 401
    assert await refused(hub, query="?token=guess") == 401
    assert await refused(hub, query="?token=") == 401
    assert await refused(hub, **{"Device-Id": client_id}) == 401
    assert await refused(hub) == 400  # a device without a name, as ever
    async with client(hub, "", query="?client") as page:
        await page.say(type="hello", token=f"{client_id}.guess")
        assert await page.complaint() == "token-wrong"
        assert await page.ended() == 1008
    for wrong in (f"{client_id}.\ud800", "\ud800", "x" * 300, 7):
        async with client(hub, "", query="?client") as page:
            await page.say(type="hello", token=wrong)
            assert await page.complaint() == "token-wrong"
            assert await page.ended() == 1008
    async with (
        ClientSession(headers={"Device-Id": client_id, "Client-Id": "x"}) as http,
        http.post(f"{hub.local_url}/xiaozhi/ota/", json={}) as reply,
    ):
        assert (await reply.json())["websocket"]["token"] == ""
    async with client(hub, token, {}):
        pass  # and none of that has harmed the real one


async def test_a_revoked_client_is_out_at_once_and_stays_out(hub: Hub) -> None:
    token = await invited(hub, "Old phone")
    async with client(hub, token, {}) as phone:
        async with asyncio.timeout(20):
            await hub.device_management.revoke("Old phone")
            assert await phone.ended() == 1000
    assert await refused(hub, token) == 401


async def test_a_token_survives_a_restart_and_is_nowhere_in_the_data(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION) as hub:
        token = await invited(hub)
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert token.partition(".")[0].encode() in stored and token.partition(".")[2].encode() not in stored
    async with running_hub(tmp_path, CONFIGURATION) as hub, client(hub, token, {}):
        pass


async def test_pages_from_elsewhere_may_not_connect_unless_the_owner_names_them(hub: Hub) -> None:
    token = await invited(hub)
    assert await refused(hub, token, Origin="http://evil.example") == 403
    assert await refused(hub, token, Origin="null") == 403
    assert await refused(hub, token, Origin="http://evil.example", Host="evil.example") == 403
    for origin in (hub.local_url, "https://home.example"):
        async with client(hub, token, {}, Origin=origin):
            pass


async def test_strangers_do_not_take_the_places_of_others(hub: Hub) -> None:
    token = await invited(hub)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(16):
            await stack.enter_async_context(client(hub, "", query="?client"))
        assert await refused(hub, query="?client") == 503
        async with client(hub, token, {}):
            pass
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(WSServerHandshakeError):
                async with client(hub, "", {"token": token}, query="?client"):
                    return


async def test_no_token_is_ever_logged(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = await invited(hub)
    async with client(hub, "", {}, query=f"?token={token}") as page:
        await page.say(type="text", text=QUESTION)
        await page.answer()
    wrong = f"{token}-wrong-secret"
    await refused(hub, query=f"?token={wrong}")
    await refused(hub, query=f"?token={token}", Origin="http://evil.example")
    async with client(hub, "", query="?client") as page:
        await page.say(type="hello", token=wrong)
        await page.ended()
    hub_lines = [line.getMessage() for line in caplog.records if line.name.startswith("xiaozhi_hub")]
    assert hub_lines and not any(token.partition(".")[2] in line for line in hub_lines)


# -- mistakes -----------------------------------------------------------------------------------------------------


MISTAKES = [
    ('{"type":"dance"}', "unknown-type"),
    ('{"type":"hello"}', "second-hello"),
    ("not json", "message-invalid"),
    ("[1]", "message-invalid"),
    ('{"text":"x"}', "message-invalid"),
    ('{"type":"text"}', "field-missing"),
    ('{"type":"text","text":7}', "field-missing"),
    ('{"type":"text","text":"%s"}' % ("x" * 2001), "text-too-long"),
    ('{"type":"text","text":"你好小智"}', "wake-word"),
    ('{"type":"audio"}', "field-missing"),
    ('{"type":"audio","data":[]}', "field-missing"),
    ('{"type":"audio","data":"@@@"}', "base64-invalid"),
    ('{"type":"audio","data":"AAAA"}', "sound-invalid"),
    ('{"type":"image"}', "field-missing"),
    ('{"type":"image","size":true}', "field-missing"),
    (r'{"type":"text","text":"\ud800"}', "field-missing"),
    (r'{"type":"\ud800"}', "unknown-type"),
    ('{"type":"mcp"}', "message-invalid"),
    ("[" * 60000, "message-invalid"),
]


async def test_a_mistake_is_told_and_the_connection_goes_on(hub: Hub) -> None:
    async with client(hub, await invited(hub), pcm(16000)) as phone:
        for message, code in MISTAKES:
            await phone.socket.send_str(message)
            assert (message, await phone.complaint()) == (message, code)
        await phone.say(type="text", text=QUESTION)
        assert (await phone.hear("stt"))["text"] == QUESTION


async def test_a_hello_that_cannot_be_kept_is_told_and_may_be_said_again(hub: Hub) -> None:
    async with client(hub, await invited(hub)) as phone:
        await phone.say(type="text", text=QUESTION)
        assert await phone.complaint() == "hello-missing"
        for name in ("format", "sample_rate", "channels", "frame_duration"):
            await phone.say(type="hello", audio_params={"format": "pcm", name: 7})
            complaint = await phone.hear("error")
            assert complaint["code"] == "hello-invalid" and name in complaint["message"]
        await phone.say(type="hello")
        await phone.hear("hello")


async def test_sound_without_a_word_about_it_in_the_hello_is_not_taken(hub: Hub) -> None:
    async with client(hub, await invited(hub), {}) as phone:
        await phone.say(type="listen", state="start")
        assert await phone.complaint() == "no-sound"
        await phone.say(type="audio", data="AAAA")
        assert await phone.complaint() == "no-sound"


async def test_a_flood_ends_only_its_own_connection(hub: Hub) -> None:
    one, other = await invited(hub), await invited(hub, "Tablet")
    async with client(hub, other, {}) as calm:
        async with client(hub, one, {}) as loud:
            for _ in range(400):
                with contextlib.suppress(ConnectionError):
                    await loud.say(type="dance")
            assert await loud.ended() == 1008
        async with client(hub, one, {}) as long_winded:
            await long_winded.socket.send_str("x" * 70_000)
            assert await long_winded.ended() == 1009
        await calm.say(type="text", text=QUESTION)
        assert (await calm.answer()).heard == QUESTION


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_TYPES = st.sampled_from(("hello", "text", "audio", "image", "listen", "abort", "mcp", "iot", "ping"))
_KEYS = st.sampled_from(("token", "language", "audio_params", "text", "data", "question", "size", "state", "wake"))


@given(_TYPES, st.dictionaries(_KEYS, _JSON))
def test_whatever_a_client_says_is_understood_or_its_mistake(kind: str, more: dict[str, Any]) -> None:
    with contextlib.suppress(ClientMistake):
        assert parse_client_message(json.dumps({"type": kind, **more})) is not None


# -- the owner, and the documentation -----------------------------------------------------------------------------


async def test_the_owner_invites_lists_and_shuts_out_by_command(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def command(*arguments: str) -> tuple[int, str]:
        given = ["devices", "-c", str(tmp_path), "--port", str(hub.port), *arguments]
        done = await asyncio.to_thread(main, given)
        told = capsys.readouterr()
        return done, told.out + told.err

    done, shown = await command("invite", "My phone", "--area", "Kitchen")
    found = re.search(r"^    (client-[0-9a-f]{12}\.\S+)$", shown, re.MULTILINE)
    assert done == 0 and found is not None
    done, shown = await command("invite", "my PHONE")
    assert done == 1 and "There is a device my PHONE already." in shown
    async with client(hub, found[1], {}) as phone:
        await phone.say(type="text", text="turn on the light")
        assert "kitchen" in " ".join((await phone.answer()).said).lower()
        _, shown = await command()
        assert re.search(r"let in +client-[0-9a-f]{12} +My phone · Kitchen +\(in conversation\)", shown)
        assert found[1].partition(".")[2] not in shown
        assert (await command("revoke", "My phone"))[0] == 0
        assert await phone.ended() == 1000


async def test_the_example_in_the_documentation_works(hub: Hub) -> None:
    page = (Path(xiaozhi_hub.__file__).parent / "docs" / "clients.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(example.strip().splitlines()) <= 22
    room: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, "clients.md", "exec"), room)
    ask: Callable[..., Awaitable[str]] = room["ask"]
    url = hub.local_url.replace("http", "ws", 1)
    async with asyncio.timeout(30):
        assert "kitchen light" in (await ask(url, await invited(hub), QUESTION)).lower()
