"""How often somebody may do something."""

from __future__ import annotations

from collections import OrderedDict

MOST_KEYS = 1024


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


class RateLimits:
    """A `RateLimit` for each key, such as an address. Of many keys those heard of last are remembered."""

    def __init__(self, per_second: float, burst: float, *, most: int = MOST_KEYS) -> None:
        self._per_second = per_second
        self._burst = burst
        self._most = most
        self._limits: OrderedDict[str, RateLimit] = OrderedDict()

    def __len__(self) -> int:
        return len(self._limits)

    def allows(self, key: str, now: float) -> bool:
        """Count one event of *key*; False when it is one too many."""
        limit = self._limits.pop(key, None) or RateLimit(self._per_second, self._burst)
        self._limits[key] = limit
        if len(self._limits) > self._most:
            self._limits.popitem(last=False)
        return limit.allows(now)
