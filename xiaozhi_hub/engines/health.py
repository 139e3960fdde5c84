"""How an engine has been doing: which ones to leave out for a while, and how long to wait before another one is asked as well.

Pure, with the time passed in: `CircuitBreaker` and `Timing`. `Health` puts both together, with a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

FAILURES = 2
"""In a row: one may be chance."""
FIRST_WAIT_S = 5.0
LONGEST_WAIT_S = 300.0
PROBE_S = 15.0
"""An engine that is tried again is left to who tries it for so long; then another one may try."""


class Circuit(StrEnum):
    """Whether an engine is used."""

    CLOSED = "closed"
    """It works, as far as is known."""
    OPEN = "open"
    """It has failed and is left out."""
    HALF_OPEN = "half-open"
    """It has been left out for long enough: who comes next tries it."""


@dataclass(slots=True)
class CircuitBreaker:
    """Leaves an engine out after `FAILURES` failures in a row: for a while, and twice as long after each try that failed."""

    failures: int = 0
    """In a row."""
    wait_s: float = 0.0
    """For how long it is, or was last, left out."""
    _until: float | None = None
    _probed_until: float | None = None

    def state(self, now: float) -> Circuit:
        if self._until is None:
            return Circuit.CLOSED
        if now < self._until or (self._probed_until is not None and now < self._probed_until):
            return Circuit.OPEN
        return Circuit.HALF_OPEN

    def asked(self, now: float) -> None:
        """The engine is put to work. Where that is a try, nobody else makes one meanwhile."""
        if self.state(now) is Circuit.HALF_OPEN:
            self._probed_until = now + PROBE_S

    def succeeded(self) -> None:
        self.failures, self.wait_s = 0, 0.0
        self._until = self._probed_until = None

    def failed(self, now: float) -> None:
        self.failures += 1
        if self._until is not None and now < self._until:
            return  # turns that had begun before it was left out: the same failure
        if self.failures >= FAILURES:
            self.wait_s = min(LONGEST_WAIT_S, self.wait_s * 2 or FIRST_WAIT_S)
            self._until, self._probed_until = now + self.wait_s, None


@dataclass(slots=True)
class Timing:
    """How long something usually takes, and after which time it is unusually late (RFC 6298 finds its time limits so)."""

    usual_ms: float | None = None
    spread_ms: float = 0.0
    _back_off: float = 1.0

    def took(self, ms: float) -> None:
        self._back_off = 1.0
        if self.usual_ms is None:
            self.usual_ms, self.spread_ms = ms, ms / 2
        else:
            self.spread_ms += (abs(ms - self.usual_ms) - self.spread_ms) / 4
            self.usual_ms += (ms - self.usual_ms) / 8

    def was_late(self) -> None:
        """It took longer than `late_ms`, nobody knows how long. More is allowed from now on, or it could never be on time again."""
        self._back_off = min(self._back_off * 2, 64.0)

    def late_ms(self, unknown: float, least: float, most: float) -> float:
        """The time after which it is late, from *least* to *most*; *unknown* while nothing has been measured."""
        limit = unknown if self.usual_ms is None else max(least, self.usual_ms + 4 * self.spread_ms)
        return min(most, limit * self._back_off)


class Health:
    """One engine's circuit breaker and timing."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._breaker = CircuitBreaker()
        self.begins = Timing()
        """From the request to the first result."""
        self.pace: float | None = None
        """A voice's milliseconds of sound for each character at normal speed."""
        self.reason = ""
        """Of the last failure."""

    @property
    def circuit(self) -> Circuit:
        return self._breaker.state(self._clock())

    @property
    def left_out(self) -> bool:
        """Others are to be asked first."""
        return self.circuit is Circuit.OPEN

    def asked(self) -> None:
        """It is put to work."""
        self._breaker.asked(self._clock())

    def began(self, ms: float) -> None:
        """Its first result has come after so long."""
        self.begins.took(ms)

    def succeeded(self) -> None:
        """It did what it was asked to."""
        self._breaker.succeeded()
        self.reason = ""

    def failed(self, reason: str) -> None:
        self._breaker.failed(self._clock())
        self.reason = reason

    def overtaken(self) -> None:
        """It was late, and another one was quicker."""
        self.begins.was_late()
        self.failed("it takes too long")


__all__ = ["Circuit", "CircuitBreaker", "Health", "Timing"]
