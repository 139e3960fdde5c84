"""Assistants: who answers on which device."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from types import MappingProxyType

from xiaozhi_hub.core.config import USUAL_ASSISTANT, AssistantConfig, DeviceConfig, VoiceConfig
from xiaozhi_hub.engines.base import EngineInfo, Role

DEFAULT = USUAL_ASSISTANT
"""The id of the assistant of those who have chosen none."""
NO_ENGINE = "none"
"""Written where an engine's id stands: this assistant is to have none."""
_MEMORY_TOOLS = "memory.*"


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
        if not self.memory and fnmatchcase(tool, _MEMORY_TOOLS):
            return False
        return any(fnmatchcase(tool, pattern) for pattern in self.tools)

    @property
    def called(self) -> str:
        """How people call it; empty for the usual one without a name."""
        return self.name or ("" if self.id == DEFAULT else _as_words(self.id))


class Assistants:
    """The assistants that the owner has set up, and who has which."""

    def __init__(
        self, voice: VoiceConfig, written: Mapping[str, AssistantConfig], devices: Mapping[str, DeviceConfig]
    ) -> None:
        self._chosen: dict[str, str] = {}
        self.configure(voice, written, devices)

    def configure(
        self, voice: VoiceConfig, written: Mapping[str, AssistantConfig], devices: Mapping[str, DeviceConfig]
    ) -> None:
        """From now on the owner has set up these; what people have chosen stays chosen."""
        # Everything is made anew: `as_of_now` shares nothing but the choices.
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
        self._written = written
        self._rooms = {room.casefold(): name for name, config in written.items() for room in config.rooms}
        self._devices = {device: config.assistant for device, config in devices.items() if config.assistant}

    def as_of_now(self) -> Assistants:
        """The same, but for what the owner sets up later; what people choose counts in both."""
        return copy.copy(self)

    @property
    def usual(self) -> Assistant:
        """The assistant of those who have chosen none."""
        return self._all[DEFAULT]

    def all(self) -> tuple[Assistant, ...]:
        return tuple(self._all.values())

    def get(self, id: str) -> Assistant | None:
        return self._all.get(id)

    def of(self, device_id: str, area: str | None = None, wanted: str = "") -> Assistant:
        """The assistant of a device: the one that is *wanted* now (the default one is not asked for by name), the one chosen there,
        then its own, then its room's, then the default one."""
        if wanted != DEFAULT and wanted in self._all:
            return self._all[wanted]
        chosen = self._all.get(self._chosen.get(device_id, ""))
        if chosen is not None:
            return chosen
        name = self._devices.get(device_id) or self._rooms.get((area or "").casefold(), DEFAULT)
        return self._all.get(name, self.usual)

    # -- choosing -------------------------------------------------------------------------------------------------

    @property
    def chosen(self) -> Mapping[str, str]:
        """What people have chosen, by device; not what the configuration says."""
        return self._chosen

    def remembered(self, chosen: Mapping[str, str]) -> None:
        """Take in what was chosen before the hub was started. Assistants that are gone meanwhile count for nothing, and for
        what they were when they come back."""
        self._chosen = dict(chosen)

    def choose(self, device_id: str, id: str) -> None:
        """From now on this assistant answers on the device. The default one is what the configuration says there."""
        if id == DEFAULT:
            self._chosen.pop(device_id, None)
        else:
            self._chosen[device_id] = id

    def forget(self, device_id: str) -> None:
        """Nobody has a use for what was chosen there."""
        self._chosen.pop(device_id, None)

    # -- names ----------------------------------------------------------------------------------------------------

    def spoken_names(self) -> tuple[tuple[str, str], ...]:
        """What people may call each assistant, and its id: the name that it has, and its key."""
        names: dict[str, tuple[str, str]] = {}
        for assistant in self._all.values():
            for said in (assistant.name, "" if assistant.id == DEFAULT else _as_words(assistant.id)):
                if said:
                    names.setdefault(said.casefold(), (said, assistant.id))
        return tuple(names.values())

    def by_name(self, called: str) -> Assistant | None:
        """The assistant with this id or name."""
        ids = {said: id for said, (_, id) in ((known[0].casefold(), known) for known in self.spoken_names())}
        return self._all.get(called) or self._all.get(ids.get(_as_words(called).casefold(), ""))

    # -- engines --------------------------------------------------------------------------------------------------

    def lacking(
        self, engines: tuple[EngineInfo, ...], cures: Mapping[str, str] = MappingProxyType({})
    ) -> dict[str, tuple[str, str]]:
        """What the owner has written for an assistant and is not among *engines*: message and hint, by a code. *cures* says
        what is the matter with engines that could be there."""
        problems: dict[str, tuple[str, str]] = {}
        for name, config in self._written.items():
            for role, wanted in ((Role.ASR, config.asr), (Role.LLM, config.llm), (Role.TTS, config.tts)):
                known = [engine.id for engine in engines if engine.role is role]
                missing = [id for id in wanted if id not in known and id != NO_ENGINE]
                if not missing:
                    continue
                near = get_close_matches(missing[0], known, 1)
                there = f"There are: {', '.join(known)}." if known else "See: xiaozhi-hub integrations"
                problems[f"lacking-{name}-{role.value}"] = (
                    f"The assistant {name} is to use {role.value}: {', '.join(missing)}, which is not here.",
                    cures.get(missing[0]) or (f"Did you mean {near[0]}?" if near else there),
                )
        return problems


def _as_words(id: str) -> str:
    return " ".join(id.replace("_", " ").replace("-", " ").split())


__all__ = ["DEFAULT", "NO_ENGINE", "Assistant", "Assistants"]
