"""Puts together what understands and answers: assistants, sentences, memories, voices, and written questions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.flow import Channel, TurnInfo, TurnRecord
from xiaozhi_hub.core.i18n import Texts, language_of
from xiaozhi_hub.core.ids import new_id
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.dialog.agent.agent import Agent
from xiaozhi_hub.dialog.agent.briefing import Briefing
from xiaozhi_hub.dialog.ask import ask
from xiaozhi_hub.dialog.assistants.assistants import Assistants
from xiaozhi_hub.dialog.assistants.switching import Switching
from xiaozhi_hub.dialog.hearing.waits import Waits
from xiaozhi_hub.dialog.intents.intents import Intents
from xiaozhi_hub.dialog.intents.learning import Learning
from xiaozhi_hub.dialog.memory.memories import Memories
from xiaozhi_hub.dialog.respond import Responder
from xiaozhi_hub.dialog.speaking.speaker import Speaker
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.dialog.vision import Eyes
from xiaozhi_hub.engines.brains import Brains
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.errors import HubError, StoreError
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.problems import Problems
from xiaozhi_hub.store.devices import Devices
from xiaozhi_hub.store.habits import HabitRows
from xiaozhi_hub.tools.registry import ToolRegistry
from xiaozhi_hub.web.devices.ota import clock
from xiaozhi_hub.web.openai.talks import Talk


@dataclass(frozen=True, slots=True)
class AnsweringParts:
    """What answers are made from."""

    config: Config
    texts: Texts
    engines: EngineRegistry
    entities: EntityRegistry
    tools: ToolRegistry
    device_tools: DeviceTools
    eyes: Eyes
    scope: TaskScope
    problems: Problems
    devices: Callable[[], DeviceRegistry]
    known_devices: Callable[[], Devices]
    remember: Callable[[TurnRecord], None]
    """Called with each turn that has ended."""
    ready: Callable[[], Awaitable[None]]
    """Returns when the engines have started and the recognisers have learned."""


class Answering:
    """Built before the store is open; what it needs of it comes with `open` and `warming`."""

    def __init__(self, parts: AnsweringParts) -> None:
        config, texts, engines, problems = parts.config, parts.texts, parts.engines, parts.problems
        self._config = config
        self._engines = engines
        self._problems = problems
        self._devices = parts.devices
        self._ready = parts.ready
        self.brains = Brains()
        self.assistants = Assistants(config.voice, config.assistants, config.devices)
        self.switching = Switching(self.assistants, parts.known_devices, problems.show, problems.solved)
        self.intents = Intents(texts, parts.entities, parts.tools, self.assistants.spoken_names())
        self.memories = Memories(engines, config.memory, self.assistants)
        self.learning = Learning(self.intents, engines, parts.scope, problems.show, problems.solved)
        self.waits = Waits(
            config, self.intents.meaning, self.intents.completeness, parts.scope, problems.show, problems.solved
        )
        self.speaker = Speaker()
        local_time = clock(config.hub.time_zone)
        briefing = Briefing(texts, parts.entities, self.intents, self.memories, local_time, parts.device_tools.name_of)
        responder = Responder(
            texts,
            self.intents,
            parts.tools,
            engines,
            parts.scope,
            parts.eyes,
            self.assistants,
            Agent(texts, parts.tools, self.intents, briefing),
            brains=self.brains,
        )
        self.parts = TurnParts(
            texts=texts,
            engines=engines,
            responder=responder,
            speaker=self.speaker,
            current_voice=lambda: self._config.voice,
            assistants=self.assistants,
            judge=self.intents.completeness,
            remember=parts.remember,
            ready=parts.ready,
            brains=self.brains,
            habit=self.waits.after,
        )

    async def open(self, habits: HabitRows) -> None:
        """Take in who answers where, and how people speak: the store is there."""
        await self.waits.open(habits)
        try:
            await self.switching.load()
        except StoreError as error:
            message = f"Who answers on which device is not known: {error.message}"
            self._problems.show("assistant-choice", message, error.hint)

    def warming(self, data_dir: Path) -> tuple[Coroutine[Any, Any, None], ...]:
        """What takes long the first time and needs no engine; none of it needs the others."""
        return self.intents.warm(), self._warm_speaker(data_dir)

    async def _warm_speaker(self, data_dir: Path) -> None:
        if (megabytes := self._config.voice.phrase_cache_mb) > 0:
            await self.speaker.keep_in(data_dir / "phrases", megabytes * 2**20)
        try:
            await self.speaker.warm()
        except HubError as error:  # without Opus there is no voice, but there are pages that can say why
            self._problems.show(error.code, error.message, error.hint)

    def configure(self, config: Config) -> None:
        """The owner has set something else. Turns that have begun end as they have begun."""
        self._config = config
        self.assistants.configure(config.voice, config.assistants, config.devices)
        self.intents.assistants = self.assistants.spoken_names()
        self.memories.config = config.memory
        self.waits.configure(config)

    def show_lacking(self, entries: Iterable[Entry]) -> None:
        """Show which engines are missing that the owner has written for an assistant; *entries* may know the cure."""
        cures = {entry.domain: f"{entry.reason} {entry.hint}".strip() for entry in entries}
        self._problems.of_lacking(self.assistants.lacking(self._engines.all(), cures) | self.memories.lacking())

    # -- written questions ----------------------------------------------------------------------------------------

    async def turn_parts(self) -> TurnParts:
        """What turns are made with, once it works."""
        await self._ready()
        return self.parts

    async def ask_stream(
        self, text: str, language: str, device_id: str, assistant: str = "", talk: Talk | None = None
    ) -> AsyncGenerator[str | TurnRecord, None]:
        """Answer a written question without a device: yield the sentences and, last, the record of the turn. With *talk* it
        belongs to what was said before."""
        await self._ready()
        info = replace(self.text_turn(language, device_id), assistant=assistant)
        conversation = None
        if talk is not None:
            info, conversation = replace(info, session_id=talk.session_id), talk.conversation
        async with aclosing(ask(self.parts, info, text, conversation)) as pieces:
            async for piece in pieces:
                yield piece

    async def ask(self, text: str, language: str, device_id: str) -> TurnRecord:
        """Answer a written question, without a device."""
        async with aclosing(self.ask_stream(text, language, device_id)) as pieces:
            async for piece in pieces:
                if isinstance(piece, TurnRecord):
                    return piece
        raise HubError("the turn ended without a record")

    def text_turn(self, language: str, device_id: str) -> TurnInfo:
        """A new turn about a written question, as if it was asked where *device_id* stands."""
        profile = self._devices().profile(device_id)
        turn_id = new_id()
        return TurnInfo(
            turn_id, turn_id, device_id, language_of(language, profile.language), profile.area, Channel.TEXT
        )


__all__ = ["Answering", "AnsweringParts"]
