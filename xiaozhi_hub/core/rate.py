"""How often somebody may do something."""

from __future__ import annotations


class RateLimit:
    """A bucket of tokens that fills steadily: short bursts pass, a steady flood does not. Time is passed in."""

    __slots__ = ("_at", "_burst", "_left", "_rate")

    def __init__(self, per_second: float, burst: float) -> None:
        self._rate = per_second
        self._burst = burst
        self._left = burst
        self._at: float | None = None

    def allows(self, now: float) -> bool:
        """Count one event at *now* (seconds); False when it is one too many."""
        if self._at is not None:
            self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
