"""What was evaluated before: the live context, and the saved states of other conversations in memory and on the disk."""

from __future__ import annotations

import time
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .common import behind_gap, common
from .disk import Disk, Kept
from .library import Library

WORTH = 24
"""Tokens below which saving or fetching a state costs more than reading them again."""


@dataclass(slots=True)
class Saved:
    """A conversation that is not live: its tokens and the library's state after them."""

    conversation: str
    tokens: array[int]
    state: bytearray
    answers: tuple[str, ...]
    """The keys of the answers in it."""
    used_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """How the context was made ready for a prompt."""

    reused: int
    """Tokens at the beginning of the prompt that are evaluated already."""
    restored: int = 0
    """Of those, how many came from a saved state."""
    moved: int = 0
    """Of those, how many stood further behind before."""


class States:
    """Makes the context ready for a prompt with as little evaluation as possible; keeps other conversations in bounded memory."""

    def __init__(self, library: Library, disk: Disk, limit: int) -> None:
        self._library = library
        self._disk = disk
        self._limit = limit
        self._saved: OrderedDict[str, Saved] = OrderedDict()
        self._live = ""
        self._live_at = 0.0
        self._answers: tuple[str, ...] = ()
        self._beginning: list[int] = []
        """What the live conversation begins with and others may begin with as well."""

    def prepare(self, conversation: str, prompt: Sequence[int]) -> Prepared:
        """Leave the longest known beginning of *prompt* in the context, but never all of it: the last token has to be evaluated."""
        here = self._worth(self._library.tokens, prompt, conversation == self._live)
        name, there = self._best(self._saved, prompt, conversation)
        far_name, far = self._best(self._disk.kept, prompt, conversation)
        restored, same = False, conversation == self._live
        if far_name is not None and far > max(here, there) + WORTH:
            same = self._fetch(far_name, conversation)
            restored = True
        elif name is not None and there > here + WORTH:
            same, restored = name == conversation, True
            saved = self._saved.pop(name)
            self._put_away()
            self._restore(saved.state, saved.tokens)
        elif not same:
            self._put_away(shared=here)
        self._live, self._answers, self._beginning = conversation, (), []
        self._live_at = time.time()
        return self._cut(prompt, restored, same)

    def may_leave(self, conversation: str) -> bool:
        """Can the context turn to *conversation* without losing what has been read of another one, live or saved?"""
        if conversation == self._live or len(self._library.tokens) <= WORTH:
            return True
        others = (saved for name, saved in self._saved.items() if name not in (conversation, self._live))
        return self._library.size_of_state() + sum(len(saved.state) for saved in others) <= self._limit

    def answered(self, answers: Sequence[str], beginning: Sequence[int]) -> None:
        """The live conversation has been answered: the keys of all answers in it, and the part before its first question."""
        self._answers = tuple(answers)
        self._beginning = list(beginning)

    def put_away(self) -> None:
        """Save the live conversation and empty the context, because something else needs it."""
        self._put_away()
        self._library.clear()
        self._live = ""

    def forget(self, owners: Sequence[str] | None, before: float | None) -> set[str]:
        """Let go of conversations whose names begin with one of *owners*, or of all; with *before* only of those that were not used
        since. Return the keys of the answers in what is left."""

        def wanted(conversation: str, used_at: float) -> bool:
            whose = owners is None or conversation.startswith(tuple(owners))
            return whose and (before is None or used_at < before)

        for name, saved in tuple(self._saved.items()):
            if wanted(saved.conversation, saved.used_at):
                del self._saved[name]
        if wanted(self._live, self._live_at):
            self._library.clear()
            self._live, self._answers = "", ()
        self._disk.forget(owners, before)
        return {key for saved in self._saved.values() for key in saved.answers} | set(self._answers)

    def write_beginning(self) -> None:
        """Keep on the disk what the live conversation begins with, unless it is there: it lasts longest and is used most."""
        beginning = self._beginning
        self._beginning = []
        there = self._library.can_cut and self._library.tokens[: len(beginning)] == beginning
        if len(beginning) > WORTH and there and not self._disk.holds(beginning):
            self._disk.write("", beginning, self._library.save(len(beginning)), {})

    def write_all(self, answers: Mapping[str, Sequence[int]], *, conversations: bool) -> None:
        """Keep all *conversations* on the disk, the latest first; without them only what they begin with, and none stays."""
        self.write_beginning()
        if not conversations:
            self._disk.forget(None, None)
            return
        for name, saved in self._all():
            if not self._disk.holds(saved.tokens):
                known = {key: answers[key] for key in saved.answers if key in answers}
                self._disk.write(name, saved.tokens, saved.state, known)

    def _all(self) -> Iterator[tuple[str, Saved]]:
        if self._live and len(self._library.tokens) > WORTH:
            tokens = array("i", self._library.tokens)
            yield self._live, Saved(self._live, tokens, self._library.save(), self._answers, self._live_at)
        yield from reversed(self._saved.items())

    def _fetch(self, kept: str, conversation: str) -> bool:
        """Take a state from the disk into the context. True when it is of the same conversation."""
        self._put_away()
        found = self._disk.read(kept)
        if found is None:
            return False
        what, state = found
        self._restore(state, what.tokens)
        return what.conversation == conversation

    def _restore(self, state: bytearray, tokens: Sequence[int]) -> None:
        if not self._library.restore(state, tokens):
            self._library.clear()

    def _put_away(self, shared: int = 0) -> None:
        tokens = self._library.tokens
        known = max((common(saved.tokens, tokens) for saved in self._saved.values()), default=0)
        if not self._limit or len(tokens) - max(shared, known) <= WORTH:
            return
        state = self._library.save()
        if state and len(state) <= self._limit:
            self._saved.pop(self._live, None)
            self._saved[self._live] = Saved(self._live, array("i", tokens), state, self._answers, self._live_at)
            while sum(len(saved.state) for saved in self._saved.values()) > self._limit:
                self._saved.popitem(last=False)

    def _best(
        self, known: Mapping[str, Saved] | Mapping[str, Kept], prompt: Sequence[int], conversation: str
    ) -> tuple[str | None, int]:
        """Which state is worth most for *prompt*, and how many tokens it saves."""
        best: tuple[str | None, int] = (None, 0)
        for name, state in known.items():
            worth = self._worth(state.tokens, prompt, conversation == state.conversation)
            if worth > best[1]:
                best = (name, worth)
        return best

    def _worth(self, known: Sequence[int], prompt: Sequence[int], same: bool) -> int:
        """How many tokens of *prompt* need not be evaluated after *known*; the *same* conversation may have lost a part."""
        if not self._library.can_cut:
            return len(known) if common(known, prompt) == len(known) < len(prompt) else 0
        here = common(known, prompt)
        return here + (behind_gap(known, prompt, here)[1] if same and self._library.can_shift else 0)

    def _cut(self, prompt: Sequence[int], restored: bool, same: bool) -> Prepared:
        """Cut the context down to what serves *prompt*."""
        library = self._library
        here = common(library.tokens, prompt)
        moved = 0
        if same and library.can_shift:
            # Only within one conversation: what moves up has looked at what is cut out.
            start, length = behind_gap(library.tokens, prompt, here)
            moved = length if length and library.cut_out(here, start) else 0
        keep = min(here + moved, len(prompt) - 1)
        if keep < len(library.tokens):
            keep = library.trim(keep)
        return Prepared(keep, keep if restored else 0, max(0, keep - here))
