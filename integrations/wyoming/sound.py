"""Sound as Wyoming carries it: little-endian PCM that says for each piece how it is to be read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from wyoming.event import Event

from xiaozhi_hub.plugins.api import PcmChunk, ProtocolError, Samples

WIDTH = 2
RATE = 16000
"""What recognisers hear."""
_RATES = range(8000, 96001)
_MOST_TOLD = 60
"""Characters of what cannot be read: anything may stand there."""


@dataclass(frozen=True, slots=True)
class Format:
    """How a sound is to be read: 16 bits a sample, one or two channels."""

    rate: int
    channels: int

    @classmethod
    def of(cls, event: Event) -> Format:
        """The format that an ``audio-start`` or ``audio-chunk`` names. Raises `ProtocolError`."""
        rate, width, channels = (event.data.get(key) for key in ("rate", "width", "channels"))
        if width != WIDTH or channels not in (1, 2) or not isinstance(rate, int) or rate not in _RATES:
            told = ", ".join(
                f"{value} {what}" for value, what in ((rate, "Hz"), (width, "bytes"), (channels, "channels"))
            )
            raise ProtocolError(f"sound of {told[:_MOST_TOLD]} cannot be read", close=True)
        return cls(rate, int(channels))

    def read(self, event: Event) -> PcmChunk:
        """The sound of an ``audio-chunk``, in one channel. Raises `ProtocolError`."""
        raw = event.payload or b""
        if len(raw) % (WIDTH * self.channels):
            raise ProtocolError("a piece of sound ends in the middle of a sample", close=True)
        samples = np.frombuffer(raw, "<i2")
        if self.channels == 2:
            samples = samples.reshape(-1, 2).mean(axis=1)
        return PcmChunk(samples.astype(np.int16), self.rate)


def raw(samples: Samples) -> bytes:
    """*samples* as they go over the wire."""
    return samples.astype("<i2").tobytes()
