"""A WebSocket client that does exactly what it is told: for what no well-behaved library would send, or would hide."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import socket
import ssl
import struct
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from xiaozhi_hub.conformance.timeline import Timeline
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.discovery import resolve_one_shot
from xiaozhi_hub.errors import HubError

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONNECT_SECONDS = 10.0
"""As the firmware's (§3.2)."""
_LONGEST_HEAD = 16384


class NoUpgrade(HubError):
    """The server did not switch to the WebSocket protocol. ``status`` is what it answered, 0 for nothing."""

    code = "conformance-no-upgrade"

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Socket:
    """One connection. Answers no ping and no close frame by itself; notes everything in its `Timeline`.

    Make it with `open_socket`, use it in ``async with``.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: Mapping[str, str], *, framing: int
    ) -> None:
        self.timeline = Timeline()
        self.head = head
        """The headers of the server's answer to the upgrade, in lower case."""
        self.framing = framing
        self.session_id = ""
        self.pongs: list[bytes] = []
        self.pings = 0
        self.close_frame_at: float | None = None
        self._reader = reader
        self._writer = writer
        self._scope = TaskScope("conformance-socket")

    async def __aenter__(self) -> Self:
        self._scope.start(self._read(), name="reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._scope.close()

    async def _read(self) -> None:
        message, opcode = b"", 0
        try:
            while True:
                first, second = await self._reader.readexactly(2)
                size = second & 0x7F
                if size == 126:
                    size = struct.unpack(">H", await self._reader.readexactly(2))[0]
                elif size == 127:
                    size = struct.unpack(">Q", await self._reader.readexactly(8))[0]
                payload = await self._reader.readexactly(size)
                kind = first & 0x0F
                if kind == CLOSE:
                    self.close_frame_at = self.timeline.now
                    self.timeline.tell()
                elif kind == PING:
                    self.pings += 1
                elif kind == PONG:
                    self.pongs.append(payload)
                    self.timeline.tell()
                else:
                    opcode = kind or opcode
                    message += payload
                    if first & 0x80:
                        whole: str | bytes = message.decode(errors="replace") if opcode == TEXT else message
                        message = b""
                        self.timeline(self.timeline.now, False, whole)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.timeline.close()

    @property
    def alive(self) -> bool:
        return self.timeline.closed_at is None and self.close_frame_at is None

    async def send_frame(self, opcode: int, payload: bytes) -> None:
        """Send one masked, unfragmented frame, as the firmware does. Nothing happens when nobody is there."""
        head = bytes([0x80 | opcode])
        if len(payload) < 126:
            head += bytes([0x80 | len(payload)])
        elif len(payload) < 65536:
            head += bytes([0x80 | 126]) + struct.pack(">H", len(payload))
        else:
            head += bytes([0x80 | 127]) + struct.pack(">Q", len(payload))
        mask = secrets.token_bytes(4)
        key = int.from_bytes((mask * (len(payload) // 4 + 1))[: len(payload)], "big")
        body = (int.from_bytes(payload, "big") ^ key).to_bytes(len(payload), "big")
        await self.send_raw(head + mask + body)

    async def send_raw(self, data: bytes) -> None:
        """Send bytes as they are. Nothing happens when nobody is there."""
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            self.timeline.close()

    async def send(self, message: Mapping[str, Any] | str) -> None:
        """Send a text frame; a mapping as JSON."""
        text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
        self.timeline(self.timeline.now, True, text)
        await self.send_frame(TEXT, text.encode())

    async def send_binary(self, frame: bytes) -> None:
        self.timeline(self.timeline.now, True, frame)
        await self.send_frame(BINARY, frame)

    def cut(self) -> None:
        """Lose the connection as a device without power does: no close frame, no orderly end."""
        sock: socket.socket | None = self._writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport = self._writer.transport
        transport.abort()


async def open_socket(url: str, headers: Sequence[tuple[str, str]], *, framing: int = 1) -> Socket:
    """Connect to *url* with exactly these headers and those of the upgrade. Raises `NoUpgrade` or `OSError`."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme in ("wss", "https")
    port = parts.port or (443 if tls else 80)
    address = (await resolve_one_shot(host) or host) if host.endswith(".local") else host
    async with asyncio.timeout(CONNECT_SECONDS):
        context = ssl.create_default_context() if tls else None
        reader, writer = await asyncio.open_connection(
            address, port, ssl=context, server_hostname=host if tls else None
        )
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
            key = base64.b64encode(secrets.token_bytes(16)).decode()
            lines += ["Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
            writer.write(("\r\n".join([*lines, "Upgrade: websocket"]) + "\r\n\r\n").encode())
            status, head = await _read_head(reader)
        except BaseException:
            writer.close()
            raise
    if status != 101:
        writer.close()
        raise NoUpgrade(f"{url} answers the upgrade with status {status}.", status)
    return Socket(reader, writer, head, framing=framing)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    try:
        text = (await reader.readuntil(b"\r\n\r\n"))[:_LONGEST_HEAD].decode("latin-1")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
        raise NoUpgrade("The server ends the connection instead of answering the upgrade.") from error
    first, *lines = text.split("\r\n")
    words = first.split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    fields = (line.partition(":") for line in lines if ":" in line)
    return status, {name.strip().lower(): value.strip() for name, _, value in fields}


__all__ = ["BINARY", "CLOSE", "PING", "PONG", "TEXT", "NoUpgrade", "Socket", "open_socket"]
