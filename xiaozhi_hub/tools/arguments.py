"""The check of a tool's arguments against its JSON Schema.

Only a part of JSON Schema is understood: ``type``, ``enum``, ``items``, ``anyOf``, ``minimum``, ``maximum``,
``required``. Language models and forms make small mistakes; what is unambiguous is repaired ("50" for a number, 50.0
for an integer, JSON inside a string), everything else is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from xiaozhi_hub.core.characters import whole


class Misfit(Exception):
    """An argument does not fit; ``key`` is the text ``spoken.<key>`` that says so, ``values`` fill it in."""

    def __init__(self, key: str, values: Mapping[str, str]) -> None:
        super().__init__(key, values)
        self.key = key
        self.values = values


def check_arguments(schema: Mapping[str, Any], arguments: object) -> dict[str, Any]:
    """Return the arguments as the tool wants them; raise `Misfit` when they cannot be made to fit.

    *arguments* may be a mapping, a JSON object in a string, or nothing at all. None stands for "not given".
    """
    given = _as_object(arguments)
    properties: Mapping[str, Mapping[str, Any]] = schema.get("properties", {})
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name not in properties:
            raise Misfit("argument_unknown", {"name": name, "known": ", ".join(properties) or "-"})
        checked[name] = _fit(name, value, properties[name])
    for name in schema.get("required", ()):
        if name not in checked:
            raise Misfit("argument_missing", {"name": name})
    return checked


def _as_object(arguments: object) -> Mapping[str, Any]:
    if isinstance(arguments, str):
        if not arguments.strip():
            return {}
        try:
            arguments = json.loads(arguments)
        except ValueError:
            raise _wrong("arguments", "object", arguments) from None
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise _wrong("arguments", "object", arguments)
    return arguments


def _wrong(name: str, expected: str, value: object) -> Misfit:
    shown = str(value)
    return Misfit("argument_wrong", {"name": name, "expected": expected, "value": shown[:60]})


def _fit(name: str, value: Any, schema: Mapping[str, Any]) -> Any:
    if "anyOf" in schema:
        return _fit_one_of(name, value, schema["anyOf"])
    kind = schema.get("type", "string")
    fitted = _FITTERS[kind](value, schema) if kind in _FITTERS else value
    if fitted is _NO:
        raise _wrong(name, _describe(schema), value)
    if kind == "array":
        return [_fit(f"{name}[{index}]", item, schema.get("items", {})) for index, item in enumerate(fitted)]
    if (low := schema.get("minimum")) is not None and fitted < low:
        raise _wrong(name, f">= {low}", value)
    if (high := schema.get("maximum")) is not None and fitted > high:
        raise _wrong(name, f"<= {high}", value)
    return fitted


def _fit_one_of(name: str, value: Any, options: list[Mapping[str, Any]]) -> Any:
    for option in options:  # as it is, before anything is repaired: "50" is a text where a text may stand
        if isinstance(value, _PYTHON.get(option.get("type", ""), ())) and not isinstance(value, bool):
            return _fit(name, value, option)
    for option in options:
        try:
            return _fit(name, value, option)
        except Misfit:
            continue
    raise _wrong(name, " | ".join(_describe(option) for option in options), value)


def _describe(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(str(item) for item in schema["enum"])
    return str(schema.get("type", "string"))


_NO = object()
_PYTHON: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "array": (list,)}


def _text(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return _NO
    text = whole(str(value))
    if "enum" not in schema:
        return text
    by_fold = {str(item).casefold(): item for item in schema["enum"]}
    return by_fold.get(text.strip().casefold(), _NO)


def _number(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, bool):
        return _NO
    if isinstance(value, str):
        try:
            value = float(value.strip().removesuffix("%"))
        except ValueError:
            return _NO
    if not isinstance(value, int | float) or not math.isfinite(value):
        return _NO
    return int(value) if float(value).is_integer() else float(value)


def _integer(value: Any, schema: Mapping[str, Any]) -> Any:
    number = _number(value, schema)
    return number if isinstance(number, int) else _NO


_TRUE = frozenset(("true", "yes", "on", "1"))
_FALSE = frozenset(("false", "no", "off", "0"))


def _boolean(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, bool):
        return value
    word = str(value).strip().casefold()
    return True if word in _TRUE else False if word in _FALSE else _NO


def _array(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return _NO
    if isinstance(value, list | tuple):
        return list(value)
    return _NO if isinstance(value, Mapping) else [value]  # one thing where several may stand


_FITTERS: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "string": _text,
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "array": _array,
}
