"""Which of eSpeak's voices says a request, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.plugins.api import SpeechRequest

SLOWEST, FASTEST = 80, 450
"""Words per minute; eSpeak's own limits."""
MOST_CHARACTERS = 5000
"""Of one request: about six minutes of speech. What is longer is cut, so that one text cannot fill the memory."""

# The British voice has no name of its own in eSpeak: it is plain English.
_ENGLISH = {"en-us": "en-us", "en-gb": "en"}


@dataclass(frozen=True, slots=True)
class Speaking:
    """One text and how eSpeak shall say it."""

    text: str
    voice: str
    rate: int
    pitch: int


@dataclass(frozen=True, slots=True)
class Voices:
    """The owner's choice of voices."""

    english: str = "en-us"
    rate: int = 165
    pitch: int = 45
    variant: str = ""

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Voices:
        return cls(options["english"], options["rate"], options["pitch"], options["variant"])

    def speaking(self, request: SpeechRequest) -> Speaking:
        rate = min(FASTEST, max(SLOWEST, round(self.rate * request.speed)))
        text = "".join(char if char.isprintable() else " " for char in request.text[:MOST_CHARACTERS])
        return Speaking(" ".join(text.split()), self._voice(request), rate, self.pitch)

    def _voice(self, request: SpeechRequest) -> str:
        name = request.voice or self._of_language(request.language)
        return f"{name}+{self.variant}" if self.variant and "+" not in name else name

    def _of_language(self, language: str) -> str:
        head = language.replace("_", "-").split("-")[0].lower()
        if head == "zh":
            return "cmn"
        return _ENGLISH[self.english] if head == "en" else head
