"""Wake words in streamed sound: was the hub called?"""

from __future__ import annotations

from abc import ABC, abstractmethod

from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.engines.base import Engine

WAKE_BUSY = "wake-busy"
"""Code of the failure of an engine that listens in as many places as it can: nothing is wrong with it."""


class WakeStream(ABC):
    """Wake-word detection on one microphone."""

    @abstractmethod
    async def feed(self, chunk: PcmChunk) -> str | None:
        """Return the wake word that *chunk* (16 kHz) completed, if any."""

    async def aclose(self) -> None:  # noqa: B027 (most streams hold nothing)
        """Let go of everything; safe to call at any time, more than once."""


class Wake(Engine):
    """Wake-word detection on streamed audio."""

    @property
    @abstractmethod
    def words(self) -> tuple[str, ...]:
        """What it listens for, by the names that streams return: ``hey jarvis``."""

    def knows(self, text: str) -> str | None:
        """Which of `words` is meant by *text*, the name that a device gives to a wake word; None when it is none of them."""
        return next((word for word in self.words if _bare(word) == _bare(text)), None)

    @abstractmethod
    def open(self) -> WakeStream:
        """Begin to listen to one microphone; close the stream when done. `StageError` with `WAKE_BUSY` when there are too many."""

    async def likelihood(self, word: str, sound: PcmChunk) -> float | None:
        """How surely (0…1) *word*, one of `words`, is in *sound* (16 kHz), a whole recording. `StageError` when there is no
        room for it now; None from an engine that can only say that it heard a word, and not how surely it did not."""
        return None


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


__all__ = ["WAKE_BUSY", "Wake", "WakeStream"]
