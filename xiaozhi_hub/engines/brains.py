"""Others who hear, answer and speak for a device in the hub's place."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from xiaozhi_hub.core.flow import Emotion, Sentence, TurnInfo
from xiaozhi_hub.engines.asr import Asr
from xiaozhi_hub.engines.tts import Tts


@dataclass(frozen=True, slots=True, eq=False)
class Brain:
    """Who answers. Its recogniser is tried first; the hub's own step in where it fails."""

    name: str
    """For people: ``Home Assistant``."""
    asr: Asr
    answer: Callable[[TurnInfo, str], AsyncGenerator[Sentence | Emotion, None] | None]
    """Answers what was said, or None to leave it to the hub, as for what it has not heard itself."""
    voice: Callable[[str], Tts | None]
    """The voice for a sentence of its answer; None for sentences that are not its own."""


class Brains:
    """Which devices are somebody else's at present."""

    def __init__(self) -> None:
        self._brains: dict[str, Brain] = {}

    def give(self, device_id: str, brain: Brain) -> Callable[[], None]:
        """From the next turn on *brain* answers on the device; the returned function ends that. The last one given counts."""
        self._brains[device_id] = brain

        def take_back() -> None:
            if self._brains.get(device_id) is brain:
                del self._brains[device_id]

        return take_back

    def of(self, device_id: str) -> Brain | None:
        return self._brains.get(device_id)


__all__ = ["Brain", "Brains"]
