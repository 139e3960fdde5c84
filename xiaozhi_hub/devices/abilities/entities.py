"""Voice devices as things of the house: those that the owner has given a name, with volume, brightness and battery.

They are there from the start, connected or not, so that recognisers need not learn anew whenever a device comes or goes;
a device that is not connected is ``unknown``. Devices without a name are nothing that people could speak of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xiaozhi_hub.core.config import DeviceConfig
from xiaozhi_hub.core.i18n import LANGUAGES, Texts
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.entities.registry import EntityRegistry, fold
from xiaozhi_hub.tools.device import SET_VOLUME, DeviceStatus, DeviceToolset

SOURCE = "devices"


class DeviceEntities:
    """Keeps the entities of all named devices current."""

    def __init__(
        self,
        devices: Mapping[str, DeviceConfig],
        entities: EntityRegistry,
        tools: DeviceTools,
        texts: Texts,
        language: str,
    ) -> None:
        self._entities = entities
        self._tools = tools
        self._texts = texts
        self._language = language
        """Of services, which nobody in particular calls."""
        self._players: dict[str, Entity] = {}
        self._batteries: dict[str, Entity] = {}
        for device_id, device in devices.items():
            self._named(device_id, device)
        tools.on_connected, tools.on_gone, tools.on_named = self._connected, self._gone, self._named

    def _named(self, device_id: str, device: DeviceConfig) -> None:
        known = self._players.get(device_id)
        if known is not None and (known.name, known.area) == (device.name, device.area):
            return
        source = f"{SOURCE}-{device_id}"
        if known is not None:
            self._entities.remove_source(source)
            self._batteries.pop(device_id, None)
        if fold(device.name) == fold(device_id):
            self._players.pop(device_id, None)
            return
        self._players[device_id] = self._player(device_id, device)
        self._entities.add(self._players[device_id], source)
        if (toolset := self._tools.connected.get(device_id)) is not None:
            self._connected(device_id, toolset)

    def _player(self, device_id: str, device: DeviceConfig) -> Entity:
        async def set_volume(volume: int) -> None:
            await self._tools.call(device_id, SET_VOLUME, {"volume": volume}, self._language)

        player = Entity(
            f"media_player.xiaozhi_{_slug(device_id)}",
            Domain.MEDIA_PLAYER,
            device.name,
            device.area,
            services={"set_volume": set_volume},
            device_id=device_id,
        )
        player.set_state("unknown")
        return player

    def _connected(self, device_id: str, toolset: DeviceToolset) -> None:
        if device_id in self._players:
            toolset.on_status = lambda status: self._told(device_id, status)
            self._players[device_id].set_state("idle")

    def _gone(self, device_id: str) -> None:
        for held in (self._players, self._batteries):
            if device_id in held:
                held[device_id].set_state("unknown")

    def _told(self, device_id: str, status: DeviceStatus) -> None:
        if (player := self._players.get(device_id)) is None:
            return  # it has lost its name
        facts: dict[str, Any] = {"volume": status.volume, "brightness": status.brightness, "theme": status.theme}
        player.set_state("idle", **{name: value for name, value in facts.items() if value is not None})
        if status.battery is not None:
            if device_id not in self._batteries:
                self._batteries[device_id] = self._battery(device_id, player)
                self._entities.add(self._batteries[device_id], f"{SOURCE}-{device_id}")
            charging = {} if status.charging is None else {"charging": status.charging}
            self._batteries[device_id].set_state(str(status.battery), unit="%", **charging)

    def _battery(self, device_id: str, player: Entity) -> Entity:
        own, *others = (
            self._texts.text("device.battery_name", language, name=player.name)
            for language in sorted(LANGUAGES, key=lambda language: language != self._language)
        )
        return Entity(
            f"sensor.xiaozhi_{_slug(device_id)}_battery",
            Domain.SENSOR,
            own,
            player.area,
            tuple(others),
            "battery",
            device_id=device_id,
        )


def _slug(device_id: str) -> str:
    return "".join(char if char.isalnum() else "_" for char in device_id.replace(":", "").lower())


__all__ = ["DeviceEntities"]
