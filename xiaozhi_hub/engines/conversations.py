"""Under which names engines may keep what they have evaluated: they tell nobody who speaks."""

from __future__ import annotations

import hashlib

_OWNER = 12
_LENGTH = 24


def owner_of(who: str) -> str:
    """What the names of all conversations of *who*, a device or a session, begin with."""
    return hashlib.sha256(f"who/{who}".encode()).hexdigest()[:_OWNER]


def conversation_of(who: str, key: str) -> str:
    """The name of the conversation of *who* that has the beginning *key*."""
    return owner_of(who) + hashlib.sha256(f"{who}/{key}".encode()).hexdigest()[: _LENGTH - _OWNER]


__all__ = ["conversation_of", "owner_of"]
