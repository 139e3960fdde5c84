"""The things that firmware before 1.8 describes, instead of tools: a speaker whose volume can be set, and a battery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_VOLUME = {"description": "Volume of the speaker, 0 to 100", "type": "number"}
DESCRIPTORS: tuple[dict[str, Any], ...] = (
    {
        "name": "Speaker",
        "description": "The speaker",
        "properties": {"volume": _VOLUME},
        "methods": {"SetVolume": {"description": "Set the volume", "parameters": {"volume": _VOLUME}}},
    },
    {
        "name": "Battery",
        "description": "The battery",
        "properties": {"level": {"description": "Charge in percent", "type": "number"}},
        "methods": {},
    },
)


class LegacyThings:
    """Descriptors, states and commands as the firmware exchanges them (firmware iot/thing_manager.cc at v1.6.2)."""

    def __init__(self) -> None:
        self.volume = 70
        self._told: dict[str, Any] = {}

    def descriptors(self) -> Iterator[dict[str, Any]]:
        """One message for each thing, right after the hellos."""
        for descriptor in DESCRIPTORS:
            yield {"type": "iot", "update": True, "descriptors": [descriptor]}

    def changes(self) -> dict[str, Any] | None:
        """What has changed since the last call, all at the first; None when nothing has."""
        now: dict[str, Any] = {"Speaker": {"volume": self.volume}, "Battery": {"level": 88}}
        changed = [{"name": name, "state": state} for name, state in now.items() if self._told.get(name) != state]
        self._told = now
        return {"type": "iot", "update": True, "states": changed} if changed else None

    def obey(self, commands: object) -> Iterator[str]:
        """Do what the hub commands; yields what would crash the device."""
        if not isinstance(commands, list):
            yield "iot without a list of commands"
            return
        for command in commands:
            name, method = (command.get(key) if isinstance(command, Mapping) else None for key in ("name", "method"))
            if not isinstance(name, str) or not isinstance(method, str):
                yield "an iot command without name or method: the device crashes"
            elif (name, method) == ("Speaker", "SetVolume"):
                given = command.get("parameters")
                volume = given.get("volume") if isinstance(given, Mapping) else None
                if isinstance(volume, bool) or not isinstance(volume, int):
                    yield "SetVolume without a whole number: the device crashes"
                else:
                    self.volume = max(0, min(100, volume))
