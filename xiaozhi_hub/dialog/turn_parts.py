"""What every turn needs from the hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.core.config import VoiceConfig
from xiaozhi_hub.core.flow import Completeness, Transcript, TurnRecord, Wait
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.dialog.assistants.assistants import Assistant, Assistants
from xiaozhi_hub.dialog.respond import Responder
from xiaozhi_hub.dialog.speaking.speaker import Speaker
from xiaozhi_hub.engines.asr import Asr
from xiaozhi_hub.engines.brains import Brains
from xiaozhi_hub.engines.failover import one_open_recogniser
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.engines.tts import Tts


@dataclass(frozen=True, slots=True)
class TurnParts:
    """Shared by all turns; a turn takes them `as_of_now` when it begins."""

    texts: Texts
    engines: EngineRegistry
    responder: Responder
    speaker: Speaker
    current_voice: Callable[[], VoiceConfig]
    assistants: Assistants
    judge: Callable[[str, str], Completeness]
    """What may a text in a language still become?"""
    remember: Callable[[TurnRecord], None]
    """Takes the record of a finished turn; must not block."""
    ready: Callable[[], Awaitable[None]]
    """Returns when the engines have started."""
    brains: Brains = field(default_factory=Brains)
    """Devices that others answer for."""
    habit: Callable[[str, Transcript, Patience], Wait | None] = lambda *_: None
    """How long to wait on a device after what may go on; None: as it is set."""

    @property
    def voice(self) -> VoiceConfig:
        """How the owner wants it now."""
        return self.current_voice()

    def as_of_now(self) -> TurnParts:
        """The same for one turn, which ends as it has begun whatever the owner sets meanwhile."""
        voice, assistants = self.voice, self.assistants.as_of_now()
        responder = replace(self.responder, assistants=assistants)
        return replace(self, current_voice=lambda: voice, assistants=assistants, responder=responder)

    @property
    def patience(self) -> Patience:
        wait = self.voice.silence
        return Patience(wait.complete_ms, wait.extendable_ms, wait.unfinished_ms, wait.unknown_ms)

    def recognisers(self, language: str, assistant: Assistant | None = None) -> tuple[tuple[Asr, ...], bool]:
        """The recognisers to use, and whether they speak *language*; others are better than none."""
        names = (assistant or self.assistants.usual).asr
        fitting = one_open_recogniser(self.engines.asrs(names, language))
        return (fitting, True) if fitting else (self.engines.asrs(names), False)

    def voices(self, language: str, assistant: Assistant | None = None) -> tuple[Tts, ...]:
        return self.engines.ttss((assistant or self.assistants.usual).tts, language)
