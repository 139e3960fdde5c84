"""The demo home with its tools, without any device connected, and people who stand in it: for the tests of tools, intents and the clock."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.flow import ToolCall, TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.devices.abilities.tools import DeviceCommands, device_tools
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.dialog.intents.conversation_tools import conversation_tools
from xiaozhi_hub.dialog.intents.intents import Intents
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.entities.tools import home_tools
from xiaozhi_hub.errors import ToolError
from xiaozhi_hub.plugins.loader import import_integration
from xiaozhi_hub.tools.base import ToolResult
from xiaozhi_hub.tools.registry import ToolRegistry

ENGLISH = TurnInfo("t1", "s1", "aa:bb:cc:dd:ee:01", "en")
CHINESE = dataclasses.replace(ENGLISH, language="zh-Hans")


def person_in(area: str | None, language: str = "en") -> TurnInfo:
    return dataclasses.replace(ENGLISH, area=area, language=language)


def integration(domain: str, module: str) -> ModuleType:
    """Import a module of a built-in integration as the hub does."""
    import_integration(builtin("integrations") / domain)
    return __import__(f"xiaozhi_hub_integrations.{domain}.{module}", fromlist=["_"])


class House:
    """The demo home, or an empty one."""

    def __init__(self, *, furnished: bool = True) -> None:
        self.bus = Bus()
        self.texts = Texts()
        self.entities = EntityRegistry(self.bus)
        self.tools = ToolRegistry(self.texts)
        devices = DeviceCommands(DeviceTools({}, self.entities, self.texts), self.entities, self.texts)
        for tool in (
            *home_tools(self.entities, self.texts, devices),
            *device_tools(devices),
            *conversation_tools(self.texts),
        ):
            self.tools.add(tool, "core")
        if furnished:
            home = integration("demo", "home")
            for name, aliases in home.AREAS.items():
                self.entities.add_area(name, "demo", aliases)
            for entity in home.build_home():
                self.entities.add(entity, "demo")
        self.intents = Intents(self.texts, self.entities, self.tools)

    def add_sentences(self, domain: str) -> None:
        for path in sorted((builtin("integrations") / domain / "sentences").glob("*.yaml")):
            self.intents.add_sentences(domain, Path(path))

    async def call(self, tool: str, turn: TurnInfo = ENGLISH, /, **arguments: Any) -> str:
        """Call a tool and return what is said, be it an answer or a refusal."""
        _, answer = await self.attempt(tool, arguments, turn)
        return answer.message if isinstance(answer, ToolError) else answer.text

    async def attempt(
        self, tool: str, arguments: Mapping[str, Any], turn: TurnInfo = ENGLISH
    ) -> tuple[ToolCall, ToolResult | ToolError]:
        return await self.tools.attempt(tool, arguments, turn)

    def state(self, entity_id: str) -> str:
        entity = self.entities.get(entity_id)
        assert entity is not None, f"no entity {entity_id}"
        return entity.state.value

    def attribute(self, entity_id: str, name: str) -> Any:
        entity = self.entities.get(entity_id)
        assert entity is not None, f"no entity {entity_id}"
        return entity.state.attributes[name]


class Speakers:
    """Implements the announcer over devices that exist only here, and remembers what they said."""

    def __init__(self, *connected: str) -> None:
        self.connected = list(connected)
        self.deaf: set[str] = set()
        """Devices that are connected but do not play anything."""
        self.heard: list[tuple[str, str]] = []
        self.rang = asyncio.Event()
        self.rounds: list[int] = []
        self.lines: dict[tuple[str, str], float] = {}

    def reachable(self) -> tuple[str, ...]:
        return tuple(self.connected)

    async def ring(self, device_id: str, text: str, language: str, *, rounds: int = 3) -> bool:
        if device_id not in self.connected or device_id in self.deaf:
            return False
        self.heard.append((device_id, text))
        self.rang.set()
        self.rounds.append(rounds)
        return True

    def keep_line(self, device_id: str, key: str, until: float | None) -> None:
        if until is None:
            self.lines.pop((device_id, key), None)
        else:
            self.lines[device_id, key] = until
