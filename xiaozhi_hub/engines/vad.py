"""Voice activity: does somebody speak at this moment?"""

from __future__ import annotations

from abc import ABC, abstractmethod

from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.engines.base import Engine


class VadStream(ABC):
    """Voice activity of one microphone; remembers what it heard so far."""

    @abstractmethod
    async def feed(self, chunk: PcmChunk) -> float:
        """Return the probability (0…1) that the newest part of *chunk* (16 kHz) is speech."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was heard, before a new turn of the same device."""


class Vad(Engine):
    """Voice activity detection."""

    @abstractmethod
    def open(self) -> VadStream:
        """Return the state for one microphone. Cheap: called once per connection."""


__all__ = ["Vad", "VadStream"]
