"""Learns to read and says the usual phrases to itself while nobody speaks, so that they begin at once when they are needed.

Only for voices that run on this machine and compute whole pieces; the others are quick enough, or somebody else's. People come
first: nothing is begun while somebody talks, and what is under way is given up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial

from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)

PHRASES = (
    "spoken.not_understood",
    "spoken.not_known",
    "spoken.one_moment",
    "spoken.goodbye",
    "spoken.confirm",
    "spoken.failed",
    "spoken.tool_broken",
    "spoken.tool_slow",
    "spoken.asr-failed",
    "spoken.llm-failed",
    "intents.okay",
    "intents.again",
    "announce.told",
)
"""Texts of the hub without gaps, the most usual first."""
MOST = 64
"""Renderings for all assistants and languages together."""
START_SECONDS = 8.0
"""After the hub is ready: somebody may have waited for it."""
QUIET_LOOK_SECONDS = 1.0
LOOK_SECONDS = 0.05
"""How soon what is under way is given up when somebody speaks."""


class Prewarm:
    """Run `run` in a task; `again` when voices have come or gone."""

    def __init__(
        self,
        parts: TurnParts,
        languages: Callable[[], Collection[str]],
        idle: Callable[[], bool],
        start_seconds: float | None = None,
    ) -> None:
        """*languages* are those in use; *idle* says whether nobody talks with the hub."""
        self._parts = parts
        self._languages = languages
        self._idle = idle
        self._start_seconds = START_SECONDS if start_seconds is None else start_seconds
        self._wanted = asyncio.Event()
        self.done = 0
        """How many phrases are ready since it last looked."""

    def again(self) -> None:
        """Voices may have changed: look for what is missing."""
        self._wanted.set()

    async def run(self) -> None:
        """Never ends by itself."""
        await self._parts.ready()
        await self._parts.speaker.learn_to_read(self._languages())
        self._wanted.set()
        while True:
            await self._wanted.wait()
            await asyncio.sleep(self._start_seconds)
            self._wanted.clear()
            requests, self.done = self._requests(), 0
            for assistant, request in requests:
                await self._one(assistant, request)
            if requests:
                log.info("%d usual phrases are ready", self.done)

    def _requests(self) -> list[tuple[str, SpeechRequest]]:
        parts, found = self._parts, dict[tuple[str, ...], tuple[str, SpeechRequest]]()
        for key in PHRASES:
            for assistant in parts.assistants.all():
                for language in (assistant.language,) if assistant.language else sorted(self._languages()):
                    voices = parts.voices(language, assistant)
                    if not voices or voices[0].info.streams_output or not voices[0].info.offline:
                        continue
                    text = parts.texts.text(key, language)
                    request = SpeechRequest(text, language, assistant.voice, assistant.speed, assistant.volume)
                    key_of = (voices[0].voice_key(request), f"{language} {assistant.volume:g}", text)
                    found.setdefault(key_of, (assistant.id, request))
        return list(found.values())[:MOST]

    async def _one(self, assistant_id: str, request: SpeechRequest) -> None:
        parts = self._parts
        assistant = next(each for each in parts.assistants.all() if each.id == assistant_id)
        voices = partial(parts.voices, assistant=assistant)
        while True:
            while not self._idle():  # noqa: ASYNC110 (nobody tells when a room has become quiet)
                await asyncio.sleep(QUIET_LOOK_SECONDS)
            if not (chain := voices(request.language)):
                return
            rendering = parts.speaker.render(chain, request, voices, usual=True)
            try:
                while not rendering.complete and self._idle():
                    await rendering.wait(LOOK_SECONDS)
                if rendering.complete:
                    self.done += rendering.finished is not None
                    return
            except HubError as error:  # a voice that fails says so when somebody needs it
                log.debug("a usual phrase was not made: %s", error)
                return
            finally:
                rendering.leave()


__all__ = ["PHRASES", "Prewarm"]
