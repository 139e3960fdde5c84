"""What was written in a file, and where in it: so that whoever checks a value can say which line is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.core.secret import MASK
from xiaozhi_hub.errors import Place

KeyPath = tuple[str | int, ...]
_SECRET_NAME = re.compile(r"(?:^|[_-])(?:key|token|passw(?:or)?d|passphrase|secret|credentials?|pin)s?$", re.IGNORECASE)
_LOGIN_IN_ADDRESS = re.compile(r"//[^/@\s]+@")


class Unreadable:
    """Stands where a value could not be read, so that nobody complains about it a second time."""

    def __repr__(self) -> str:
        return "<unreadable>"


UNREADABLE = Unreadable()


def key_path(path: KeyPath) -> str:
    """Write *path* for a person: ``voice → asr → item 2``."""
    return " → ".join(f"item {part + 1}" if isinstance(part, int) else part for part in path)


def place_of(places: Mapping[KeyPath, Place], path: KeyPath, file: str) -> Place:
    """Return the place of *path*, or of the nearest thing around it under the name of *path*; *file* when all fails."""
    if path in places:
        return places[path]
    for length in range(len(path) - 1, -1, -1):
        if (around := places.get(path[:length])) is not None:
            return Place(around.file, around.line, key_path(path))
    return Place(file, None, key_path(path))


def shown(value: object, key: str = "") -> str:
    """Write *value* as it may be shown to anybody who reads a log: dots for what stands under a secret-looking key."""
    if isinstance(value, Mapping):
        return "a group of keys"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None:
        return "nothing"
    if _SECRET_NAME.search(key):
        return MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = _LOGIN_IN_ADDRESS.sub(f"//{MASK}@", value)
        return f'"{text}"' if len(text) <= 60 else f'"{text[:57]}…"'
    return str(value)


@dataclass
class Document:
    """The content of a file, and where each part of it stands."""

    value: Any
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def place(self, path: KeyPath) -> Place:
        """Return where *path* is written, or where it would belong."""
        return place_of(self.places, path, "")

    def merged(self, other: Document) -> Document:
        """Return this document with *other* laid over it: groups of keys are merged, all else is replaced."""
        places = dict(self.places)
        return Document(_merge(self.value, other.value, (), places, other.places), places)


def _merge(
    low: Any, high: Any, path: KeyPath, places: dict[KeyPath, Place], high_places: Mapping[KeyPath, Place]
) -> Any:
    if isinstance(low, dict) and high is None and not path:
        return low  # an empty file says nothing
    if isinstance(low, dict) and isinstance(high, dict):
        both = dict(low)
        for key, value in high.items():
            both[key] = _merge(low[key], value, (*path, key), places, high_places) if key in low else value
            if key not in low:
                _take(places, high_places, (*path, key))
        return both
    _take(places, high_places, path)
    return high


def _take(places: dict[KeyPath, Place], high_places: Mapping[KeyPath, Place], path: KeyPath) -> None:
    """Let *high_places* tell where *path* and everything below it stands."""
    depth = len(path)
    for old in [each for each in places if each[:depth] == path]:
        del places[old]
    places.update({each: place for each, place in high_places.items() if each[:depth] == path})


__all__ = ["UNREADABLE", "Document", "KeyPath", "Unreadable", "key_path", "place_of", "shown"]
