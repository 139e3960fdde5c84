"""Speech synthesis: the sound of a sentence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.engines.base import Engine


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What a voice is asked to say."""

    text: str
    """As it is said when it reaches an engine: numbers, units, dates and addresses are words by then."""
    language: str
    voice: str = ""
    """Empty: the engine's own choice for the language."""
    speed: float = 1.0
    volume: float = 1.0
    """Applied to what the engine yields; an engine need not care."""


class Tts(Engine):
    """Speech synthesis."""

    @abstractmethod
    def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        """Yield the sound of one sentence piece by piece, at any rate that stays the same throughout.

        A voice that the engine does not have is a `StageError` with the code ``voice-unknown``: then others are asked for it,
        and if nobody has it the engine is asked again without.
        """

    def voice_key(self, request: SpeechRequest) -> str:
        """Name the voice that `speak` would use: equal keys and texts sound the same, so they are encoded once."""
        return f"{self.info.id}/{request.voice or request.language}/{request.speed:g}"

    def speaks(self, request: SpeechRequest) -> tuple[str, ...]:
        """The languages that this voice can mix in one sentence; empty for all. Words in others are given to other voices."""
        return self.info.languages


__all__ = ["SpeechRequest", "Tts"]
