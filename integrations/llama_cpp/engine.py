"""The engine: conversations with the model, and how much of each was known already."""

from __future__ import annotations

import hashlib
import logging
import math
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.plugins.api import (
    ChatRequest,
    EngineInfo,
    Llm,
    Message,
    Role,
    StageError,
    TextDelta,
    ToolRequest,
    ToolSpec,
)

from .model import Model
from .process import Lost

log = logging.getLogger(__name__)

_BORDERS = 192
"""Tokens kept for what the template writes around messages and tools."""
_COUNTS = 4000
_KEPT_USES = 500


@dataclass(frozen=True, slots=True)
class Use:
    """What one request cost."""

    conversation: str
    prompt: int
    """Tokens of the whole prompt."""
    evaluated: int
    """Of these, how many had to be computed."""
    reused: int
    """Of these, how many were there already."""
    restored: int
    """Of the reused, how many came from memory or disk rather than from the live context."""
    moved: int
    """Of the reused, how many had moved up because older messages were dropped."""
    written: int
    """Tokens of the answer."""
    read_ms: float
    write_ms: float


class LlamaLlm(Llm):
    """A language model that llama.cpp runs in a process of its own."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self.uses: deque[Use] = deque(maxlen=_KEPT_USES)
        """What the latest requests cost, the newest last."""
        self.read_ahead = 0
        """Tokens that were evaluated before anybody waited for an answer."""
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    @property
    def info(self) -> EngineInfo:  # type: ignore[override]  # the model tells its name once it is loaded
        facts = self._model.facts
        return EngineInfo(
            id="llama_cpp",
            role=Role.LLM,
            name="llama.cpp",
            streams_output=True,
            licence=facts.licence if facts else "",
            detail=facts.name if facts else self._model.files.model.stem,
            rank=10,
            reads_ahead=True,
        )

    @property
    def model(self) -> Model:
        return self._model

    @property
    def context_tokens(self) -> int | None:
        facts = self._model.facts
        if facts is None:
            return None
        answer = int(self._model.options["max_tokens"])
        return max(64, facts.context - min(answer, facts.context // 2) - _BORDERS)

    def count_tokens(self, text: str) -> int | None:
        known = self._counts.get(_digest(text))
        return known if known is not None else estimate(text)

    async def prepare(self, request: ChatRequest) -> None:
        if self._model.busy:
            return
        try:
            async with aclosing(self._model.ask(_job("prepare", request))) as answers:
                async for answer in answers:
                    evaluated = answer["done"].get("evaluated", 0)
                    self.read_ahead += evaluated
                    log.debug("model: read %d tokens ahead", evaluated)
        except (StageError, Lost) as error:  # whoever really asks will be told
            log.debug("the model could not read ahead: %s", error)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        job = {**_job("chat", request), "may_call": request.may_call}
        for last_try in (False, True):
            begun = False
            try:
                async with aclosing(self._model.ask(job)) as answers:
                    async for answer in answers:
                        if "text" in answer:
                            begun = True
                            yield TextDelta(answer["text"])
                        elif "call" in answer:
                            begun = True
                            yield ToolRequest(answer["call"]["name"], answer["call"]["arguments"])
                        else:
                            self._take(request, answer["done"])
                return
            except Lost as error:
                log.warning("%s", error.message)
                if begun or last_try:
                    raise StageError("llm", error.message, code="llm-failed") from error

    def _take(self, request: ChatRequest, told: Mapping[str, Any]) -> None:
        if not told:
            return
        for message, count in zip(request.messages, told["counts"], strict=True):
            self._counts[_digest(message.text)] = count
            self._counts.move_to_end(_digest(message.text))
        while len(self._counts) > _COUNTS:
            self._counts.popitem(last=False)
        use = Use(request.conversation, **{key: told[key] for key in Use.__slots__ if key != "conversation"})
        self.uses.append(use)
        log.debug("model: %s", use)


def estimate(text: str) -> int:
    """How many tokens *text* probably has, rather too many: a token for each Chinese character, one for two and a half letters."""
    wide = sum(1 for char in text if ord(char) > 0x2E7F)
    return wide + math.ceil((len(text.encode("utf-8", "replace")) - 3 * wide) / 2.5) if text else 0


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.strip().encode("utf-8", "replace"), digest_size=12).digest()


def _job(what: str, request: ChatRequest) -> dict[str, Any]:
    return {
        "do": what,
        "conversation": request.conversation,
        "messages": [_message(message) for message in request.messages],
        "tools": [_tool(tool) for tool in request.tools],
    }


def _message(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "text": message.text,
        "tool_name": message.tool_name,
        "calls": [{"name": call.name, "arguments": dict(call.arguments)} for call in message.calls],
    }


def _tool(tool: ToolSpec) -> dict[str, Any]:
    return {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
