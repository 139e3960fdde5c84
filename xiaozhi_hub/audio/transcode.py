"""Between bare samples, which some clients speak, and Opus, which the hub speaks. One object for each stream and direction."""

from __future__ import annotations

import numpy as np

from xiaozhi_hub.audio.opus import RATE, OpusDecoder, OpusEncoder
from xiaozhi_hub.audio.pcm import BadAudio, Resampler
from xiaozhi_hub.core.flow import Packet

MICROPHONE_RATE = 16000
FRAME_MS = 60


class SamplesToOpus:
    """Turns 16-bit little-endian samples of *rate* and *channels* into packets for `Session`."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate = rate
        self._channels = channels
        self._resampler = Resampler(rate, MICROPHONE_RATE)
        self._encoder = OpusEncoder(MICROPHONE_RATE, FRAME_MS)
        self._waiting = np.zeros(0, np.int16)

    def feed(self, data: bytes) -> None:
        """Take in a piece of any length; raises `BadAudio` when it does not hold whole samples."""
        if len(data) % (2 * self._channels):
            raise BadAudio("not a whole number of samples")
        samples = np.frombuffer(data, "<i2").astype(np.int16)
        if self._channels == 2:
            samples = samples.reshape(-1, 2).mean(axis=1).astype(np.int16)
        self._waiting = np.concatenate((self._waiting, self._resampler.feed(samples)))

    def take(self) -> Packet | None:
        """Return the next packet; None when there is not enough sound for one."""
        frame = self._encoder.frame
        if len(self._waiting) < frame:
            return None
        samples, self._waiting = self._waiting[:frame], self._waiting[frame:]
        return Packet(self._encoder.encode(samples), FRAME_MS)

    def finish(self) -> None:
        """The recording ends here: fill up the last packet with silence."""
        rest = np.concatenate((self._waiting, self._resampler.flush()))
        frame = self._encoder.frame
        self._waiting = np.concatenate((rest, np.zeros(-len(rest) % frame, np.int16)))
        self._resampler = Resampler(self._rate, MICROPHONE_RATE)

    def close(self) -> None:
        self._encoder.close()


class OpusToSamples:
    """Turns the hub's packets into 16-bit little-endian mono samples of *rate*."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._decoder = OpusDecoder(RATE)
        self._resampler = Resampler(RATE, rate)

    def convert(self, packet: Packet) -> bytes:
        """Return what is ready, perhaps nothing; the rest follows a few milliseconds later."""
        return self._resampler.feed(self._decoder.decode(packet.data)).astype("<i2").tobytes()

    def finish(self) -> bytes:
        """Return the rest; the next packet begins another sound."""
        rest = self._resampler.flush().astype("<i2").tobytes()
        self._resampler = Resampler(RATE, self._rate)
        return rest

    def close(self) -> None:
        self._decoder.close()


__all__ = ["OpusToSamples", "SamplesToOpus"]
