"""What a device's speaker would do with the packets that arrive. Pure: times in seconds are passed in."""

from __future__ import annotations

from collections import deque

TOLERANCE_MS = 5.0
"""Shorter gaps are not heard."""
DECODED_AHEAD = 2
"""Packets that the device has decoded before their turn, so they are not in its queue (audio_service.h)."""


class Playback:
    """Plays in real time, from the moment the first packet is there; counts what a person would notice."""

    def __init__(self, queue_packets: int = 40) -> None:
        self._room = queue_packets + DECODED_AHEAD
        self._waiting: deque[float] = deque()
        self.ends_at: float | None = None
        """When everything that was accepted will have been played; None when nothing was."""
        self.underruns = 0
        """Gaps in the sound because nothing was there to play."""
        self.stall_ms = 0.0
        """How long they were together."""
        self.overflows = 0
        """Packets that found the queue full and were dropped."""
        self.lead_ms = 0.0
        """The most that was ever buffered."""

    def add(self, now: float, ms: float) -> float | None:
        """Take a packet; return when it begins to sound, None when it was dropped."""
        while self._waiting and self._waiting[0] <= now:
            self._waiting.popleft()
        if len(self._waiting) >= self._room:
            self.overflows += 1
            return None
        if self.ends_at is None:
            begins = now
        else:
            begins = max(now, self.ends_at)
            if (gap := (now - self.ends_at) * 1000) > TOLERANCE_MS:
                self.underruns += 1
                self.stall_ms += gap
        self.ends_at = begins + ms / 1000
        self._waiting.append(begins)
        self.lead_ms = max(self.lead_ms, (self.ends_at - now) * 1000)
        return begins

    def cut(self, now: float) -> float:
        """Throw away what has not been played; return how many ms that was."""
        self._waiting.clear()
        rest = self.left_ms(now)
        if self.ends_at is not None:
            self.ends_at = min(self.ends_at, now)
        return rest

    def left_ms(self, now: float) -> float:
        """How much is still to be played."""
        return 0.0 if self.ends_at is None else max(0.0, (self.ends_at - now) * 1000)
