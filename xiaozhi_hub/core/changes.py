"""What differs between two configurations, key by key, fit to be shown; and what of it a running hub can take over.

`NEEDS_RESTART` is the one place that says so. Everything else is in force as soon as it has been read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.documents import KeyPath, key_path, shown
from xiaozhi_hub.core.secret import MASK, Secret
from xiaozhi_hub.errors import Place

NEEDS_RESTART: tuple[KeyPath, ...] = (
    ("hub",),
    ("server",),
    ("http",),
    ("discovery",),
    ("voice", "phrase_cache_mb"),
    ("memory", "enabled"),
    ("log",),
    ("limits",),
)
"""What is settled once the ports, the store and the log are open."""
_BY_NAME = ("assistants", "devices", "integrations")
"""Groups whose keys are the owner's own."""


@dataclass(frozen=True, slots=True)
class Change:
    """One key that has another value than before."""

    path: KeyPath
    before: str = ""
    """As it may be shown; empty when nothing was there, dots for what is secret."""
    after: str = ""
    restart: bool = False
    """The hub has to be started again for it."""

    @property
    def key(self) -> str:
        """``voice → speed``"""
        return key_path(self.path)

    @property
    def what(self) -> str:
        """What has happened to it, for people."""
        if MASK in (self.before, self.after) or self.before == self.after:
            return "changed"
        if _is_name(self.path):
            return (
                "removed"
                if not self.after
                else "added"
                if self.after == "on" and not self.before
                else f"now {self.after}"
            )
        return f"{self.before or 'nothing'} → {self.after or 'nothing'}"

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


def changes_between(old: Config, new: Config, secret: Collection[KeyPath] = ()) -> tuple[Change, ...]:
    """Return what *new* says otherwise than *old*. *secret* names values that must not be shown although nothing in the files says
    so; those that come from ``!secret``, stand under a secret-looking key or are a `Secret` are known."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    of_old, of_new = _Written(old, secret), _Written(new, secret)
    gone = {path for path in before if _is_name(path) and path not in after}
    found = []
    for path in sorted({*before, *after}, key=lambda path: [str(part) for part in path]):
        if before.get(path) == after.get(path) or (len(path) > 2 and path[:2] in gone):
            continue
        was, is_now = of_old.shown(path, before.get(path)), of_new.shown(path, after.get(path))
        found.append(Change(path, was, is_now, _needs_restart(path)))
    return tuple(found)


def in_force(running: Config, wanted: Config) -> Config:
    """Return *wanted*, but with what needs a restart as it is in *running*."""
    kept: dict[str, Any] = {}
    for group, *keys in NEEDS_RESTART:
        name = str(group)
        if not keys:
            kept[name] = getattr(running, name)
        else:
            of_running = {str(key): getattr(getattr(running, name), str(key)) for key in keys}
            kept[name] = replace(kept.get(name, getattr(wanted, name)), **of_running)
    places = {path: place for path, place in wanted.places.items() if not _needs_restart(path)}
    places |= {path: place for path, place in running.places.items() if _needs_restart(path)}
    return replace(wanted, **kept, places=MappingProxyType(places))


def _is_name(path: KeyPath) -> bool:
    """Is it a key that the owner has made up, or the name of an integration?"""
    return len(path) == 2 and path[0] in _BY_NAME and path != ("devices", "pairing")


def _needs_restart(path: KeyPath) -> bool:
    return any(path[: len(settled)] == settled for settled in NEEDS_RESTART)


# -- which values there are -----------------------------------------------------------------------------------------------


def _leaves(config: Config) -> Iterator[tuple[KeyPath, Any]]:
    """All values by their keys. In a group of the owner's own keys those that are as usual are left out, and each key is a value
    of its own: ``on``, or for an integration ``off``."""
    yield ("devices", "pairing"), config.pairing
    for part in fields(config):
        value = getattr(config, part.name)
        if is_dataclass(value):
            yield from _fields(value, (part.name,))
        elif part.name in _BY_NAME:
            for key, each in value.items():
                yield (part.name, key), "off" if each is False else "on"
                yield from _own(each, (part.name, key))


def _fields(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    for part in fields(value):
        inner = getattr(value, part.name)
        if is_dataclass(inner):
            yield from _fields(inner, (*path, part.name))
        else:
            yield (*path, part.name), inner


def _own(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    if is_dataclass(value) and not isinstance(value, type):
        usual = {part.name: path[-1] if part.default is MISSING else part.default for part in fields(value)}
        for part in fields(value):
            if (inner := getattr(value, part.name)) != usual[part.name]:
                yield (*path, part.name), inner
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(each, Mapping) and each:
                yield from _own(each, (*path, key))
            else:
                yield (*path, key), each


# -- how they are shown ---------------------------------------------------------------------------------------------------


class _Written:
    """What may be shown of the values of one configuration."""

    def __init__(self, config: Config, secret: Collection[KeyPath]) -> None:
        self._places: dict[KeyPath, Place] = {_plain(path): place for path, place in config.places.items()}
        self._secret = secret

    def shown(self, path: KeyPath, value: Any) -> str:
        if value is None or value == ():
            return ""
        around = [path[:length] for length in range(1, len(path) + 1)]
        if isinstance(value, Secret):
            return MASK if value else ""
        if any(self._is_secret(each) for each in around):
            return MASK
        if isinstance(value, (list, tuple)):
            if (at := self._places.get(path)) is not None and at.written:
                return at.written
            items = [self.shown((*path, index), item) for index, item in enumerate(value)]
            return MASK if MASK in items else ", ".join(items)
        if isinstance(value, Mapping):
            return shown(value)
        if _is_name(path):
            return str(value)
        at = self._places.get(path)
        key = next((str(part) for part in reversed(path) if isinstance(part, str)), "")
        return (at.written if at is not None else "") or shown(value, key)

    def _is_secret(self, path: KeyPath) -> bool:
        return path in self._secret or ((place := self._places.get(path)) is not None and place.written == MASK)


def _plain(path: KeyPath) -> KeyPath:
    """A device's address may be written in several ways."""
    if path[:1] == ("devices",) and len(path) > 1:
        return ("devices", str(path[1]).strip().lower().replace("-", ":"), *path[2:])
    return path


__all__ = ["NEEDS_RESTART", "Change", "changes_between", "in_force"]
