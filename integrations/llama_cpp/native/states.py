"""What was evaluated before: the live context, and the saved states of other conversations."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .library import Library

WORTH = 24
"""Tokens below which saving or fetching a state costs more than reading them again."""
_MOVED = 32
"""Tokens that must be equal behind a gap before the gap is cut out of the context."""


@dataclass(slots=True)
class Saved:
    """A conversation that is not live: its tokens and the library's state after them."""

    tokens: array[int]
    state: bytearray


@dataclass(frozen=True, slots=True)
class Prepared:
    """How the context was made ready for a prompt."""

    reused: int
    """Tokens at the beginning of the prompt that are evaluated already."""
    restored: int = 0
    """Of those, how many came from a saved state."""
    moved: int = 0
    """Of those, how many stood further behind before."""


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    size = min(len(one), len(other))
    if not size:
        return 0
    differ = np.nonzero(np.asarray(one[:size], np.int32) != np.asarray(other[:size], np.int32))[0]
    return int(differ[0]) if len(differ) else size


class States:
    """Makes the context ready for a prompt with as little evaluation as possible; keeps other conversations in bounded memory."""

    def __init__(self, library: Library, limit: int) -> None:
        self._library = library
        self._limit = limit
        self._saved: OrderedDict[str, Saved] = OrderedDict()
        self.live = ""
        """The conversation in the context."""

    @property
    def size(self) -> int:
        """Bytes that saved states take."""
        return sum(len(saved.state) for saved in self._saved.values())

    def prepare(self, conversation: str, prompt: Sequence[int]) -> Prepared:
        """Leave the longest known beginning of *prompt* in the context, but never all of it: the last token has to be evaluated."""
        here = common(self._library.tokens, prompt)
        name, there = self._best(prompt)
        restored = 0
        same = conversation == self.live
        if there > here + WORTH and name is not None:
            same = name == conversation
            saved = self._saved.pop(name)
            self._put_away()
            if self._library.restore(saved.state, saved.tokens):
                restored = there
        elif conversation != self.live:
            self._put_away(shared=here)
        self.live = conversation
        return self._cut(prompt, restored, same)

    def keep(self, name: str, tokens: Sequence[int], state: bytearray) -> None:
        """Take in a state that was saved elsewhere."""
        if state and len(state) <= self._limit:
            self._saved.pop(name, None)
            self._saved[name] = Saved(array("i", tokens), state)
            while self.size > self._limit:
                self._saved.popitem(last=False)

    def forget(self) -> None:
        """Let go of everything."""
        self._saved.clear()
        self._library.clear()
        self.live = ""

    def put_away(self) -> None:
        """Save the live conversation, because something else needs the context."""
        self._put_away()
        self._library.clear()
        self.live = ""

    def _put_away(self, shared: int = 0) -> None:
        tokens = self._library.tokens
        _, known = self._best(tokens)
        if len(tokens) - max(shared, known) > WORTH and self._limit:
            self.keep(self.live, tokens, self._library.save())

    def _best(self, prompt: Sequence[int]) -> tuple[str | None, int]:
        best: tuple[str | None, int] = (None, 0)
        for name, saved in self._saved.items():
            length = common(saved.tokens, prompt)
            if length > best[1]:
                best = (name, length)
        return best

    def _cut(self, prompt: Sequence[int], restored: int, same: bool) -> Prepared:
        library = self._library
        here = common(library.tokens, prompt)
        # Only within one conversation: what moves up has looked at what is cut out.
        moved = self._close_gap(prompt, here) if same else 0
        keep = min(here + moved, len(prompt) - 1)
        if keep < len(library.tokens):
            keep = library.trim(keep)
        return Prepared(keep, min(restored, keep), max(0, keep - here))

    def _close_gap(self, prompt: Sequence[int], here: int) -> int:
        """When old messages left the middle of the conversation, cut them out and let those behind move up.

        Returns how many tokens moved to where the prompt has them.
        """
        live = self._library.tokens
        behind = list(prompt[here : here + _MOVED])
        if not self._library.can_shift or len(behind) < _MOVED or len(live) - here <= _MOVED:
            return 0
        for start in range(here + 1, len(live) - _MOVED + 1):
            if live[start] == behind[0] and live[start : start + _MOVED] == behind:
                length = common(live[start:], prompt[here:])
                return length if self._library.cut_out(here, start) else 0
        return 0
