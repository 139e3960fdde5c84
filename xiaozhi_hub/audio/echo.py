"""Take the hub's own voice out of what a microphone hears while the hub speaks.

For devices that leave this to the server (``features.aec``): their microphone streams on, and each packet tells by its timestamp
which sound was playing (device-protocol: binary framing 2). Two ways behind one contract: the gate below needs nothing but
arithmetic and lets sound through only where it cannot be the echo; `apm.py` subtracts the echo with WebRTC's canceller.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

import numpy as np
from numpy.typing import NDArray

from xiaozhi_hub.core.flow import Samples

RATE = 16000
KEPT_MS = 4000.0
"""How long what was sent is remembered: the device's queue (40 packets) and some more."""
STEADY_MS = 150.0
"""Timestamps that differ by less from where the stream should be are taken for jitter of the device's two audio tasks."""
LOST_MS = 1500.0
"""So long after the last timestamp the stream is not followed any further."""

HOP = RATE // 50
_WINDOW = 512
_BANDS = 16
_BACK, _AHEAD = 25, 8
"""Blocks of 20 ms: an echo comes up to 500 ms after the sound that the timestamp names, or 160 ms before (up to three
timestamps wait in the device)."""
_FULL_BACK = 13
"""Echoes later than this many blocks are reverberation, and fade."""
_FADE = 10 ** (-0.2)  # 2 dB for each block: 60 dB in 600 ms
_HEARABLE = 1e6
"""Power of a band of the reference from which it can be heard again: some -65 dB below full scale."""
_LEARN_BLOCKS = 25
"""The first half second of sound tells how loud the device hears itself; nothing passes before that is known."""
_OVER = 4.0  # 6 dB above the loudest echo there could be
_ABOVE_NOISE = 8.0
_BANDS_OVER = 3
_HANG_BLOCKS = 20
"""Once a person was heard the gate stays open for 400 ms: words have gaps."""
_FORGET = 0.995
"""What a block counts after the next one: delays are judged by the last four seconds of sound."""
_ALIKE = 0.6
_CLOSED = 0.003
"""What is left of an echo: nothing that anybody takes for a voice, and no digital silence either."""

Floats = NDArray[np.float32]


class Reference:
    """What the device was given to play, on the hub's timeline of the link, in ms. Pure and bounded."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[float, Samples]] = deque()

    def add(self, samples: Samples, at_ms: float) -> None:
        """*samples* (16 kHz) begin to sound at *at_ms*, which never goes back."""
        self._pieces.append((at_ms, samples))
        while self._pieces[0][0] < at_ms - KEPT_MS:
            self._pieces.popleft()

    def between(self, start_ms: float, count: int) -> Floats:
        """*count* samples from *start_ms* on, zeros where nothing sounds."""
        out = np.zeros(count, np.float32)
        for at_ms, samples in reversed(self._pieces):
            begin = round((at_ms - start_ms) * RATE / 1000)
            if begin >= count:
                continue
            if begin + len(samples) <= 0:
                break
            low, high = max(0, begin), min(count, begin + len(samples))
            out[low:high] = samples[low - begin : high - begin]
        return out


class Alignment:
    """Follows which moment of the reference a microphone's packet belongs to."""

    def __init__(self) -> None:
        self._next_ms = 0.0
        self._unknown_ms = LOST_MS

    def place(self, at_ms: float, ms: float) -> float | None:
        """Return the reference time of a packet of *ms* with timestamp *at_ms*; None when that is not known.

        0 is no timestamp: the device played nothing, or lost count; the stream is followed for a while.
        """
        if at_ms > 0:
            if self._unknown_ms >= LOST_MS or abs(at_ms - self._next_ms) > STEADY_MS:
                self._next_ms = at_ms
            self._unknown_ms = 0.0
        else:
            self._unknown_ms += ms
            if self._unknown_ms >= LOST_MS:
                return None
        placed = self._next_ms
        self._next_ms += ms
        return placed


