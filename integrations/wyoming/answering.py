"""Answers by a Wyoming service that handles what people say ("handle"): the engine stands where a language model does."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from wyoming.asr import Transcript as Said
from wyoming.event import Event
from wyoming.handle import Handled, HandledChunk, HandledStop, NotHandled

from xiaozhi_hub.plugins.api import ChatRequest, EngineInfo, Llm, StageError, TextDelta, ToolRequest

from .languages import tag_for
from .service import Service, text_of

STAGE = "llm"
MOST_TEXT = 64 * 1024


class WyomingAgent(Llm):
    """One program of one service. It gets the last thing that was said; it has its own memory, persona and tools."""

    def __init__(self, info: EngineInfo, service: Service, program: str | None, tags: Sequence[str]) -> None:
        self.info = info
        self.service = service
        self._program = program
        self._tags = tags

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        said = next((message.words for message in reversed(request.messages) if message.role == "user"), "")
        context = {"conversation_id": request.conversation} if request.conversation else None
        async with self.service.talk(STAGE, self._program) as talk:
            await talk.say(Said(said, language=tag_for(request.language, self._tags), context=context))
            told = 0
            while told < MOST_TEXT:
                event = await talk.hear_of(self.service.answer_s, _says_something)
                if HandledChunk.is_type(event.type):
                    text = text_of(event)[: MOST_TEXT - told]
                    told += len(text)
                    yield TextDelta(text)
                elif Handled.is_type(event.type) or NotHandled.is_type(event.type):
                    # After pieces it is the whole once more.
                    if not told and (text := text_of(event)[:MOST_TEXT]):
                        told = len(text)
                        yield TextDelta(text)
                    break
                else:
                    break
        if not told:
            raise StageError(STAGE, f"{self.service.name} has no answer", code="llm-failed")


def _says_something(event: Event) -> bool:
    if HandledChunk.is_type(event.type):
        return bool(text_of(event))
    return Handled.is_type(event.type) or NotHandled.is_type(event.type) or HandledStop.is_type(event.type)
