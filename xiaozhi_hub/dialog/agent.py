"""Ask a language model, with tools."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from xiaozhi_hub.core.flow import TextDelta, TurnInfo
from xiaozhi_hub.engines.base import ChatRequest, Llm, Message, ToolRequest, ToolSpec
from xiaozhi_hub.errors import HubError, StageError, ToolError
from xiaozhi_hub.tools.base import Tool, ToolResult

log = logging.getLogger(__name__)

ROUNDS = 4
"""How often a model may ask for tools in one turn; the last answer is given without any."""

CallTool = Callable[[str, dict[str, Any]], Awaitable[ToolResult]]


async def ask_model(
    models: Sequence[Llm], turn: TurnInfo, persona: str, text: str, tools: Sequence[Tool], call: CallTool
) -> AsyncGenerator[TextDelta, None]:
    """Yield the model's reply as it is written, calling the tools it asks for through *call*.

    The next of *models* is asked when one fails before its first word; `StageError` when all did.
    """
    problem: HubError | None = None
    for model in models:
        begun = False
        try:
            async with aclosing(_rounds(model, turn, persona, text, tools, call)) as deltas:
                async for delta in deltas:
                    begun = True
                    yield delta
            return
        except HubError as error:
            log.warning("model %s failed: %s", model.info.id, error)
            problem = error
            if begun:
                break
    raise StageError("llm", f"no model could answer: {problem}", code="llm-failed") from problem


async def _rounds(
    model: Llm, turn: TurnInfo, persona: str, text: str, tools: Sequence[Tool], call: CallTool
) -> AsyncGenerator[TextDelta, None]:
    specs = tuple(ToolSpec(t.name, t.description, t.parameters) for t in tools if not (t.owner_only or t.confirm))
    messages = [Message("system", persona), Message("user", text)]
    for number in range(ROUNDS):
        offered = specs if number < ROUNDS - 1 else ()
        asked: list[ToolRequest] = []
        request = ChatRequest(tuple(messages), offered, turn.language, turn.session_id)
        async with aclosing(model.chat(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, ToolRequest):
                    asked.append(piece)
                else:
                    yield piece
        if not asked or not offered:
            return
        for wanted in asked:
            try:
                answer = (await call(wanted.name, dict(wanted.arguments))).text
            except ToolError as error:
                answer = f"error: {error}"
            messages.append(Message("tool", answer, wanted.name))
