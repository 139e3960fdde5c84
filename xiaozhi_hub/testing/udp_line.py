"""The device's end of a conversation over MQTT and UDP, with the firmware's checks."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, cast

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from xiaozhi_hub.testing.check_in import NoLink
from xiaozhi_hub.testing.mqtt import Station, resolve

HEADER_BYTES = 16
_WAITING = 200


class UdpLine(asyncio.DatagramProtocol):
    """One conversation, used once. The messages travel over the station, which outlives it."""

    transport = "udp"
    close_code: int | None = None
    version = 3
    """What the hello says; it means nothing here."""

    def __init__(self, station: Station, complain: Callable[[str], None]) -> None:
        self.station = station
        self.ended = False
        self.server = ("", 0)
        self.key = self.nonce = b""
        self.sent = 0
        """The sequence of the last datagram that went out."""
        self.received = 0
        """That of the last one that came in."""
        self._complain = complain
        self._frames: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._socket: asyncio.DatagramTransport | None = None
        station.on_end = self.end

    def accepts(self, hello: Mapping[str, Any]) -> bool:
        """Take the hub's hello; False when it lacks what the firmware needs, which then waits for another."""
        udp = hello.get("udp")
        if not isinstance(udp, Mapping):
            return False
        texts = [udp.get(name) for name in ("server", "key", "nonce")]
        port = udp.get("port")
        if not all(isinstance(text, str) for text in texts) or not isinstance(port, int) or not 0 < port < 65536:
            return False
        self.key, self.nonce = bytes.fromhex(texts[1]), bytes.fromhex(texts[2])  # type: ignore[arg-type]  # checked above
        if len(self.key) != 16 or len(self.nonce) != 16:
            return False
        if self.nonce[0] != 1:
            self._complain("a nonce that does not begin with 01: all sound would be dropped")
        self.server = (str(texts[0]), port)
        return True

    async def open_sound(self) -> None:
        """Open the UDP socket, once the hellos are exchanged."""
        loop = asyncio.get_running_loop()
        try:
            address = (await resolve(self.server[0]), self.server[1])
            await loop.create_datagram_endpoint(lambda: self, remote_addr=address)
        except OSError as error:
            raise NoLink(f"No way to {self.server[0]}:{self.server[1]} for sound: {error}.") from error

    async def frames(self) -> AsyncGenerator[str | bytes, None]:
        """Yield Opus packets until the conversation is over."""
        while (frame := await self._frames.get()) is not None:
            yield frame

    async def write(self, data: str | bytes) -> bool:
        """Send a message over MQTT, or a packet of sound; False when nobody is there any more."""
        if self.ended:
            return False
        if isinstance(data, str):
            return await self.station.publish(data)
        self.sent += 1
        self.send_datagram(self.seal(data, self.sent))
        return True

    def seal(self, opus: bytes, sequence: int, *, timestamp: int = 0) -> bytes:
        """Return the datagram that carries a packet."""
        nonce = self.nonce
        header = nonce[:2] + struct.pack(">H", len(opus)) + nonce[4:8] + struct.pack(">II", timestamp, sequence)
        return header + self._crypt(header, opus)

    def send_datagram(self, datagram: bytes) -> None:
        """Send a datagram as it is."""
        if self._socket is not None:
            self._socket.sendto(datagram)

    def end(self) -> None:
        """The conversation is over."""
        if self.ended:
            return
        self.ended = True
        if self._socket is not None:
            self._socket.close()
        while self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(None)

    async def drop(self) -> None:
        """Close the socket; the station stays."""
        self.end()

    def _crypt(self, header: bytes, data: bytes) -> bytes:
        return Cipher(algorithms.AES(self.key), modes.CTR(header)).encryptor().update(data)

    # -- what the loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.DatagramTransport, transport)
        if self.ended:
            self._socket.close()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if self.ended:
            return
        if len(data) < HEADER_BYTES or data[0] != 1:
            self._complain("a datagram that is no sound")
            return
        length, ssrc, _, sequence = struct.unpack(">HIII", data[2:HEADER_BYTES])
        if length != len(data) - HEADER_BYTES or ssrc != int.from_bytes(self.nonce[4:8], "big"):
            self._complain("a datagram whose header is wrong")
        elif sequence <= self.received:
            self._complain(f"datagram {sequence} after {self.received}: firmware 2.4 drops it")
        else:
            if self.received == 0 and sequence != 1:
                self._complain(f"the first datagram is number {sequence}")
            self.received = sequence
            if not self._frames.full():
                self._frames.put_nowait(self._crypt(data[:HEADER_BYTES], data[HEADER_BYTES:]))
