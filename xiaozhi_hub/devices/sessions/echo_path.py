"""From the hub's mouth to the device's speaker, its microphone and back: for devices that leave echoes to the server.

Their hello says ``features.aec``. Each packet they are sent carries the moment from which it sounds; they send back the moment
that they were playing (device-protocol: realtime mode; 0 when nothing was).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from xiaozhi_hub.audio import apm
from xiaozhi_hub.audio.echo import RATE, EchoCanceller, EchoGate
from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.core.flow import Packet, PcmChunk
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.arrivals import Arrivals
from xiaozhi_hub.protocol.link import Link

log = logging.getLogger(__name__)

FEATURE = "aec"


class EchoPath:
    """One for each link. Costs next to nothing until it is opened."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._epoch = self._loop.time() - 0.001  # no moment is 0
        self._plays_until = self._epoch
        self._decoder: OpusDecoder | None = None
        self._canceller: EchoCanceller | None = None
        self._stamps_come = False
        self.arrivals = Arrivals()

    @classmethod
    def of(cls, link: Link) -> EchoPath | None:
        """The path of a device that asks for it; None for all others."""
        return cls() if FEATURE in link.hello.features else None

    async def open(self) -> None:
        """From now on `clean` takes the echo out. Nothing happens when it does so already."""
        if self._canceller is None:
            self._canceller = await asyncio.to_thread(_best_canceller)
            self._decoder = OpusDecoder(RATE)
            log.debug("echoes are cancelled by %s", type(self._canceller).__name__)

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
        self._decoder = self._canceller = None

    def sent(self, packet: Packet) -> Packet:
        """Return *packet* as it is to be sent now: with the moment from which it sounds."""
        begins = max(self._loop.time(), self._plays_until)
        self._plays_until = begins + packet.ms / 1000
        stamp = round((begins - self._epoch) * 1000)
        self.arrivals.sent(stamp)
        if self._canceller is not None and self._decoder is not None:
            try:
                samples = self._decoder.decode(packet.data)
            except ProtocolError as error:
                log.debug("a packet that was sent cannot be decoded: %s", error)
            else:
                self._canceller.reference(samples, stamp)
        return replace(packet, timestamp=stamp)

    def arrived(self, packet: Packet) -> None:
        """The microphone's *packet* has just come in."""
        self._stamps_come = self._stamps_come or packet.timestamp > 0
        self.arrivals.arrived(packet.ms, self._loop.time(), packet.timestamp, self._now_ms())

    def clean(self, chunk: PcmChunk, timestamp: int) -> PcmChunk:
        """Return what the microphone heard without the hub's voice."""
        if self._canceller is None:
            return chunk
        # Framing 1 carries no timestamps: what arrives now was heard just before.
        at_ms = timestamp if timestamp or self._stamps_come else self._now_ms() - chunk.ms
        return PcmChunk(self._canceller.clean(chunk.samples, at_ms), chunk.rate)

    def _now_ms(self) -> float:
        return (self._loop.time() - self._epoch) * 1000


def _best_canceller() -> EchoCanceller:
    """The best that this machine has. May take a moment the first time."""
    return apm.ApmCanceller() if apm.available() else EchoGate()


__all__ = ["EchoPath"]
