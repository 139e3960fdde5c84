"""Entities: things in the house that have a state, stand in an area, and can be told to change.

An integration makes an entity, registers it, and keeps its state current with `Entity.set_state`. What a person can ask of
it are its *services* (`turn_on`, `set_brightness`, …), one coroutine each, looked up by name in `Entity.services`. The
tools of `xiaozhi_hub.entities.tools` find entities by name, area and domain and call their services.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

Service = Callable[..., Awaitable[None]]
"""Called with keyword arguments; raises `ToolError` when the thing refuses."""


class Domain(StrEnum):
    """The kinds of things, named as in the official intents."""

    LIGHT = "light"
    SWITCH = "switch"
    COVER = "cover"
    LOCK = "lock"
    MEDIA_PLAYER = "media_player"
    CLIMATE = "climate"
    SENSOR = "sensor"
    BINARY_SENSOR = "binary_sensor"
    SCENE = "scene"
    SCRIPT = "script"
    TODO = "todo"
    WEATHER = "weather"
    FAN = "fan"


@dataclass(frozen=True, slots=True)
class State:
    """What is known of an entity at one moment."""

    value: str
    """``on``, ``off``, ``open``, ``closed``, ``locked``, ``unlocked``, ``playing``, ``paused``, ``idle``, a number as
    text, or ``unknown``."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """``brightness`` (percent), ``color`` (English name), ``position`` (percent), ``unit``, ``device_class``,
    ``current_temperature``, ``volume`` (percent), ``items`` …"""


@dataclass(slots=True, eq=False)
class Entity:
    """One thing. Identity is the object; `id` is unique in the registry."""

    id: str
    """``<domain>.<slug>``: ``light.bed_light``."""
    domain: Domain
    name: str
    """As people say and write it in the hub's language: ``Bed Light``."""
    area: str | None = None
    aliases: tuple[str, ...] = ()
    """Other names, in any language."""
    device_class: str | None = None
    """What kind within its domain, as in the official intents: ``window``, ``curtain``, ``temperature``."""
    services: Mapping[str, Service] = field(default_factory=dict)
    device_id: str = ""
    """The voice device that it is a part of; empty for everything else in the house."""
    _state: State = field(default_factory=lambda: State("unknown"))
    _watcher: Callable[[Entity, State, State], None] | None = None

    @property
    def state(self) -> State:
        return self._state

    def set_state(self, value: str, **attributes: Any) -> None:
        """Set the state; attributes not named keep their value. The registry tells everybody who watches."""
        merged = {**self._state.attributes, **attributes}
        old, self._state = self._state, State(value, MappingProxyType(merged))
        if self._watcher is not None and old != self._state:
            self._watcher(self, old, self._state)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)
