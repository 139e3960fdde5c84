"""Devices that come back, each as little work for this process as a device on its own board would be: a thousand of them take
a `FakeDevice` each two seconds of processor, which is longer than the hub needs to greet them.

They open the WebSocket, say hello and tell their tools, with the bytes of the firmware. Frames are masked with zeros.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

from xiaozhi_hub.testing.camera import Camera
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.settings import Settings
from xiaozhi_hub.testing.tools import DeviceTools

GREETED_SECONDS = 30.0
_HELLO = {
    "type": "hello",
    "version": 1,
    "features": {"mcp": True},
    "transport": "websocket",
    "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
}


class Tools:
    """What such devices tell of their tools: all the same, so it is worked out once."""

    def __init__(self) -> None:
        settings = Settings()
        self._tools = DeviceTools(FirmwareProfile(), settings, Camera("", ""))
        self._known: dict[str, Any] = {}

    async def answer(self, request: dict[str, Any]) -> str:
        number = request.pop("id")
        asked = json.dumps(request)
        if asked not in self._known:
            self._known[asked] = json.loads(await self._tools.answer({**request, "id": number}) or "{}")
        return json.dumps({"session_id": "", "type": "mcp", "payload": {**self._known[asked], "id": number}})


class Returning(asyncio.Protocol):
    """One connection: ``await device.connect(port)`` returns when the hub has said hello."""

    def __init__(self, device_id: str, client_id: str, token: str, tools: Tools) -> None:
        key = base64.b64encode(device_id.encode()[:16].ljust(16)).decode()
        self._opening = (
            "GET /xiaozhi/v1/ HTTP/1.1\r\n"
            f"Authorization: Bearer {token}\r\n"
            f"Client-Id: {client_id}\r\n"
            "Connection: Upgrade\r\n"
            f"Device-Id: {device_id}\r\n"
            "Host: 127.0.0.1\r\n"
            "Protocol-Version: 1\r\n"
            f"Sec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Upgrade: websocket\r\n\r\n"
        ).encode()
        self._tools = tools
        self._greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._told: set[asyncio.Task[None]] = set()
        self._came = b""
        self._upgraded = False
        self._transport: asyncio.Transport

    async def connect(self, port: int) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)
        async with asyncio.timeout(GREETED_SECONDS):
            await self._greeted

    def hang_up(self) -> None:
        """As devices do: without a close frame."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._opening)

    def connection_lost(self, error: Exception | None) -> None:
        if not self._greeted.done():
            self._greeted.set_exception(ConnectionError(f"hung up on: {self._came[:80]!r} {error or ''}"))

    def data_received(self, data: bytes) -> None:
        self._came += data
        if not self._upgraded:
            head, end, rest = self._came.partition(b"\r\n\r\n")
            if not end:
                return
            if b" 101 " not in head[:20]:
                self._transport.close()
                return
            self._upgraded, self._came = True, rest
            self._send(json.dumps(_HELLO))
        while (frame := self._frame()) is not None:
            if b'"mcp"' in frame[:20]:
                task = asyncio.ensure_future(self._tell(json.loads(frame)["payload"]))
                self._told.add(task)
                task.add_done_callback(self._told.discard)
            elif b'"hello"' in frame[:20] and not self._greeted.done():
                self._greeted.set_result(None)

    async def _tell(self, request: dict[str, Any]) -> None:
        self._send(await self._tools.answer(request))

    def _frame(self) -> bytes | None:
        """The next whole frame's payload; the hub sends none above 64 KB and does not mask."""
        if len(self._came) < 2:
            return None
        length, begin = self._came[1], 2
        if length == 126:
            length, begin = int.from_bytes(self._came[2:4], "big"), 4
        if len(self._came) < begin + length:
            return None
        payload, self._came = self._came[begin : begin + length], self._came[begin + length :]
        return payload

    def _send(self, text: str) -> None:
        payload = text.encode()
        length = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self._transport.write(b"\x81" + length + bytes(4) + payload)
