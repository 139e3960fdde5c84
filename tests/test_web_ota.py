"""The check-in over real sockets, as the firmware and other clients make it."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from aiohttp import ClientResponse
from served import DEVICE_ID, Served, served

from xiaozhi_hub.discovery.service import OTA_PATH
from xiaozhi_hub.web.devices import ota as ota_room
from xiaozhi_hub.web.devices.ota import clock
from xiaozhi_hub.web.requests.hosts import Address, parse_host

HEADERS = {"Device-Id": DEVICE_ID, "Client-Id": "3b0f7c1e", "User-Agent": "bread-compact-wifi/2.4.2"}
BODY = b'{"version":2,"application":{"version":"2.4.2"},"board":{"name":"bread-compact-wifi"}}'


async def check_in(hub: Served, path: str = "/xiaozhi/ota/", **options: Any) -> tuple[ClientResponse, Any]:
    defaults: dict[str, Any] = {"headers": HEADERS, "data": BODY, "allow_redirects": False}
    async with hub.http.post(hub.url(path), **(defaults | options)) as response:
        return response, json.loads(await response.read())


@pytest.mark.parametrize("path", ["/xiaozhi/ota/", "/xiaozhi/ota"])
async def test_a_check_in_is_answered_with_and_without_the_last_slash(path: str) -> None:
    async with served() as hub:
        response, answer = await check_in(hub, path)
        assert response.status == 200
        assert answer["websocket"] == {"url": f"ws://127.0.0.1:{hub.port}/xiaozhi/v1/", "token": "", "version": 1}
        assert [found.device.id for found in hub.check_ins] == [DEVICE_ID]


def test_the_announced_path_is_the_one_that_is_served() -> None:
    assert ota_room.PATHS[0] == OTA_PATH


async def test_the_answer_has_the_form_that_firmware_can_read() -> None:
    async with served() as hub:
        reader, writer = await hub.raw(
            b"POST /xiaozhi/ota/ HTTP/1.1\r\nhost: 127.0.0.1\r\naccept-encoding: gzip\r\nconnection: close\r\n"
            b"device-id: 24:6f:28:aa:bb:cc\r\ncontent-length: 2\r\n\r\n{}"
        )
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        lines = head.decode().lower().split("\r\n")
        assert lines[0] == "http/1.1 200 ok"
        assert "content-type: application/json" in lines
        assert f"content-length: {len(body)}" in lines
        assert not [line for line in lines if "transfer-encoding" in line or "content-encoding" in line]
        answer = json.loads(body)
        assert "mqtt" not in answer and "activation" not in answer and None not in answer.values()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("hub.local:8003", "ws://hub.local:8003/xiaozhi/v1/"),
        ("192.168.1.20:18003", "ws://192.168.1.20:18003/xiaozhi/v1/"),
        ("hub.local", "ws://hub.local:{port}/xiaozhi/v1/"),
        ("[fe80::1]:8003", "ws://127.0.0.1:{port}/xiaozhi/v1/"),
        ("bad host/../:1", "ws://127.0.0.1:{port}/xiaozhi/v1/"),
        ("192.168.1.999", "ws://127.0.0.1:{port}/xiaozhi/v1/"),
        ("hub.local:99999", "ws://127.0.0.1:{port}/xiaozhi/v1/"),
    ],
)
async def test_the_device_is_sent_where_it_came(host: str, expected: str) -> None:
    async with served() as hub:
        _, answer = await check_in(hub, headers=HEADERS | {"Host": host})
        assert answer["websocket"]["url"] == expected.format(port=hub.port)


async def test_the_owners_word_about_the_address_goes_first() -> None:
    async with served(public_host="hub.example.org") as hub:
        _, answer = await check_in(hub)
        assert answer["websocket"]["url"] == f"ws://hub.example.org:{hub.port}/xiaozhi/v1/"


async def test_each_port_sends_its_devices_to_itself() -> None:
    async with served(ports=2) as hub:
        for port in hub.ports:
            async with hub.http.post(f"http://127.0.0.1:{port}/xiaozhi/ota/", headers=HEADERS, data=BODY) as response:
                assert (await response.json())["websocket"]["url"] == f"ws://127.0.0.1:{port}/xiaozhi/v1/"


async def test_the_answer_tells_the_time_of_the_house() -> None:
    noon = datetime(2026, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=45)))
    async with served(now=lambda: noon) as hub:
        _, answer = await check_in(hub)
        assert answer["server_time"] == {"timestamp": int(noon.timestamp() * 1000), "timezone_offset": 345}


def test_a_zone_by_name_and_the_zone_of_the_system_are_known() -> None:
    shanghai = clock("Asia/Shanghai")().utcoffset()
    assert shanghai == timedelta(hours=8)
    assert clock("")().utcoffset() == datetime.now().astimezone().utcoffset()


async def test_a_request_without_device_id_is_refused_and_remembered_nowhere() -> None:
    async with served() as hub:
        response, answer = await check_in(hub, headers={"User-Agent": "curl"})
        assert (response.status, answer["error"]["code"]) == (400, "device-id-missing")
        assert response.content_type == "application/json"
        assert hub.check_ins == []


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(BODY[:20], id="truncated"),
        pytest.param(b'{"board":{"ssid":"my "home""}}', id="unescaped quote in the name of the Wi-Fi"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"[" * 30_000, id="deeply nested"),
    ],
)
async def test_any_body_is_answered(body: bytes) -> None:
    async with served() as hub:
        response, answer = await check_in(hub, data=body)
        assert (response.status, answer["websocket"]["version"]) == (200, 1)


async def test_a_body_that_is_too_long_is_refused() -> None:
    async with served() as hub:
        response, answer = await check_in(hub, data=b"x" * (ota_room.BODY_LIMIT + 1))
        assert (response.status, answer["error"]["code"]) == (413, "request-entity-too-large")

        async def endless() -> Any:
            for _ in range(70):
                yield b"x" * 1024

        response, _ = await check_in(hub, data=endless())
        assert response.status == 413


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ota_room, "BODY_SECONDS", 0.1)
    async with served() as hub:
        reader, writer = await hub.raw(
            b"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: h\r\nDevice-Id: x\r\nContent-Length: 9\r\n\r\n{"
        )
        async with asyncio.timeout(20):
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_a_person_who_opens_the_address_reads_what_it_is_for() -> None:
    async with served() as hub, hub.http.get(hub.url("/xiaozhi/ota/")) as response:
        text = await response.text()
        assert response.status == 200 and response.content_type == "text/html"
        assert "http://xiaozhi-hub.local:8003" in text


async def test_another_method_is_refused_as_json() -> None:
    async with served() as hub, hub.http.put(hub.url("/xiaozhi/ota/")) as response:
        assert response.status == 405
        assert (await response.json())["error"]["code"] == "method-not-allowed"
        assert "POST" in response.headers["Allow"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub.local", Address("hub.local")),
        ("hub.local.:80", Address("hub.local", 80)),
        ("10.0.0.1:8003", Address("10.0.0.1", 8003)),
        ("hub.local:0", None),
        ("user@hub.local", None),
        ("hub.local:80:80", None),
        ("", None),
        ("a" * 300, None),
    ],
)
def test_hosts_are_read_strictly(text: str, expected: Address | None) -> None:
    assert parse_host(text) == expected


async def test_what_adds_to_an_answer_cannot_cost_the_device_its_answer() -> None:
    async def add(check_in: Any, address: Address, answer: dict[str, Any]) -> None:
        answer["websocket"]["token"] = f"for {check_in.device.id} at {address.host}"

    async def harm(check_in: Any, address: Address, answer: dict[str, Any]) -> None:
        answer["websocket"]["a_key_that_is_too_long"] = "makes the firmware crash"

    async def fail(check_in: Any, address: Address, answer: dict[str, Any]) -> None:
        del answer["websocket"]
        raise RuntimeError("no database")

    async with served(contributions=(harm, add, fail)) as hub:
        response, answer = await check_in(hub)
        assert response.status == 200
        assert answer["websocket"]["token"] == f"for {DEVICE_ID} at 127.0.0.1"
        assert "a_key_that_is_too_long" not in answer["websocket"]


async def test_what_adds_to_an_answer_and_hangs_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ota_room, "CONTRIBUTION_SECONDS", 0.05)

    async def hang(check_in: Any, address: Address, answer: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    async with served(contributions=(hang,)) as hub:
        _, answer = await check_in(hub)
        assert set(answer) == {"server_time", "websocket", "firmware"}
