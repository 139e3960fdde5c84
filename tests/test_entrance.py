"""What whoever reaches the port may hold in memory: bounded, and devices and browsers notice nothing of the bounds."""

from __future__ import annotations

import asyncio
import logging

import pytest
from served import DEVICE_HELLO, Served, frame, read_frame, served, upgrade

from xiaozhi_hub.web.requests import body as bodies
from xiaozhi_hub.web.requests import entrance

CHECK_IN = b"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: 127.0.0.1\r\nDevice-Id: 24:6f:28:aa:bb:cc\r\n"
PAGE = b"GET /xiaozhi/ota/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def padded(size: int) -> bytes:
    """Headers of *size* bytes, none too long for itself, without the empty line."""
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"a" * 3990) for number in range(size // 4000))
    return lines + b"Y: %s\r\n" % (b"a" * (size - len(lines) - 5))


async def status(reader: asyncio.StreamReader) -> int:
    """Read one answer with its body; 0 when the connection has ended."""
    async with asyncio.timeout(30):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
        await reader.readexactly(length)
        return int(lines[0].split()[1])


async def ask(hub: Served, data: bytes) -> int:
    reader, writer = await hub.raw(data)
    try:
        return await status(reader)
    finally:
        writer.close()


# -- what devices and browsers do -------------------------------------------------------------------------------------


async def test_a_browser_may_bring_long_cookies_and_a_long_address() -> None:
    async with served() as hub:
        page = b"GET /xiaozhi/ota/?q=%s HTTP/1.1\r\nHost: 127.0.0.1\r\n" % (b"q" * 7000)
        assert await ask(hub, page + b"Cookie: a=%s\r\n" % (b"c" * 8000) + padded(6000) + b"\r\n") == 200


async def test_each_request_of_a_connection_may_be_long() -> None:
    async with served() as hub:
        reader, writer = await hub.raw(b"")
        for _ in range(4):
            writer.write(PAGE + padded(20_000) + b"\r\n")
            assert await status(reader) == 200
        writer.close()


async def test_a_request_that_comes_in_crumbs_is_answered() -> None:
    async with served() as hub:
        reader, writer = await hub.raw(b"\r\n")
        for byte in CHECK_IN + b"Content-Length: 2\r\n\r\n{}":
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        assert await status(reader) == 200
        writer.close()


async def test_bodies_and_requests_behind_a_request_are_not_taken_for_its_headers() -> None:
    async with served() as hub:
        whole = CHECK_IN + b"Content-Length: 60000\r\n\r\n{" + b" " * 59_998 + b"}"
        reader, writer = await hub.raw(whole + whole + PAGE + b"\r\n")
        assert [await status(reader) for _ in range(3)] == [200, 200, 200]
        writer.close()


async def test_who_is_told_that_a_body_is_too_long_gets_that_answer_and_no_other() -> None:
    async with served() as hub:
        reader, writer = await hub.raw(CHECK_IN + b"Content-Length: 2000000\r\n\r\n")
        assert await status(reader) == 413
        for _ in range(10):  # it has not noticed yet
            writer.write(b"{" * 10_000)
        assert await status(reader) == 0
        writer.close()


# -- what others do ---------------------------------------------------------------------------------------------------


async def test_headers_without_an_end_are_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as hub:
        reader, writer = await hub.raw(PAGE)
        writer.write(padded(entrance.HEAD_BYTES))
        assert await status(reader) == 431
        assert await status(reader) == 0
        writer.close()
        assert await ask(hub, PAGE + padded(entrance.HEAD_BYTES) + b"\r\n") == 431
        assert await ask(hub, b"\r\n\r\n" + PAGE + padded(entrance.HEAD_BYTES)) == 431
        assert await ask(hub, PAGE + b"\r\n") == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_request_that_is_never_finished_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "HEAD_SECONDS", 0.2)
    async with served() as hub:
        assert await ask(hub, PAGE) == 408


