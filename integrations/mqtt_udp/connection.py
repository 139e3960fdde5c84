"""One MQTT connection: packets in and out, with limits. Knows nothing of conversations."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import AsyncGenerator

from xiaozhi_hub.plugins.api import ProtocolError, RateLimit

from .packets import Connect, Packet, PacketReader

log = logging.getLogger(__name__)

CONNECT_S = 10.0
"""For the first packet; a device waits as long for the answer (mqtt_protocol.cc)."""
CONNECT_BYTES = 1024
"""The largest first packet: nobody has proven anything yet."""
CONNECT_BYTE = 0x10
SEND_S = 5.0
"""A device that takes nothing for so long is gone or ill."""
PATIENCE = 1.5
"""Times the keep-alive that a client may be silent (MQTT 3.1.1, 3.1.2.10)."""
LONGEST_KEEPALIVE = 600
"""Seconds; for clients that promise more, or nothing."""
BURST_S = 5.0
_OVERHEAD = 256
"""Bytes of a packet beside its message: topic and lengths."""
_CHUNK = 16 * 1024
_WAITING_BYTES = 16 * 1024
_DEAD_AFTER_MS = 20_000


class Connection:
    """Used by one task for reading; any task may send."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        message_bytes: int,
        packets_per_second: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._message_bytes = message_bytes
        self._packets = PacketReader(CONNECT_BYTES)
        self._rate = RateLimit(packets_per_second, packets_per_second * BURST_S)
        self._loop = asyncio.get_running_loop()
        self._silence_s: float = CONNECT_S
        self.peer = str((writer.get_extra_info("peername") or ("",))[0])
        self.local = str((writer.get_extra_info("sockname") or ("",))[0])
        """The address of this machine that the client has reached."""
        self.closed = False
        _tune(writer)

    async def packets(self) -> AsyncGenerator[Packet, None]:
        """Yield what the client sends until it goes; the first is a `Connect`, and no other is.

        Raises `ProtocolError` when it breaks the rules, falls silent, or sends too much.
        """
        greeted = False
        while not self.closed:
            try:
                async with asyncio.timeout(self._silence_s):
                    data = await self._reader.read(_CHUNK)
            except TimeoutError:
                raise ProtocolError(f"silence for {self._silence_s:g} s", code="keepalive", close=True) from None
            except (ConnectionError, OSError):
                return
            if not data:
                return
            if not greeted and data[0] != CONNECT_BYTE:  # a browser's request would be taken for half a packet
                raise ProtocolError("something other than MQTT", code="packet-invalid", close=True)
            for packet in self._packets.feed(data):
                if not self._rate.allows(self._loop.time()):
                    raise ProtocolError("too many packets", code="rate-limit", close=True)
                if isinstance(packet, Connect) is greeted:
                    raise ProtocolError("CONNECT is the first packet, once", code="packet-invalid", close=True)
                if isinstance(packet, Connect):
                    greeted = True
                    self._silence_s = min(packet.keepalive or LONGEST_KEEPALIVE, LONGEST_KEEPALIVE) * PATIENCE
                    self._packets.limit = self._message_bytes + _OVERHEAD
                yield packet
                if self._writer.is_closing():
                    return

    async def send(self, packet: bytes) -> bool:
        """Send a packet; False when the client is gone or takes nothing any more."""
        if self.closed:
            return False
        try:
            self._writer.write(packet)
            if self._writer.transport.get_write_buffer_size() > _WAITING_BYTES:
                async with asyncio.timeout(SEND_S):
                    await self._writer.drain()
        except TimeoutError:
            log.warning("%s takes nothing any more; connection cut", self.peer)
            self.abort()
        except (ConnectionError, RuntimeError):
            self.abort()
        return not self.closed

    def close(self) -> None:
        """Close after what was sent has gone out."""
        if not self.closed:
            self.closed = True
            self._writer.close()
            if self._writer.transport.get_write_buffer_size():
                self._loop.call_later(1.0, self._writer.transport.abort)  # it would wait for ever for a deaf client

    def abort(self) -> None:
        """Close at once."""
        self.closed = True
        self._writer.transport.abort()


def _tune(writer: asyncio.StreamWriter) -> None:
    writer.transport.set_write_buffer_limits(high=_WAITING_BYTES)
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if sys.platform == "linux":  # what is sent to a device without power counts as lost after this
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
