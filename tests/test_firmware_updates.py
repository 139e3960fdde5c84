"""New firmware reaches devices over real sockets: one first, then the rest, and no more once it went wrong."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from esp_image import assets, image
from test_firmware_image import BOARD, put

from xiaozhi_hub.cli import main
from xiaozhi_hub.firmware import shelf as shelf_room
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.store.rollouts import ReleaseState, Rollouts
from xiaozhi_hub.testing.house import running_hub
from xiaozhi_hub.web.devices import firmware as firmware_room
from xiaozhi_hub.web.requests.hosts import Address

QUIET = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n  echo:\n"
ONE, TWO, THREE = (f"24:6f:28:aa:bb:0{n}" for n in (1, 2, 3))
NEW = image("2.5.0", size=300_000)


@pytest.fixture(autouse=True)
def looks_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf_room, "LOOK_AGAIN_S", 0.0)


@asynccontextmanager
async def hub_with(folder: Path, *images: bytes, more: str = "") -> AsyncIterator[tuple[Hub, Rollouts]]:
    for data in images:
        version = data[48:80].partition(b"\0")[0].decode()
        put(folder / "firmware", BOARD, f"{version}.bin", data)
    async with running_hub(folder, QUIET + more) as hub:
        yield hub, Rollouts(hub.database)


async def exchange(hub: Hub, request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Say *request* as the firmware's HTTP client does: on a connection of its own, and read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    try:
        writer.write(request)
        async with asyncio.timeout(30):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *lines = head.decode().split("\r\n")
    return status, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body


async def check_in(hub: Hub, device: str, version: str = "2.4.2", **changes: Any) -> dict[str, Any]:
    """Start a device; return the part ``firmware`` of the answer."""
    said = {
        "chip_model_name": "esp32s3",
        "board": {"name": BOARD},
        "application": {"name": "xiaozhi", "version": version},
    }
    body = json.dumps(said | changes).encode()
    status, headers, answer = await exchange(
        hub,
        f"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nDevice-Id: {device}\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body,
    )
    assert status == "HTTP/1.1 200 OK" and len(answer) < 6144 and "content-length" in headers
    found = json.loads(answer)
    assert found["websocket"]["url"]
    firmware: dict[str, Any] = found["firmware"]
    return firmware


async def fetch(hub: Hub, url: str, *headers: str) -> tuple[str, dict[str, str], bytes]:
    """Download as the firmware does: GET with nothing that says who asks."""
    parts = urlsplit(url)
    assert parts.scheme == "http" and parts.port == hub.port
    lines = "".join(f"{line}\r\n" for line in headers)
    return await exchange(
        hub, f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n{lines}\r\n".encode()
    )


async def test_without_a_release_nobody_is_offered_anything(tmp_path: Path) -> None:
    async with hub_with(tmp_path, NEW) as (hub, _):
        assert await check_in(hub, ONE) == {"version": "2.4.2", "url": ""}


async def test_a_release_goes_to_one_device_first_and_to_the_rest_when_that_one_came_back_with_it(
    tmp_path: Path,
) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.CANARY, 0.0)
        offered = await check_in(hub, ONE)
        assert offered["version"] == "2.5.0"
        assert (await check_in(hub, TWO))["url"] == ""
        status, _, body = await fetch(hub, offered["url"])
        assert status == "HTTP/1.1 200 OK" and body == NEW
        assert (await check_in(hub, TWO))["url"] == ""
        assert await check_in(hub, ONE, "2.5.0") == {"version": "2.5.0", "url": ""}
        assert (await check_in(hub, TWO))["version"] == "2.5.0"
        assert (await check_in(hub, THREE))["version"] == "2.5.0"
        (release,) = await store.releases()
        assert (release.state, release.canary) == (ReleaseState.RELEASED, ONE)


async def test_a_device_that_comes_back_as_it_was_stops_the_release_for_everybody(tmp_path: Path) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        url = (await check_in(hub, ONE))["url"]
        other = (await check_in(hub, TWO))["url"]
        await fetch(hub, url)
        assert await check_in(hub, ONE) == {"version": "2.4.2", "url": ""}
        assert (await check_in(hub, THREE))["url"] == ""
        assert (await fetch(hub, other))[0] == "HTTP/1.1 404 Not Found"
        (release,) = await store.releases()
        assert release.state is ReleaseState.STOPPED and "received the whole file" in release.reason
        assert any(f"Firmware 2.5.0 for {BOARD}" in problem.message for problem in hub.problems.values())
        await store.release(BOARD, "2.5.0", ReleaseState.CANARY, 0.0, canary=ONE)
        assert (await check_in(hub, ONE))["version"] == "2.5.0"
        assert not any("Firmware" in problem.message for problem in hub.problems.values())


@pytest.mark.parametrize("version", ["3.0.0", "", "latest"])
async def test_a_device_that_comes_back_with_something_else_proves_nothing(tmp_path: Path, version: str) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.CANARY, 0.0)
        await fetch(hub, (await check_in(hub, ONE))["url"])
        body = {
            "application": {"name": "xiaozhi", "version": version},
            "board": {"name": BOARD},
            "chip_model_name": "esp32s3",
        }
        async with aiohttp.ClientSession() as http:
            reply = await http.post(f"{hub.local_url}/xiaozhi/ota/", json=body, headers={"Device-Id": ONE})
            assert not (await reply.json()).get("firmware", {}).get("url")
        (release,) = await store.releases()
        assert release.state is ReleaseState.CANARY
        assert (await check_in(hub, TWO))["url"] == ""


async def test_a_device_that_was_not_let_in_yet_gets_no_firmware(tmp_path: Path) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        stranger = CheckIn(DeviceIdentity(ONE), board=BOARD, firmware="2.4.2", chip="esp32s3")
        here = Address("127.0.0.1", hub.port)
        waiting: dict[str, Any] = {"activation": {"code": "123456"}}
        await hub.services.firmware.contribute(stranger, here, waiting)
        assert set(waiting) == {"activation"} and not await store.offers()
        welcome: dict[str, Any] = {}
        await hub.services.firmware.contribute(stranger, here, welcome)
        assert welcome["firmware"]["version"] == "2.5.0"


async def test_an_answer_that_got_lost_is_repeated_but_not_for_ever(tmp_path: Path) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        urls = [(await check_in(hub, ONE))["url"] for _ in range(4)]
        assert urls[0] and urls[0] == urls[1] == urls[2] and not urls[3]
        (release,) = await store.releases()
        assert "never fetched it" in release.reason


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"chip_model_name": "esp32c3"}, id="another chip"),
        pytest.param({"chip_model_name": None}, id="an unknown chip"),
        pytest.param({"board": {"name": "m5stack-core-s3"}}, id="another board"),
        pytest.param({"board": {"name": "../" + BOARD}}, id="a board that is a path"),
        pytest.param({"application": {"name": "other", "version": "2.4.2"}}, id="another project"),
        pytest.param({"application": {"name": "xiaozhi", "version": "2.5.0"}}, id="the same version"),
        pytest.param({"application": {"name": "xiaozhi", "version": "2.10.0"}}, id="a newer version"),
    ],
)
async def test_firmware_that_does_not_suit_the_device_is_not_offered(tmp_path: Path, changes: dict[str, Any]) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        assert (await check_in(hub, ONE, **changes))["url"] == ""
        assert (await check_in(hub, ONE))["url"]


async def test_the_newest_released_version_is_offered(tmp_path: Path) -> None:
    async with hub_with(tmp_path, image("2.5.0"), image("2.10.0"), image("3.0.0")) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        await store.release(BOARD, "2.10.0", ReleaseState.RELEASED, 0.0)
        assert (await check_in(hub, ONE))["version"] == "2.10.0"


async def test_a_pinned_device_gets_its_version_and_no_other(tmp_path: Path) -> None:
    pins = f'devices:\n  "{ONE}":\n    firmware: "2.5.0"\n  "{TWO}":\n    firmware: hold\n'
    async with hub_with(tmp_path, image("2.5.0"), image("2.6.0"), more=pins) as (hub, store):
        await store.release(BOARD, "2.6.0", ReleaseState.RELEASED, 0.0)
        offered = await check_in(hub, ONE)
        assert offered["version"] == "2.5.0"
        assert (await fetch(hub, offered["url"]))[2] == image("2.5.0")
        assert (await check_in(hub, ONE, "2.5.0"))["url"] == ""
        assert (await check_in(hub, TWO))["url"] == ""
        assert (await check_in(hub, THREE))["version"] == "2.6.0"


async def test_a_download_has_a_length_a_checksum_and_nothing_that_the_firmware_cannot_read(tmp_path: Path) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        (tmp_path / "firmware" / BOARD / "2.5.0.bin.gz").write_bytes(b"something else")
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        url = (await check_in(hub, ONE))["url"]
        status, headers, body = await fetch(hub, url, "Accept-Encoding: gzip, br")
        assert (status, body) == ("HTTP/1.1 200 OK", NEW)
        assert headers["content-length"] == str(len(NEW))
        assert headers["etag"] == f'"{hashlib.sha256(NEW).hexdigest()}"'
        assert not {"transfer-encoding", "content-encoding", "location"} & set(headers)


@pytest.mark.parametrize(
    ("asked", "status", "begin", "end"),
    [
        ("bytes=0-99", 206, 0, 100),
        ("bytes=1000-", 206, 1000, len(NEW)),
        ("bytes=-10", 206, len(NEW) - 10, len(NEW)),
        (f"bytes=10-{len(NEW) * 2}", 206, 10, len(NEW)),
        (f"bytes={len(NEW)}-", 416, 0, 0),
        ("furlongs=1-2", 200, 0, len(NEW)),
        ("bytes=0-1,5-6", 200, 0, len(NEW)),
    ],
)
async def test_a_part_of_the_file_can_be_asked_for(
    tmp_path: Path, asked: str, status: int, begin: int, end: int
) -> None:
    async with hub_with(tmp_path, NEW) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        line, headers, body = await fetch(hub, (await check_in(hub, ONE))["url"], f"Range: {asked}")
        assert int(line.split()[1]) == status
        if status == 416:
            assert headers["content-range"] == f"bytes */{len(NEW)}"
        else:
            assert body == NEW[begin:end] and headers["content-length"] == str(end - begin)
        if status == 206:
            assert headers["content-range"] == f"bytes {begin}-{end - 1}/{len(NEW)}"


@pytest.mark.parametrize(
    "path",
    [
        "/xiaozhi/firmware/{ticket}/{board}/2.6.0.bin",
        "/xiaozhi/firmware/{ticket}/other/2.5.0.bin",
        "/xiaozhi/firmware/guess/{board}/2.5.0.bin",
        "/xiaozhi/firmware/{ticket}/{board}/..%2f..%2fconfiguration.yaml",
        "/xiaozhi/firmware/{ticket}/%2e%2e/configuration.yaml",
        "/xiaozhi/firmware/{ticket}/..%2f../configuration.yaml",
        "/xiaozhi/firmware/{ticket}/../../../configuration.yaml",
        "/xiaozhi/firmware/{ticket}/{board}/%00",
        "/xiaozhi/assets/{board}/..%2f..%2fconfiguration.yaml",
        "/xiaozhi/assets/%2e%2e/configuration.yaml",
        "/xiaozhi/assets/..%2ffirmware%2f{board}/2.5.0.bin",
        "/xiaozhi/assets/{board}/link.bin",
    ],
)
async def test_only_what_was_offered_can_be_fetched(tmp_path: Path, path: str) -> None:
    put(tmp_path / "assets", BOARD, "theme.bin", assets({"index.json": b"{}"}))
    (tmp_path / "assets" / BOARD / "link.bin").symlink_to(tmp_path / "configuration.yaml")
    async with hub_with(tmp_path, NEW, image("2.6.0")) as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        url = (await check_in(hub, ONE))["url"]
        ticket = urlsplit(url).path.split("/")[3]
        status, _, body = await fetch(hub, f"http://127.0.0.1:{hub.port}{path.format(ticket=ticket, board=BOARD)}")
        assert status == "HTTP/1.1 404 Not Found"
        assert b"integrations" not in body and NEW[:64] not in body


async def test_downloads_beyond_the_limit_wait_and_are_not_held_against_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware_room, "WAIT_S", 0.2)
    big = image("2.5.0", size=16_000_000)
    async with hub_with(tmp_path, big, more="limits:\n  downloads: 2\n") as (hub, store):
        await store.release(BOARD, "2.5.0", ReleaseState.RELEASED, 0.0)
        first, second = [(await check_in(hub, device))["url"] for device in (ONE, TWO)]
        assert first and second
        assert (await check_in(hub, THREE))["url"] == ""  # two are expected already
        slow = []
        for url in (first, first):
            reader, writer = await asyncio.open_connection("127.0.0.1", hub.port, limit=1024)
            writer.write(f"GET {urlsplit(url).path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            slow.append(writer)
        status, _, _ = await fetch(hub, second)
        assert status == "HTTP/1.1 503 Service Unavailable"
        for writer in slow:
            writer.transport.abort()
        assert TWO not in {offer.device_id for offer in await store.offers()}


async def test_assets_are_served_like_firmware(tmp_path: Path) -> None:
    data = assets({"index.json": b"{}", "font.bin": bytes(range(256)) * 100})
    put(tmp_path / "assets", BOARD, "theme.bin", data)
    put(tmp_path / "assets", BOARD, "broken.bin", data[:-5])
    async with hub_with(tmp_path) as (hub, _):
        here = Address("127.0.0.1", hub.port)
        assert await hub.services.firmware.assets_url(BOARD, "broken", here) is None
        url = await hub.services.firmware.assets_url(BOARD, "theme", here)
        assert url is not None
        status, headers, body = await fetch(hub, url)
        assert (status, body, headers["content-length"]) == ("HTTP/1.1 200 OK", data, str(len(data)))


def test_the_command_releases_stops_pins_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[int, str]:
        code = main(["firmware", "-c", str(tmp_path), *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    (tmp_path / "configuration.yaml").write_text(QUIET)
    assert "There is no firmware" in call("list")[1]
    put(tmp_path / "firmware", BOARD, "2.5.0.bin", NEW)
    put(tmp_path / "firmware", BOARD, "2.6.0.bin", NEW[:-1])
    assert "not released" in call("list")[1]
    assert call("release", BOARD, "2.7.0")[0] == 1
    code, said = call("release", BOARD, "2.6.0")
    assert code == 1 and "must" not in said and "cut short" in said
    assert call("release", BOARD, "2.5.0", "--canary", ONE.upper())[0] == 0
    assert f"tried first by {ONE}" in call("list")[1]
    assert call("stop", BOARD, "2.5.0")[0] == 0
    assert call("pin", TWO, "hold")[0] == 0
    assert call("pin", TWO, "v3")[0] == 1
    facts = json.loads(call("list", "--json")[1])
    assert facts["releases"][0]["state"] == "stopped" and facts["pins"] == {TWO: "hold"}
    assert call("pin", TWO, "none")[0] == 0
    assert json.loads(call("list", "--json")[1])["pins"] == {}
    assert call("stop", BOARD, "9.9")[0] == 1


async def test_a_release_by_the_command_reaches_the_hub_that_runs(tmp_path: Path) -> None:
    async with hub_with(tmp_path, NEW) as (hub, _):
        assert (await check_in(hub, ONE))["url"] == ""
        assert await asyncio.to_thread(main, ["firmware", "-c", str(tmp_path), "release", BOARD, "2.5.0", "--all"]) == 0
        assert (await check_in(hub, ONE))["version"] == "2.5.0"
