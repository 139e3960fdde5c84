"""Apply a schema, and tell every mistake in plain words, with its place: the hub's configuration and integrations' options alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

import voluptuous as vol

from xiaozhi_hub.core.documents import UNREADABLE, KeyPath, shown
from xiaozhi_hub.core.fields import Wrong
from xiaozhi_hub.core.secret import MASK
from xiaozhi_hub.errors import ConfigError, ConfigErrors, Place


def check(schema: vol.Schema, value: Any, place: Callable[[KeyPath], Place]) -> tuple[Any, list[ConfigError]]:
    """Return what *schema* makes of *value*, or None and everything that is wrong. *place* tells where a key stands."""
    try:
        return schema(value), []
    except vol.MultipleInvalid as invalid:
        found = [(error, *_split(error)) for error in invalid.errors]
    errors = []
    for error, path, missing in found:
        given = _at(value, path)
        if not _holds_unreadable(given):
            errors.append(_told(error, schema, path, missing, given, place(path)))
    return None, errors


def check_options(
    schema: vol.Schema, raw: Mapping[str, Any], place_lookup: Callable[[KeyPath], Place]
) -> Mapping[str, Any]:
    """Return the options *raw* of an integration, checked and completed by its *schema*; raises `ConfigErrors`.

    *place_lookup* tells where a key of the options stands:
    ``lambda path: config.place(("integrations", domain, *path))``.
    """
    values, errors = check(schema, dict(raw), place_lookup)
    if errors:
        raise ConfigErrors(errors)
    checked: Mapping[str, Any] = values
    return checked


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "boolean": "true or false",
    "list": "a list",
    "dict": "a group of keys",
    "a dictionary": "a group of keys",
}


def _split(error: vol.Invalid) -> tuple[KeyPath, str]:
    """The path of an error as plain keys, and the name of the key that is missing there."""
    path: KeyPath = tuple(part if isinstance(part, int) else str(part) for part in error.path)
    if isinstance(error, vol.RequiredFieldInvalid):
        return path[:-1], str(path[-1]) if path else ""
    return path, ""


def _told(
    error: vol.Invalid, schema: vol.Schema, path: KeyPath, missing: str, given: object, place: Place
) -> ConfigError:
    """Put one error of voluptuous in plain words."""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    message, hint = error.error_message, error.hint if isinstance(error, Wrong) else ""
    if missing:
        return ConfigError(f'the key "{missing}" is missing.', place)
    if message == "extra keys not allowed":
        return ConfigError(f'there is no key "{key}" here.', place, hint=_nearest_key(schema, path))
    head, _, kind = message.partition(" ")
    choices = next((check for check in _checks(schema, path) if isinstance(check, vol.In)), None)
    if head == "expected":
        message = f"expected {_TYPES.get(kind, kind)}"
        if kind == "str" and isinstance(given, (int, float)):
            hint = "Put it in quotes."
    elif isinstance(error, vol.InInvalid) and choices is not None and isinstance(choices.container, Iterable):
        known = [str(choice) for choice in choices.container]
        near = get_close_matches(str(given), known, 1, 0.5)
        message = f"expected {known[0] if len(known) == 1 else 'one of ' + ', '.join(known)}"
        hint = f"Did you mean {near[0]}?" if near else ""
    elif message == "not a valid value":
        message = "this value is not possible here"
    elif head == "value":
        message = f"the {message}"
    written = f'"{key}"' if isinstance(error, Wrong) and error.of_key else place.written or shown(given, key)
    if written.startswith('"${') and not hint:
        hint = "It comes from an environment variable."
    if written == MASK:
        return ConfigError(f"{message}; what is written is secret and not shown.", place, hint=hint)
    return ConfigError(f"{message}, got {written}.", place, hint=hint)


def _nearest_key(schema: vol.Schema, path: KeyPath) -> str:
    """Which key may have been meant by the unknown one at the end of *path*."""
    key = str(path[-1]).lower()
    known = _known_keys(schema, path[:-1])
    if len(path) == 1 and (homes := [group for group in known if key in _known_keys(schema, (group,))]):
        return f"It belongs under {homes[0]}."
    if len(path) > 1 and key in _known_keys(schema, ()):
        return f"{key} is a group of its own: begin it in the first column."
    if near := get_close_matches(key, known, 1):
        return f"Did you mean {near[0]}?"
    return f"Known here: {', '.join(known)}." if known else ""


def _known_keys(schema: object, path: KeyPath) -> list[str]:
    return [
        str(key)
        for check in _checks(schema, path)
        if isinstance(check, dict)
        for key in check
        if isinstance(_bare(key), str)
    ]


def _checks(schema: object, path: KeyPath) -> Iterator[object]:
    """All checks that a value at *path* goes through, as far as the schema can be looked into."""
    if isinstance(schema, vol.Schema):
        yield from _checks(schema.schema, path)
    elif isinstance(schema, (vol.All, vol.Any)):
        for each in schema.validators:
            yield from _checks(each, path)
    elif not path:
        yield schema
    elif isinstance(schema, dict):
        named = [check for key, check in schema.items() if _bare(key) == path[0]]
        for check in named or [check for key, check in schema.items() if not isinstance(_bare(key), str)]:
            yield from _checks(check, path[1:])
    elif isinstance(schema, list):
        for check in schema:
            yield from _checks(check, path[1:])


def _bare(key: object) -> object:
    return key.schema if isinstance(key, vol.Marker) else key


def _holds_unreadable(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_unreadable(each) for each in value.values())
    if isinstance(value, list):
        return any(_holds_unreadable(each) for each in value)
    return value is UNREADABLE


def _at(value: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


__all__ = ["check", "check_options"]
