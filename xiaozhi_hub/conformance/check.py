"""What a check is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xiaozhi_hub.conformance.verdict import Broken

if TYPE_CHECKING:
    from xiaozhi_hub.conformance.bench import Bench


@dataclass(frozen=True, slots=True)
class Check:
    """One claim of the protocol's checklist and the coroutine that finds out whether a server keeps it.

    The coroutine returns a note for the table, or nothing; it raises `Broken` with the reason, or `NotApplicable`.
    """

    number: str
    """``P-01`` …"""
    claim: str
    run: Callable[[Bench], Awaitable[str | None]]
    slow: bool = False
    """It takes half a minute or longer, because what it looks at does."""

    @property
    def topic(self) -> str:
        """The module of the check, such as ``handshake``."""
        return self.run.__module__.rpartition(".")[2]


def check(
    number: str, claim: str, *, slow: bool = False
) -> Callable[[Callable[[Bench], Awaitable[str | None]]], Check]:
    """Make a coroutine the check of *number*."""
    return lambda run: Check(number, claim, run, slow)


def expect(so: bool, otherwise: str) -> None:
    """Raise `Broken` with the reason *otherwise* unless it is so."""
    if not so:
        raise Broken(otherwise)


__all__ = ["Check", "check", "expect"]
