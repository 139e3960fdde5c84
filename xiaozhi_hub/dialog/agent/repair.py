"""What a small model gets nearly right: repaired where only one thing can be meant, left as it is elsewhere. Pure.

The registry's own check follows (`xiaozhi_hub.tools.arguments`): numbers as text and the like are repaired there, for everybody.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

MOST_ARGUMENTS = 4000
"""Characters of all arguments of a call, as JSON."""
_DEEPEST = 6
_NEAR = 0.8
"""How alike two words must be (difflib) for one to be a slip of the other: ``kithcen`` and ``kitchen``, not ``bedroom`` and
``bathroom``."""
_WRAPPERS = frozenset(("arguments", "parameters", "args", "params", "input"))
_PLAIN = re.compile(r"[\W_]+")


class TooMuch(ValueError):
    """The arguments are larger or deeper than those of any tool."""


def plain(name: str) -> str:
    """A name without what people and models write differently: case, spaces, dots, underscores."""
    return _PLAIN.sub("", name.casefold())


def tool_meant(name: str, known: Collection[str]) -> str | None:
    """The tool of *known* that is called *name*, whatever separates its words; None when there is none, or more than one."""
    if name in known:
        return name
    wanted = plain(name)
    alike = [tool for tool in known if plain(tool) == wanted]
    if not alike and wanted:
        alike = [tool for tool in known if plain(tool.rpartition(".")[2]) == wanted]  # turn_on for home.turn_on
    return alike[0] if len(alike) == 1 else None


def arguments_meant(
    schema: Mapping[str, Any], arguments: object, area: Callable[[str], str | None] = lambda _: None
) -> dict[str, Any]:
    """The arguments that are meant. *area* finds the room that a text names. Raises `TooMuch`."""
    if isinstance(arguments, str):
        arguments = _parsed(arguments)
    if not isinstance(arguments, Mapping):
        arguments = {}
    _check_size(arguments)
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    given = _unwrapped(arguments, properties)
    by_plain: dict[str, str] = {plain(name): name for name in properties}
    meant: dict[str, Any] = {}
    for name, value in given.items():
        known = name if name in properties else by_plain.get(plain(str(name)), str(name))
        if known in meant or value is None or value == "":  # small models fill in what they do not know
            continue
        meant[known] = _value(known, value, properties.get(known, {}), area)
    return meant


def _parsed(text: str) -> object:
    if len(text) > MOST_ARGUMENTS:
        raise TooMuch
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {}


def _check_size(arguments: Mapping[str, Any]) -> None:
    def depth(value: object, level: int = 0) -> int:
        if level > _DEEPEST:
            return level
        if isinstance(value, Mapping):
            return max((depth(item, level + 1) for item in value.values()), default=level)
        if isinstance(value, list | tuple):
            return max((depth(item, level + 1) for item in value), default=level)
        return level

    if depth(arguments) > _DEEPEST or len(json.dumps(arguments, default=str)) > MOST_ARGUMENTS:
        raise TooMuch


def _unwrapped(arguments: Mapping[str, Any], properties: Mapping[str, Any]) -> Mapping[str, Any]:
    """``{"arguments": {…}}`` → ``{…}``, where no argument is called so."""
    if len(arguments) == 1:
        ((name, inner),) = arguments.items()
        if name in _WRAPPERS and name not in properties:
            if isinstance(inner, str):
                inner = _parsed(inner)
            if isinstance(inner, Mapping):
                return inner
    return arguments


def _value(name: str, value: Any, schema: Mapping[str, Any], area: Callable[[str], str | None]) -> Any:
    if not isinstance(value, str):
        return value
    if "enum" in schema:
        return one_like(value, [str(item) for item in schema["enum"]]) or value
    if name == "area":
        return area(value) or value
    return value.strip() if schema.get("type", "string") == "string" else value


def one_like(value: str, choices: Collection[str]) -> str | None:
    """The one of *choices* that *value* is but for case, spaces, or a slip; None when there is none, or more than one."""
    by_plain: dict[str, list[str]] = {}
    for choice in choices:
        by_plain.setdefault(plain(choice), []).append(choice)
    wanted = plain(value)
    if wanted not in by_plain:
        near = difflib.get_close_matches(wanted, list(by_plain), n=2, cutoff=_NEAR)
        if len(near) != 1:
            return None
        wanted = near[0]
    return by_plain[wanted][0] if len(by_plain[wanted]) == 1 else None
