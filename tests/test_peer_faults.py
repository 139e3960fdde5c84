"""What a peer does wrong is told to the peer, and fills no log."""

from __future__ import annotations

import asyncio
import logging

import pytest
from served import DEVICE_HELLO, frame, read_frame, served, upgrade


async def test_what_is_no_http_is_not_logged_with_what_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    """A line that aiohttp cannot parse may be the one with the token."""
    caplog.set_level(logging.DEBUG)
    async with served() as hub:
        reader, writer = await hub.raw(upgrade(more="Authorization : Bearer s3cret\r\nX\xe9: Bearer s3cret\r\n"))
        assert b" 400 " in await reader.readline()
        writer.close()
    assert "s3cret" not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_key_that_is_not_ascii_is_the_devices_fault() -> None:
    async with served() as hub:
        spoilt = upgrade().replace(b"dGhlIHNhbXBsZSBub25jZQ==", "你好".encode())
        reader, writer = await hub.raw(spoilt)
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()


async def test_a_device_that_goes_in_mid_request_leaves_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as hub:
        head = b"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: x\r\nDevice-Id: y\r\nContent-Length: 500\r\n\r\n{"
        for _ in range(5):
            _, writer = await hub.raw(head)
            await asyncio.sleep(0.05)  # let the hub begin to wait for the body
            writer.transport.abort()
        async with hub.http.post(hub.url("/xiaozhi/ota/"), headers={"Device-Id": "y"}) as answer:
            assert answer.status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_device_that_pings_and_goes_leaves_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as hub:
        for _ in range(20):
            reader, writer = await hub.raw(upgrade() + frame(DEVICE_HELLO))
            await reader.readuntil(b"\r\n\r\n")
            await read_frame(reader)
            writer.write(frame(b"?", opcode=9) * 50)
            writer.transport.abort()
        async with asyncio.timeout(20):
            while hub.connections:
                await asyncio.sleep(0.01)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
