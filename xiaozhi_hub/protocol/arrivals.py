"""How evenly a device's sound arrives, and what gets lost on the way to its speaker and back. Pure: times are passed in.

Devices tell which sound they played only when the hub cancels their echo (timestamps of binary framing 2); others send zeros.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_MOST_SENT = 128
"""Packets whose return is waited for: more than any device's queue holds (firmware audio_service.h: 40)."""
_PAUSE_S = 1.0
"""After so long without a packet the stream begins anew: the device was not listening."""
_LATE_MS = 60.0
"""Who comes so much later than its predecessor and its own length say is late: the hub's ears ran dry."""


@dataclass(frozen=True, slots=True)
class SoundFigures:
    """One link's microphone stream and speaker, since it began."""

    packets: int
    """Received from the microphone."""
    jitter_ms: float
    """Interarrival jitter (RFC 3550 §6.4.1), against the length of the packets."""
    late: int
    played: int
    """Packets of which the device said that it played them."""
    lost: int
    """Packets of which it did not, though it played later ones: dropped on the device, or the microphone's packet was."""
    round_trip_ms: float | None
    """From when a sound should have left the speaker to when the device's word of it came; None before the first."""


class Arrivals:
    """Fed by one link."""

    def __init__(self) -> None:
        self._sent: deque[int] = deque(maxlen=_MOST_SENT)
        self._packets = self._late = self._played = self._lost = 0
        self._jitter_ms = 0.0
        self._last_at: float | None = None
        self._round_trip_ms: float | None = None

    def sent(self, timestamp: int) -> None:
        """A packet went to the device that carries *timestamp*; never 0, always more than the one before."""
        self._sent.append(timestamp)

    def arrived(self, ms: float, at: float, timestamp: int = 0, now_ms: float = 0.0) -> None:
        """A packet of *ms* came at *at* (seconds); *now_ms* is the same moment on the clock of the timestamps."""
        self._packets += 1
        if self._last_at is not None and at - self._last_at < _PAUSE_S:
            late_ms = (at - self._last_at) * 1000 - ms
            self._jitter_ms += (abs(late_ms) - self._jitter_ms) / 16
            self._late += late_ms > _LATE_MS
        self._last_at = at
        if timestamp in self._sent:
            while (oldest := self._sent.popleft()) != timestamp:
                self._lost += 1
            self._played += 1
            trip = max(0.0, now_ms - oldest)
            self._round_trip_ms = trip if self._round_trip_ms is None else self._round_trip_ms * 0.9 + trip * 0.1

    def figures(self) -> SoundFigures:
        trip = self._round_trip_ms
        return SoundFigures(
            self._packets,
            round(self._jitter_ms, 1),
            self._late,
            self._played,
            self._lost,
            round(trip, 1) if trip is not None else None,
        )


__all__ = ["Arrivals", "SoundFigures"]