class EchoCanceller(ABC):
    """One for each link. Mono, 16 kHz; times are ms on the timeline whose moments the device sends back as timestamps."""

    @abstractmethod
    def reference(self, samples: Samples, at_ms: float) -> None:
        """The device was sent *samples*, which begin to sound at *at_ms* (never 0, never going back)."""

    @abstractmethod
    def clean(self, samples: Samples, at_ms: float) -> Samples:
        """Return what the microphone heard without the reference, as many samples as went in.

        *at_ms* is the moment of the reference that was playing; 0 when the device says that nothing was.
        """


def _band_matrix() -> Floats:
    edges = np.geomspace(150, 7000, _BANDS + 1) * _WINDOW / RATE
    bins = np.arange(_WINDOW // 2 + 1)[:, None]
    low, high = np.floor(edges[:-1]), np.floor(edges[1:])
    matrix: Floats = ((bins >= low) & (bins < np.maximum(high, low + 1))).astype(np.float32)
    return matrix


_MATRIX = _band_matrix()
_HANN = np.hanning(_WINDOW).astype(np.float32)
_DELAYS = np.arange(_BACK + _AHEAD + 1)[::-1] - _AHEAD
"""Of the blocks of a window of the reference, the oldest first."""
_WEIGHTS = (_FADE ** np.maximum(0, _DELAYS - _FULL_BACK)).astype(np.float32)


def _band_powers(samples: Floats) -> Floats:
    """Power by block of 20 ms and band; the first `_WINDOW` - `HOP` samples belong to the time before."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::HOP] * _HANN
    spectrum = np.fft.rfft(frames, axis=1)
    power: Floats = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ _MATRIX
    return power


class EchoGate(EchoCanceller):
    """Silences the microphone while all that it hears can be the hub's own voice.

    It learns how much later than the timestamps say the device hears itself and, for each band of frequencies, how loud it
    does at the most. Sound that is clearly louder in several bands than the echo of what was played can be is a person's; it
    passes as it is.
    """

    def __init__(self) -> None:
        self._played = Reference()
        self._alignment = Alignment()
        self._before = np.zeros(_WINDOW - HOP, np.float32)
        self._noise = np.full(_BANDS, 1e9, np.float32)
        self._coupling = np.zeros(_BANDS, np.float32)
        self._weights = _WEIGHTS[None, :]
        self._examples: deque[tuple[Floats, Floats]] = deque(maxlen=_LEARN_BLOCKS)
        self._likeness = _Likeness()
        self._learned = 0
        self._suspicious = 0
        self._open_for = 0

    def reference(self, samples: Samples, at_ms: float) -> None:
        self._played.add(samples, at_ms)

    def clean(self, samples: Samples, at_ms: float) -> Samples:
        passes = np.repeat(self.judge(samples, at_ms), HOP)[: len(samples)]
        return np.where(passes, samples, closed(samples))

    def judge(self, samples: Samples, at_ms: float) -> NDArray[np.bool_]:
        """Tell for each 20 ms of *samples* whether they may pass."""
        count = -(-len(samples) // HOP)
        if not count:
            return np.zeros(0, np.bool_)
        heard = np.zeros(len(self._before) + count * HOP, np.float32)
        heard[: len(self._before)] = self._before
        heard[len(self._before) : len(self._before) + len(samples)] = samples
        self._before = heard[-len(self._before) :]
        placed = self._alignment.place(at_ms, len(samples) * 1000 / RATE)
        power = _band_powers(heard)
        if placed is None:
            windows = np.zeros((count, _BANDS, len(_DELAYS)), np.float32)
        else:
            start = placed - _BACK * 20 - (_WINDOW - HOP) * 1000 / RATE
            played = self._played.between(start, (_BACK + count + _AHEAD) * HOP + _WINDOW - HOP)
            windows = np.lib.stride_tricks.sliding_window_view(_band_powers(played), len(_DELAYS), axis=0)
        return np.fromiter((self._block(power[i], windows[i]) for i in range(count)), np.bool_, count)

    def _block(self, heard: Floats, window: Floats) -> bool:
        """One block: *heard* by the microphone; *window* holds what was played around it, by band and delay."""
        self._noise = np.minimum(self._noise * 1.004, np.maximum(heard, 1.0))
        played: Floats = (window * self._weights).max(axis=1)
        audible = played > _HEARABLE
        if not audible.any():
            self._suspicious = self._open_for = 0
            return True
        if self._learned < _LEARN_BLOCKS:
            self._learned += 1
            self._take_example(heard, window)
            if self._learned == _LEARN_BLOCKS:
                self._settle()
            return False
        over = (heard > _OVER * self._coupling * played) & (heard > _ABOVE_NOISE * self._noise) & (heard > _HEARABLE)
        near = int(over.sum()) >= _BANDS_OVER
        if not near:
            self._take_example(heard, window)
            if self._likeness.count % _LEARN_BLOCKS == 0:
                self._settle()
        ratio = np.where(audible, heard / np.maximum(played, 1.0), 0.0).astype(np.float32)
        rise = 0.02 if near else 0.3  # a louder speaker must be learned in the end, a person should not be
        self._coupling += np.where(ratio > self._coupling, rise, 0.004 * audible) * (ratio - self._coupling)
        self._suspicious = self._suspicious + 1 if near else 0
        self._open_for = _HANG_BLOCKS if self._suspicious >= 2 else max(0, self._open_for - 1)
        return self._open_for > 0

    def _take_example(self, heard: Floats, window: Floats) -> None:
        self._examples.append((heard, window))
        self._likeness.add(heard, window)

    def _settle(self) -> None:
        """Look for the delay, and learn the loudness from the last half second when it is a new one."""
        delay = self._likeness.delay()
        weights = (
            _WEIGHTS
            if delay is None
            else np.where(delay - 2 <= _DELAYS, _FADE ** np.maximum(0, _DELAYS - delay - 3), 0)
        )
        weights = weights.astype(np.float32)[None, :]
        if np.array_equal(weights, self._weights) and self._coupling.any():
            return
        self._weights = weights
        self._coupling = np.zeros(_BANDS, np.float32)
        for heard, window in self._examples:
            played = (window * weights).max(axis=1)
            self._coupling = np.maximum(
                self._coupling, np.where(played > _HEARABLE, heard / np.maximum(played, 1.0), 0)
            )


def closed(samples: Samples) -> Samples:
    """What a closed gate leaves of *samples*."""
    return (samples * _CLOSED).astype(np.int16)


class _Likeness:
    """How much the loudness that is heard rises and falls with the loudness that was played, for each delay."""

    def __init__(self) -> None:
        self._sums = np.zeros((5, len(_DELAYS)))
        self.count = 0

    def add(self, heard: Floats, window: Floats) -> None:
        x, y = float(np.sqrt(heard.sum())), np.sqrt(window.sum(axis=0, dtype=np.float64))
        self._sums *= _FORGET
        self._sums += (np.full_like(y, x), y, np.full_like(y, x * x), y * y, x * y)
        self.count += 1

    def delay(self) -> int | None:
        """The likeliest delay in blocks; None when none stands out."""
        weight = (1 - _FORGET**self.count) / (1 - _FORGET)
        x, y, xx, yy, xy = self._sums / max(weight, 1e-9)
        spread = np.sqrt(np.maximum(xx - x * x, 1e-9) * np.maximum(yy - y * y, 1e-9))
        likeness = (xy - x * y) / spread
        best = int(likeness.argmax())
        return int(_DELAYS[best]) if likeness[best] >= _ALIKE else None


__all__ = ["Alignment", "EchoCanceller", "EchoGate", "Reference", "closed"]
