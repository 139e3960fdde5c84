"""A language model on the server: conversations with tools, as the API writes them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from xiaozhi_hub.plugins.api import ChatRequest, Llm, Message, Role, TextDelta, ToolRequest, ToolSpec

from .describing import info_of
from .server import Server

ROLE = "llm"
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_LONGEST_NAME = 64


class OpenAiLlm(Llm):
    """Asks the server's model."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._options = server.options["llm"]
        self.info = info_of(server, Role.LLM)

    @property
    def context_tokens(self) -> int | None:
        most: int | None = self._options.get("context_tokens") or self._server.context_of(ROLE)
        return None if most is None else max(0, most - self._options["max_tokens"])

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        names = _api_names([tool.name for tool in request.tools] + _called(request.messages))
        asked: dict[str, Any] = {
            "messages": api_messages(request.messages, names),
            "max_tokens": self._options["max_tokens"],
        }
        if "temperature" in self._options:
            asked["temperature"] = self._options["temperature"]
        if request.tools:
            asked["tools"] = [_api_tool(tool, names) for tool in request.tools]
            asked["tool_choice"] = "auto" if request.may_call else "none"
        hub_names = {api: name for name, api in names.items()}
        async with aclosing(self._server.chat(ROLE, {**asked, **self._options["extra"]})) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    yield TextDelta(piece)
                else:
                    for wanted in piece.requests():
                        yield ToolRequest(hub_names.get(wanted.name, wanted.name), wanted.arguments)


def api_messages(messages: Sequence[Message], names: dict[str, str]) -> list[dict[str, Any]]:
    """Write a conversation as the API wants it: each call with an id, each result with the id of its call. Pure.

    A result that no message of the assistant asked for gets one that does: servers refuse it otherwise.
    """
    written: list[dict[str, Any]] = []
    open_calls: list[tuple[str, str]] = []
    count = 0

    def calls_of(wanted: Sequence[ToolRequest]) -> list[dict[str, Any]]:
        nonlocal count
        calls = []
        for call in wanted:
            count += 1
            open_calls.append((f"call_{count}", call.name))
            arguments = json.dumps(call.arguments, ensure_ascii=False, default=str)
            function = {"name": names.get(call.name, call.name), "arguments": arguments}
            calls.append({"id": f"call_{count}", "type": "function", "function": function})
        return calls

    for message in messages:
        if message.role == "tool":
            if not any(name == message.tool_name for _, name in open_calls):
                unasked = ToolRequest(message.tool_name or "tool", {})
                written.append({"role": "assistant", "content": "", "tool_calls": calls_of([unasked])})
            place = next((i for i, (_, name) in enumerate(open_calls) if name == message.tool_name), 0)
            call_id, _ = open_calls.pop(place)
            written.append({"role": "tool", "tool_call_id": call_id, "content": message.text})
        elif message.role == "assistant" and message.calls:
            open_calls.clear()
            # "" and not null: templates of several models cannot put null together with text.
            written.append({"role": "assistant", "content": message.text, "tool_calls": calls_of(message.calls)})
        else:
            written.append({"role": message.role, "content": message.text})
    return written


def _called(messages: Sequence[Message]) -> list[str]:
    return [call.name for message in messages for call in message.calls] + [
        m.tool_name for m in messages if m.tool_name
    ]


def _api_names(names: Sequence[str]) -> dict[str, str]:
    """The API's names of tools: letters, digits, ``_`` and ``-`` only, 64 at most, no two the same."""
    written: dict[str, str] = {}
    for name in names:
        if name in written:
            continue
        plain = _NOT_IN_NAMES.sub("_", name)[:_LONGEST_NAME] or "tool"
        number = 2
        while plain in written.values():
            plain = f"{plain[: _LONGEST_NAME - 4]}_{number}"
            number += 1
        written[name] = plain
    return written


def _api_tool(tool: ToolSpec, names: dict[str, str]) -> dict[str, Any]:
    function = {"name": names[tool.name], "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}
