"""Speech recognition: what was said?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from xiaozhi_hub.core.flow import PcmChunk, Transcript
from xiaozhi_hub.engines.base import Engine
from xiaozhi_hub.engines.phrasebook import Phrasebook


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """What a recogniser should know before it hears a turn."""

    languages: tuple[str, ...]
    """What the person may speak, most likely first."""
    device_id: str = ""
    answering: bool = False
    """The hub has asked something: the person may say a bare answer, such as "in the kitchen"."""
    lead_ms: float = 0.0
    """How much of the beginning of the sound is not speech yet: the margin before the first word."""


class AsrStream(ABC):
    """The recognition of one utterance."""

    partial: Transcript | None = None
    """What has been heard so far while the person still speaks, where the engine says; may be wrong."""

    @abstractmethod
    async def feed(self, chunk: PcmChunk) -> None:
        """Take the next piece of the utterance (16 kHz). The caller has trimmed silence to a margin."""

    @abstractmethod
    async def guess(self) -> Transcript:
        """Say what has been heard so far, as if the person had stopped now; feeding may go on afterwards.

        Called speculatively in silence. May be cancelled.
        """

    async def guess_early(self) -> Transcript:
        """As `guess`, but the last word has only just been said: its sound may lack its end."""
        return await self.guess()

    @abstractmethod
    async def finish(self) -> Transcript:
        """Say what was said. After a guess mostly silence has come, but not always: who goes on, and lets go of the button or has
        talked for too long, ends without another guess. After one that understood nothing there is time to try something else."""

    async def aclose(self) -> None:  # noqa: B027 (most streams hold nothing)
        """Let go of everything; safe to call at any time, more than once."""


class Asr(Engine):
    """Speech recognition."""

    @abstractmethod
    def open(self, request: AsrRequest) -> AsrStream:
        """Begin to hear one utterance."""

    async def learn(self, book: Phrasebook) -> None:
        """Take in what the hub understands now. Called at start and after every change of sentences or names."""


__all__ = ["Asr", "AsrRequest", "AsrStream"]
