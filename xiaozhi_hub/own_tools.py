"""The hub's own tools, and the sentences that call them: what there is without any integration."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from xiaozhi_hub.answering import Answering
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.i18n import LANGUAGES, Texts
from xiaozhi_hub.core.places import PACKAGE
from xiaozhi_hub.devices.announce_tools import announce_tools
from xiaozhi_hub.devices.device_commands import DeviceCommands, device_tools
from xiaozhi_hub.devices.device_tools import DeviceTools
from xiaozhi_hub.devices.messenger import Messenger
from xiaozhi_hub.dialog.assistant_tools import assistant_tools
from xiaozhi_hub.dialog.commands import conversation_tools
from xiaozhi_hub.dialog.intents import SENTENCES
from xiaozhi_hub.dialog.memory_tools import memory_tools
from xiaozhi_hub.entities.phrasing import Phrasing
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.entities.tools import home_tools
from xiaozhi_hub.tools.registry import ToolRegistry

CORE = "core"
"""The source under which the hub's own tools are registered."""


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


def add_own_tools(parts: OwnToolsParts, tools: ToolRegistry) -> None:
    """Add the tools to *tools* and their sentences to the intents. Those of assistants and of the memory are there only where
    the configuration has such."""
    config, texts, answering = parts.config, parts.texts, parts.answering
    commands = DeviceCommands(parts.device_tools, parts.entities, texts)
    own = [*home_tools(parts.entities, texts, commands), *device_tools(commands), *conversation_tools(texts)]
    own += announce_tools(parts.messenger, texts, Phrasing(texts, parts.entities))
    sentences = [PACKAGE / "devices" / "sentences"]
    if config.assistants:
        own += assistant_tools(answering.assistants, texts, answering.switching.switch, parts.language_of)
        sentences.append(SENTENCES / "assistants")
    if config.memory.enabled:
        zone = ZoneInfo(config.hub.time_zone) if config.hub.time_zone else None
        own += memory_tools(answering.memories, texts, time.time, lambda at: datetime.fromtimestamp(at, zone))
        sentences.append(SENTENCES / "memory")
    for tool in own:
        tools.add(tool, CORE)
    tools.add_for_turns(parts.device_tools.for_turn, CORE)
    for folder in sentences:
        for language in LANGUAGES:
            answering.intents.add_sentences(CORE, folder / f"{language}.yaml")


__all__ = ["CORE", "OwnToolsParts", "add_own_tools"]
