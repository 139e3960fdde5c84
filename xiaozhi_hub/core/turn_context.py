"""Which turn the running code works for, and how its stages tell what happened when."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

turn_id: ContextVar[str] = ContextVar("turn_id", default="")
"""Set by the task of a turn and seen by the tasks that it starts; empty outside of turns. Log lines carry it."""


class Stamp(Protocol):
    """``stamp(name, at=None)``: note a moment of the turn; *at* is loop time, now when left out. The last one counts."""

    def __call__(self, name: str, at: float | None = None) -> None: ...
