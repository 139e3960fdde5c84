"""A device takes a photo and asks about it: over real sockets, with a real server behind the hub."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import multipart
from PIL import Image
from seeing_model import Server, serving

from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.entries import EntryState
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.testing import FirmwareProfile
from xiaozhi_hub.testing.device import FakeDevice
from xiaozhi_hub.testing.house import running_hub
from xiaozhi_hub.web.devices import photo as photo_room
from xiaozhi_hub.web.devices import vision as vision_room

QUIET = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n  echo: {llm: {delay: 1.5}}\n"
DEVICE = DeviceIdentity("24:6f:28:aa:bb:cc", address="127.0.0.1")
BOUNDARY = "----ESP32_CAMERA_BOUNDARY"


@asynccontextmanager
async def seeing_hub(
    folder: Path, server: Server | None = None, *, more: str = "", options: str = ""
) -> AsyncIterator[Hub]:
    async with serving(server or Server()) as model:
        url = f"  openai_compatible:\n    url: http://127.0.0.1:{model.port}/v1\n{options}"
        async with running_hub(folder, QUIET + url + more) as hub:
            yield hub


# -- a device with a camera ---------------------------------------------------------------------------------------


def picture(width: int = 320, height: int = 240, kind: str = "JPEG", **more: Any) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, kind, **more)
    return out.getvalue()


def body_of(photo: bytes | None, question: str | None = "What is this?", end: str = "--\r\n") -> bytes:
    """The body as the firmware writes it."""
    parts = b""
    if question is not None:
        parts += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="question"\r\n\r\n{question}\r\n'.encode()
    if photo is not None:
        parts += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="camera.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        parts += photo + b"\r\n"
    return parts + f"--{BOUNDARY}{end}".encode()


async def post(
    hub: Hub, offer: tuple[str, str], body: bytes, *, token: str | None = None, device: str = DEVICE.id, kind: str = ""
) -> tuple[int, dict[str, str], Any]:
    """Upload as the firmware does: in small chunks, without a length."""
    url, given = offer
    parts = urlsplit(url)
    assert (parts.scheme, parts.hostname, parts.port) == ("http", "127.0.0.1", hub.port)
    bearer = given if token is None else token
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nDevice-Id: {device}\r\nClient-Id: 3b0f7c1e\r\n"
        + (f"Authorization: Bearer {bearer}\r\n" if bearer else "")
        + f"Content-Type: {kind or f'multipart/form-data; boundary={BOUNDARY}'}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    try:
        writer.write(head.encode())
        try:
            for at in range(0, len(body), 512):
                piece = body[at : at + 512]
                writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                await writer.drain()
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        except ConnectionError:
            pass  # it has answered before the end
        async with asyncio.timeout(30):
            head_back, _, answer = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.transport.abort()
    status, *lines = head_back.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert "transfer-encoding" not in headers and int(headers["content-length"]) == len(answer) < 6144
    return int(status.split()[1]), headers, json.loads(answer)


async def until(is_so: Callable[[], object], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.005)


def offered(hub: Hub, session: str = "s1", device: DeviceIdentity = DEVICE) -> tuple[str, str]:
    offer = hub.services.vision.offer(device, session)
    assert offer is not None
    return offer


# -- what happens -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [True, False])
async def test_a_photo_is_looked_at_and_the_question_answered(tmp_path: Path, streams: bool) -> None:
    server = Server(streams=streams)
    async with seeing_hub(tmp_path, server) as hub:
        status, headers, answer = await post(hub, offered(hub), body_of(picture(), "What is on the desk?"))
        assert status == 200 and headers["content-type"].startswith("application/json")
        assert answer == {"success": True, "action": "RESPONSE", "response": "A red mug on a desk."}
        assert server.asked[0]["model"] == "tiny-vl"
        assert server.asked[0]["messages"][1]["content"][0]["text"] == "What is on the desk?"
        assert server.seen.size == (320, 240)


async def test_a_photo_leaves_the_hub_small_and_without_anything_but_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    exif[0x010E] = "the secret place"
    server = Server()
    async with seeing_hub(tmp_path, server) as hub:
        photo = picture(3000, 2000, exif=exif, comment=b"made by hand") + b"trailing secret"
        assert (await post(hub, offered(hub), body_of(photo)))[2]["success"]
        sent = server.asked[0]["messages"][1]["content"][1]["image_url"]["url"]
        raw = base64.b64decode(sent.partition(",")[2])
        assert server.seen.size == (853, 1280)
        assert not server.seen.getexif() and "comment" not in server.seen.info
        assert b"secret" not in raw and b"hand" not in raw


async def test_a_token_that_is_no_text_is_refused_as_any_wrong_one(tmp_path: Path) -> None:
    async with seeing_hub(tmp_path) as hub:
        path = urlsplit(offered(hub)[0]).path
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(head.encode() + b"Authorization: Bearer \xce\xff\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 401")
        writer.close()


async def test_a_camera_that_goes_in_mid_photo_leaves_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with seeing_hub(tmp_path) as hub:
        url, token = offered(hub)
        head = (
            f"POST {urlsplit(url).path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: 9999\r\n\r\n"
        )
        _, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(head.encode() + body_of(picture())[:400])
        await until(lambda: hub.services.vision.busy)
        writer.transport.abort()
        await until(lambda: not hub.services.vision.busy)
        assert (await post(hub, (url, token), body_of(picture())))[2]["success"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_a_part_with_an_odd_name_is_left_out_and_not_remembered(tmp_path: Path) -> None:
    odd = [b"form data", b"form-data; name", b'form-data; x; name="file"', b"form-data; name=a b"]
    async with seeing_hub(tmp_path) as hub:
        offer = offered(hub)
        for disposition in odd:
            part = f"--{BOUNDARY}\r\n".encode() + b"Content-Disposition: %s\r\n\r\nodd\r\n" % disposition
            assert (await post(hub, offer, part + body_of(picture())))[2]["success"], disposition
        assert "form" not in str(vars(multipart).get("__warningregistry__", ""))


async def test_photos_on_their_way_from_one_address_hold_only_so_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision_room, "_HELD_BYTES", (5000, 5000))
    async with seeing_hub(tmp_path) as hub:
        offer = offered(hub)
        large, small = picture(quality=100, comment=bytes(9000)), picture(16, 16)
        assert len(small) < 4000 and len(large) > 9000
        answer = (await post(hub, offer, body_of(large)))[2]
        assert not answer["success"] and "still looking" in answer["message"]
        assert (await post(hub, offer, body_of(small)))[2]["success"]


async def test_a_photo_counts_as_long_as_it_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_room, "_HELD_BYTES", (20_000, 20_000))
    monkeypatch.setattr(vision_room, "_AT_ONCE", 1)
    server = Server(hangs=True)
    async with seeing_hub(tmp_path, server) as hub, asyncio.TaskGroup() as group:
        door = hub.services.vision
        offers = [
            offered(hub, device=DeviceIdentity(f"24:6f:28:aa:bb:0{number}", address="127.0.0.1")) for number in range(3)
        ]
        small, large = picture(16, 16), picture(16, 16, comment=bytes(15_000))

        def send(number: int, photo: bytes) -> asyncio.Task[Any]:
            return group.create_task(post(hub, offers[number], body_of(photo), device=f"24:6f:28:aa:bb:0{number}"))

        looked_at = send(0, small)
        await until(lambda: server.asked)
        waiting = send(1, large)
        await until(lambda: door.held > len(large))
        _, _, refused = await send(2, large)
        assert not refused["success"] and "still looking" in refused["message"]
        assert not waiting.done() and not looked_at.done(), "the room is taken by those who wait and are looked at"
        server.hangs = False
        assert (await looked_at)[2]["success"] and (await waiting)[2]["success"]
        assert door.held == 0
        assert (await send(2, large))[2]["success"]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_other_common_pictures_are_taken_too(tmp_path: Path, kind: str) -> None:
    async with seeing_hub(tmp_path) as hub:
        assert (await post(hub, offered(hub), body_of(picture(kind=kind))))[2]["success"]


async def test_without_the_token_of_this_device_and_session_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    async with seeing_hub(tmp_path, server) as hub:
        body, old = body_of(picture()), offered(hub)
        fresh = offered(hub)
        assert (await post(hub, old, body))[0] == 401
        assert (await post(hub, fresh, body, token=""))[0] == 401
        assert (await post(hub, fresh, body, token=fresh[1] + "x"))[0] == 401
        assert (await post(hub, fresh, body, device="24:6f:28:00:00:01"))[0] == 401
        assert (await post(hub, fresh, body))[0] == 200
        monkeypatch.setattr(vision_room, "TOKEN_S", 0.0)
        assert (await post(hub, offered(hub), body))[0] == 401
        assert len(server.asked) == 1


async def test_a_token_lasts_as_long_as_the_link_it_was_made_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision_room, "TOKEN_S", 0.0)
    async with seeing_hub(tmp_path) as hub:
        async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=DEVICE.id) as device:
            await device.connect()
            link = hub.devices.sessions[DEVICE.id].link
            offer = offered(hub, link.session_id, link.device)
            assert (await post(hub, offer, body_of(picture())))[0] == 200
        async with asyncio.timeout(20):
            while DEVICE.id in hub.devices.sessions:
                await asyncio.sleep(0.01)
        assert (await post(hub, offer, body_of(picture())))[0] == 401


async def test_without_an_engine_nothing_is_offered_and_who_asks_is_told_in_the_devices_language(
    tmp_path: Path,
) -> None:
    device = f'devices:\n  "{DEVICE.id}":\n    language: zh-Hans\n'
    async with seeing_hub(tmp_path, more=device) as hub:
        offer = offered(hub)
        hub.engines.remove_source("openai_compatible")
        assert hub.services.vision.offer(DEVICE, "s2") is None
        status, _, answer = await post(hub, offer, body_of(picture()))
        assert status == 200 and answer["success"] is False
        assert "图像模型" in answer["message"]


async def test_the_address_is_the_one_by_which_the_device_came(tmp_path: Path) -> None:
    async with seeing_hub(tmp_path) as hub:
        by_name = DeviceIdentity("24:6f:28:aa:bb:01", host="hub.local")
        assert offered(hub, device=by_name)[0] == f"http://hub.local:{hub.port}/mcp/vision/explain"
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(
            b"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: 10.1.2.3:18003\r\nDevice-Id: 24:6f:28:aa:bb:01\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        assert b"10.1.2.3:18003" in await reader.read()
        writer.close()
        assert offered(hub, device=by_name)[0] == "http://10.1.2.3:18003/mcp/vision/explain"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        pytest.param(body_of(None), "no photo", id="no file"),
        pytest.param(body_of(b""), "could not read", id="an empty file"),
        pytest.param(body_of(b"GIF89a" + b"\0" * 50), "could not read", id="another format"),
        pytest.param(body_of(picture()[:2000]), "could not read", id="half a photo"),
        pytest.param(body_of(picture(9000, 3000)), "could not read", id="too many pixels"),
        pytest.param(body_of(picture())[:3000], "did not arrive whole", id="half a body"),
        pytest.param(b"", "did not arrive whole", id="nothing"),
        pytest.param(b"\r\n" * 5000, "did not arrive whole", id="no parts"),
        pytest.param(body_of(b"\xff\xd8" + b"\0" * (photo_room.MOST_BYTES + 9000)), "too large", id="too large"),
    ],
)
async def test_a_photo_that_cannot_be_used_is_told_with_status_200(tmp_path: Path, body: bytes, why: str) -> None:
    server = Server()
    async with seeing_hub(tmp_path, server) as hub:
        status, _, answer = await post(hub, offered(hub), body)
        assert (status, answer["success"]) == (200, False)
        assert why in answer["message"]
        assert server.asked == []
        assert (await post(hub, offered(hub), body_of(picture())))[2]["success"]


async def test_no_body_whatever_makes_the_hub_fail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole, chance = body_of(picture(64, 48)), random.Random(7)
    async with seeing_hub(tmp_path) as hub:
        for _ in range(150):
            body = bytearray(whole)
            for _ in range(chance.randint(1, 6)):
                at = chance.randrange(len(body) or 1)
                match chance.randrange(4):
                    case 0:
                        body[at : at + 1] = bytes([chance.randrange(256)])
                    case 1:
                        del body[at : at + chance.randrange(200)]
                    case 2:
                        body[at:at] = body[: chance.randrange(200)]
                    case _:
                        body[at:at] = chance.choice(
                            (b"\r\n", b"--", f"--{BOUNDARY}".encode(), b"Content-Length: 9\r\n", b"\0" * 70)
                        )
            status, _, answer = await post(hub, offered(hub), bytes(body))
            assert status == 200 and isinstance(answer["success"], bool)
        assert "was not answered" not in caplog.text


async def test_a_body_that_is_no_multipart_is_told_with_status_200(tmp_path: Path) -> None:
    async with seeing_hub(tmp_path) as hub:
        status, _, answer = await post(hub, offered(hub), picture(), kind="image/jpeg")
        assert (status, answer["success"]) == (200, False)


@pytest.mark.parametrize(
    "server",
    [Server(status=500), Server(status=429), Server(answer=""), Server(answer="\n \n")],
    ids=lambda s: repr(s)[:40],
)
async def test_a_model_that_fails_is_told_with_status_200(tmp_path: Path, server: Server) -> None:
    async with seeing_hub(tmp_path, server) as hub:
        status, _, answer = await post(hub, offered(hub), body_of(picture()))
        assert (status, answer["success"]) == (200, False)
        assert "eyes" in answer["message"]


async def test_a_model_that_hangs_is_not_waited_for_longer_than_the_device_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vision_room.ANSWER_S <= 24
    monkeypatch.setattr(vision_room, "ANSWER_S", 0.5)
    async with seeing_hub(tmp_path, Server(hangs=True)) as hub:
        began = time.monotonic()
        status, _, answer = await post(hub, offered(hub), body_of(picture()))
        assert time.monotonic() - began < 20
        assert (status, answer["success"]) == (200, False)
        assert "too long" in answer["message"]


async def test_a_device_that_stops_in_the_middle_of_its_photo_is_answered_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vision_room, "ANSWER_S", 0.3)
    async with seeing_hub(tmp_path) as hub:
        url, token = offered(hub)
        reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
        writer.write(
            f"POST {urlsplit(url).path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n"
            f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n10\r\n".encode()
        )
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


@pytest.mark.parametrize("answer", ["很红的杯子。" * 600, "mug " * 3000, '"\\' * 3000])
async def test_a_long_answer_is_cut_to_what_the_device_can_read(tmp_path: Path, answer: str) -> None:
    async with seeing_hub(tmp_path, Server(answer=answer)) as hub:
        said = (await post(hub, offered(hub), body_of(picture())))[2]["response"]
        assert len(said) > 1000 and answer.startswith(said.removesuffix("…").rstrip())


@pytest.mark.parametrize("keep", [True, False])
async def test_half_a_character_of_the_model_costs_the_device_no_answer(tmp_path: Path, keep: bool) -> None:
    more = f"history:\n  photos: {str(keep).lower()}\n"
    async with seeing_hub(tmp_path, Server(answer="A mug \ud83d on a desk."), more=more) as hub:
        status, _, answer = await post(hub, offered(hub), body_of(picture()))
    assert (status, answer.get("response")) == (200, "A mug ? on a desk.")


async def test_what_do_you_see_goes_from_the_person_to_the_model_and_back(tmp_path: Path) -> None:
    server = Server()
    async with seeing_hub(tmp_path, server) as hub:
        profile = FirmwareProfile(parts=("camera",))
        async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", profile=profile) as device:
            device.camera.photo = picture(64, 48)
            assert (await device.ask_text("take a photo: what do you see?")).said == "A red mug on a desk."
    assert server.seen.size == (64, 48)


@pytest.mark.parametrize("keep", [True, False])
async def test_a_photo_is_kept_with_its_turn_only_by_choice(tmp_path: Path, keep: bool) -> None:
    more = f"history:\n  photos: {str(keep).lower()}\n"
    async with (
        seeing_hub(tmp_path, more=more) as hub,
        FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=DEVICE.id) as device,
    ):
        await device.connect()
        link = hub.devices.sessions[DEVICE.id].link
        async with asyncio.TaskGroup() as group:
            turn = group.create_task(device.ask_text("tell me something long"))
            async with asyncio.timeout(20):
                while not hub.devices.sessions[DEVICE.id].turn_id:
                    await asyncio.sleep(0.01)
            assert (await post(hub, offered(hub, link.session_id, link.device), body_of(picture())))[2]["success"]
            await turn
        async with asyncio.timeout(20):
            while not (turns := await hub.history.turns()):
                await asyncio.sleep(0.01)
        kept = await hub.services.photos.of_turn(turns[0].id)
        assert [(photo.question, photo.answer) for photo in kept] == (
            [("What is this?", "A red mug on a desk.")] if keep else []
        )
        files = list((hub.config.data_dir / "photos").rglob("*.jpg"))
        assert files == [hub.services.photos.path(photo.file) for photo in kept]
        await hub.services.photos.apply_retention(time.time() + 31 * 86400)
        assert await hub.services.photos.of_turn(turns[0].id) == []
        assert not list((hub.config.data_dir / "photos").rglob("*.jpg"))


# -- the integration ----------------------------------------------------------------------------------------------


def entry_of(hub: Hub) -> Any:
    return next(entry for entry in hub.plugins.entries if entry.domain == "openai_compatible")


async def test_a_model_is_chosen_and_its_name_shown(tmp_path: Path) -> None:
    async with seeing_hub(tmp_path, Server(models=("one", "two")), options="    model: two\n") as hub:
        (engine,) = hub.engines.visions()
        assert (engine.info.detail, engine.info.offline) == ("two", True)


@pytest.mark.parametrize(
    ("server", "options", "reason", "hint"),
    [
        (Server(models=("one", "two")), "    model: three\n", "no model three", "one, two"),
        (Server(models=()), "", "does not say which models", "model:"),
        (Server(key="right"), "    key: wrong-key\n", "refuses the key", "secrets.yaml"),
    ],
)
async def test_what_the_owner_must_do_is_told(
    tmp_path: Path, server: Server, options: str, reason: str, hint: str
) -> None:
    async with seeing_hub(tmp_path, server, options=options) as hub:
        entry = entry_of(hub)
        assert entry.state is EntryState.FAILED
        assert reason in entry.reason and hint in entry.hint and "wrong-key" not in entry.reason + entry.hint
        assert hub.engines.visions() == ()


async def test_a_server_that_is_not_there_yet_is_tried_again(tmp_path: Path) -> None:
    async with running_hub(tmp_path, QUIET + "  openai_compatible:\n    url: http://127.0.0.1:1/v1\n") as hub:
        assert entry_of(hub).state is EntryState.RETRYING
        assert "does not answer" in entry_of(hub).reason


async def test_the_key_is_sent_and_told_to_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(key="sesame-open", status=403)
    async with seeing_hub(tmp_path, server, options="    key: sesame-open\n") as hub:
        assert entry_of(hub).state is EntryState.READY
        assert not (await post(hub, offered(hub), body_of(picture())))[2]["success"]
        assert "refuses with status 403" in caplog.text
        assert "sesame-open" not in caplog.text


@pytest.mark.parametrize(
    "url", ["", "ftp://x/v1", "192.168.1.3:8080", "http://user:pw@host/v1", "http://h/v1?a=b", "http://:80"]
)
async def test_an_address_that_cannot_be_one_is_refused(tmp_path: Path, url: str) -> None:
    async with running_hub(tmp_path, QUIET + f'  openai_compatible:\n    url: "{url}"\n') as hub:
        assert entry_of(hub).state is EntryState.FAILED
        assert "expected an address" in entry_of(hub).reason