async def test_what_is_begun_behind_a_request_is_bounded_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "HEAD_SECONDS", 0.2)
    whole = CHECK_IN + b"Content-Length: 2\r\n\r\n{}"
    async with served() as hub:
        for before in (whole, whole + b"\r\n" + PAGE + b"\r\n"):
            reader, writer = await hub.raw(before + PAGE + padded(20_000))
            for _ in range(before.count(b"HTTP/1.1")):
                assert await status(reader) == 200
            assert await status(reader) == 408
            writer.close()
    monkeypatch.setattr(entrance, "HEAD_SECONDS", 15)
    monkeypatch.setattr(entrance, "HELD_BYTES", 10_000)
    async with served() as hub:
        reader, writer = await hub.raw(whole + PAGE + padded(20_000))
        assert [await status(reader) for _ in range(2)] == [200, 431]
        writer.close()


async def test_unfinished_requests_of_one_address_hold_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entrance, "HELD_BYTES", 50_000)
    async with served() as hub:
        halves = [await hub.raw(PAGE + padded(20_000)) for _ in range(4)]
        refused = [asyncio.create_task(status(reader)) for reader, _ in halves]
        async with asyncio.timeout(30):
            while sum(task.done() for task in refused) < 2:
                await asyncio.sleep(0.01)
        assert {task.result() for task in refused if task.done()} == {431}
        assert await ask(hub, PAGE + padded(20_000) + b"\r\n") == 200  # what comes whole is not kept
        for _, writer in halves:
            writer.write(b"\r\n")
        assert sorted(await asyncio.gather(*refused)) == [200, 200, 431, 431]
        again = await hub.raw(PAGE + padded(20_000))  # there is room again
        again[1].write(b"\r\n")
        assert await status(again[0]) == 200
        for _, writer in (*halves, again):
            writer.close()


async def test_of_many_connections_that_ask_for_nothing_the_oldest_go_and_the_new_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(entrance, "MOST_WAITING", 4)
    async with served() as hub:
        device, device_writer = await hub.raw(upgrade() + frame(DEVICE_HELLO))
        await device.readuntil(b"\r\n\r\n")
        await read_frame(device)
        crowd = [await hub.raw(b"") for _ in range(10)]
        assert [await status(reader) for reader, _ in crowd[:6]] == [0] * 6
        for _ in range(2):
            for reader, writer in crowd[6:]:
                writer.write(PAGE + b"\r\n")
                assert await status(reader) == 200
        device_writer.write(frame(b"?", opcode=9))
        assert await read_frame(device) == (10, b"?")  # who is being served is not in the crowd
        for _, writer in (*crowd, (device, device_writer)):
            writer.close()


async def test_bodies_that_come_slowly_hold_only_so_much_of_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.web.app.UNFINISHED_BYTES", (100_000, 100_000))
    async with served() as hub:
        slow = CHECK_IN + b"Content-Length: 45000\r\n\r\n{" + b" " * 40_000
        halves = [await hub.raw(slow) for _ in range(4)]
        answers = [asyncio.create_task(status(reader)) for reader, _ in halves]
        async with asyncio.timeout(30):
            while sum(task.done() for task in answers) < 2:
                await asyncio.sleep(0.01)
        assert {task.result() for task in answers if task.done()} == {503}
        for _, writer in halves:
            writer.write(b" " * 4998 + b"}")
        assert sorted(await asyncio.gather(*answers)) == [200, 200, 503, 503]
        assert hub.app[bodies.UNFINISHED].total == 0
        for _, writer in halves:
            writer.close()


async def test_packed_bodies_are_not_unpacked() -> None:
    async with served() as hub:
        headers = {"Content-Encoding": "gzip", "Device-Id": "a"}
        async with hub.http.post(hub.url("/xiaozhi/ota/"), data=b"\x1f\x8b", headers=headers) as answer:
            assert answer.status == 415


async def test_a_body_that_breaks_off_its_own_rules_leaves_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as hub:
        reader, writer = await hub.raw(CHECK_IN + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nzz\r\n")
        assert await status(reader) in (200, 400)
        writer.close()
        reader, writer = await hub.raw(
            b"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"
        )
        assert await status(reader) in (404, 421)
        writer.write(b"zz\r\n\r\n")  # it is read on for a while, so that the answer arrives
        assert await status(reader) == 0
        writer.close()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
