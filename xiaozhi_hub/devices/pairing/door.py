"""Whether devices that nobody has approved are let in at this moment. Pure; times are passed in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from xiaozhi_hub.store.grants import PairingState

FIRST_DAY_SECONDS = 24 * 3600.0
LONGEST_WINDOW_MINUTES = 24 * 60
CLOCK_IS_SET = 1_700_000_000.0
"""Boards without a battery start in the past; what they then take for the time does not count."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Why everybody is let in."""

    kind: Literal["open", "window", "first-day"]
    until: float | None = None
    """Seconds since the epoch; None while nothing ends it."""


class Door:
    """*mode* is what the owner has written: ``open``, ``approve``, or None for a first day that is open."""

    def __init__(self, mode: str | None, state: PairingState, started_at: float) -> None:
        self.mode = mode
        self.state = state
        self._started_at = started_at
        self._window_until: float | None = None

    def opening(self, now: float, clock: float) -> Opening | None:
        """Return why the door is open, None when it is closed. *now* is the time of day, *clock* never jumps."""
        if self.mode == "open":
            return Opening("open")
        found = []
        if self._window_until is not None and clock < self._window_until:
            found.append(Opening("window", now + self._window_until - clock))
        left = self._first_day_left(now, clock)
        if left > 0:
            found.append(Opening("first-day", now + left))
        return max(found, key=lambda opening: opening.until or 0.0, default=None)

    def _first_day_left(self, now: float, clock: float) -> float:
        if self.mode is not None or self.state.closed_at is not None:
            return 0.0
        left = FIRST_DAY_SECONDS - (clock - self._started_at)  # also where the time of day is never known
        if self.state.first_start_at >= CLOCK_IS_SET:
            since = now - self.state.first_start_at
            left = min(left, FIRST_DAY_SECONDS - since) if since >= 0 else 0.0
        return left

    def note_clock(self, now: float) -> bool:
        """Begin the first day anew when the clock has been set since; True when that changed the state."""
        if self.state.first_start_at >= CLOCK_IS_SET or now < CLOCK_IS_SET:
            return False
        self.state = replace(self.state, first_start_at=now)
        return True

    def open_window(self, minutes: float, clock: float) -> None:
        self._window_until = clock + minutes * 60

    def close(self, now: float) -> None:
        """End the window and the first day, for good."""
        self._window_until = None
        self.end_first_day(now)

    def end_first_day(self, now: float) -> None:
        if self.state.closed_at is None:
            self.state = replace(self.state, closed_at=now)


__all__ = ["CLOCK_IS_SET", "FIRST_DAY_SECONDS", "LONGEST_WINDOW_MINUTES", "Door", "Opening"]
