"""The web application on a free port, with what the rest of the hub would give it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import ClientSession, web

from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.web.app import DEVICE_DOOR, WebParts, build_app, serve
from xiaozhi_hub.web.devices.websocket import WebSocketLink
from xiaozhi_hub.web.pages.status import HubStatus

DEVICE_ID = "24:6f:28:aa:bb:cc"
DEVICE_HELLO = {
    "type": "hello",
    "version": 1,
    "features": {"mcp": True},
    "transport": "websocket",
    "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
}
STATUS = HubStatus(
    version="9.9",
    name="xiaozhi-hub",
    host_name="xiaozhi-hub.local",
    addresses=("192.168.1.20",),
    ota_urls=("http://xiaozhi-hub.local:8003/xiaozhi/ota/", "http://192.168.1.20:8003/xiaozhi/ota/"),
)


@dataclass
class Served:
    """A running application and what it has told the hub."""

    app: web.Application
    ports: tuple[int, ...]
    http: ClientSession
    check_ins: list[CheckIn] = field(default_factory=list)
    links: asyncio.Queue[WebSocketLink] = field(default_factory=asyncio.Queue)

    @property
    def port(self) -> int:
        return self.ports[0]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    @property
    def connections(self) -> int:
        return self.app[DEVICE_DOOR].connections

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a bare TCP connection and send *data*."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer


async def read_on(link: WebSocketLink) -> None:
    """A session that listens and says nothing."""
    async for _ in link.receive():
        pass


@asynccontextmanager
async def served(
    serve_link: Callable[[WebSocketLink], Awaitable[None]] = read_on,
    *,
    status: HubStatus = STATUS,
    ports: int = 1,
    **changes: Any,
) -> AsyncIterator[Served]:
    check_ins: list[CheckIn] = []
    links: asyncio.Queue[WebSocketLink] = asyncio.Queue()

    async def tell() -> HubStatus:
        return status

    async def open_link(link: WebSocketLink) -> None:
        links.put_nowait(link)
        await serve_link(link)

    parts = WebParts(texts=Texts(), version="9.9", status=tell, serve_link=open_link, on_check_in=check_ins.append)
    app = build_app(replace(parts, **changes))
    async with serve(app, "127.0.0.1", [0] * ports) as bound, ClientSession() as http:
        yield Served(app, bound, http, check_ins, links)


def upgrade(device_id: str | None = DEVICE_ID, *, more: str = "") -> bytes:
    """The firmware's upgrade request, byte for byte as it writes it."""
    device = f"Device-Id: {device_id}\r\n" if device_id is not None else ""
    return (
        "GET /xiaozhi/v1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nClient-Id: 3b0f7c1e-9a52-4a0e-8f3d-5d2f0c7e6a11\r\n"
        f"Connection: Upgrade\r\n{device}Protocol-Version: 1\r\n{more}"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n"
    ).encode()


def frame(data: bytes | str | dict[str, Any], *, opcode: int | None = None) -> bytes:
    """One masked frame, as a client sends it."""
    if isinstance(data, dict):
        data = json.dumps(data)
    kind = opcode if opcode is not None else 1 if isinstance(data, str) else 2
    payload = data.encode() if isinstance(data, str) else data
    size = len(payload)
    head = bytes([0x80 | kind])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([0x80 | 127]) + size.to_bytes(8, "big")
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one frame of the hub: opcode and payload."""
    first, second = await reader.readexactly(2)
    size = second & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2), "big")
    return first & 0x0F, await reader.readexactly(size)
