"""From sound to words: which recognition is done how, and what of its outcome is believed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from xiaozhi_hub.plugins.api import Samples, StageError, Transcript, Worker

from .desk import Desk
from .guards import RATE, Floats, Piece, believed, goes_in_circles, is_speech
from .languages import OURS, simplified
from .model import PARTIAL_WINDOWS, WINDOWS, Model, Task

T = TypeVar("T")

WHOLE_WINDOW = (30,)
LOOK_AGAIN = -0.7
"""Mean log probability below which a sentence is read once more in a whole window."""
WAIT_SECONDS = 30.0
"""A person has gone away by then: too slow a machine for the model, or too many people at once."""


class Recogniser:
    """Has *model* write down what is said, in the thread of *worker*, for all devices. Languages are Whisper's codes."""

    def __init__(self, model: Model, worker: Worker, options: Mapping[str, Any]) -> None:
        self.model = model
        self.desk = Desk(worker, options["partial_share"])
        self._partials: bool = options["partials"]
        self._beam: int = options["beam"]
        self._partial_beam: int = options["partial_beam"]
        self._fitted: bool = options["window"] == "fitted"
        self._prompt: str = options["prompt"].strip()
        self.hot_words: dict[str, str] = {}
        """What is expected, by the language as the hub calls it."""
        self.refused = 0
        """How many utterances were taken for noise, or for made up."""
        self.looked_again = 0
        """How many were read a second time, in a whole window."""

    def close(self) -> None:
        """Begin nothing more, and give up what is being done."""
        self._partials = False
        self.desk.close()

    @property
    def may_try(self) -> bool:
        """Are partial recognitions wanted, and is there time for one now?"""
        return self._partials and self.desk.may_try

    async def recognise(self, samples: Samples, languages: tuple[str, ...]) -> Transcript:
        """Write down *samples* (16 kHz). The text is empty for what is no speech or not to be believed."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._asked(self.desk.final(partial(self._hear, samples, languages, final=True)))
        except TimeoutError as error:
            raise StageError(
                "asr", f"Whisper was not done within {WAIT_SECONDS:g} s", code="recogniser-slow"
            ) from error

    async def try_out(self, samples: Samples, languages: tuple[str, ...]) -> Transcript | None:
        """The same, quicker and less exact, and only if nobody else needs the model; None then."""
        return await self._asked(self.desk.partial(partial(self._hear, samples, languages, final=False)))

    async def _asked(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except (RuntimeError, ValueError, MemoryError) as error:  # the native code's own
            raise StageError(
                "asr", f"Whisper failed: {type(error).__name__}: {error}", code="recogniser-failed"
            ) from error

    # -- in the thread --------------------------------------------------------------------------------------------

    def _hear(self, samples: Samples, languages: tuple[str, ...], stop: threading.Event, *, final: bool) -> Transcript:
        sound: Floats = samples.astype(np.float32) / np.float32(32768)
        if not is_speech(sound):
            self.refused += final
            return Transcript("", OURS[languages[0]], 0.0)
        windows = (WINDOWS if final else PARTIAL_WINDOWS) if self._fitted else WHOLE_WINDOW
        hot_words = {code: self.hot_words.get(OURS[code], "") for code in languages}
        task = Task(sound, languages, self._beam if final else self._partial_beam, windows, hot_words, self._prompt)
        written = self.model.recognise(stop, task)
        if final and written.window < WHOLE_WINDOW[0] and _is_suspect(written.pieces):
            self.looked_again += 1
            written = self.model.recognise(stop, replace(task, languages=(written.language,), windows=WHOLE_WINDOW))
        pieces = written.pieces
        if written.language == "zh":
            pieces = tuple(replace(piece, text=simplified(piece.text)) for piece in pieces)
        prompted = (self._prompt, hot_words.get(written.language, ""))
        text, confidence = believed(pieces, len(samples) / RATE, written.language, prompted)
        self.refused += final and not text
        return Transcript(text, OURS[written.language], confidence)


def _is_suspect(pieces: Sequence[Piece]) -> bool:
    """Does it look as if the short window had upset the model?"""
    return any(goes_in_circles(piece) or piece.sureness < LOOK_AGAIN for piece in pieces)


__all__ = ["Recogniser"]
