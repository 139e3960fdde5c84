"""One utterance: followed while it is spoken, recognised in the silence after it."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

import numpy as np

from xiaozhi_hub.plugins.api import (
    AsrRequest,
    AsrStream,
    HubError,
    PcmChunk,
    Samples,
    TaskScope,
    Transcript,
    cancel_and_wait,
    resample,
)

log = logging.getLogger(__name__)

RATE = 16000
LONGEST_SECONDS = 10
"""The decoder refuses more; what comes after is not even kept."""
FIRST = RATE * 8 // 10
"""Samples from which an utterance is followed: the decoder needs the mean of that many to begin with."""
AGAIN = RATE * 4 // 10
"""After a guess it is followed anew once there are so many more: then somebody has gone on, and it was not only a word fading away."""
NEXT = RATE // 20
"""It is given more once there are so many."""
TAIL = RATE // 10
"""Samples of silence that are put after a word that has only just been said: the decoder takes it for another without them."""
SILENCE = RATE * 7 // 10
"""Samples of the silence after the last word that are recognised with it."""
LOUD = 0.1
"""Part of the speech's level that is more than silence."""
FLOOR = 60.0
"""Level (of 32768) below which nothing is speech."""
_NOTHING = Transcript("", "en")


class Listener(Protocol):
    """What hears the utterances of all streams: the engine."""

    followed: object | None
    """The stream whose utterance is being followed. The decoder follows one; the others are recognised when they end."""

    def new_utterance(self) -> int:
        """A number by which the decoder knows one utterance."""

    async def follow(self, utterance: int, answering: bool, samples: Samples, place: int) -> bool:
        """Search the piece of an utterance that begins at *place* while the rest is still being said.

        False when the decoder follows it no longer; it is then recognised as a whole when it has ended.
        """

    async def recognise(
        self, samples: Samples, answering: bool, tail: int = 0, utterance: int | None = None
    ) -> Transcript:
        """Say which sentence *samples* (16 kHz) are, with *tail* samples of silence after them; sooner where they are an
        *utterance* that was followed.

        The text is empty when it is none, or none that is certain enough.
        """


class PhrasesStream(AsrStream):
    """Keeps the sound, has the decoder follow it, and asks what it was."""

    def __init__(self, engine: Listener, scope: TaskScope, request: AsrRequest) -> None:
        self._engine = engine
        self._scope = scope
        self._answering = request.answering
        self._lead = round(request.lead_ms * RATE / 1000)
        self._pieces: list[Samples] = []
        self._length = 0
        self._guessed: tuple[int, Transcript] | None = None
        """What was understood, and in how many samples."""
        self._utterance = engine.new_utterance()
        self._given = 0
        """Samples that the decoder has been given while they came in."""
        self._first = FIRST
        """Samples from which it is given any."""
        self._giving: asyncio.Task[None] | None = None
        self._may_follow = True

    async def feed(self, chunk: PcmChunk) -> None:
        if self._is_too_long:
            return
        samples = (chunk if chunk.rate == RATE else resample(chunk, RATE)).samples
        self._pieces.append(samples)
        self._length += len(samples)
        self._follow()

    @property
    def _is_too_long(self) -> bool:
        """It is no sentence any more, whatever it begins with."""
        return self._length > LONGEST_SECONDS * RATE

    # -- while it is spoken ---------------------------------------------------------------------------------------

    @property
    def following(self) -> bool:
        """The decoder works on something that was fed."""
        return self._giving is not None

    def _follow(self) -> None:
        """Give the decoder what is new, where it has taken what was before."""
        if not self._may_follow or self._giving is not None:
            return
        if self._length < (self._given + NEXT if self._given else self._first):
            return
        if self._engine.followed not in (None, self):
            self._may_follow = False
            return
        self._engine.followed = self
        self._giving = self._scope.start(self._give(), name="follow")

    async def _give(self) -> None:
        utterance, place, samples = self._utterance, self._given, self._samples()
        taken = False
        try:
            taken = await self._engine.follow(utterance, self._answering, samples[place:], place)
        except HubError as error:  # it will be recognised as a whole
            log.debug("the decoder does not follow: %s", error)
        finally:
            self._giving = None
            if not taken:
                self._let_go()
            elif utterance == self._utterance:  # else a guess has ended it meanwhile
                self._given = len(samples)

    def _let_go(self) -> None:
        self._may_follow = False
        if self._engine.followed is self:
            self._engine.followed = None

    # -- in the silence after it ----------------------------------------------------------------------------------

    async def guess(self) -> Transcript:
        return await self._guess(0)

    async def guess_early(self) -> Transcript:
        return await self._guess(TAIL)

    async def _guess(self, tail: int) -> Transcript:
        if self._is_too_long:
            return _NOTHING
        samples, utterance = self._samples(), self._utterance
        # That ends what was followed. Should the person go on, it is begun anew, from the beginning.
        self._let_go()
        self._utterance, self._given, self._may_follow = self._engine.new_utterance(), 0, True
        self._first = max(FIRST, len(samples) + AGAIN)
        transcript = await self._engine.recognise(samples, self._answering, tail, utterance)
        self._guessed = (len(samples), transcript)
        return transcript

    async def finish(self) -> Transcript:
        if self._is_too_long:
            return _NOTHING
        samples = self._samples()
        length, transcript = self._guessed or (0, None)
        if transcript is None or not _is_silence(samples[length:], samples[:length]):
            transcript, length = await self.guess(), len(samples)
        if not transcript.text and self._lead:
            # A click or a breath before the first word can spoil a sentence, and costs more than the cut-off beginning. However long
            # was waited afterwards: more silence would shift the mean by which all sounds are judged.
            transcript = await self._engine.recognise(samples[self._lead : length + SILENCE], self._answering)
        return transcript

    async def aclose(self) -> None:
        self._let_go()
        if self._giving is not None:
            await cancel_and_wait(self._giving)
        self._pieces.clear()
        self._guessed = None

    def _samples(self) -> Samples:
        if len(self._pieces) != 1:
            joined: Samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
            self._pieces = [joined]
        return self._pieces[0]


def _is_silence(samples: Samples, speech: Samples) -> bool:
    """Is nothing in *samples* nearly as loud as *speech*, in pieces of 20 ms?"""
    loud = max(_levels(speech), default=0.0)
    return max(_levels(samples), default=0.0) <= max(FLOOR, LOUD * loud)


def _levels(samples: Samples) -> list[float]:
    width = RATE // 50
    whole = samples[: len(samples) // width * width].reshape(-1, width).astype(np.float32)
    levels: list[float] = np.sqrt(np.mean(whole * whole, axis=1)).tolist()
    return levels


__all__ = ["LONGEST_SECONDS", "RATE", "PhrasesStream"]
