"""A tool: one thing the hub can do, whoever asks for it — a sentence, a model, an automation, a button.

    @tool("clock.set_timer", effect=True)
    async def set_timer(turn: TurnInfo, minutes: Annotated[float, "how long"], name: str = "") -> str:
        '''Start a countdown on the device the person is speaking to.'''

The docstring is what a language model reads, the annotations become the JSON Schema and the check of the arguments.
The returned text is spoken as it is, in the language of the turn. Failures are `ToolError`; something that is still
missing is asked for with `MissingSlot`.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from xiaozhi_hub.core.flow import TurnInfo

Handler = Callable[..., Awaitable["ToolResult | str"]]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answers."""

    text: str
    """Spoken to the person as it is; empty when there is nothing to say."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """For programs: JSON values only."""
    emotion: str = "neutral"
    language: str = ""
    """Of the text; empty: that of the turn."""


@dataclass(frozen=True, slots=True)
class Tool:
    """One thing the hub can do."""

    name: str
    """``<source>.<verb>``: ``clock.set_timer``."""
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of type object; unknown arguments are refused."""
    handler: Handler
    """Called with the `TurnInfo` and the checked arguments by name."""
    effect: bool = True
    """It changes something. Tools with an effect never run speculatively."""
    confirm: bool = False
    """The person is asked before it runs."""
    owner_only: bool = False
    """Never offered to a language model or to a voice that is not known to be the owner's."""
    seconds: float | None = None
    """How long a call may take; None for the registry's usual limit."""
    foreign: bool = False
    """Its answers hold words from outside the hub, of a device or a page: a language model is told that they are no instruction."""


_JSON_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def _schema_of(annotation: Any) -> dict[str, Any]:
    """Translate one annotation to JSON Schema; TypeError names what cannot be translated."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, note, *_ = get_args(annotation)
        return {**_schema_of(inner), "description": note}
    if origin in (Union, types.UnionType):
        options = [a for a in get_args(annotation) if a is not type(None)]
        if len(options) == 1:
            return _schema_of(options[0])
        return {"anyOf": [_schema_of(option) for option in options]}
    if origin is Literal:
        return {"type": "string", "enum": list(get_args(annotation))}
    if origin is list:
        return {"type": "array", "items": _schema_of(get_args(annotation)[0])}
    if annotation in _JSON_TYPES:
        return {"type": _JSON_TYPES[annotation]}
    raise TypeError(f"a tool's argument cannot be a {annotation!r}")


def schema_of(handler: Callable[..., Any]) -> dict[str, Any]:
    """Build the JSON Schema of a handler's arguments, all but the first (the turn)."""
    hints = get_type_hints(handler, include_extras=True)
    parameters = list(inspect.signature(handler).parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    properties: dict[str, Any] = {}
    required: list[str] = []
    for parameter in parameters[1:]:
        properties[parameter.name] = _schema_of(hints[parameter.name])
        if parameter.default is inspect.Parameter.empty:
            required.append(parameter.name)
        elif parameter.default is not None:
            properties[parameter.name]["default"] = parameter.default
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def make_tool(
    name: str,
    handler: Handler,
    *,
    effect: bool = True,
    confirm: bool = False,
    owner_only: bool = False,
    seconds: float | None = None,
) -> Tool:
    """Make a tool of a coroutine function (or bound method): docstring → description, annotations → schema."""
    description = inspect.cleandoc(handler.__doc__ or "")
    if not description:
        raise TypeError(f"tool {name} needs a docstring: it is what a language model reads")
    return Tool(name, description, schema_of(handler), handler, effect, confirm, owner_only, seconds)


def tool(
    name: str, *, effect: bool = True, confirm: bool = False, owner_only: bool = False
) -> Callable[[Handler], Tool]:
    """Decorate a coroutine function to make it a `Tool`."""

    def decorate(handler: Handler) -> Tool:
        return make_tool(name, handler, effect=effect, confirm=confirm, owner_only=owner_only)

    return decorate


__all__ = ["Handler", "Tool", "ToolResult", "TurnInfo", "make_tool", "schema_of", "tool"]
