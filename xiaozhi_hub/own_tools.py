"""The hub's own tools, and the sentences that call them: what there is without any integration."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from xiaozhi_hub.answering import Answering
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.i18n import LANGUAGES, Texts
from xiaozhi_hub.core.places import PACKAGE
from xiaozhi_hub.devices.abilities.tools import DeviceCommands, device_tools
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.devices.announcements.messenger import Messenger
from xiaozhi_hub.devices.announcements.tools import announce_tools
from xiaozhi_hub.dialog.assistants.tools import assistant_tools
from xiaozhi_hub.dialog.intents.conversation_tools import conversation_tools
from xiaozhi_hub.dialog.memory.tools import memory_tools
from xiaozhi_hub.entities.phrasing import Phrasing
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.entities.tools import home_tools
from xiaozhi_hub.tools.base import Tool
from xiaozhi_hub.tools.registry import ToolRegistry

CORE = "core"
"""The source under which the hub's own tools are registered."""
CORE_ASSISTANTS = f"{CORE}/assistants"
CORE_MEMORY = f"{CORE}/memory"


@dataclass(frozen=True, slots=True)
class OwnToolsParts:
    """What the tools work with."""

    config: Config
    texts: Texts
    entities: EntityRegistry
    device_tools: DeviceTools
    messenger: Messenger
    answering: Answering
    language_of: Callable[[str], str]
    """The language that is spoken with a device."""


class OwnTools:
    """Adds the tools to *tools* and their sentences to the intents. Those of assistants and of the memory are there only where the
    configuration has such."""

    def __init__(self, parts: OwnToolsParts, tools: ToolRegistry) -> None:
        self._parts = parts
        self._tools = tools
        texts = parts.texts
        commands = DeviceCommands(parts.device_tools, parts.entities, texts)
        own = [*home_tools(parts.entities, texts, commands), *device_tools(commands), *conversation_tools(texts)]
        own += announce_tools(parts.messenger, texts, Phrasing(texts, parts.entities))
        self._add(CORE, own, PACKAGE / "devices" / "announcements" / "sentences")
        tools.add_for_turns(parts.device_tools.for_turn, CORE)
        if parts.config.memory.enabled:
            self._add(CORE_MEMORY, self._of_memory(), PACKAGE / "dialog" / "memory" / "sentences")
        self._has_assistants = False
        self.configure(parts.config)

    def configure(self, config: Config) -> None:
        """The owner has set something else: there may be assistants now, or none any more."""
        if bool(config.assistants) == self._has_assistants:
            return
        self._has_assistants = bool(config.assistants)
        answering = self._parts.answering
        if self._has_assistants:
            switch = answering.switching.switch
            own = assistant_tools(answering.assistants, self._parts.texts, switch, self._parts.language_of)
            self._add(CORE_ASSISTANTS, own, PACKAGE / "dialog" / "assistants" / "sentences")
        else:
            self._tools.remove_source(CORE_ASSISTANTS)
            answering.intents.remove_source(CORE_ASSISTANTS)

    def _of_memory(self) -> Iterable[Tool]:
        name = self._parts.config.hub.time_zone
        zone = ZoneInfo(name) if name else None
        memories, texts = self._parts.answering.memories, self._parts.texts
        return memory_tools(memories, texts, time.time, lambda at: datetime.fromtimestamp(at, zone))

    def _add(self, source: str, own: Iterable[Tool], sentences: Path) -> None:
        for tool in own:
            self._tools.add(tool, source)
        for language in LANGUAGES:
            self._parts.answering.intents.add_sentences(source, sentences / f"{language}.yaml")


__all__ = ["CORE", "OwnTools", "OwnToolsParts"]
