"""A language model whose words are written by the test, and a home with an agent that asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

from house import ENGLISH, House

from xiaozhi_hub.core.config import AssistantConfig, DeviceConfig, MemoryConfig, VoiceConfig
from xiaozhi_hub.core.flow import Emotion, Sentence, TextDelta, TurnInfo
from xiaozhi_hub.dialog.agent.agent import Agent
from xiaozhi_hub.dialog.agent.briefing import Briefing
from xiaozhi_hub.dialog.agent.dialogue import Dialogue
from xiaozhi_hub.dialog.agent.tokens import estimate
from xiaozhi_hub.dialog.assistants.assistants import Assistant, Assistants
from xiaozhi_hub.dialog.intents.intents import Pending
from xiaozhi_hub.dialog.memory.memories import Memories
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.llm import ChatRequest, Llm, ToolRequest
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import ToolError
from xiaozhi_hub.tools.base import ToolResult

Piece = str | ToolRequest | float | Exception
"""Words, a call, seconds to wait, or a failure."""
Script = Callable[[ChatRequest], Sequence[Piece]]


def call(name: str, /, **arguments: Any) -> ToolRequest:
    return ToolRequest(name, arguments)


class ScriptedModel(Llm):
    """Writes what the script says for each request, and keeps the requests."""

    def __init__(
        self, script: Script | Sequence[Sequence[Piece]], name: str = "script", room: int | None = None
    ) -> None:
        self.info = EngineInfo(name, Role.LLM, name, streams_output=True, rank=100)
        self.requests: list[ChatRequest] = []
        self._rounds = None if callable(script) else iter(script)
        self._script = script if callable(script) else None
        self._room = room

    @property
    def context_tokens(self) -> int | None:
        return self._room

    def count_tokens(self, text: str) -> int | None:
        return estimate(text) if self._room else None

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        self.requests.append(request)
        pieces = self._script(request) if self._script is not None else next(self._rounds or iter(()), ())
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                yield TextDelta(piece) if isinstance(piece, str) else piece


class Home(House):
    """The demo home, and somebody who talks to a model in it."""

    def __init__(self, *models: Llm, assistant: Assistant | None = None) -> None:
        super().__init__()
        self.models = models
        self.assistant = assistant or Assistant("default")
        self.engines = EngineRegistry()
        self.clock = datetime(2026, 11, 21, 14, 32)
        who = Assistants(
            VoiceConfig(),
            {"guest": AssistantConfig(memory=False)},
            {ENGLISH.device_id: DeviceConfig("x", assistant=self.assistant.id)},
        )
        memories = Memories(self.engines, MemoryConfig(), who)
        briefing = Briefing(
            self.texts, self.entities, self.intents, memories, lambda: self.clock, lambda device: "Shelf Speaker"
        )
        self.agent = Agent(self.texts, self.tools, self.intents, briefing)
        self.dialogue = Dialogue()
        self.called: list[tuple[str, dict[str, Any]]] = []
        """What really ran or was refused by the registry."""
        self.asked: Pending | None = None

    def later(self, minutes: int) -> None:
        self.clock += timedelta(minutes=minutes)

    async def say(self, text: str, turn: TurnInfo = ENGLISH) -> list[str]:
        """Say *text* to the model; return what is spoken, faces in angle brackets."""
        return [
            piece.text if isinstance(piece, Sentence) else f"<{piece.name}>" for piece in await self.pieces(text, turn)
        ]

    async def pieces(self, text: str, turn: TurnInfo = ENGLISH) -> list[Sentence | Emotion]:
        async def run(name: str, arguments: dict[str, Any]) -> ToolResult:
            self.called.append((name, arguments))
            _, answer = await self.tools.attempt(name, arguments, turn, by_model=True)
            if isinstance(answer, ToolError):
                raise answer
            return answer

        spoken: list[Sentence | Emotion] = []
        self.asked = None
        answer = self.agent.answer(self.models, turn, text, self.assistant, self.dialogue, run)
        async with aclosing(answer) as pieces:
            async for piece in pieces:
                if isinstance(piece, Pending):
                    self.asked = piece
                else:
                    spoken.append(piece)
        return spoken
