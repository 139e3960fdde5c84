"""A hostile peer in the network, while others are being answered: what do they hear of it, and what does it cost?

    python bench/hostile.py --devices 50 --seconds 6
    python bench/hostile.py --attack connections --attack slow

Each attack runs for some seconds, one after the other, against a hub on core 0; the peer and the devices share core 1. Load goes
to 127.0.0.1 only, and every attack is bounded in connections and in time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import secrets
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fleet import INSTANT
from hub_process import FLEET_CORE, HubProcess, free_port, pin, running_hub
from speakers import speakers

AT_ONCE = 400
"""Connections that the peer holds at the same time."""
HELLO = json.dumps({"type": "hello", "version": 1, "transport": "websocket"}).encode()


class Peer:
    """Does what devices never do."""

    def __init__(self, port: int, mqtt: int, udp: int) -> None:
        self.port, self._mqtt, self._udp = port, mqtt, udp
        self.tries = 0

    async def _with(
        self, act: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], port: int
    ) -> None:
        self.tries += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.02)
            return
        try:
            await act(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _again_and_again(
        self, at_once: int, act: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], port: int = 0
    ) -> None:
        async def one() -> None:
            while True:
                await self._with(act, port or self.port)
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one())

    def _upgrade(self) -> bytes:
        return (
            f"GET /xiaozhi/v1/ HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Device-Id: 02:66:{secrets.token_hex(4)}\r\n\r\n"
        ).encode()

    async def nothing(self) -> None:
        """To compare with."""
        await asyncio.Event().wait()

    async def connections(self) -> None:
        """Connect and hang up, as fast as it goes."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            pass

        await self._again_and_again(AT_ONCE, act)

    async def slow(self) -> None:
        """Ask for something, a letter at a time, on as many connections as there are."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for byte in self._upgrade():
                if writer.is_closing():
                    return
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.5)

        await self._again_and_again(2000, act)

    async def silent(self) -> None:
        """Open WebSockets and say no hello."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(self._upgrade())
            while await reader.read(4096):
                pass

        await self._again_and_again(AT_ONCE, act)

    async def huge(self) -> None:
        """Send messages of the greatest length, and announce longer ones."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(self._upgrade() + frame(1, HELLO))
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(20):
                writer.write(frame(2, bytes(60_000)))
                await writer.drain()
            writer.write(struct.pack("!BBQ", 0x82, 0xFF, 1 << 40) + bytes(200_000))
            await writer.drain()
            await reader.read(4096)

        await self._again_and_again(16, act)

    async def broken(self) -> None:
        """Send frames and messages that mean nothing."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(self._upgrade() + frame(1, HELLO))
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(60):
                if writer.is_closing():
                    return
                writer.write(frame(1, b'{"type": "listen", "state": ' + secrets.token_hex(20).encode()))
                writer.write(frame(2, secrets.token_bytes(90)))
            await writer.drain()
            writer.write(secrets.token_bytes(2000))
            await reader.read(4096)

        await self._again_and_again(32, act)

    async def headers(self) -> None:
        """Send headers without an end."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"GET /xiaozhi/ota/ HTTP/1.1\r\n")
            for number in range(100_000):
                writer.write(b"X-%d: %s\r\n" % (number, b"a" * 4000))
                await writer.drain()

        await self._again_and_again(32, act)

    async def halves(self) -> None:
        """Send as many headers as are taken, on as many connections as there are, and never the last one."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"GET /xiaozhi/ota/ HTTP/1.1\r\n")
            for number in range(60):
                writer.write(b"X-%d: %s\r\n" % (number, b"a" * 8000))
                await writer.drain()
            await reader.read(4096)

        await self._again_and_again(AT_ONCE, act)

    async def photos(self) -> None:
        """Send photos that never end, without leave to send any."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(
                b"POST /mcp/vision/explain HTTP/1.1\r\nHost: a\r\nDevice-Id: 02:66:1\r\nAuthorization: Bearer a\r\n"
                b"Content-Type: multipart/form-data; boundary=a\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            piece = b'--a\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + bytes(60_000) + b"\r\n"
            while not writer.is_closing():
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                await writer.drain()

        await self._again_and_again(64, act)

    async def check_ins(self) -> None:
        """Check in as ever new devices."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for _ in range(20):
                writer.write(
                    f"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: a\r\nDevice-Id: 02:66:{secrets.token_hex(4)}\r\n"
                    f"Client-Id: {secrets.token_hex(4)}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
                )
                if not await reader.read(65536):
                    return

        await self._again_and_again(64, act)

    async def bodies(self) -> None:
        """Send check-ins whose bodies never end."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(
                b"POST /xiaozhi/ota/ HTTP/1.1\r\nHost: a\r\nDevice-Id: 02:66:1\r\nContent-Length: 60000\r\n\r\n"
            )
            writer.write(bytes(50_000))
            while await reader.read(4096):
                pass

        await self._again_and_again(AT_ONCE, act)

    async def datagrams(self) -> None:
        """Send garbage to the UDP port."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            while True:
                for _ in range(20):
                    self.tries += 1
                    with contextlib.suppress(OSError):
                        sender.sendto(b"\x01\x00" + secrets.token_bytes(160), ("127.0.0.1", self._udp))
                await asyncio.sleep(0.002)

    async def mqtt(self) -> None:
        """Send garbage, and CONNECTs that prove nothing, to the MQTT port."""

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(
                secrets.choice(
                    (b"\x10\xff\xff\xff\x7f", b"\x10\x10\x00\x04MQTT\x04\xc2\x00\x3c\x00\x01a\x00\x01b", b"")
                )
            )
            writer.write(secrets.token_bytes(500))
            await reader.read(64)

        await self._again_and_again(64, act, self._mqtt)


