"""What a failure says against the engine that it happened in."""

from __future__ import annotations

import logging

from xiaozhi_hub.engines.base import Engine
from xiaozhi_hub.engines.llm import NOT_RECOGNISED
from xiaozhi_hub.engines.wake import WAKE_BUSY
from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)

BLAMELESS = ("voice-unknown", NOT_RECOGNISED, WAKE_BUSY)
"""Codes of failures that say nothing against an engine: it has not what was asked for, or is in use wherever it can be."""


def note_failure(engine: Engine, error: Exception) -> bool:
    """Remember a failure; False when it says nothing against the engine."""
    if isinstance(error, HubError) and error.code in BLAMELESS:
        return False
    known = isinstance(error, HubError)
    log.warning("%s %s failed: %s", engine.info.role, engine.info.id, error, exc_info=None if known else error)
    engine.health.failed(error.message if isinstance(error, HubError) else type(error).__name__)
    return True


__all__ = ["note_failure"]
