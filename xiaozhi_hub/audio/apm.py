"""WebRTC's echo canceller (AEC3), as the package ``livekit`` brings it: an optional extra, imported when a device needs it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np

from xiaozhi_hub.audio.echo import HOP, RATE, Alignment, EchoCanceller, EchoGate, Reference, closed
from xiaozhi_hub.core.flow import Samples

_PIECE = RATE // 100
"""It takes exactly 10 ms at a time."""
_EARLY_MS = 160.0
"""How much earlier it gets the reference than the timestamp says: it finds an echo that comes after its sound, by up to half a
second, and none that comes before."""


def available() -> bool:
    """Is the package installed? Does not import it."""
    return find_spec("livekit") is not None


class ApmCanceller(EchoCanceller):
    """Subtracts the echo. Costs some 20 ms of one core for each second of sound, and 25 MB once."""

    def __init__(self) -> None:
        rtc = import_module("livekit.rtc")
        self._frame = rtc.AudioFrame
        self._module = rtc.AudioProcessingModule(echo_cancellation=True, high_pass_filter=True)
        self._played = Reference()
        self._alignment = Alignment()
        self._gate = EchoGate()
        """Decides what may pass: the canceller leaves much in its first moments, and of sounds that are no speech."""

    def reference(self, samples: Samples, at_ms: float) -> None:
        self._played.add(samples, at_ms)
        self._gate.reference(samples, at_ms)

    def clean(self, samples: Samples, at_ms: float) -> Samples:
        placed = self._alignment.place(at_ms, len(samples) * 1000 / RATE)
        count = -(-len(samples) // _PIECE) * _PIECE
        if placed is None:
            played = np.zeros(count, np.int16)
        else:
            played = self._played.between(placed + _EARLY_MS, count).astype(np.int16)
        heard = np.zeros(count, np.int16)
        heard[: len(samples)] = samples
        cleaned = np.empty(count, np.int16)
        for at in range(0, count, _PIECE):
            piece = slice(at, at + _PIECE)
            self._module.process_reverse_stream(self._frame(played[piece].tobytes(), RATE, 1, _PIECE))
            self._module.set_stream_delay_ms(int(_EARLY_MS))
            frame = self._frame(heard[piece].tobytes(), RATE, 1, _PIECE)
            self._module.process_stream(frame)
            cleaned[piece] = np.frombuffer(frame.data, np.int16)
        passes = np.repeat(self._gate.judge(samples, at_ms), HOP)[: len(samples)]
        return np.where(passes, cleaned[: len(samples)], closed(samples))


__all__ = ["ApmCanceller", "available"]
