"""One question of a satellite to its server, and the server's answer, as they come in."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable

from wyoming.asr import Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.tts import Synthesize

from xiaozhi_hub.plugins.api import PcmChunk, StageError

from .service import text_of
from .sound import Format

MOST_SECONDS = 180
"""Of sound in an answer; what is longer is cut off."""
TEXT_S = 0.3
"""For the text of an answer whose sound is here already: servers that stream begin to speak before they know it all."""
UNKNOWN_TEXT = "…"
NOTHING_HEARD = "stt-no-text-recognized"
"""What Home Assistant says when nobody said anything it understood."""
_MOST_TOLD = 200


class Pipeline:
    """What the server has said to one question so far. Nothing here is sent."""

    def __init__(self, answer_s: float) -> None:
        self.said: str | None = None
        """What the person said."""
        self.text: str | None = None
        """The answer."""
        self.sounding = False
        self.over = False
        """All sound has come."""
        self.failure: StageError | None = None
        self.answered = False
        self.told = ""
        """The answer as it was given to the turn; empty before."""
        self._answer_s = answer_s
        self._format: Format | None = None
        self._sound: deque[PcmChunk] = deque()
        self._ms = 0.0
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Nothing more belongs to it: the answer is there, or there will be none."""
        return self.over or self.failure is not None or self.said == ""

    def take(self, event: Event) -> None:
        """Take in an event. Before the transcript it may still belong to an earlier question. Raises `ProtocolError`."""
        kind = event.type
        if Transcript.is_type(kind):
            self.said = text_of(event).strip()
        elif Error.is_type(kind):
            if event.data.get("code") == NOTHING_HEARD:
                self.said = ""
            else:
                told = " ".join(text_of(event).split())[:_MOST_TOLD]
                self.fail(StageError("respond", f"the server has failed: {told}", code="satellite-failed"))
        elif self.said is not None and not self.over:
            if Synthesize.is_type(kind):
                self.text = " ".join(text_of(event).split())
            elif AudioStart.is_type(kind):
                self._format, self.sounding = Format.of(event), True
            elif AudioChunk.is_type(kind) and self._format is not None:
                piece = self._format.read(event)
                self._ms += piece.ms
                if self._ms <= MOST_SECONDS * 1000:
                    self._sound.append(piece)
            elif AudioStop.is_type(kind):
                self.over = True
        self._news.set()

    def fail(self, failure: StageError) -> None:
        self.failure = self.failure or failure
        self._news.set()

    async def heard(self) -> str:
        """What the person said. Raises `StageError`."""
        await self._until("asr", lambda: self.said is not None, self._answer_s)
        return self.said or ""

    async def answer(self) -> str:
        """The text of the answer, as soon as it or its sound is there. Raises `StageError`."""
        await self._until("respond", lambda: self.text is not None or self.sounding, self._answer_s)
        if self.text is None:
            try:
                await self._until("respond", lambda: self.text is not None, TEXT_S)
            except StageError:
                self.text = UNKNOWN_TEXT
        self.told = self.text or ""
        return self.told

    async def sound(self) -> AsyncGenerator[PcmChunk, None]:
        """The sound of the answer as it comes. Raises `StageError`."""
        while True:
            while self._sound:
                yield self._sound.popleft()
            if self.over:
                return
            await self._until("tts", lambda: bool(self._sound) or self.over, self._answer_s)

    async def _until(self, stage: str, true: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    if self.failure is not None:
                        raise self.failure
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise StageError(stage, "the server takes too long", code=f"{stage}-slow") from None
