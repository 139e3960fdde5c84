"""What was talked about on links that have ended: kept for a while, because a device may lose its link in the middle of it."""

from __future__ import annotations

from xiaozhi_hub.dialog.agent.dialogue import Dialogue
from xiaozhi_hub.dialog.respond import Conversation

FORGET_SECONDS = 600.0
"""Whoever comes back after that begins a new conversation."""
MOST_ENDED = 256
"""Conversations without a link that are kept; names are easily made up."""


class Conversations:
    """One for each device that talks, or has lately. Time is passed in."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Conversation, int]] = {}
        """With the number of links that hold it: an old link may end after its successor has begun."""
        self._ended: dict[str, tuple[Conversation, float]] = {}
        """With the time of their end, the earliest first."""

    def __len__(self) -> int:
        return len(self._open) + len(self._ended)

    def open(self, device_id: str, now: float) -> Conversation:
        """Go on where the device left off, or begin anew. To be given back with `end`."""
        self.forget(now)
        ended = self._ended.pop(device_id, None)
        conversation, links = self._open.get(device_id) or (ended[0] if ended else Conversation(), 0)
        self._open[device_id] = (conversation, links + 1)
        return conversation

    def end(self, device_id: str, now: float) -> None:
        """A link of the device has ended."""
        conversation, links = self._open.pop(device_id)
        if links > 1:
            self._open[device_id] = (conversation, links - 1)
            return
        self._ended[device_id] = (conversation, now)
        self.forget(now)

    def all(self, now: float) -> dict[str, tuple[Conversation, float]]:
        """Every conversation by its device, and how many seconds ago it ended; 0 for those that go on."""
        ended = {device_id: (held, now - at) for device_id, (held, at) in self._ended.items()}
        return {**ended, **{device_id: (held, 0.0) for device_id, (held, _) in self._open.items()}}

    def resume(self, device_id: str, conversation: Conversation, now: float) -> None:
        """Take in one that ended at *now*, unless the device has begun another."""
        if device_id not in self._open and device_id not in self._ended:
            self._ended[device_id] = (conversation, now)

    def drop(self, device_id: str) -> None:
        """Forget what was said, also in a conversation that goes on."""
        self._ended.pop(device_id, None)
        if device_id in self._open:
            self._open[device_id][0].dialogue = Dialogue()

    def drop_all(self) -> None:
        """As `drop`, for all devices."""
        for device_id in (*self._ended, *self._open):
            self.drop(device_id)

    def forget(self, now: float) -> None:
        """Let go of those that ended long ago, and of the oldest when there are too many."""
        while self._ended:
            oldest = next(iter(self._ended))
            if len(self._ended) <= MOST_ENDED and now - self._ended[oldest][1] <= FORGET_SECONDS:
                return
            del self._ended[oldest]


__all__ = ["Conversations"]
