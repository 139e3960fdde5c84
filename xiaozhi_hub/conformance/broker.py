"""The device's end of MQTT and UDP, as small as the firmware's (§6)."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, cast

from xiaozhi_hub.conformance.timeline import Timeline
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable
from xiaozhi_hub.core.tasks import TaskScope

CONNECT, CONNACK, PUBLISH, PUBACK, PINGREQ = 1, 2, 3, 4, 12
CONNECT_SECONDS = 10.0
HEADER = struct.Struct(">BBHIII")
"""type, flags, payload length, ssrc, timestamp, sequence"""


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def _packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    size, head = len(body), bytearray([kind << 4 | flags])
    while True:
        head.append(size & 0x7F | (0x80 if size > 0x7F else 0))
        size >>= 7
        if not size:
            return bytes(head) + body


class Broker:
    """One MQTT 3.1.1 connection that never subscribes. Messages go into its `Timeline`, whatever their topic."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        self.timeline = Timeline()
        self._section = section
        self._scope = TaskScope("conformance-mqtt")
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def __aenter__(self) -> Self:
        endpoint = str(self._section.get("endpoint") or "")
        host, _, port = endpoint.partition(":")
        if not host or not port.isdigit():
            raise Broken(f"mqtt.endpoint is {endpoint!r}: without a port a device wants TLS with a public certificate")
        async with asyncio.timeout(CONNECT_SECONDS):
            self._reader, self._writer = await asyncio.open_connection(host, int(port))
            try:
                user, secret = (str(self._section.get(name) or "") for name in ("username", "password"))
                keepalive = int(self._section.get("keepalive") or 240)
                flags = 0x02 | (0x80 if user else 0) | (0x40 if secret else 0)
                body = _text("MQTT") + bytes([4, flags]) + struct.pack(">H", keepalive)
                body += _text(str(self._section.get("client_id") or ""))
                body += _text(user) * bool(user) + _text(secret) * bool(secret)
                self._writer.write(_packet(CONNECT, body))
                kind, answer = await self._next()
            except BaseException:
                self._writer.close()
                raise
        if kind >> 4 != CONNACK or answer[1:2] != b"\x00":
            self._writer.close()
            raise Broken(f"the MQTT connection is refused: {answer.hex()}")
        self._scope.start(self._read(), name="reader")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        await self._scope.close()

    async def _next(self) -> tuple[int, bytes]:
        first = (await self._reader.readexactly(1))[0]
        size, shift = 0, 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            size |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return first, await self._reader.readexactly(size)

    async def _read(self) -> None:
        try:
            while True:
                first, body = await self._next()
                if first >> 4 != PUBLISH:
                    continue
                at = 2 + struct.unpack_from(">H", body)[0]
                if quality := first >> 1 & 3:
                    if quality == 1:
                        self._writer.write(_packet(PUBACK, body[at : at + 2]))
                    at += 2
                self.timeline(self.timeline.now, False, body[at:].decode(errors="replace"))
        except (asyncio.IncompleteReadError, ConnectionError):
            self.timeline.close()

    async def publish(self, message: Mapping[str, Any]) -> None:
        text = json.dumps(message, ensure_ascii=False)
        self.timeline(self.timeline.now, True, text)
        topic = str(self._section.get("publish_topic") or "")
        self._writer.write(_packet(PUBLISH, _text(topic) + text.encode()))
        await self._writer.drain()


class Datagrams(asyncio.DatagramProtocol):
    """The device's UDP socket: encrypts what it sends, keeps what comes."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self.received: list[tuple[float, bytes]] = []
        self._key, self._nonce = key, nonce
        self._sequence = 0
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # Python 3.11's own is none by name

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append((asyncio.get_running_loop().time(), data))

    def send(self, opus: bytes) -> None:
        """Send one packet with the next sequence number."""
        self._sequence += 1
        kind, flags, _, ssrc, _, _ = HEADER.unpack(self._nonce)
        header = HEADER.pack(kind, flags, len(opus), ssrc, 0, self._sequence)
        if self._transport is not None:
            self._transport.sendto(header + self.crypt(header, opus))

    def crypt(self, header: bytes, data: bytes) -> bytes:
        """AES-128-CTR with the header as the first counter block."""
        return aes_ctr(self._key, header, data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def aes_ctr(key: bytes, counter: bytes, data: bytes) -> bytes:
    """Encrypt or decrypt. Raises `NotApplicable` where the package that can is not installed."""
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    except ImportError as error:
        raise NotApplicable("The sound cannot be decrypted here: install the package cryptography.") from error
    return Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(data)


__all__ = ["HEADER", "Broker", "Datagrams", "aes_ctr"]
