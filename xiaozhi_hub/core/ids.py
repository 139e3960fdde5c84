"""Ids of turns and sessions."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """An id for a turn or session: sorts by time, and cannot be guessed."""
    return f"{int(time.time() * 1000):011x}{secrets.token_hex(5)}"
