"""What the household told the hub to remember."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from xiaozhi_hub.engines.base import Engine


@dataclass(frozen=True, slots=True)
class Fact:
    """Something remembered, and where it came from. What people said: data, never instructions to a model."""

    text: str
    person: str = ""
    """Whom it is about or who said so; empty for the household."""
    turn_id: str = ""
    """In which turn it was said; that turn may be gone from the history."""
    noted_at: float = 0.0
    """Seconds since the epoch."""
    id: str = ""
    """Given by the memory."""
    device_id: str = ""
    language: str = ""
    noted_by: str = "person"
    """``person``: somebody asked for it; ``model``: a language model thought it worth keeping."""


class Memory(Engine):
    """Remembers facts about the household, for all assistants. What goes wrong is a `HubError`."""

    @abstractmethod
    async def note(self, fact: Fact) -> Fact:
        """Remember *fact*; return it with its id. It outlives a restart from then on. `HubError` with the code
        ``memory-full`` when there is no room."""

    @abstractmethod
    async def recall(self, text: str, limit: int = 5, *, strict: bool = False) -> Sequence[Fact]:
        """Return facts that have to do with *text*, the fitting ones first; none is an answer too.

        With *strict* they speak of all that *text* names. Quick (5 ms): a turn waits for it.
        """

    @abstractmethod
    async def listed(self, limit: int = 100, before: str = "") -> Sequence[Fact]:
        """Return facts, the newest first; *before* is the id of the last one of the page before."""

    @abstractmethod
    async def count(self) -> int:
        """How many facts there are."""

    @abstractmethod
    async def forget(self, ids: Sequence[str]) -> int:
        """Delete facts for good; return how many of them there were."""

    @abstractmethod
    async def clear(self) -> int:
        """Delete everything for good; return how many facts that were."""


__all__ = ["Fact", "Memory"]
