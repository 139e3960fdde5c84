"""Send audio no faster than the device can hold it and no slower than it plays.

The firmware keeps 40 packets and silently drops the newest beyond that (firmware audio_service.h; 10 packets in 1.6.2). A few
packets go out at once as a lead against jitter, the rest on a schedule of absolute times, so that delays do not add up.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAD_MS = 300
"""Audio the device is ahead of its speaker: five packets, as much as survives the jitter of a home Wi-Fi. A small lead is
also what an interruption costs, because a device cannot be told to forget what it has."""
TAIL_MS = 120
"""What the device's decoder and DMA still hold when the last packet is decoded."""


@dataclass(slots=True)
class Pacer:
    """The schedule of one answer. Pure: times in seconds are passed in."""

    lead_ms: float = LEAD_MS
    _ends_at: float | None = None
    sent_ms: float = 0.0
    late: int = 0
    """Packets that were known too late to reach the speaker without a gap."""

    def due(self, now: float) -> float:
        """When the next packet may be sent."""
        if self._ends_at is None:
            return now
        return max(now, self._ends_at - self.lead_ms / 1000)

    def sent(self, ms: float, now: float) -> None:
        """A packet of *ms* was sent at *now*."""
        if self._ends_at is None:
            self._ends_at = now
        elif self._ends_at < now:
            self.late += 1
            self._ends_at = now  # the speaker fell silent; the schedule begins anew
        self._ends_at += ms / 1000
        self.sent_ms += ms

    def played_at(self) -> float | None:
        """When the device will have played everything that was sent; None when nothing was."""
        return None if self._ends_at is None else self._ends_at + TAIL_MS / 1000
