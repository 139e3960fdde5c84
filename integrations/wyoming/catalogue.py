"""The hub's own engines as others see them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    HandleModel,
    HandleProgram,
    Info,
    TtsProgram,
    TtsVoice,
    WakeModel,
    WakeProgram,
)

from xiaozhi_hub.plugins.api import LANGUAGES, Asr, Engine, HubApi, Role, Tts, Wake

from .answering import WyomingAgent
from .hearing import WyomingAsr
from .intents import WyomingIntents
from .languages import tags_of
from .speaking import WyomingTts
from .waking import WyomingWake

PROGRAM = "xiaozhi-hub"
_FROM = Attribution(name="XiaoZhi Hub", url="")
_BORROWED = (WyomingAgent, WyomingAsr, WyomingIntents, WyomingTts, WyomingWake)
"""Engines of other services: two hubs that use each other must not send a question round and round."""


class Catalogue:
    """What is offered, asked of the registry anew each time: engines come and go."""

    def __init__(self, hub: HubApi, roles: Collection[str]) -> None:
        self._hub = hub
        self.roles = roles

    def recognisers(self, language: str | None = None, name: str | None = None) -> list[Asr]:
        """The recognisers to try, best first: of those that speak *language* the one called *name* before those that the owner has
        chosen, and all others after them."""
        engines = self._chain(Role.ASR, "asr", self._hub.config.voice.asr, language, name)
        return [engine for engine in engines if isinstance(engine, Asr)]

    def voices(self, language: str | None = None, name: str | None = None) -> list[Tts]:
        engines = self._chain(Role.TTS, "tts", self._hub.config.voice.tts, language, name)
        return [engine for engine in engines if isinstance(engine, Tts)]

    def detectors(self) -> list[Wake]:
        return [engine for engine in self._chain(Role.WAKE, "wake", ()) if isinstance(engine, Wake)]

    def _chain(
        self, role: Role, part: str, names: Sequence[str], language: str | None = None, name: str | None = None
    ) -> list[Engine]:
        if part not in self.roles:
            return []
        chain = self._hub.engines.chain
        chosen = [
            engine for wanted in ([name] if name else [], names) if wanted for engine in chain(role, wanted, language)
        ]
        engines = dict.fromkeys((*chosen, *chain(role, (), language)))
        return [engine for engine in engines if not isinstance(engine, _BORROWED)]

    def info(self) -> Info:
        """One program for each part, with a model or voice for each engine."""
        info = Info()
        if models := [AsrModel(languages=tags_of(e.info.languages), **_artifact(e)) for e in self.recognisers()]:
            info.asr.append(AsrProgram(models=models, **_program("Speech recognition")))
        if voices := [TtsVoice(languages=tags_of(e.info.languages), **_artifact(e)) for e in self.voices()]:
            info.tts.append(TtsProgram(voices=voices, supports_synthesize_streaming=True, **_program("Voices")))
        heard = dict.fromkeys(word for engine in self.detectors() for word in engine.words)
        if words := [WakeModel(languages=[], phrase=word, **_named(word, word)) for word in heard]:
            info.wake.append(WakeProgram(models=words, **_program("Wake words")))
        if "handle" in self.roles:
            handler = HandleModel(languages=tags_of(LANGUAGES), **_program("Answers and commands"))
            info.handle.append(
                HandleProgram(
                    models=[handler],
                    supports_handled_streaming=True,
                    supports_home_control=True,
                    **_program("Answers and commands"),
                )
            )
        return info


def _program(description: str) -> dict[str, Any]:
    return _named(PROGRAM, f"XiaoZhi Hub: {description}")


def _artifact(engine: Engine) -> dict[str, Any]:
    return _named(engine.info.id, engine.info.name)


def _named(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "description": description, "attribution": _FROM, "installed": True, "version": None}
