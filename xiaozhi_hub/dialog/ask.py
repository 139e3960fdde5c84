"""A written question to the hub itself: the same answer as a device would get, without the sound."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from xiaozhi_hub.core.flow import Emotion, Outcome, ToolCall, TurnInfo, TurnRecord
from xiaozhi_hub.dialog.agent.tokens import cost, cost_of_tools, counter_of
from xiaozhi_hub.dialog.respond import Conversation, NotUnderstood
from xiaozhi_hub.dialog.speaking.splitter import put_together
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message
from xiaozhi_hub.errors import HubError, StageError

log = logging.getLogger(__name__)


class _Calls:
    """Keeps what was done."""

    def __init__(self) -> None:
        self.calls: list[ToolCall] = []
        self.tokens: tuple[int, int] | None = (0, 0)
        """What language models have read and written; None when one does not count."""

    def tool_called(self, call: ToolCall) -> None:
        self.calls.append(call)

    def model_wrote(self) -> None:
        """In writing nobody waits for the first word."""

    def model_answered(self, model: Llm, request: ChatRequest, answer: Message) -> None:
        if self.tokens is None or model.count_tokens("") is None:
            self.tokens = None
            return
        count = counter_of(model)
        read = cost(request.messages, count) + cost_of_tools(request.tools, count)
        self.tokens = (self.tokens[0] + read, self.tokens[1] + cost((answer,), count))


async def ask(
    parts: TurnParts, info: TurnInfo, text: str, conversation: Conversation | None = None
) -> AsyncGenerator[str | TurnRecord, None]:
    """Yield the sentences of the answer and, last, the record of the turn, which is remembered as any other."""
    parts, conversation = parts.as_of_now(), conversation or Conversation()
    began, started_at = asyncio.get_running_loop().time(), time.time()
    assistant = parts.assistants.of(info.device_id, info.area, info.assistant)
    said: list[str] = []
    stamps: dict[str, float] = {}
    calls, outcome, emotion, error = _Calls(), Outcome.ANSWERED, "neutral", ""

    def stamp(name: str) -> None:
        stamps.setdefault(name, round((asyncio.get_running_loop().time() - began) * 1000, 2))

    try:
        async with aclosing(parts.responder.respond(info, text, conversation, calls)) as pieces:
            async for piece in pieces:
                stamp("reply")
                if isinstance(piece, Emotion):
                    emotion = piece.name
                else:
                    said.append(piece.text)
                    yield piece.text
    except NotUnderstood:
        outcome = Outcome.NOT_UNDERSTOOD
        said.append(parts.texts.text("spoken.not_known", info.language))
        yield said[-1]
    except Exception as problem:  # an engine is anybody's code, and the person must not be left without a word
        failure, trace = problem, None
        if not isinstance(failure, HubError):
            failure, trace = StageError("turn", f"{type(problem).__name__}: {problem}"), problem
        log.error("turn %s failed: %s", info.id, failure, exc_info=trace)
        outcome, error = Outcome.FAILED, failure.code
        said.append(parts.texts.text("spoken.failed", info.language))
        yield said[-1]
    stamp("sent")
    record = TurnRecord(
        id=info.id,
        session_id=info.session_id,
        device_id=info.device_id,
        started_at=started_at,
        channel=info.channel,
        mode="",
        language=info.language,
        heard=text,
        said=put_together(said),
        outcome=outcome,
        emotion=emotion,
        error=error,
        stamps=stamps,
        tool_calls=tuple(calls.calls),
        assistant=assistant.id,
        tokens=calls.tokens,
    )
    parts.remember(record)
    yield record
