"""A device whose microphone hears its own speaker, built to leave the echo to the server (``USE_SERVER_AEC``)."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from xiaozhi_hub.audio.opus import OpusDecoder, OpusEncoder
from xiaozhi_hub.core.flow import Samples

_RATE = 16000
_FRAME_MS = 60
_MOST_PENDING = 3
"""Timestamps that wait to be sent back (firmware audio_service.h, MAX_TIMESTAMPS_IN_QUEUE); more are dropped."""
_KEPT_S = 3.0


class Loopback:
    """The way from speaker to microphone: *delay_ms* long, quieter by the factor *level*, through a room that reverberates.

    Give one to one `FakeDevice`, in mode ``realtime`` with a profile whose features hold ``aec``.
    """

    def __init__(self, delay_ms: float = 80.0, level: float = 0.3, *, reverberation_ms: float = 120.0) -> None:
        self._delay = delay_ms / 1000
        self._speaker, self._microphone = OpusDecoder(_RATE), OpusDecoder(_RATE)
        self._encoder = OpusEncoder(_RATE, _FRAME_MS, 0, 24000, dtx=True)
        self._room = room(reverberation_ms) * level
        self._playing: deque[tuple[float, Samples]] = deque()
        self._stamps: deque[tuple[float, int]] = deque()
        """When each was played."""

    def play(self, opus: bytes, begins: float, timestamp: int) -> None:
        """The speaker begins with a packet at *begins* (loop time)."""
        samples = self._speaker.decode(opus)
        self._playing.append((begins, samples))
        if timestamp:
            self._stamps.append((begins + len(samples) / _RATE, timestamp))
        while self._playing[0][0] < begins - _KEPT_S:
            self._playing.popleft()

    def hear(self, opus: bytes, frame_at: float) -> tuple[bytes, int]:
        """What the microphone sends for the 60 ms from *frame_at* on, when *opus* is all that there is to hear beside the
        speaker; and the timestamp."""
        near = self._microphone.decode(opus)
        tail = len(self._room) - 1
        start = frame_at - self._delay - tail / _RATE
        played = np.zeros(len(near) + tail, np.float32)
        for begins, samples in self._playing:
            at = round((begins - start) * _RATE)
            low, high = max(0, at), min(len(played), at + len(samples))
            if low < high:
                played[low:high] = samples[low - at : high - at]
        heard = near + np.convolve(played, self._room, "valid")
        ended = frame_at + _FRAME_MS / 1000
        due = [stamp for stamp in self._stamps if stamp[0] <= ended]
        while len(due) > _MOST_PENDING:
            self._stamps.popleft()
            due.pop(0)
        timestamp = self._stamps.popleft()[1] if due else 0
        return self._encoder.encode(np.clip(heard, -32768, 32767).astype(np.int16)), timestamp

    def close(self) -> None:
        """Let go of the codecs."""
        for codec in (self._speaker, self._microphone, self._encoder):
            codec.close()


def room(ms: float, seed: int = 1) -> NDArray[np.float32]:
    """An impulse response of *ms*: the direct sound, and noise that fades by 60 dB. Its energy is 1."""
    count = max(1, round(_RATE * ms / 1000))
    response = np.random.default_rng(seed).normal(0, 1, count) * 10 ** (-3 * np.arange(count) / count)
    response[0] = 3.0
    normed: NDArray[np.float32] = (response / np.sqrt((response**2).sum())).astype(np.float32)
    return normed


__all__ = ["Loopback", "room"]
