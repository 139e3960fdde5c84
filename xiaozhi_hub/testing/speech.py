"""What a device's microphone delivers: speech, and quiet around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from xiaozhi_hub.audio.opus import OpusEncoder
from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.core.flow import PcmChunk, Samples
from xiaozhi_hub.errors import HubError

RATE = 16000
FRAME_MS = 60
_FRAME = RATE * FRAME_MS // 1000
_BITRATE = 24000
_COMPLEXITY = 0  # as the firmware, which has better things to do
_WINDOW = RATE // 50
_FAINTEST = 1e-4  # 40 dB below the loudest
_ABOVE_NOISE = 4.0  # 6 dB
_AMONG, _LOUD = 5, 3
"""Of so many windows in a row so many hold speech, up to its last one: a knock or a click is shorter."""
_HISS = 4.0
_QUIET_FRAMES = 50


def speech_end_ms(samples: Samples) -> float:
    """Return where speech of 16 kHz ends: after the last 20 ms within 40 dB of the loudest and 6 dB above the noise. What is that
    loud for less than 60 ms within 100 ms, is a knock or a click and no speech, unless there is nothing else.

    Files go on after the last word, some for long; that must not count as the hub's delay.
    """
    count = len(samples) // _WINDOW
    if not count:
        raise HubError("The recording holds no sound.", code="no-speech")
    power = np.square(samples[: count * _WINDOW].astype(np.float64)).reshape(count, _WINDOW).sum(axis=1)
    loudest = power.max()
    if loudest == 0:
        raise HubError("The recording holds no sound.", code="no-speech")
    threshold = max(loudest * _FAINTEST, min(float(np.percentile(power, 10)) * _ABOVE_NOISE, loudest / 2))
    loud = power >= threshold
    among = np.convolve(loud, np.ones(_AMONG))[:count]
    spoken = np.flatnonzero(loud & (among >= _LOUD))
    return float((spoken if len(spoken) else np.flatnonzero(loud))[-1] + 1) * 20.0


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech, encoded as a device does. May be shared by any number of devices."""

    packets: tuple[bytes, ...]
    end_ms: float
    """Where the speech ends, measured from the first packet's beginning."""
    frame_ms: int = FRAME_MS

    @classmethod
    def of(cls, chunk: PcmChunk) -> Utterance:
        """Encode *chunk*, of any rate, with all its silence."""
        samples = resample(chunk, RATE).samples
        return cls(_encode(samples), speech_end_ms(samples))

    @property
    def last_packet(self) -> int:
        """Index of the packet that holds the end of the speech."""
        return min(int((self.end_ms - 0.001) // self.frame_ms), len(self.packets) - 1)


@cache
def quiet() -> Sequence[bytes]:
    """Return the packets of a silent room, to be repeated: a faint hiss, as every microphone has."""
    noise = np.random.default_rng(1).normal(0, _HISS, _QUIET_FRAMES * _FRAME)
    return _encode(noise.astype(np.int16))


def _encode(samples: Samples) -> tuple[bytes, ...]:
    whole = np.zeros(-(-len(samples) // _FRAME) * _FRAME, np.int16)
    whole[: len(samples)] = samples
    with OpusEncoder(RATE, FRAME_MS, _COMPLEXITY, _BITRATE, dtx=True) as encoder:
        return tuple(encoder.encode(whole[at : at + _FRAME]) for at in range(0, len(whole), _FRAME))
