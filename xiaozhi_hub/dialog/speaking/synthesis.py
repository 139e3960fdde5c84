"""One sentence, said by the voices that can.

What is written becomes what is said (`normalisation`), words in a language that the voice does not speak are given to one that
does, and when a voice fails the next one says what is missing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from weakref import WeakKeyDictionary

from xiaozhi_hub.audio.pcm import trim_start
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.dialog.speaking.normalisation.normalise import spoken
from xiaozhi_hub.dialog.speaking.normalisation.scripts import foreign_languages, runs
from xiaozhi_hub.engines.failover import Attempt, speak
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import HubError, StageError

log = logging.getLogger(__name__)

JOIN_MS = 40.0
"""Silence that is left before words that another voice says."""
REST_SECONDS = 30.0
"""So long a voice that failed is asked last, in the language in which it failed: the apology must not fail like the answer."""
NAMES = 100
"""Names that an engine is known not to have; more are not remembered."""

Others = Callable[[str], Sequence[Tts]]
"""The voices for a language, best first."""


def nobody(_: str) -> Sequence[Tts]:
    """`Others` where one voice has to say everything."""
    return ()


class Synthesis:
    """Lets voices speak; remembers which names they do not know."""

    def __init__(self) -> None:
        self._unknown: WeakKeyDictionary[Tts, set[str]] = WeakKeyDictionary()
        self._resting: WeakKeyDictionary[Tts, dict[str, float]] = WeakKeyDictionary()
        """Until when (monotonic), by language."""

    def attempts(self, voices: Sequence[Tts], request: SpeechRequest) -> list[Attempt]:
        """Whom to ask for what, best first: those that may have the voice that is wanted, then all for their own choice."""
        if self._resting:
            now = time.monotonic()
            voices = sorted(voices, key=lambda voice: self._resting.get(voice, {}).get(request.language, 0.0) > now)
        plain = replace(request, voice="")
        named = [(voice, request) for voice in voices if request.voice not in self._unknown.get(voice, ())]
        return named + [(voice, plain) for voice in voices] if request.voice else named

    def key(self, attempt: Attempt, others: Others = nobody) -> str:
        """Equal keys and texts sound the same."""
        voice, request = attempt
        helpers = [
            helping[0].voice_key(_for(request, language))
            for language, helping in self._helpers(voice, request, request.text, others).items()
        ]
        return "|".join((voice.voice_key(request), request.language, f"{request.volume:g}", *helpers))

    async def say(
        self, voices: Sequence[Tts], request: SpeechRequest, others: Others = nobody
    ) -> AsyncGenerator[tuple[Attempt, PcmChunk], None]:
        """Yield who speaks and the sound, piece by piece; its rate changes where the voice does.

        The next voice goes on where one fails (`failover.speak`). `StageError` when nobody can.
        """
        attempts = self.attempts(voices, request)
        if not attempts:
            raise StageError("tts", f"no voice speaks {request.language}", code="no-tts")
        news = False

        async def said(attempt: Attempt, text: str) -> AsyncGenerator[PcmChunk, None]:
            nonlocal news
            voice, asked = attempt
            if news and not asked.voice:
                log.warning("no engine has the voice %r: %s speaks with its own", request.voice, voice.info.id)
                news = False
            try:
                async with aclosing(self._one(voice, replace(asked, text=text), others)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            except HubError as error:
                if asked.voice and error.code == "voice-unknown":
                    news = True
                    names = self._unknown.setdefault(voice, set())
                    if len(names) < NAMES:
                        names.add(asked.voice)
                else:
                    self._resting.setdefault(voice, {})[request.language] = time.monotonic() + REST_SECONDS
                raise

        try:
            async with aclosing(speak(attempts, request, said)) as pieces:
                async for piece in pieces:
                    yield piece
        except StageError:
            raise
        except HubError as error:
            raise StageError("tts", f"the voice failed: {error}") from error

    async def _one(self, voice: Tts, request: SpeechRequest, others: Others) -> AsyncGenerator[PcmChunk, None]:
        text = spoken(request.text, request.language)
        helpers = self._helpers(voice, request, text, others)
        if not helpers:
            async with aclosing(voice.speak(replace(request, text=text))) as chunks:
                async for chunk in chunks:
                    yield chunk
            return
        for language, words in runs(text, request.language, tuple(helpers)):
            async with aclosing(
                self._words(voice, replace(request, text=words), helpers.get(language, ()), language)
            ) as chunks:
                first = True
                async for chunk in chunks:
                    cut = trim_start(chunk, keep_ms=JOIN_MS) if first else chunk
                    first = first and not len(cut.samples)
                    if len(cut.samples):
                        yield cut

    async def _words(
        self, voice: Tts, request: SpeechRequest, helpers: Sequence[Tts], language: str
    ) -> AsyncGenerator[PcmChunk, None]:
        """Some words of a sentence: from a helper where there is one, else from the voice of the sentence."""
        for helper in helpers:
            begun = False
            try:
                async with aclosing(helper.speak(_for(request, language))) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except HubError as error:
                log.warning("voice %s failed: %s", helper.info.id, error)
                if begun:
                    return  # what was said is better than to say it twice
        async with aclosing(voice.speak(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    def _helpers(self, voice: Tts, request: SpeechRequest, text: str, others: Others) -> dict[str, Sequence[Tts]]:
        """Who says the words that *voice* cannot, by language."""
        able = voice.speaks(request)
        if not able:
            return {}
        foreign = [language for language in foreign_languages(text, request.language) if language not in able]
        found = {language: others(language) for language in foreign}
        return {language: voices for language, voices in found.items() if voices}


def _for(request: SpeechRequest, language: str) -> SpeechRequest:
    return replace(request, language=language, voice="")


__all__ = ["Attempt", "Others", "Synthesis", "nobody"]
