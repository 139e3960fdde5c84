"""Recordings of people, for the tests that want more than a synthesised voice. The project brings none: who has some names their
folder in XIAOZHI_SPEECH. For each test that needs them another one says the same of what the hub's own voice says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_NAMED = os.environ.get("XIAOZHI_SPEECH", "")
SPEECH = Path(_NAMED) if _NAMED else Path(__file__).resolve().parent / "speech"
if _NAMED and not SPEECH.is_dir():
    raise pytest.UsageError(f"XIAOZHI_SPEECH names {SPEECH}, which is no folder.")

needs_recordings = pytest.mark.skipif(
    not SPEECH.is_dir(),
    reason="NOBODY'S VOICE HEARD: there are no recordings of people (XIAOZHI_SPEECH names their folder)",
)

__all__ = ["SPEECH", "needs_recordings"]
