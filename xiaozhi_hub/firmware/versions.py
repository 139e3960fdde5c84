"""Versions, compared as the firmware compares them (firmware main/ota.cc): it splits at dots and reads whole numbers.

A part that does not begin with a digit makes it crash at every start, so such a version must never be sent.
"""

from __future__ import annotations

import re

_SENDABLE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}")
_NUMBER = re.compile(r"[0-9]{1,9}")
_LONGEST = 31
"""Characters of a version in an image; the rest of its 32 bytes ends the text."""


def is_sendable(version: str) -> bool:
    """May *version* be named to a device? Only dotted whole numbers may."""
    return len(version) <= _LONGEST and _SENDABLE.fullmatch(version) is not None


def numbers_of(version: str) -> tuple[int, ...] | None:
    """Return what the firmware reads in *version*, which may end like ``2.4.2-dirty``; None where it would crash."""
    parts = version.split(".")
    if len(parts) > 1 and not parts[-1]:
        parts.pop()  # std::getline yields nothing after the last dot
    read = [_NUMBER.match(part) for part in parts]
    found = [int(number[0]) for number in read if number is not None]
    return tuple(found) if len(found) == len(parts) else None


def is_newer(new: str, current: str) -> bool:
    """Would a device with *current* install *new*? The first difference decides; ``1.2.0`` is newer than ``1.2``."""
    offered, running = numbers_of(new), numbers_of(current)
    return offered is not None and running is not None and offered > running


__all__ = ["is_newer", "is_sendable", "numbers_of"]
