"""What a person can say about the conversation itself, whatever the house can do."""

from __future__ import annotations

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool

STOP = "hub.stop"
NEVER_MIND = "hub.never_mind"
GOODBYE = "hub.goodbye"
ENDS = "ends_conversation"
"""In the data of a tool's result: nothing more is to be said, the line may be closed."""


class Conversational:
    """The handlers of the ``hub.*`` tools."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    async def stop(self, turn: TurnInfo) -> ToolResult:
        """Be silent: the person has heard enough."""
        return ToolResult("")  # speaking has ended already, because the person spoke

    async def never_mind(self, turn: TurnInfo) -> ToolResult:
        """Drop the question that was asked last."""
        return ToolResult(self._texts.text("intents.okay", turn.language))

    async def goodbye(self, turn: TurnInfo) -> ToolResult:
        """End the conversation, as the person wishes."""
        return ToolResult(self._texts.text("spoken.goodbye", turn.language), {ENDS: True})


def conversation_tools(texts: Texts) -> tuple[Tool, ...]:
    """All tools about the conversation itself."""
    say = Conversational(texts)
    handlers = {STOP: say.stop, NEVER_MIND: say.never_mind, GOODBYE: say.goodbye}
    return tuple(make_tool(name, handler, effect=False) for name, handler in handlers.items())


__all__ = ["ENDS", "GOODBYE", "NEVER_MIND", "STOP", "conversation_tools"]
