"""Devices on the WebSocket: what firmware does, what clients do, and what only trouble does."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from served import DEVICE_HELLO, DEVICE_ID, Served, frame, read_frame, served, upgrade

from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.protocol.device_messages import DeviceMessage, ListenStart, Unknown
from xiaozhi_hub.protocol.hub_messages import Stt
from xiaozhi_hub.web.devices.websocket import IN_A_ROW, DeviceLimits, WebSocketLink

LISTEN = {"type": "listen", "state": "start", "mode": "auto"}
OPUS_60 = b"\x58" + bytes(40)  # first byte: 60 ms, mono


class Ear:
    """A session that keeps what the device says."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[DeviceMessage | Packet] = asyncio.Queue()

    async def __call__(self, link: WebSocketLink) -> None:
        async for message in link.receive():
            self.heard.put_nowait(message)

    async def next(self) -> DeviceMessage | Packet:
        async with asyncio.timeout(20):
            return await self.heard.get()


@asynccontextmanager
async def connected(hub: Served, *, hello: bool = True, **headers: str) -> AsyncIterator[ClientWebSocketResponse]:
    """A well-behaved client; with *hello* it has exchanged them."""
    headers = {"Device-Id": DEVICE_ID, "Protocol-Version": "1"} | {k.replace("_", "-"): v for k, v in headers.items()}
    async with hub.http.ws_connect(hub.url("/xiaozhi/v1/"), headers=headers, autoping=False) as ws:
        if hello:
            await ws.send_json(DEVICE_HELLO)
            await ws.receive_json(timeout=20)
        yield ws


