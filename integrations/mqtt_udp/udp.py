"""The port for sound: one UDP socket for all devices, a channel for each conversation."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, cast

from xiaozhi_hub.plugins.api import NeedsAttention, RateLimit

from .cipher import KEY_BYTES, AudioCipher, Header, nonce, read_header

log = logging.getLogger(__name__)

BURST_S = 5.0
"""A Wi-Fi link that hung delivers everything at once: so many seconds' worth may come together."""
HELD_PACKETS = 10
"""Sound that is kept until the device's address is known: 600 ms."""
FARTHEST_STEP = 3000
"""Packets that may be missing between two, three minutes' worth. Whoever forges one number must not silence the device with it."""
_SEND_BUFFER = 256 * 1024
"""Bytes that may wait for the socket; more is dropped, as the network would."""
_REPORT_S = 60.0
_LARGEST_NUMBER = 0xFFFFFFFF

OnSound = Callable[[bytes, int, int], None]
"""Told an Opus packet, its timestamp, and how many before it were lost."""


class Sequence:
    """Which datagrams of a sequence are news."""

    def __init__(self) -> None:
        self.last = 0
        self.lost = 0

    def gap(self, number: int) -> int | None:
        """Return how many are missing before *number*; None when it is an old one, a copy, or out of all bounds.

        Does not count *number* as seen: `accept` does.
        """
        step = number - self.last
        return step - 1 if 0 < step <= FARTHEST_STEP else None

    def accept(self, number: int) -> None:
        self.lost += number - self.last - 1
        self.last = number


class AudioChannel:
    """The sound of one conversation in both directions. Made by `UdpPort.open`."""

    def __init__(self, port: UdpPort, ssrc: int, peer: str, frames_per_second: float, on_sound: OnSound) -> None:
        self.ssrc = ssrc
        self.key = secrets.token_bytes(KEY_BYTES)
        self.dropped = 0
        """Datagrams that were not taken: old ones, copies, too many."""
        self.uplink = Sequence()
        self.located = asyncio.Event()
        """The device has sent something, so it is known where it is."""
        self._port = port
        self._peer = peer
        self._address: tuple[str, int] | None = None
        self._cipher = AudioCipher(self.key)
        self._on_sound = on_sound
        self._frames = RateLimit(frames_per_second, frames_per_second * BURST_S)
        self._sent = 0
        self._loop = asyncio.get_running_loop()
        self._opened_at = self._loop.time()
        self._stamp = 0
        self._held: deque[tuple[bytes, int]] = deque(maxlen=HELD_PACKETS)

    @property
    def nonce(self) -> bytes:
        return nonce(self.ssrc)

    def receive(self, header: Header, datagram: bytes, address: tuple[str, int], now: float) -> bool:
        """Take a datagram that is addressed to this channel; False when it is not taken."""
        gap = self.uplink.gap(header.sequence)
        # Its messages come from the same place: whoever else has seen the ssrc cannot speak into the conversation.
        if address[0] != self._peer or gap is None or not self._frames.allows(now):
            self.dropped += 1
            return False
        self.uplink.accept(header.sequence)
        self._locate(address)
        self._on_sound(self._cipher.open(datagram), header.timestamp, gap)
        return True

    def _locate(self, address: tuple[str, int]) -> None:
        if address == self._address:
            return
        self._address = address  # a router on the way may change the port in mid-conversation
        self.located.set()
        while self._held:
            self._send(*self._held.popleft())

    def send(self, opus: bytes, timestamp: int = 0) -> None:
        """Send one Opus packet; kept for a moment while it is not known where the device is."""
        if self._address is None:
            self._held.append((opus, timestamp))
        else:
            self._send(opus, timestamp)

    def _send(self, opus: bytes, timestamp: int) -> None:
        assert self._address is not None
        # The counter of the cipher begins with the header, and the sequence is what changes fastest in it: without a
        # timestamp that grows the key streams of packets that follow each other would overlap.
        now_ms = int((self._loop.time() - self._opened_at) * 1000)
        self._stamp = (timestamp or max(self._stamp + 1, now_ms)) & _LARGEST_NUMBER
        self._sent += 1
        header = Header(self.ssrc, self._stamp, self._sent)
        self._port.send(self._cipher.seal(header, opus), self._address)

    def close(self) -> None:
        """Take nothing more. Safe to call more than once."""
        self._port.forget(self.ssrc)
        self._held.clear()


class UdpPort(asyncio.DatagramProtocol):
    """Routes datagrams to channels. What belongs to none is dropped and counted."""

    def __init__(self) -> None:
        self._channels: dict[int, AudioChannel] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._loop = asyncio.get_running_loop()
        self.dropped = 0
        """Datagrams that belong to no conversation or were not taken by theirs."""
        self._told = 0
        self._tell_at = 0.0

    @classmethod
    async def bind(cls, ip: str, port: int) -> UdpPort:
        """Open the socket. Raises `NeedsAttention` when the port cannot be had."""
        loop = asyncio.get_running_loop()
        try:
            _, opened = await loop.create_datagram_endpoint(cls, (ip, port))
        except OSError as error:
            raise NeedsAttention(
                f"UDP port {port} cannot be used: {error.strerror or error}.", hint="Choose another udp_port."
            ) from error
        return opened

    @property
    def port(self) -> int:
        assert self._transport is not None
        return int(self._transport.get_extra_info("sockname")[1])

    def open(self, peer: str, frames_per_second: float, on_sound: OnSound) -> AudioChannel:
        """Make a channel for a device whose messages come from the address *peer*."""
        while not (ssrc := secrets.randbits(32)) or ssrc in self._channels:
            pass
        channel = self._channels[ssrc] = AudioChannel(self, ssrc, peer, frames_per_second, on_sound)
        return channel

    def forget(self, ssrc: int) -> None:
        self._channels.pop(ssrc, None)

    def send(self, datagram: bytes, address: tuple[str, int]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if cast(asyncio.WriteTransport, transport).get_write_buffer_size() <= _SEND_BUFFER:
            transport.sendto(datagram, address)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- what the loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        # Anybody may send these, as many as the network carries: nothing is kept, and nothing logged for one.
        now = self._loop.time()
        header = read_header(data)
        channel = self._channels.get(header.ssrc) if header is not None else None
        if header is None or channel is None or not channel.receive(header, data, (addr[0], addr[1]), now):
            self._drop(now)

    def error_received(self, exc: Exception) -> None:
        log.debug("a datagram came back: %s", exc)

    def _drop(self, now: float) -> None:
        self.dropped += 1
        if now >= self._tell_at:
            log.info("%d datagrams were not what a conversation expects; dropped", self.dropped - self._told)
            self._told, self._tell_at = self.dropped, now + _REPORT_S
