"""What a model asks for in one turn: carried out within limits, refused with a reason it can act on."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.core.flow import SOUND, ToolCall
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.dialog.agent.prompt import harmless, line
from xiaozhi_hub.dialog.agent.repair import MOST_ARGUMENTS, TooMuch, arguments_meant, tool_meant
from xiaozhi_hub.dialog.agent.shortlist import USE, Index, signature
from xiaozhi_hub.dialog.agent.tokens import Count, as_json
from xiaozhi_hub.engines.llm import ASIDE, Message, ToolRequest, ToolSpec
from xiaozhi_hub.errors import MissingSlot, ToolError, UnknownTool
from xiaozhi_hub.tools.base import Tool, ToolResult

log = logging.getLogger(__name__)

CallTool = Callable[[str, dict[str, Any]], Awaitable[ToolResult]]
"""Calls a tool of the registry; raises `ToolError`."""

AT_ONCE = 4
"""Calls that one answer of the model may ask for."""
IN_ALL = 10
"""Calls of one turn."""
_LONGEST_NAME = 80
_NEAREST = 3

USE_SPEC = ToolSpec(
    USE,
    "Use another tool: one named as 'more tools', or any whose name you know. A wrong name is answered with the nearest ones.",
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "the tool's name"},
            "arguments": {"type": "object", "description": "what that tool takes"},
        },
        "required": ["name"],
    },
)


@dataclass(frozen=True, slots=True)
class Done:
    """A call that was made, or was not because it was refused."""

    tool: str
    effect: bool
    error: str
    """What the person may be told when it failed; empty when it succeeded."""


class Calls:
    """The calls of one turn. Which tools there are is settled before the model has said anything: nothing it reads adds one."""

    def __init__(
        self,
        tools: Sequence[Tool],
        foreign: frozenset[str],
        index: Index,
        call: CallTool,
        note: Callable[[ToolCall], None],
        area: Callable[[str], str | None],
        texts: Texts,
        language: str,
    ) -> None:
        """*foreign* are those whose answers hold words from outside; *note* is told of calls that were refused without being made."""
        self._tools = {tool.name: tool for tool in tools}
        self._foreign = foreign
        self._index = index
        self._call = call
        self._note = note
        self._area = area
        self._texts = texts
        self._language = language
        self._cut: Callable[[str], str] = harmless
        self._seen: dict[tuple[str, str], str] = {}
        self._count = 0
        self.done: list[Done] = []

    def tool(self, name: str) -> Tool | None:
        """The tool of that name, where this model may know of it."""
        return self._tools.get(name)

    async def run(self, wanted: Sequence[ToolRequest], shorten: Callable[[str], str]) -> list[Message]:
        """Carry out what one answer of the model asks for, one after the other; return the results in the same order, shortened."""
        self._cut = shorten
        results = []
        for request in wanted:
            self._count += 1
            if self._count > IN_ALL:
                results.append(self._refused(request, "too_many"))
            else:
                results.append(await self._one(request))
        return results

    async def _one(self, request: ToolRequest) -> Message:
        name, arguments = _inside(request)
        meant = tool_meant(name, self._tools) if len(name) <= _LONGEST_NAME else None
        if meant is None:
            return self._unknown(request, name)
        tool = self._tools[meant]
        if tool.confirm:
            return self._refused(request, "ask_directly", meant)
        try:
            given = arguments_meant(tool.parameters, arguments, self._area)
        except TooMuch:
            return self._refused(request, "too_much", meant)
        key = (meant, as_json(dict(sorted(given.items()))))
        if key in self._seen:
            return self._refused(request, "again", meant, result=self._seen[key])
        try:
            result = await self._call(meant, given)
        except ToolError as error:
            if isinstance(error, MissingSlot) and error.slot == SOUND:  # who is recorded is not for a model to decide
                return self._refused(request, "ask_directly", meant)
            self.done.append(Done(meant, tool.effect, error.message))
            self._seen[key] = self._short(error.message)
            return self._result(request, f"error: {error}", meant)
        self.done.append(Done(meant, tool.effect, ""))
        self._seen[key] = self._short(result.text)
        return self._result(request, result.text or "ok", meant)

    def _unknown(self, request: ToolRequest, name: str) -> Message:
        """There is no such tool, or none for this model: it is told the nearest that there are."""
        text = self._texts.text("spoken.tool_unknown", self._language, name=line(name)[:_LONGEST_NAME])
        near = self._index.best(name.replace("_", " ")[:_LONGEST_NAME], _NEAREST)
        self._turn_down(name, text, UnknownTool.code)
        nearest = (
            self._texts.text("agent.nearest", self._language, tools="; ".join(map(signature, near))) if near else ""
        )
        return self._result(request, f"error: {text}", more=nearest)

    def _refused(self, request: ToolRequest, why: str, tool: str = "", result: str = "") -> Message:
        text = self._texts.text(f"agent.refused.{why}", self._language, result=result)
        if why != "again":
            spoken = "agent.ask_me" if why == "ask_directly" else "agent.not_done"
            self._turn_down(tool or request.name, text, "tool-refused", spoken)
        return self._result(request, f"error: {text}")

    def _turn_down(self, name: str, text: str, code: str, spoken: str = "agent.not_done") -> None:
        """Note that a call was not made; *spoken* is the text for the person, where the model says that it was."""
        name = line(name)[:_LONGEST_NAME]
        self.done.append(Done(name, True, self._texts.text(spoken, self._language)))
        self._note(ToolCall(name, {}, text, {}, code))

    def _result(self, request: ToolRequest, text: str, tool: str = "", more: str = "") -> Message:
        if tool in self._foreign:
            more = self._texts.text("agent.foreign", self._language)
        return Message(
            "tool", self._cut(harmless(text)) + (f"{ASIDE}{more})" if more else ""), request.name[:_LONGEST_NAME]
        )

    def _short(self, text: str) -> str:
        return line(text)


def bounded(request: ToolRequest, most: int, count: Count) -> ToolRequest:
    """A call as it stays in the dialogue: without its arguments where they come to more than *most* tokens."""
    told = as_json(dict(request.arguments))
    if len(request.name) > _LONGEST_NAME or len(told) > MOST_ARGUMENTS or count(told) > most:
        return ToolRequest(request.name[:_LONGEST_NAME], {})
    return request


def _inside(request: ToolRequest) -> tuple[str, object]:
    """The tool and arguments that are meant, where `USE` was called."""
    if tool_meant(request.name, (USE,)) is None or not isinstance(request.arguments, Mapping):
        return request.name, request.arguments
    given = dict(request.arguments)
    name = given.pop("name", "")
    inner = given.pop("arguments", None)
    if isinstance(inner, Mapping):
        return str(name), {**given, **inner}
    return str(name), inner if isinstance(inner, str) and inner.strip() else given  # some put them side by side