@dataclass
class Bare:
    """A bare socket after the upgrade, as the firmware holds it: it never answers a close frame."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def until_closed(self, within: float) -> list[tuple[int, bytes]]:
        """The frames that come until the hub closes TCP."""
        frames = []
        async with asyncio.timeout(within):
            try:
                while True:
                    frames.append(await read_frame(self.reader))
            except (asyncio.IncompleteReadError, ConnectionError):
                return frames


@asynccontextmanager
async def bare(hub: Served, *, hello: bool = True) -> AsyncIterator[Bare]:
    reader, writer = await hub.raw(upgrade())
    try:
        async with asyncio.timeout(20):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
            if hello:
                writer.write(frame(DEVICE_HELLO))
                await read_frame(reader)
        yield Bare(reader, writer)
    finally:
        writer.close()


async def within(seconds: float, is_so: Any) -> None:
    """Wait until *is_so* returns something true."""
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.005)


# -- the handshake and the hellos ---------------------------------------------------------------------------------


async def test_the_firmwares_upgrade_and_hello_are_answered_once() -> None:
    async with served() as hub:
        reader, writer = await hub.raw(upgrade())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        with pytest.raises(TimeoutError):  # nothing is sent before the device's hello
            async with asyncio.timeout(0.1):
                await reader.read(1)
        writer.write(frame(DEVICE_HELLO))
        async with asyncio.timeout(20):
            opcode, payload = await read_frame(reader)
        hello = json.loads(payload)
        assert (opcode, hello["type"], hello["transport"]) == (1, "hello", "websocket")
        assert hello["session_id"]
        assert hello["audio_params"] == {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60}
        writer.write(frame(DEVICE_HELLO))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        writer.close()


async def test_the_path_without_the_last_slash_works_too() -> None:
    async with served() as hub, hub.http.ws_connect(hub.url("/xiaozhi/v1"), headers={"Device-Id": "x"}) as ws:
        await ws.send_json({"type": "hello"})  # as old firmware: no features, no audio_params
        assert (await ws.receive_json(timeout=20))["transport"] == "websocket"


async def test_no_extension_is_agreed_on() -> None:
    async with served() as hub:
        reader, writer = await hub.raw(upgrade(more="Sec-WebSocket-Extensions: permessage-deflate\r\n"))
        assert b"permessage-deflate" not in await reader.readuntil(b"\r\n\r\n")
        writer.close()


async def test_a_device_without_id_is_refused() -> None:
    async with served() as hub:
        reader, writer = await hub.raw(upgrade(None))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"application/json" in head
        writer.close()


async def test_a_malformed_upgrade_is_refused() -> None:
    async with served() as hub:
        for spoilt in (
            upgrade().replace(b"Sec-WebSocket-Version: 13\r\n", b""),
            upgrade().replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
            upgrade().replace(b"Connection: Upgrade\r\n", b""),
        ):
            reader, writer = await hub.raw(spoilt)
            async with asyncio.timeout(20):
                assert (await reader.readline()).startswith(b"HTTP/1.1 4")
            writer.close()
        assert hub.connections == 0


async def test_more_devices_than_allowed_are_told_so() -> None:
    async with served(limits=DeviceLimits(connections=1)) as hub, connected(hub):
        reader, writer = await hub.raw(upgrade("second"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 503")
        assert b"as many devices as it can serve" in await reader.read(2000)
        writer.close()


async def test_a_person_who_opens_the_address_reads_what_it_is_for() -> None:
    async with served() as hub, hub.http.get(hub.url("/xiaozhi/v1/")) as response:
        assert (response.status, response.content_type) == (426, "text/html")
        assert "http://xiaozhi-hub.local:8003" in await response.text()


async def test_what_comes_before_the_hello_is_ignored() -> None:
    ear = Ear()
    async with served(ear) as hub, connected(hub, hello=False) as ws:
        await ws.send_bytes(OPUS_60)
        await ws.send_json(LISTEN)
        await ws.send_str("garbage")
        await ws.send_json(DEVICE_HELLO)
        assert (await ws.receive_json(timeout=20))["type"] == "hello"
        await ws.send_json(LISTEN)
        assert await ear.next() == ListenStart("auto")
        assert ear.heard.empty()


async def test_a_silent_connection_is_closed() -> None:
    async with served(limits=DeviceLimits(hello_s=0.1)) as hub, bare(hub, hello=False) as device:
        frames = await device.until_closed(20)
        assert [opcode for opcode, _ in frames] == [8]
        await within(20, lambda: hub.connections == 0)


async def test_a_hello_that_asks_for_another_codec_is_refused() -> None:
    async with served() as hub, connected(hub, hello=False) as ws:
        await ws.send_json({"type": "hello", "audio_params": {"format": "pcm"}})
        message = await ws.receive(timeout=20)
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1008)


# -- frames both ways ---------------------------------------------------------------------------------------------


async def test_packets_arrive_with_their_length() -> None:
    ear = Ear()
    async with served(ear) as hub, connected(hub) as ws:
        await ws.send_bytes(OPUS_60)
        await ws.send_bytes(b"\x48")  # silence of 20 ms, as DTX sends it
        await ws.send_bytes(b"")
        assert await ear.next() == Packet(OPUS_60, 60)
        assert await ear.next() == Packet(b"\x48", 20)
        assert await ear.next() == Packet(b"", 60)


@pytest.mark.parametrize(
    ("version", "header"),
    [
        ("1", b""),
        ("2", struct.pack(">HHIII", 2, 0, 0, 7, 41)),
        ("3", struct.pack(">BBH", 0, 0, 41)),
        ("9", b""),
    ],
)
async def test_the_framing_of_this_connection_is_used_both_ways(version: str, header: bytes) -> None:
    async def echo(link: WebSocketLink) -> None:
        async for message in link.receive():
            if isinstance(message, Packet):
                await link.send_audio(message)

    async with served(echo) as hub, connected(hub, Protocol_Version=version) as ws:
        await ws.send_bytes(header + OPUS_60)
        assert await ws.receive_bytes(timeout=20) == header + OPUS_60


async def test_messages_to_the_device_carry_the_session() -> None:
    async def greet(link: WebSocketLink) -> None:
        await link.send(Stt("what time is it"))
        await link.close("done")

    async with served(greet) as hub, connected(hub) as ws:
        link = await hub.links.get()
        assert await ws.receive_json(timeout=20) == {
            "type": "stt",
            "session_id": link.session_id,
            "text": "what time is it",
        }


async def test_bad_messages_do_not_end_the_conversation() -> None:
    ear = Ear()
    async with served(ear) as hub, connected(hub) as ws:
        for bad in ("", "{", "[]", "null", '"x"', '{"type":7}', '{"type":"mcp"}', "{" * 5000):
            await ws.send_str(bad)
        await ws.send_json({"type": "later-firmware"})
        await ws.send_json(LISTEN)
        assert await ear.next() == Unknown("later-firmware")
        assert await ear.next() == ListenStart("auto")
        assert (await hub.links.get()).dropped == 8


async def test_a_client_ping_is_answered_and_none_is_sent() -> None:
    async with served() as hub, connected(hub) as ws:
        await ws.ping(b"hi")
        message = await ws.receive(timeout=20)
        assert (message.type, message.data) == (WSMsgType.PONG, b"hi")
        with pytest.raises(TimeoutError):
            await ws.receive(timeout=0.2)


async def test_the_largest_message_passes_and_a_larger_one_ends_the_connection() -> None:
    ear = Ear()
    limits = DeviceLimits(message_bytes=1000)
    async with served(ear, limits=limits) as hub, connected(hub) as ws:
        await ws.send_bytes(bytes(1000))
        assert await ear.next() == Packet(bytes(1000), 10)
        await ws.send_bytes(bytes(1001))
        message = await ws.receive(timeout=20)
        assert message.type is WSMsgType.CLOSE
        await within(20, lambda: hub.connections == 0)


async def test_a_giant_frame_is_refused_by_its_header() -> None:
    async with served() as hub, bare(hub) as device:
        device.writer.write(b"\x82\xff" + (2**40).to_bytes(8, "big") + b"mask" + bytes(100))
        frames = await device.until_closed(20)
        assert [(opcode, payload[:2]) for opcode, payload in frames] == [(8, struct.pack(">H", 1009))]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xf3\x85" + bytes(60), id="reserved bits"),
        pytest.param(b"\x81\x03abc", id="a frame without mask"),
        pytest.param(frame(b"\xff\xfe", opcode=1), id="text that is not UTF-8"),
        pytest.param(frame(b"", opcode=0), id="a continuation of nothing"),
        pytest.param(frame(bytes(126), opcode=9), id="a ping that is too long"),
    ],
)
async def test_frames_that_break_the_rules_end_only_their_own_connection(garbage: bytes) -> None:
    ear = Ear()
    async with served(ear) as hub, bare(hub) as device, connected(hub, Device_Id="other") as ws:
        device.writer.write(garbage)
        if garbage[1] & 0x80:
            await device.until_closed(20)
            await within(20, lambda: hub.connections == 1)
        await ws.send_json(LISTEN)
        while await ear.next() != ListenStart("auto"):
            pass


async def test_garbage_instead_of_http_is_refused_quietly(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as hub:
        tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        for garbage in (tls, b"\r\n\x00\xff" * 9 + b"\r\n\r\n", b"GET\r\n\r\n"):
            reader, writer = await hub.raw(garbage)
            writer.write_eof()
            async with asyncio.timeout(20):
                answer = await reader.read()
            assert b"Traceback" not in answer and b"xiaozhi_hub" not in answer
            writer.close()
        async with hub.http.get(hub.url("/")) as response:
            assert response.status == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# -- limits -------------------------------------------------------------------------------------------------------


async def test_a_burst_passes() -> None:
    ear = Ear()
    async with served(ear) as hub, connected(hub) as ws:
        for _ in range(33):  # the wake word's audio comes at once
            await ws.send_bytes(OPUS_60)
        for _ in range(33):
            await ear.next()


@pytest.mark.parametrize(("links", "each"), [(1, 250), (6, 150)])
async def test_what_comes_in_one_piece_leaves_others_their_turns(links: int, each: int) -> None:
    """Otherwise so many frames of so many links are one pass of the loop, in which no word of an answer goes out."""
    heard, passes = 0, [0]

    async def listen(link: WebSocketLink) -> None:
        nonlocal heard
        async for _ in link.receive():
            heard += 1
            passes[-1] += 1

    async with served(listen) as hub, AsyncExitStack() as stack:
        devices = [await stack.enter_async_context(bare(hub)) for _ in range(links)]
        for device in devices:
            device.writer.write(frame(OPUS_60) * each)
        async with asyncio.timeout(20):
            while heard < links * each:
                await asyncio.sleep(0)
                passes.append(0)
    assert max(passes) <= links * 2 * IN_A_ROW, "a spell, and another where one began in the middle"
    assert sum(count > 0 for count in passes) > links * each / IN_A_ROW / 2, "one after the other, not all in each pass"


@pytest.mark.parametrize("kind", ["audio", "json"])
async def test_a_flood_ends_the_connection(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    limits = DeviceLimits(frames_per_second=20, json_per_second=20)
    async with served(limits=limits) as hub, bare(hub) as device:
        one = frame(OPUS_60) if kind == "audio" else frame(LISTEN)
        device.writer.write(one * 300)
        frames = await device.until_closed(20)
        assert frames[-1][1][:2] == struct.pack(">H", 1008)
        assert b"too many" in frames[-1][1]
    assert len([record for record in caplog.records if "too many" in record.getMessage()]) == 1


async def test_a_device_that_takes_nothing_is_cut_off() -> None:
    async def pour(link: WebSocketLink) -> None:
        while not link.closed:
            await link.send_audio(Packet(bytes(4000), 60))

    async with served(pour, limits=DeviceLimits(send_s=0.3)) as hub:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", hub.port))
        await asyncio.get_running_loop().sock_sendall(sock, upgrade() + frame(DEVICE_HELLO))
        link = await hub.links.get()
        await within(20, lambda: hub.connections == 0)
        assert link.close_reason == "the device takes nothing any more"
        sock.close()


async def test_a_device_that_takes_nothing_does_not_hold_up_hanging_up() -> None:
    poured = asyncio.Event()

    async def pour(link: WebSocketLink) -> None:
        try:
            async with asyncio.timeout(0.3):
                while True:
                    await link.send_audio(Packet(bytes(4000), 60))
        except TimeoutError:
            poured.set()
        await link.close("enough")

    async with served(pour, limits=DeviceLimits(send_s=600)) as hub, bare(hub):
        await poured.wait()
        await within(20, lambda: hub.connections == 0)


# -- the end ------------------------------------------------------------------------------------------------------


async def test_hanging_up_closes_tcp_although_the_device_never_answers() -> None:
    async with served() as hub, bare(hub) as device:
        link = await hub.links.get()
        await link.close("nobody has spoken for a while")
        frames = await device.until_closed(8)  # a polite server waits ten seconds for an answer
        assert frames == [(8, struct.pack(">H", 1000) + b"nobody has spoken for a while")]
        assert link.close_reason == "nobody has spoken for a while"


async def test_a_session_may_hang_up_itself() -> None:
    async def hang_up(link: WebSocketLink) -> None:
        async for _ in link.receive():
            await link.close("goodbye")

    async with served(hang_up) as hub, bare(hub) as device:
        device.writer.write(frame(LISTEN))
        assert [opcode for opcode, _ in await device.until_closed(20)] == [8]


async def test_nothing_is_sent_after_the_end() -> None:
    async with served() as hub, bare(hub) as device:
        link = await hub.links.get()
        await link.close("over")
        await link.send(Stt("late"))
        await link.send_audio(Packet(OPUS_60, 60))
        await link.close("again")
        assert len(await device.until_closed(20)) == 1
        assert link.close_reason == "over"


async def test_a_lost_connection_frees_everything() -> None:
    async with served() as hub:
        async with bare(hub) as device:
            link = await hub.links.get()
            sock = device.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # the next close is a reset
        await within(20, lambda: hub.connections == 0)
        assert link.closed
        await link.send(Stt("into the void"))


async def test_a_device_that_closes_tcp_without_a_word_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with served() as hub:
        async with bare(hub):
            pass
        await within(20, lambda: hub.connections == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_session_that_fails_ends_only_its_own_link(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(link: WebSocketLink) -> None:
        if link.device.id == "bad":
            raise ValueError("a mistake")
        async for _ in link.receive():
            pass

    async with served(fail) as hub, connected(hub) as good:
        async with connected(hub, Device_Id="bad") as ws:
            message = await ws.receive(timeout=20)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)
        await good.ping()
        assert (await good.receive(timeout=20)).type is WSMsgType.PONG
    assert "a mistake" in caplog.text


async def test_stopping_hangs_up_quickly() -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as devices:
        async with served() as hub:
            opened = [await devices.enter_async_context(bare(hub)) for _ in range(5)]
            silent_reader, silent_writer = await hub.raw(b"GET / HT")
            began = loop.time()
        assert loop.time() - began < 10
        for device in opened:
            assert [payload[:2] for _, payload in await device.until_closed(20)] == [struct.pack(">H", 1001)]
        silent_writer.close()
        assert await silent_reader.read() == b""
