"""A voice of a Wyoming service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event
from wyoming.tts import (
    Synthesize,
    SynthesizeChunk,
    SynthesizeStart,
    SynthesizeStop,
    SynthesizeStopped,
    SynthesizeVoice,
)

from xiaozhi_hub.plugins.api import EngineInfo, PcmChunk, SpeechRequest, StageError, Tts

from .languages import hub_languages, tag_for
from .service import Service
from .sound import Format

STAGE = "tts"
MOST_SECONDS = 600
"""Of sound for one sentence."""


class WyomingTts(Tts):
    """One program of one service, with all its voices. It has one speed: Wyoming knows no other."""

    def __init__(
        self,
        info: EngineInfo,
        service: Service,
        program: str | None,
        voices: Mapping[str, Sequence[str]],
        chosen: Mapping[str, str],
    ) -> None:
        """*voices* are the names of all, with their languages; *chosen* names the voice for a language, ``name`` or ``name#speaker``."""
        self.info = info
        self.service = service
        self._program = program
        self._voices = voices
        self._chosen = chosen

    def speaks(self, request: SpeechRequest) -> tuple[str, ...]:
        languages = self._voices.get(self._voice(request).name or "")
        return self.info.languages if languages is None else hub_languages(languages)

    def voice_key(self, request: SpeechRequest) -> str:
        voice = self._voice(request)
        return f"{self.info.id}/{voice.name or voice.language}/{voice.speaker or ''}"

    def _voice(self, request: SpeechRequest) -> SynthesizeVoice:
        """The voice that was asked for, the chosen one, or the first that speaks the language."""
        for wanted in (request.voice, self._chosen.get(request.language, "")):
            name, _, speaker = wanted.partition("#")
            if name in self._voices:
                return SynthesizeVoice(name=name, speaker=speaker or None)
        tags = [tag for languages in self._voices.values() for tag in languages]
        if (
            len(hub_languages(tags)) > 1
        ):  # not all voices are of one language: the service's usual one may be of another
            for name, languages in self._voices.items():
                if request.language in hub_languages(languages):
                    return SynthesizeVoice(name=name)
        return SynthesizeVoice(language=tag_for(request.language, tags))

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        """Wyoming has a way to ask for speech while its text is still being written; here whole sentences are asked for, so it is
        used only where the service prefers it: its end is told in another way."""
        if request.voice and request.voice.partition("#")[0] not in self._voices:
            raise StageError(STAGE, f"{self.service.name} has no voice {request.voice}", code="voice-unknown")
        async with self.service.talk(STAGE, self._program) as talk:
            voice, streams = self._voice(request), self.info.streams_output
            if streams:
                await talk.say(SynthesizeStart(voice))
                await talk.say(SynthesizeChunk(request.text))
            # In a stream it is for servers that do not know streams; the others skip it.
            await talk.say(Synthesize(request.text, voice))
            if streams:
                await talk.say(SynthesizeStop())
            sound: Format | None = None
            ms = 0.0

            def matters(event: Event) -> bool:
                if AudioChunk.is_type(event.type):
                    return bool(event.payload)
                if AudioStart.is_type(event.type):
                    return sound is None
                return SynthesizeStopped.is_type(event.type) or (AudioStop.is_type(event.type) and not streams)

            while True:
                event = await talk.hear_of(self.service.answer_s, matters)
                if AudioStart.is_type(event.type) or AudioChunk.is_type(event.type):
                    told = Format.of(event)
                    if sound is not None and told.rate != sound.rate:
                        raise StageError(STAGE, f"{self.service.name} changes its rate", code="tts-failed")
                    sound = told
                if AudioChunk.is_type(event.type) and sound is not None:
                    piece = sound.read(event)
                    ms += piece.ms
                    if ms > MOST_SECONDS * 1000:
                        raise StageError(STAGE, f"{self.service.name} does not stop", code="tts-failed")
                    if len(piece.samples):
                        yield piece
                elif not AudioStart.is_type(event.type):
                    break
        if not ms:
            raise StageError(STAGE, f"{self.service.name} says nothing", code="tts-failed")
