"""All tools of the hub, and the one way to call them."""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xiaozhi_hub.core.flow import ToolCall, TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.errors import HubError, MissingSlot, ToolError, UnknownTool
from xiaozhi_hub.tools.arguments import Misfit, check_arguments
from xiaozhi_hub.tools.base import Tool, ToolResult

log = logging.getLogger(__name__)
CALL_SECONDS = 15.0
"""A person who waits longer than this for a spoken answer believes that nothing happens any more."""
CONFIRMED = "confirmed"
"""The slot that `MissingSlot` names when a tool has to be confirmed first."""

TurnTools = Callable[[TurnInfo], Sequence[Tool]]
"""Says which tools there are for one turn only, such as those of the device that asks. Called often: must be quick."""


class ToolRegistry:
    """Knows every tool by name, checks arguments, limits time, and turns every failure into a `ToolError`."""

    def __init__(self, texts: Texts | None = None, *, call_seconds: float = CALL_SECONDS) -> None:
        self._texts = texts or Texts()
        self._call_seconds = call_seconds
        self._tools: dict[str, tuple[Tool, str]] = {}
        self._for_turns: list[tuple[TurnTools, str]] = []

    def add(self, tool: Tool, source: str) -> None:
        """Offer *tool*; a name that is taken already is a `HubError`."""
        if tool.name in self._tools:
            owner = self._tools[tool.name][1]
            raise HubError(f"the tool {tool.name} exists already, from {owner}", code="tool-twice")
        self._tools[tool.name] = (tool, source)

    def add_for_turns(self, tools: TurnTools, source: str) -> None:
        """Offer tools that depend on who asks. A tool of the same name that is there for all goes before them."""
        self._for_turns.append((tools, source))

    def remove_source(self, source: str) -> None:
        """Take back every tool of *source*."""
        self._tools = {name: held for name, held in self._tools.items() if held[1] != source}
        self._for_turns = [held for held in self._for_turns if held[1] != source]

    def get(self, name: str) -> Tool | None:
        held = self._tools.get(name)
        return held[0] if held is not None else None

    def all(self) -> tuple[Tool, ...]:
        """The tools that are there whoever asks."""
        return tuple(tool for tool, _ in self._tools.values())

    def all_for(self, turn: TurnInfo) -> tuple[Tool, ...]:
        """`all`, and those that are there for *turn* only."""
        extra = {tool.name: tool for provide, _ in self._for_turns for tool in provide(turn)}
        return (*self.all(), *(tool for name, tool in extra.items() if name not in self._tools))

    async def call(
        self,
        name: str,
        arguments: Mapping[str, Any] | str | None,
        turn: TurnInfo,
        *,
        confirmed: bool = False,
        by_model: bool = False,
    ) -> tuple[ToolCall, ToolResult]:
        """Call a tool and return the record of the call and what the tool answered.

        Raises `ToolError`, whose message is in the language of the turn: `UnknownTool`, `MissingSlot` (the person has
        to be asked; also when the tool must be confirmed and *confirmed* is false), or what the tool itself says. For a
        language model (*by_model*) there are no tools that are ``owner_only``, even if it knows the name.
        """
        call, answer = await self.attempt(name, arguments, turn, confirmed=confirmed, by_model=by_model)
        if isinstance(answer, ToolError):
            raise answer
        return call, answer

    async def attempt(
        self,
        name: str,
        arguments: Mapping[str, Any] | str | None,
        turn: TurnInfo,
        *,
        confirmed: bool = False,
        by_model: bool = False,
    ) -> tuple[ToolCall, ToolResult | ToolError]:
        """Do as `call` does, but return the error instead of raising it: for those who record failed calls too."""
        began = time.monotonic()
        given = dict(arguments) if isinstance(arguments, Mapping) else {}
        try:
            tool = self._known(name, turn, by_model)
            given = self._checked(tool, arguments, turn.language)
            if tool.confirm and not confirmed:
                raise MissingSlot(CONFIRMED, self._texts.text("spoken.confirm", turn.language), given)
            result = await self._run(tool, given, turn)
        except ToolError as error:
            if isinstance(error, MissingSlot) and not error.arguments:
                error = MissingSlot(error.slot, error.message, given)
            return ToolCall(name, given, error.message, {}, error.code, _ms_since(began)), error
        return ToolCall(name, given, result.text, result.data, "", _ms_since(began)), result

    def _known(self, name: str, turn: TurnInfo, by_model: bool) -> Tool:
        tool = self.get(name)
        if tool is None or (by_model and tool.owner_only):
            known = {tool.name: tool for tool in self.all_for(turn) if not (by_model and tool.owner_only)}
            if name in known:
                return known[name]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            message = self._texts.text("spoken.tool_unknown", turn.language, name=name)
            raise UnknownTool(message, hint=f"Nearest: {', '.join(near)}." if near else "", permanent=True)
        return tool

    def _checked(self, tool: Tool, arguments: object, language: str) -> dict[str, Any]:
        try:
            return check_arguments(tool.parameters, arguments)
        except Misfit as misfit:
            message = self._texts.text(f"spoken.{misfit.key}", language, **misfit.values)
            raise ToolError(message, code="tool-arguments") from None

    async def _run(self, tool: Tool, arguments: Mapping[str, Any], turn: TurnInfo) -> ToolResult:
        seconds = tool.seconds if tool.seconds is not None else self._call_seconds
        try:
            async with asyncio.timeout(seconds) as limit:
                answer: object = await tool.handler(turn, **arguments)
        except ToolError:
            raise
        except TimeoutError as error:
            if not limit.expired():  # the tool's own
                raise self._broken(tool, turn, error) from error
            log.warning("tool %s gave no answer for %g s", tool.name, seconds)
            raise ToolError(self._texts.text("spoken.tool_slow", turn.language), code="tool-slow") from error
        except Exception as error:  # a tool may fail, the turn may not
            raise self._broken(tool, turn, error) from error
        if isinstance(answer, ToolResult):
            return answer
        if isinstance(answer, str):
            return ToolResult(answer)
        wrong = TypeError(f"a tool answers with ToolResult or str, not {type(answer).__name__}")
        raise self._broken(tool, turn, wrong)

    def _broken(self, tool: Tool, turn: TurnInfo, error: Exception) -> ToolError:
        log.error("tool %s failed: %s", tool.name, error, exc_info=error)
        return ToolError(self._texts.text("spoken.tool_broken", turn.language), code="tool-broken")


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 2)
