"""Understanding by a Wyoming service ("intent"): the service says what is meant, and the hub's own tools do it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wyoming.event import Event
from wyoming.intent import Intent, IntentsStart, IntentsStop, NotRecognized, Recognize

from xiaozhi_hub.plugins.api import (
    NOT_RECOGNISED,
    ChatRequest,
    EngineInfo,
    Llm,
    Message,
    ProtocolError,
    StageError,
    TextDelta,
    ToolRequest,
)

from .service import Service, text_of
from .wire import NOT_AN_EVENT

log = logging.getLogger(__name__)

STAGE = "llm"
MOST_INTENTS = 4
"""Of one sentence; the hub carries out no more of an answer."""
MOST_CONVERSATIONS = 64
_MOST_TEXT = 4096
_FAILED = "error: "
_SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
"""What comes after the first one of a failure is for models: what they should do instead."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What an intent means here: a tool, and what the tool calls those arguments that the intent calls something else."""

    tool: str
    renamed: Mapping[str, str] = field(default_factory=dict)


KNOWN: Mapping[str, Deed] = {
    "HassTurnOn": Deed("home.turn_on"),
    "HassTurnOff": Deed("home.turn_off"),
    "HassToggle": Deed("home.toggle"),
    "HassOpenCover": Deed("home.open"),
    "HassCloseCover": Deed("home.close"),
    "HassSetPosition": Deed("home.set_position"),
    "HassLightSet": Deed("home.set_light", {"temperature": "color_temperature"}),
    "HassGetState": Deed("home.get_state"),
    "HassGetWeather": Deed("home.get_weather"),
    "HassClimateSetTemperature": Deed("home.set_temperature"),
    "HassClimateGetTemperature": Deed("home.get_temperature"),
    "HassSetVolume": Deed("home.set_volume"),
    "HassSetVolumeRelative": Deed("home.change_volume"),
    "HassMediaPause": Deed("home.pause"),
    "HassMediaUnpause": Deed("home.resume"),
    "HassMediaNext": Deed("home.next"),
    "HassMediaPrevious": Deed("home.previous"),
    "HassMediaPlayerMute": Deed("home.mute"),
    "HassMediaPlayerUnmute": Deed("home.unmute"),
    "HassListAddItem": Deed("home.list_add"),
    "HassListCompleteItem": Deed("home.list_complete"),
    "HassStartTimer": Deed("clock.start_timer"),
    "HassCancelTimer": Deed("clock.cancel_timer"),
    "HassCancelAllTimers": Deed("clock.cancel_all_timers"),
    "HassPauseTimer": Deed("clock.pause_timer"),
    "HassUnpauseTimer": Deed("clock.resume_timer"),
    "HassTimerStatus": Deed("clock.timer_status"),
    "HassGetCurrentTime": Deed("clock.get_time"),
    "HassGetCurrentDate": Deed("clock.get_date"),
    "HassBroadcast": Deed("announce.say", {"message": "text"}),
    "HassNevermind": Deed("hub.never_mind"),
}
"""Intents of Home Assistant (developers.home-assistant.io, "Built-in intents"), which most services are made for. What a
tool does not know of their entities, such as a floor, it refuses: half a meaning would be another one."""


class WyomingIntents(Llm):
    """One program of one service. It stands where a language model does, before those: what it recognises is asked of the hub's
    tools as a model would ask, with all that a model may not do. What it does not recognise is left to the next one."""

    def __init__(
        self,
        info: EngineInfo,
        service: Service,
        program: str | None,
        chosen: Mapping[str, str],
        has_tool: Callable[[str], bool],
    ) -> None:
        """*chosen* are the tools that the owner has named for intents."""
        self.info = info
        self._service = service
        self._program = program
        self._deeds = {**KNOWN, **{intent: Deed(tool) for intent, tool in chosen.items()}}
        self._has_tool = has_tool
        self._asked: dict[str, tuple[tuple[ToolRequest, ...], str]] = {}
        """What is being carried out, and what the service wants to be said about it; by conversation."""

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        if request.messages and request.messages[-1].role == "tool":
            if text := self._carried_out(request):
                yield TextDelta(text)
            return
        self._asked.pop(request.conversation, None)
        said = next((message.words for message in reversed(request.messages) if message.role == "user"), "")
        meant: list[ToolRequest] = []
        texts: list[str] = []
        for intent in await self._recognise(said, request):
            if (deed := self._deed_of(intent.name)) is None:
                log.warning(
                    "%s recognises %s, for which the hub has no tool; intents: can name one",
                    self._service.name,
                    intent.name,
                )
                raise self._not_recognised(said)
            given = {deed.renamed.get(each.name, each.name): each.value for each in intent.entities}
            meant.append(ToolRequest(deed.tool, given))
            if intent.text:
                texts.append(intent.text)
        if not meant:
            raise self._not_recognised(said)
        while len(self._asked) >= MOST_CONVERSATIONS:
            del self._asked[next(iter(self._asked))]
        self._asked[request.conversation] = (tuple(meant), " ".join(texts))  # said when it has been done, not before
        for wanted in meant:
            yield wanted

    def _deed_of(self, intent: str) -> Deed | None:
        deed = self._deeds.get(intent) or Deed(intent)
        return deed if self._has_tool(deed.tool) else None

    def _carried_out(self, request: ChatRequest) -> str:
        """What to say when the tools have done what was asked for: the service's own words, or theirs."""
        results: list[Message] = []
        for message in reversed(request.messages):
            if message.role != "tool":
                break
            results.insert(0, message)
        calls, text = self._asked.pop(request.conversation, ((), ""))
        if not calls or request.messages[-len(results) - 1].calls != calls:
            raise self._not_recognised("")  # another one's tools: it goes on with them
        failures = [result.words for result in results if result.words.startswith(_FAILED)]
        if failures:
            return " ".join(_SENTENCE.split(words.removeprefix(_FAILED), maxsplit=1)[0] for words in failures)
        return text or " ".join(result.words for result in results)

    async def _recognise(self, said: str, request: ChatRequest) -> list[Intent]:
        """What is meant; nothing where the service does not recognise it."""
        context = {"conversation_id": request.conversation} if request.conversation else None
        found: list[Intent] = []
        async with self._service.talk(STAGE, self._program) as talk:
            await talk.say(Recognize(said, context))
            several = False
            async with asyncio.timeout(self._service.answer_s):
                while len(found) < MOST_INTENTS:
                    event = await talk.hear()
                    if NotRecognized.is_type(event.type) or IntentsStop.is_type(event.type):
                        break
                    if IntentsStart.is_type(event.type):
                        several = True
                    elif Intent.is_type(event.type):
                        found.append(_read(event))
                        if not several:
                            break
        return found

    def _not_recognised(self, said: str) -> StageError:
        return StageError(STAGE, f"{self._service.name} does not recognise: {said[:100]}", code=NOT_RECOGNISED)


def _read(event: Event) -> Intent:
    """The intent of an event. Raises `ProtocolError`: anything may stand there."""
    try:
        intent = Intent.from_event(event)
    except NOT_AN_EVENT as error:
        raise ProtocolError("it is no intent", close=True) from error
    names: Sequence[Any] = [intent.name, *(entity.name for entity in intent.entities)]
    if not all(isinstance(name, str) and 0 < len(name) <= 200 for name in names):
        raise ProtocolError("its intent has no name", close=True)
    intent.text = text_of(event)[:_MOST_TEXT]
    return intent
