"""Assistants: who answers on which device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from xiaozhi_hub.core.config import AssistantConfig, DeviceConfig, VoiceConfig

DEFAULT = "default"
"""The id of the assistant of those who have chosen none."""


@dataclass(frozen=True, slots=True)
class Assistant:
    """A choice of engines, persona and tools. Engines are named best first; none named means those there are."""

    id: str
    name: str = ""
    persona: str = ""
    """What a language model is told to be; empty for the hub's own words."""
    language: str | None = None
    """None: the language of the device."""
    voice: str = ""
    speed: float = 1.0
    volume: float = 1.0
    asr: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    tts: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("*",)
    """Patterns of the tools that its model may use."""
    memory: bool = True

    def may_use(self, tool: str) -> bool:
        """May its language model call *tool*?"""
        return any(fnmatchcase(tool, pattern) for pattern in self.tools)


class Assistants:
    """The assistants that the owner has set up, and who has which."""

    def __init__(
        self, voice: VoiceConfig, written: Mapping[str, AssistantConfig], devices: Mapping[str, DeviceConfig]
    ) -> None:
        usual = Assistant(DEFAULT, speed=voice.speed, asr=voice.asr, llm=voice.llm, tts=voice.tts)
        self._all = {DEFAULT: usual}
        for name, config in written.items():
            self._all[name] = Assistant(
                name,
                config.name,
                config.persona,
                config.language,
                config.voice,
                config.speed if config.speed is not None else voice.speed,
                config.volume,
                config.asr or voice.asr,
                config.llm or voice.llm,
                config.tts or voice.tts,
                config.tools,
                config.memory,
            )
        self._rooms = {room.casefold(): name for name, config in written.items() for room in config.rooms}
        self._devices = {device: config.assistant for device, config in devices.items() if config.assistant}

    @property
    def usual(self) -> Assistant:
        """The assistant of those who have chosen none."""
        return self._all[DEFAULT]

    def all(self) -> tuple[Assistant, ...]:
        return tuple(self._all.values())

    def of(self, device_id: str, area: str | None = None) -> Assistant:
        """The assistant of a device: its own, then its room's, then the default one."""
        name = self._devices.get(device_id) or self._rooms.get((area or "").casefold(), DEFAULT)
        return self._all.get(name, self.usual)
