"""The things of a device with firmware before 1.8: descriptors, states, commands (firmware 1.6.2 iot/thing.cc)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.settings import Settings

_TYPES: dict[str, type] = {"number": int, "boolean": bool, "string": str}


@dataclass(frozen=True, slots=True)
class Method:
    """What a thing can do."""

    run: Callable[..., None]
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Types by name."""


@dataclass(frozen=True, slots=True)
class Thing:
    """One part of the device."""

    name: str
    state: Callable[[], dict[str, Any]]
    methods: Mapping[str, Method] = field(default_factory=dict)

    def descriptor(self) -> dict[str, Any]:
        methods = {
            name: {
                "description": name,
                "parameters": {key: {"description": key, "type": kind} for key, kind in method.parameters.items()},
            }
            for name, method in self.methods.items()
        }
        kinds = {int: "number", bool: "boolean", str: "string"}
        properties = {key: {"description": key, "type": kinds[type(value)]} for key, value in self.state().items()}
        return {"name": self.name, "description": self.name, "properties": properties, "methods": methods}


class Things:
    """All things of a device."""

    def __init__(self, profile: FirmwareProfile, settings: Settings) -> None:
        self._settings = settings
        self._told: dict[str, dict[str, Any]] = {}
        self.commands: list[tuple[str, str, dict[str, Any]]] = []
        """What the hub commanded: thing, method, parameters."""
        self._things = {thing.name: thing for thing in self._usual(profile)}

    def descriptors(self) -> list[dict[str, Any]]:
        """One for each message after the hub's hello. Forgets what was told before."""
        self._told.clear()
        return [thing.descriptor() for thing in self._things.values()]

    def changes(self) -> list[dict[str, Any]]:
        """The states that were not told yet: all at first, then what has changed."""
        changed = []
        for name, thing in self._things.items():
            state = thing.state()
            if self._told.get(name) != state:
                self._told[name] = state
                changed.append({"name": name, "state": state})
        return changed

    def obey(self, message: Mapping[str, Any]) -> str:
        """Do what an ``iot`` message says; return why a device would crash, or an empty text."""
        for command in message.get("commands") or ():
            name, method_name = command.get("name"), command.get("method")
            if not isinstance(name, str) or not isinstance(method_name, str):
                return "a command without name and method: the device crashes"
            thing = self._things.get(name)
            method = thing.methods.get(method_name) if thing is not None else None
            if method is None:
                continue  # logged and forgotten
            given = command.get("parameters") or {}
            for key, kind in method.parameters.items():
                if type(given.get(key)) is not _TYPES[kind]:
                    return f"{name}.{method_name} without a {kind} {key}: the device crashes"
            self.commands.append((name, method_name, dict(given)))
            method.run(*(given[key] for key in method.parameters))
        return ""

    def _usual(self, profile: FirmwareProfile) -> list[Thing]:
        settings, parts = self._settings, profile.parts

        def setting(name: str) -> Callable[[Any], None]:
            return lambda value: setattr(settings, name, value)

        volume = Method(setting("volume"), {"volume": "number"})
        things = [Thing("Speaker", lambda: {"volume": settings.volume}, {"SetVolume": volume})]
        if "screen" in parts:
            methods = {
                "SetTheme": Method(setting("theme"), {"theme_name": "string"}),
                "SetBrightness": Method(setting("brightness"), {"brightness": "number"}),
            }
            things.append(
                Thing("Screen", lambda: {"theme": settings.theme, "brightness": settings.brightness}, methods)
            )
        if "battery" in parts:
            things.append(Thing("Battery", lambda: {"level": settings.battery, "charging": settings.charging}))
        if "lamp" in parts:
            switch = setting("lamp")
            turns = {"TurnOn": Method(lambda: switch(True)), "TurnOff": Method(lambda: switch(False))}
            things.append(Thing("Lamp", lambda: {"power": settings.lamp}, turns))
        return things
