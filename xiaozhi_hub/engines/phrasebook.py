"""What the hub understands at present, for recognisers to lean on. `xiaozhi_hub.dialog.grammar.grammar` writes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xiaozhi_hub.core.flow import Completeness


@dataclass(frozen=True, slots=True)
class SentenceGraph:
    """Sentences as an automaton over spoken words: from each state a word leads to at most one other."""

    start: int
    states: int
    arcs: tuple[tuple[int, int, str, float], ...]
    """From, to, word, and how often people who came this far say it (0…1)."""
    ends: tuple[tuple[int, float], ...]
    """States where a sentence may be over, and how often it is."""
    polite: tuple[str, ...] = ()
    """What may be said before or after any sentence without changing it: ``please``."""


class Phrasebook(Protocol):
    """The sentences and names that the hub understands at present in one language: what recognisers may lean on."""

    language: str
    version: str
    """Changes when, and only when, the sentences or names do."""

    def samples(self, count: int, seed: int = 0) -> Iterable[str]:
        """Yield *count* spoken sentences at random: lower-case words, numbers as words, names as people say them."""
        ...

    def graph(self, answering: bool = False) -> SentenceGraph:
        """The sentences to listen for, exactly; those with free text are left out. Takes up to a second at first.

        With *answering*, bare answers to the hub's questions are among them.
        """
        ...

    def names(self) -> Sequence[str]:
        """The names of entities, areas, scenes and assistants as they are written."""
        ...

    def completeness(self, text: str) -> Completeness:
        """Say what *text* may still become. *text* is spoken form, as `samples` yields it, or written form."""
        ...

    def understands(self, text: str) -> bool:
        """Would an intent be found for *text*?"""
        ...

    def written(self, text: str) -> str:
        """Return what was said as one would write it: ``set bed light to fifty percent`` → ``set Bed Light to 50 percent``."""
        ...


__all__ = ["Phrasebook", "SentenceGraph"]
