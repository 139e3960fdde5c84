"""What all engines have in common. The contract of each role is in the room of its name: `vad`, `asr`, `llm`, `tts` …

An engine is shared by all devices; what belongs to one turn is an object that the engine hands out (`Vad.open`,
`Asr.open`). All methods that do work are coroutines or async generators and never block the event loop: engines compute
in a `xiaozhi_hub.core.workers.Worker` or `ProcessWorker`. Cancelling the awaiting task stops the work as soon as
possible. A failure that ends the turn is a `StageError`.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from xiaozhi_hub.engines.health import Health


class Role(StrEnum):
    """The places in a turn that an engine can take."""

    VAD = "vad"
    WAKE = "wake"
    ASR = "asr"
    LLM = "llm"
    TTS = "tts"
    VISION = "vision"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself, so that pages, forms and fallbacks need no special cases."""

    id: str
    """Unique within its role, as written in the configuration: ``silero``, ``phrases``."""
    role: Role
    name: str
    """For people: ``Silero VAD 6``."""
    languages: tuple[str, ...] = ()
    """Empty: the engine does not care."""
    streams_input: bool = False
    """It works while the person still speaks."""
    streams_output: bool = False
    """Its first result is usable before the last one is known. A voice that does not stream has work done ahead for it: a long
    answer begins with its first clause, and usual phrases are rendered while nobody speaks."""
    offline: bool = True
    licence: str = ""
    detail: str = ""
    """The model or voice in use."""
    rank: int = 0
    """Where the configuration names no engine, those of higher rank are tried first."""
    closed: bool = False
    """A recogniser that knows the hub's own sentences only: what it does not understand may be put to the next one."""
    acts: bool = False
    """It stands where a language model does, but has tools of its own and carries out what it says: it is believed."""
    reads_ahead: bool = False
    """A language model for which `Llm.prepare` does something."""
    remote: bool = False
    """It computes on another machine: while it keeps people waiting, another engine may be asked at the same time."""


class Engine(ABC):
    """Shared by all devices; started and stopped by its integration's entry."""

    info: EngineInfo

    @cached_property
    def health(self) -> Health:
        """How it has been doing. The hub keeps this; engines have no part in it."""
        return Health()


__all__ = ["Engine", "EngineInfo", "Role"]
