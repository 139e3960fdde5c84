"""From words to an answer: intents first, because they are quick and sure, then a language model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from xiaozhi_hub.core.flow import Emotion, Sentence, TextDelta, ToolCall, TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.agent.agent import Agent
from xiaozhi_hub.dialog.agent.dialogue import Dialogue
from xiaozhi_hub.dialog.agent.waiting import with_a_word
from xiaozhi_hub.dialog.assistants.assistants import Assistants
from xiaozhi_hub.dialog.intents.conversation_tools import ENDS
from xiaozhi_hub.dialog.intents.intents import Intents, Pending
from xiaozhi_hub.dialog.speaking.splitter import sentences
from xiaozhi_hub.dialog.vision import Eyes
from xiaozhi_hub.engines.brains import Brains
from xiaozhi_hub.engines.failover import one_model
from xiaozhi_hub.engines.llm import NOT_RECOGNISED, ChatRequest, Llm, Message
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import MissingSlot, NotForMe, StageError, ToolError
from xiaozhi_hub.tools.base import ToolResult
from xiaozhi_hub.tools.registry import CONFIRMED, ToolRegistry

log = logging.getLogger(__name__)


class NotUnderstood(Exception):
    """Nothing and nobody knows what to do with these words."""


@dataclass(slots=True)
class Conversation:
    """What one session remembers from turn to turn."""

    pending: Pending | None = None
    """The question that was asked back and not answered yet."""
    over: bool = False
    """Everything has been said: the line is closed after the turn."""
    told_language: bool = False
    """The person knows that no recogniser here speaks their language."""
    dialogue: Dialogue = field(default_factory=Dialogue)
    """What the language model has read and written."""


class Watcher(Protocol):
    """Is told what a responder does."""

    def tool_called(self, call: ToolCall) -> None: ...

    def model_wrote(self) -> None:
        """A language model has written something, perhaps not for the first time."""

    def model_answered(self, model: Llm, request: ChatRequest, answer: Message) -> None:
        """A language model has finished an answer, perhaps with calls of tools after which it is asked again."""


@dataclass(frozen=True, slots=True)
class Responder:
    """Finds the answer to what was said. Shared by all devices."""

    texts: Texts
    intents: Intents
    tools: ToolRegistry
    engines: EngineRegistry
    scope: TaskScope
    """Owns tool calls: one that has begun goes on although the person interrupts."""
    eyes: Eyes
    assistants: Assistants
    agent: Agent
    brains: Brains = field(default_factory=Brains)
    """Devices that others answer for."""

    async def respond(
        self, turn: TurnInfo, text: str, conversation: Conversation, watcher: Watcher
    ) -> AsyncGenerator[Sentence | Emotion, None]:
        """Yield the answer, sentence by sentence. Raises `NotUnderstood` when there is none."""
        if (picture := self.eyes.take(turn)) is not None:
            conversation.pending = None
            seen = await self.eyes.answer(turn, text, picture)
            async with aclosing(self._said(seen, turn)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        brain = self.brains.of(turn.device_id)
        if brain is not None and (theirs := brain.answer(turn, text)) is not None:
            async with aclosing(theirs) as pieces:
                async for piece in pieces:
                    yield piece
            return
        result = await self._by_intent(turn, text, conversation, watcher)
        if result is not None:
            if result.emotion != "neutral":
                yield Emotion(result.emotion)
            async with aclosing(self._said(result.text, turn, result.language)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        assistant = self.assistants.of(turn.device_id, turn.area, turn.assistant)
        models = one_model(self.engines.llms(assistant.llm))
        if not models:
            raise NotUnderstood

        async def call(name: str, arguments: dict[str, Any]) -> ToolResult:
            return await self._call(name, arguments, turn, watcher, by_model=True)

        def speaks(language: str) -> bool:
            return bool(self.engines.ttss(assistant.tts, language))

        dialogue = conversation.dialogue

        def wait() -> Sentence | None:
            return Sentence(self.texts.text("spoken.one_moment", turn.language), turn.language)

        late = self._voice_is_late(turn)
        note = watcher.tool_called
        wrote, asked = watcher.model_wrote, watcher.model_answered
        answer = self.agent.answer(
            models,
            turn,
            text,
            assistant,
            dialogue,
            call,
            speaks,
            note=note,
            wrote=wrote,
            asked=asked,
            clause_first=late,
        )
        async with aclosing(with_a_word(answer, wait, self.scope)) as reply:
            try:
                async for said in reply:
                    if isinstance(said, Pending):
                        conversation.pending = said
                    else:
                        yield said
            except StageError as error:
                if error.code == NOT_RECOGNISED:
                    raise NotUnderstood from error
                raise

    async def prepare(
        self, turn: TurnInfo, text: str, conversation: Conversation
    ) -> Callable[[], Awaitable[None]] | None:
        """What a language model can do already when *text* will probably be what `respond` gets; None where that is nothing, also
        because no model will be asked. Has no effects, and neither has what it returns."""
        brain = self.brains.of(turn.device_id)
        if brain is not None or self.eyes.shown(turn) or self.intents.recognise(text, turn, conversation.pending):
            return None
        assistant = self.assistants.of(turn.device_id, turn.area, turn.assistant)
        models = one_model(self.engines.llms(assistant.llm))
        if not models or not models[0].info.reads_ahead:
            return None
        request = await self.agent.expected(models[0], turn, text, assistant, conversation.dialogue)
        return partial(models[0].prepare, request) if request is not None else None

    async def _by_intent(
        self, turn: TurnInfo, text: str, conversation: Conversation, watcher: Watcher
    ) -> ToolResult | None:
        pending, conversation.pending = conversation.pending, None
        intent = self.intents.recognise(text, turn, pending)
        if intent is None:
            return None
        try:
            arguments = dict(intent.arguments)
            confirmed = bool(arguments.pop(CONFIRMED, False))  # the person's own yes; a model cannot give it
            result = await self._call(intent.tool, arguments, turn, watcher, confirmed=confirmed)
            conversation.over = bool(result.data.get(ENDS))
            if (tool := self.tools.get(intent.tool)) is not None and tool.effect:
                conversation.dialogue.command(text, result.text, intent.tool)
            return result
        except NotForMe:
            return None
        except MissingSlot as question:
            arguments = {**intent.arguments, **question.arguments}
            conversation.pending = Pending(intent.tool, arguments, question.slot)
            return ToolResult(question.message)
        except ToolError as error:
            return ToolResult(error.message, {"error": error.code}, "confused")

    async def _call(
        self,
        name: str,
        arguments: dict[str, Any],
        turn: TurnInfo,
        watcher: Watcher,
        *,
        confirmed: bool = False,
        by_model: bool = False,
    ) -> ToolResult:
        """Call a tool; its record reaches *watcher* even when the caller is cancelled meanwhile."""

        async def work() -> ToolResult | ToolError:
            call, answer = await self.tools.attempt(name, arguments, turn, confirmed=confirmed, by_model=by_model)
            if not isinstance(answer, (MissingSlot, NotForMe)):
                watcher.tool_called(call)
            return answer

        answer = await asyncio.shield(self.scope.start(work(), name=f"tool-{name}"))
        if isinstance(answer, ToolError):
            raise answer
        return answer

    def _voice_is_late(self, turn: TurnInfo) -> bool:
        """Does the voice compute a whole piece before its first sound? Then the first piece is better short."""
        voices = self.engines.ttss(self.assistants.of(turn.device_id, turn.area).tts, turn.language)
        return bool(turn.device_id and voices) and not voices[0].info.streams_output

    async def _said(self, text: str, turn: TurnInfo, language: str = "") -> AsyncGenerator[Sentence | Emotion, None]:
        async def whole() -> AsyncGenerator[TextDelta, None]:
            yield TextDelta(text)

        cut = sentences(whole(), language or turn.language, clause_first=self._voice_is_late(turn))
        async with aclosing(cut) as pieces:
            async for piece in pieces:
                yield piece