ATTACKS = (
    "nothing",
    "connections",
    "slow",
    "silent",
    "huge",
    "broken",
    "headers",
    "halves",
    "photos",
    "check_ins",
    "bodies",
    "datagrams",
    "mqtt",
)


def frame(opcode: int, payload: bytes) -> bytes:
    """A masked WebSocket frame; the mask is zero."""
    length = len(payload)
    head = struct.pack("!BB", 0x80 | opcode, 0x80 | min(length, 126)) if length < 126 else b""
    return (head or struct.pack("!BBH", 0x80 | opcode, 0xFE, length)) + bytes(4) + payload


async def attack(hub: HubProcess, name: str, devices: int, seconds: float, ports: tuple[int, int]) -> dict[str, object]:
    before, most = hub.usage().rss_mb, 0.0
    peer = Peer(hub.port, *ports)
    async with speakers(hub.ota_url, devices) as heard:
        before, most = hub.usage().rss_mb, 0.0
        task = asyncio.create_task(getattr(peer, name)())
        for _ in range(round(seconds * 4)):
            await asyncio.sleep(0.25)
            most = max(most, hub.usage().rss_mb)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await asyncio.sleep(1)
    return {"tries": peer.tries, "rss_mb_more": round(most - before, 1), **heard}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=6, help="how long each attack lasts")
    parser.add_argument("--attack", action="append", default=[], choices=ATTACKS)
    args = parser.parse_args()
    if not 0 < args.seconds <= 60:
        parser.error("--seconds takes up to 60")
    pin(FLEET_CORE)
    with contextlib.suppress(OSError):
        os.nice(5)  # the devices share the core with the peer, and are what is measured
    mqtt, udp = free_port(), free_port()
    configuration = INSTANT.replace(
        "  clock: false\n", f"  clock: false\n  mqtt_udp: {{port: {mqtt}, udp_port: {udp}}}\n"
    )
    figures = {}
    async with running_hub(configuration) as hub:
        began = hub.usage().rss_mb
        for name in args.attack or ATTACKS:
            figures[name] = await attack(hub, name, args.devices, args.seconds, (mqtt, udp))
            print(name, json.dumps(figures[name]), flush=True)
        print(json.dumps({"rss_mb_at_first": began, "rss_mb_at_last": hub.usage().rss_mb}))


if __name__ == "__main__":
    asyncio.run(main())
