"""faster-whisper, looking at a window that fits the sound instead of always at 30 seconds, and stoppable between its steps.

Imports the library: only to be imported once a model is known to be there.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import tqdm

from faster_whisper import WhisperModel

from .model import FRAMES_PER_SECOND, Abandoned

# Its progress bar, though never shown, would start a thread that watches over it.
tqdm.tqdm.monitor_interval = 0

WHOLE = 30 * FRAMES_PER_SECOND
MARGIN_SECONDS = 2.0
"""Silence that Whisper sees after the last word."""


class WindowedWhisper(WhisperModel):  # type: ignore[misc]  # the library has no types
    """The encoder costs in proportion to its window, and the library pads that with silence to 30 s."""

    _stop: threading.Event | None = None
    _windows: tuple[int, ...] = ()
    _last: tuple[Any, Any] | None = None
    _used: list[int]
    window_frames = WHOLE

    def begin(self, stop: threading.Event, windows: tuple[int, ...]) -> None:
        """The next calls are for one recognition: it ends when *stop* is set, and looks at one of *windows* (seconds)."""
        self._stop, self._windows, self._last, self._used = stop, windows, None, []

    def end(self) -> list[int]:
        """That was it. Returns the frames of the windows that were looked at."""
        self._stop, self._last = None, None
        return self._used

    def encode(self, features: Any) -> Any:
        self._go_on()
        fitted = self._fit(features)
        if self._last is not None and np.array_equal(self._last[0], fitted):  # the language was detected with it
            return self._last[1]
        encoded = super().encode(fitted)
        self._last = (fitted, encoded)
        self.window_frames = fitted.shape[-1]
        self._used.append(self.window_frames)
        self._go_on()
        return encoded

    def generate_with_fallback(self, *args: Any, **more: Any) -> Any:
        self._go_on()
        return super().generate_with_fallback(*args, **more)

    def _fit(self, features: Any) -> Any:
        """Cut off, or add, silence at the end so that one of the windows is filled."""
        sounding = np.flatnonzero(features.any(axis=0))
        used = int(sounding[-1]) + 1 if len(sounding) else 0
        needed = used + int(MARGIN_SECONDS * FRAMES_PER_SECOND)
        frames = next((w * FRAMES_PER_SECOND for w in self._windows if w * FRAMES_PER_SECOND >= needed), WHOLE)
        here = features.shape[-1]
        if here >= frames:
            return features[..., :frames]
        return np.pad(features, ((0, 0), (0, frames - here)))

    def _go_on(self) -> None:
        if self._stop is not None and self._stop.is_set():
            raise Abandoned("nobody waits for this any more")
