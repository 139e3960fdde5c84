"""Who is meant: one device, all devices of a room, or everybody."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.devices.management import DeviceManagement, ManagedDevice
from xiaozhi_hub.entities.registry import EntityRegistry, fold
from xiaozhi_hub.errors import ToolError
from xiaozhi_hub.store.grants import GrantState


@dataclass(frozen=True, slots=True)
class Listener:
    """A device that is to be told something, connected or not."""

    device_id: str
    name: str
    area: str


class Audience:
    """Finds devices by what people call them. Those that the owner shut out are never among them."""

    def __init__(
        self,
        management: Callable[[], Awaitable[DeviceManagement]],
        names: DeviceTools,
        entities: EntityRegistry,
        texts: Texts,
    ) -> None:
        self._management = management
        self._names = names
        self._entities = entities
        self._texts = texts

    async def find(
        self,
        language: str,
        *,
        device: str | None = None,
        area: str | None = None,
        everywhere: bool = False,
        but: str = "",
    ) -> tuple[Listener, ...]:
        """Return who is meant, at least one: by id or name, by room, or everybody. *but* is left out where others are there.

        Raises `ToolError` in *language*.
        """
        overview = await (await self._management()).overview()
        known = [each for each in overview.devices if each.state != GrantState.OUT.value]
        if device:
            found = self._called(known, device) or self._standing_in(known, device)
            missing = self._texts.text("home.no_name", language, name=device)
        elif area:
            found = self._standing_in(known, area) or self._called(known, area)
            missing = self._texts.text("device.none_in", language, area=area)
        elif everywhere:
            found, missing = known, ""
        else:
            raise ToolError(self._texts.text("device.ask_name", language), code="device-unknown")
        others = [each for each in found if each.id != but]
        if everywhere and not others:
            raise ToolError(self._texts.text("announce.nobody", language), code="device-unknown")
        found = others or found
        if not found:
            raise ToolError(missing, code="device-unknown")
        return tuple(Listener(each.id, each.name, each.area) for each in found)

    def call(self, device_id: str, language: str) -> str:
        """How to speak of a device: by the name that its owner gave it; empty where there is none."""
        name = self._names.name_of(device_id) if device_id else ""
        return "" if fold(name) == fold(device_id) else name

    def _called(self, known: list[ManagedDevice], name: str) -> list[ManagedDevice]:
        wanted = fold(name)
        return [each for each in known if each.id == name.strip().lower() or fold(each.name) == wanted]

    def _standing_in(self, known: list[ManagedDevice], area: str) -> list[ManagedDevice]:
        room = fold(self._entities.area(area) or area)
        return [each for each in known if each.area and fold(self._entities.area(each.area) or each.area) == room]


__all__ = ["Audience", "Listener"]
