"""Decides when a microphone hears nothing but its own noise, so that the network need not look.

Pure: fed with sound and with what the network said of it; knows no clock but the sound's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

RATE = 16000
BLOCK = RATE // 50
"""Samples over which loudness is measured: 20 ms, less than a syllable's onset."""

HUSHED_DB = 40.0
"""What is louder than this, about 50 dB below full scale, is never skipped: a pop or music at the beginning must not pass for the
noise of the room, in which speech would then be lost."""
CERTAIN = 0.1
"""The network must say less than this …"""
CALM = RATE // 4
"""… for so many samples before it is left out."""
REFRESH = RATE * 3 // 4
"""After so many samples without the network it is asked again, whatever the loudness."""
MARGIN_DB = 2.0
"""Louder than the noise by this, and by `SPREAD` times its usual variation, is something new."""
SPREAD = 4.0
FOLLOW = 0.15
"""How fast the idea of the noise follows what is measured."""


@dataclass(slots=True)
class Noise:
    """The usual loudness of a microphone's noise in one measure, and how much it varies, in dB."""

    level: float = math.inf
    spread: float = 1.0

    def exceeded(self, level: float) -> bool:
        return level > self.level + max(MARGIN_DB, SPREAD * self.spread)

    def follow(self, level: float) -> None:
        if self.level == math.inf:
            self.level = level
        off = level - self.level
        self.level += FOLLOW * off
        self.spread += FOLLOW * (min(abs(off), 6.0) - self.spread)


@dataclass(slots=True)
class Gate:
    """One microphone's gate; closed means that the network is left out."""

    calm: int = 0
    """Samples for which the network has been certain that nobody speaks."""
    skipped: int = 0
    """Samples since the network was last asked."""
    whole: Noise = field(default_factory=Noise)
    bright: Noise = field(default_factory=Noise)
    """Measured on the differences of neighbours: hum is soft there, an s or t is loud."""
    _last: tuple[float, float] = (0.0, 0.0)

    def closed(self, samples: NDArray[np.int16]) -> bool:
        """May the network be left out for these newest *samples*?"""
        whole, bright = self._last = _loudness(samples)
        quiet = whole < HUSHED_DB and not (self.whole.exceeded(whole) or self.bright.exceeded(bright))
        if self.calm < CALM or self.skipped + len(samples) > REFRESH or not quiet:
            self.skipped = 0
            return False
        self.skipped += len(samples)
        self._follow()
        return True

    def heard(self, probability: float, count: int) -> None:
        """Take in what the network said of the newest *count* samples."""
        if probability >= CERTAIN:
            self.calm = 0
            return
        self.calm += count
        self._follow()

    def forget(self) -> None:
        """Begin to listen afresh; the noise stays known: it belongs to the microphone."""
        self.calm = self.skipped = 0

    def _follow(self) -> None:
        whole, bright = self._last
        if whole >= HUSHED_DB:
            return
        self.whole.follow(whole)
        self.bright.follow(bright)


def _loudness(samples: NDArray[np.int16]) -> tuple[float, float]:
    """Return the level of the loudest 20 ms, as it is and in the differences, in dB above one step of the converter."""
    blocks = max(1, len(samples) // BLOCK)
    sound = samples[: len(samples) // blocks * blocks].astype(np.float32)
    steps = np.zeros_like(sound)
    np.subtract(sound[1:], sound[:-1], out=steps[1:])
    return _decibels(sound.reshape(blocks, -1)), _decibels(steps.reshape(blocks, -1))


def _decibels(blocks: NDArray[np.float32]) -> float:
    energy: float = max(np.vecdot(blocks, blocks).tolist())
    return 10.0 * math.log10(1.0 + energy / blocks.shape[1])
