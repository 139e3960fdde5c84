"""The ``assistant.*`` tools: who answers here, and who else could."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.dialog.assistants.assistants import DEFAULT, Assistant, Assistants
from xiaozhi_hub.errors import ToolError
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool

log = logging.getLogger(__name__)

Name = Annotated[str, "its name or id"]
Switch = Callable[[str, str], Awaitable[None]]
"""Makes an assistant (second) answer on a device (first), now and after a restart."""


class AssistantTools:
    """The handlers. The answer to a switch is the new assistant's own: in its voice, and in its language."""

    def __init__(self, assistants: Assistants, texts: Texts, switch: Switch, language_of: Callable[[str], str]) -> None:
        """*language_of* says which language is spoken with a device, after a switch the new one."""
        self._assistants = assistants
        self._texts = texts
        self._switch = switch
        self._language_of = language_of

    async def switch(self, turn: TurnInfo, assistant: Name) -> ToolResult:
        """Let another assistant answer on the device that the person is talking to, from now on."""
        wanted = self._assistants.by_name(assistant)
        if wanted is None:
            names = self._names(turn)
            raise ToolError(self._text("unknown", turn.language, name=assistant, names=names), code="assistant-unknown")
        return await self._become(wanted.id, turn)

    async def reset(self, turn: TurnInfo) -> ToolResult:
        """Let the assistant answer again that belongs to the device that the person is talking to."""
        return await self._become(DEFAULT, turn)

    async def who(self, turn: TurnInfo) -> ToolResult:
        """Say which assistant answers on this device."""
        assistant = self._of(turn)
        return ToolResult(self._text("i_am", turn.language, name=self._name(assistant, turn.language)),
                          {"assistant": assistant.id})  # fmt: skip

    async def others(self, turn: TurnInfo) -> ToolResult:
        """Say which assistants there are."""
        return ToolResult(
            self._text("there_are", turn.language, names=self._names(turn)),
            {"assistants": [each.id for each in self._assistants.all()]},
        )

    # -- how ------------------------------------------------------------------------------------------------------

    async def _become(self, id: str, turn: TurnInfo) -> ToolResult:
        if not turn.device_id:
            raise ToolError(self._text("no_device", turn.language), code="no-device")
        await self._switch(turn.device_id, id)
        now = self._of(turn)
        language = self._language_of(turn.device_id)
        said = self._text("i_am", language, name=self._name(now, language))
        return ToolResult(said, {"assistant": now.id}, language=language)

    def _of(self, turn: TurnInfo) -> Assistant:
        return self._assistants.of(turn.device_id, turn.area)

    def _name(self, assistant: Assistant, language: str) -> str:
        return assistant.called or self._text("usual", language)

    def _names(self, turn: TurnInfo) -> str:
        names = [self._name(each, turn.language) for each in self._assistants.all()]
        return self._texts.text("home.comma", turn.language).join(names)

    def _text(self, key: str, language: str, **values: object) -> str:
        return self._texts.text(f"assistant.{key}", language, **values)


def assistant_tools(
    assistants: Assistants, texts: Texts, switch: Switch, language_of: Callable[[str], str]
) -> tuple[Tool, ...]:
    """All of them."""
    tools = AssistantTools(assistants, texts, switch, language_of)
    return (
        make_tool("assistant.switch", tools.switch),
        make_tool("assistant.reset", tools.reset),
        make_tool("assistant.who", tools.who, effect=False),
        make_tool("assistant.others", tools.others, effect=False),
    )


__all__ = ["assistant_tools"]
