"""The device's MQTT connection, with the firmware's manners: it never subscribes and publishes with QoS 0 (mqtt_protocol.cc)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.discovery import resolve_one_shot
from xiaozhi_hub.testing.check_in import CONNECT_SECONDS, MqttAddress, NoLink

_REFUSALS = {1: "it speaks another MQTT", 2: "the id", 3: "it is unavailable", 4: "the password", 5: "not authorised"}


class Station:
    """Connected from the device's start to its end, whatever becomes of conversations."""

    def __init__(
        self,
        address: MqttAddress,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        on_text: Callable[[str], Awaitable[None]],
    ) -> None:
        self.address = address
        self.ended = False
        self.on_end: Callable[[], None] = lambda: None
        """Called when the connection ends, whoever ended it."""
        self._reader = reader
        self._writer = writer
        self._on_text = on_text
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def connect(
        cls, address: MqttAddress, scope: TaskScope, on_text: Callable[[str], Awaitable[None]], *, pings: bool = True
    ) -> Station:
        """Connect and go on receiving in tasks of *scope*. Raises `NoLink`."""
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(await resolve(address.host), address.port)
                writer.write(_connect(address))
                kind, body = await _packet(reader)
        except (OSError, asyncio.IncompleteReadError) as error:  # a timeout is an OSError, too
            if writer is not None:
                writer.close()
            raise NoLink(f"No MQTT connection to {address.host}:{address.port}: {error or 'too late'}.") from error
        if kind != 0x20 or len(body) != 2 or body[1]:
            writer.close()
            why = _REFUSALS.get(body[-1], "an answer that is none") if body else "an answer that is none"
            raise NoLink(f"{address.host}:{address.port} refuses the MQTT connection: {why}.")
        station = cls(address, reader, writer, on_text)
        station._tasks.append(scope.start(station._receive(), name="mqtt"))
        if pings:
            station._tasks.append(scope.start(station._ping(), name="mqtt-ping"))
        return station

    async def publish(self, text: str) -> bool:
        """Publish a message; False when the connection is gone."""
        body = _text(self.address.publish_topic) + text.encode()
        return await self.write(b"\x30" + _length(len(body)) + body)

    async def write(self, data: bytes) -> bool:
        """Send bytes as they are."""
        if self.ended:
            return False
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            self.ended = True
        return not self.ended

    async def close(self, *, politely: bool = True) -> None:
        """Disconnect; without a word when not *politely*."""
        if politely:
            await self.write(b"\xe0\x00")
        self.ended = True
        for task in self._tasks:
            await cancel_and_wait(task)
        self._writer.close()
        self.on_end()

    async def _receive(self) -> None:
        try:
            while True:
                kind, body = await _packet(self._reader)
                if kind == 0x30:  # what the hub publishes, QoS 0; the topic is not looked at
                    start = 2 + int.from_bytes(body[:2], "big")
                    await self._on_text(body[start:].decode())
        except (OSError, asyncio.IncompleteReadError):
            self.ended = True
            self._writer.close()
            self.on_end()

    async def _ping(self) -> None:
        while not self.ended:
            await asyncio.sleep(self.address.keepalive / 2)
            await self.write(b"\xc0\x00")


async def resolve(host: str) -> str:
    """Find a host as the firmware does: ``.local`` by asking everybody on the network."""
    if not host.endswith(".local"):
        return host
    address = await resolve_one_shot(host)
    if address is None:
        raise OSError(f"nobody on this network is called {host}")
    return address


def _connect(address: MqttAddress) -> bytes:
    body = _text("MQTT") + b"\x04\xc2" + address.keepalive.to_bytes(2, "big")
    body += _text(address.client_id) + _text(address.username) + _text(address.password)
    return b"\x10" + _length(len(body)) + body


async def _packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    kind = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return kind, await reader.readexactly(length)


def _length(count: int) -> bytes:
    digits = bytearray()
    while True:
        digits.append(count & 0x7F | (0x80 if count > 0x7F else 0))
        count >>= 7
        if not count:
            return bytes(digits)


def _text(text: str) -> bytes:
    return len(text.encode()).to_bytes(2, "big") + text.encode()
