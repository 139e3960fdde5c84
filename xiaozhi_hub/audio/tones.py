"""The few sounds of the hub itself, made from sines so that there is no file to miss."""

from __future__ import annotations

import numpy as np

from xiaozhi_hub.core.flow import PcmChunk

RATE = 24000


def _note(hertz: float, ms: float, level: float) -> np.ndarray:
    """A sine that begins at once and fades like a struck bell."""
    time = np.arange(int(RATE * ms / 1000)) / RATE
    fade = np.exp(-time * 6) * np.minimum(1.0, time / 0.004)
    tone = np.sin(2 * np.pi * hertz * time) + 0.3 * np.sin(4 * np.pi * hertz * time)
    return np.asarray(tone / 1.3 * fade * level)


def _sound(*notes: tuple[float, float], level: float = 0.35) -> PcmChunk:
    wave = np.concatenate([_note(hertz, ms, level) for hertz, ms in notes])
    return PcmChunk((wave * 32767).astype(np.int16), RATE)


def chime() -> PcmChunk:
    """Rings: a timer is done, somebody wants to be heard."""
    return _sound((784, 180), (988, 180), (1175, 420))


def sorrow() -> PcmChunk:
    """Something failed and there is no voice to say so."""
    return _sound((440, 220), (330, 420))
