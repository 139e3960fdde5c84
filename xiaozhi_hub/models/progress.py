"""How work that takes its time tells how far it is. Whoever shows it decides what that looks like."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Is told how one piece of work after another goes on. Called from any thread, never from two at once."""

    def begin(self, what: str, total: int | None, done: int = 0) -> None:
        """*what* begins: *total* bytes (or steps), of which *done* are there already. None: nobody knows how many."""

    def advance(self, done: int) -> None:
        """So many are done now, of this piece of work."""

    def note(self, text: str) -> None:
        """Something that a person should know happened; the work goes on."""

    def end(self) -> None:
        """The piece of work is over, well or not."""


class Silence:
    """Shows nothing."""

    def begin(self, what: str, total: int | None, done: int = 0) -> None: ...

    def advance(self, done: int) -> None: ...

    def note(self, text: str) -> None: ...

    def end(self) -> None: ...


__all__ = ["Progress", "Silence"]
