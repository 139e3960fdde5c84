"""Which turn the running code works for."""

from __future__ import annotations

from contextvars import ContextVar

turn_id: ContextVar[str] = ContextVar("turn_id", default="")
"""Set by the task of a turn and seen by the tasks that it starts; empty outside of turns. Log lines carry it."""
