"""A chat answer as servers send it, put together: text as it comes, tool requests when they are whole. Pure.

What differs between servers, and is understood here:

* no ``index`` in the pieces of tool calls (Ollama before 0.5.8, Gemini), or the same for all; the ``id`` only in the first piece
* arguments as an object instead of JSON in a string (llama-server without streaming), or an empty string for none
* ``content`` null, or a list of parts (Mistral)
* thoughts in ``reasoning_content`` (llama-server, older vLLM) or ``reasoning`` (Ollama, vLLM): never said
* a last chunk with ``usage`` and no ``choices``; no ``[DONE]`` at the end
* the whole answer in one piece from servers that cannot stream, with ``message`` in place of ``delta``
* an ``error`` in the middle of a stream that began with status 200 (vLLM, LM Studio)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.plugins.api import ToolRequest

_MOST_CALLS = 16
_MOST_ARGUMENTS = 64 * 1024


class Unreadable(Exception):
    """The server has sent something that is no answer. The text says what, for people."""


@dataclass(slots=True)
class _Call:
    id: str
    index: Any
    name: str = ""
    arguments: str = ""
    given: dict[str, Any] | None = None
    """Arguments that came as an object."""


@dataclass(slots=True)
class Answer:
    """Takes the events of one answer."""

    finished: bool = False
    """The server has said that this is all."""
    _calls: list[_Call] = field(default_factory=list)

    def feed(self, event: Any) -> Iterator[str]:
        """Take one event; yield the text in it. Raises `Unreadable`."""
        if not isinstance(event, dict):
            raise Unreadable("it sends something else than objects")
        if event.get("error"):
            raise Unreadable(_error_of(event["error"]))
        choices = event.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return
        part = choice.get("delta") or choice.get("message") or {}
        if not isinstance(part, dict):
            raise Unreadable("it sends something else than messages")
        if text := _text_of(part.get("content")):
            yield text
        calls = part.get("tool_calls")
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            self._take_call(call, position)
        if choice.get("finish_reason") or "message" in choice:
            self.finished = True

    def requests(self) -> list[ToolRequest]:
        """The tool requests of the whole answer. Raises `Unreadable`."""
        return [ToolRequest(call.name, _arguments_of(call)) for call in self._calls]

    def _take_call(self, piece: Any, position: int) -> None:
        function = piece.get("function") if isinstance(piece, dict) else None
        if not isinstance(function, dict):
            raise Unreadable("it asks for a tool in an unknown way")
        call = self._call_of(piece, function, position)
        name, arguments = function.get("name"), function.get("arguments")
        if isinstance(name, str) and name:
            call.name = name
        if isinstance(arguments, str):
            call.arguments += arguments
            if len(call.arguments) > _MOST_ARGUMENTS:
                raise Unreadable("it asks for a tool with too much")
        elif isinstance(arguments, dict):
            call.given = {**(call.given or {}), **arguments}

    def _call_of(self, piece: dict[str, Any], function: dict[str, Any], position: int) -> _Call:
        """The call that a piece belongs to."""
        given_id, index = str(piece.get("id") or ""), piece.get("index")
        name = function.get("name")
        for call in self._calls:
            if given_id and call.id == given_id:
                return call
            # The same index under another id and with a name of its own is another call.
            other = given_id and call.id and name
            if index is not None and call.index == index and not other:
                return call
        if index is None and not given_id and not name and self._calls:
            return self._calls[min(position, len(self._calls) - 1)] if position else self._calls[-1]
        if len(self._calls) >= _MOST_CALLS:
            raise Unreadable("it asks for too many tools")
        self._calls.append(_Call(given_id, index))
        return self._calls[-1]


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _arguments_of(call: _Call) -> dict[str, Any]:
    if not call.name:
        raise Unreadable("it asks for a tool without a name")
    if call.given is not None:
        return call.given
    value: Any = call.arguments.strip() or "{}"
    for _ in range(2):  # some models write JSON into the JSON
        if not isinstance(value, str):
            break
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise Unreadable(f"it asks for {call.name} with arguments that are no JSON") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"it asks for {call.name} with arguments that are no object")
    return value


def _error_of(error: Any) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return f"it broke off: {message}"


__all__ = ["Answer", "Unreadable"]
