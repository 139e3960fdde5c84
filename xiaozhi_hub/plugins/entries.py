"""An entry: one configured use of an integration, and the state it is in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xiaozhi_hub.core.tasks import TaskScope


class EntryState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RETRYING = "retrying"
    """It is not ready yet; `Entry.retry_at` says when it is tried again."""
    FAILED = "failed"
    """It will not work until somebody does something; `Entry.hint` says what."""
    AVAILABLE = "available"
    """It lacks a package or a model, which is no fault: nobody asked for it. `Entry.hint` says how to get it."""
    DISABLED = "disabled"


@dataclass(slots=True, eq=False)
class Entry:
    """What an integration's hooks are given to know which use of it they serve."""

    domain: str
    options: Mapping[str, Any]
    """Checked by the integration's schema, defaults filled in."""
    name: str = ""
    state: EntryState = EntryState.STARTING
    reason: str = ""
    """Why it is retrying, failed, only available, or disabled: for people."""
    hint: str = ""
    """What to do about it."""
    retry_at: float | None = None
    """Seconds since the epoch."""
    runtime: Any = None
    """Whatever the integration keeps between its hooks."""
    scope: TaskScope = field(default_factory=lambda: TaskScope("entry"))
    """For the entry's own tasks; closed after its context is left."""
