"""The engine: one thread for all microphones, which each come to turn for 80 ms at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from xiaozhi_hub.plugins.api import (
    EngineInfo,
    HubError,
    ModelShelf,
    PcmChunk,
    Role,
    StageError,
    Wake,
    WakeStream,
    Worker,
)

from .network import RATE, STEP, Hearing, Network
from .words import find_words

AT_ONCE = 4
"""Steps after which others come to turn."""
AROUND = RATE
"""Samples of silence that a recording is heard with before and after, as the package's ``predict_clip`` does: words need time
to be scored, and a recording often ends with its word."""
REST_STEPS = 12
"""A word that was heard is not heard again within about a second, nor before its score has fallen."""


class OpenWakeWord(Wake):
    """Wake words for all microphones."""

    def __init__(self, network: Network, worker: Worker, streams: int) -> None:
        self.info = EngineInfo(
            id="openwakeword",
            role=Role.WAKE,
            name="openWakeWord",
            streams_input=True,
            detail=", ".join(word.word for word in network.words),
        )
        self._network = network
        self._worker = worker
        self._streams = streams
        self._open: set[object] = set()

    @property
    def words(self) -> tuple[str, ...]:
        return tuple(word.word for word in self._network.words)

    def knows(self, text: str) -> str | None:
        said = _bare(text)
        return next((word.word for word in self._network.words if said in map(_bare, word.called)), None)

    def open(self) -> WakeStream:
        self._enter(stream := OpenWakeWordStream(self, self._network))
        return stream

    async def likelihood(self, word: str, sound: PcmChunk) -> float:
        index = self.words.index(word)
        self._enter(place := object())
        try:
            hearing, best = self._network.open(), 0.0
            whole = np.pad(sound.samples, (AROUND, AROUND + -len(sound.samples) % STEP))
            whole = whole[: len(whole) // STEP * STEP]
            for at in range(0, len(whole), STEP * AT_ONCE):
                scores = await self.compute(hearing, whole[at : at + STEP * AT_ONCE])
                best = max(best, *(each[index] for each in scores))
            return best
        finally:
            self.leave(place)

    async def compute(self, hearing: Hearing, sound: np.ndarray[Any, Any]) -> Sequence[tuple[float, ...]]:
        """The scores of each step in *sound*, which is whole steps."""

        def work() -> list[tuple[float, ...]]:
            return [self._network.step(hearing, sound[at : at + STEP]) for at in range(0, len(sound), STEP)]

        try:
            return await self._worker.run(work)
        except HubError:
            raise
        except Exception as error:  # a library's own
            raise StageError("wake", f"openWakeWord failed: {type(error).__name__}: {error}") from error

    def _enter(self, who: object) -> None:
        if len(self._open) >= self._streams:
            raise StageError("wake", f"{self._streams} microphones are listened to already", code="wake-busy")
        self._open.add(who)

    def leave(self, who: object) -> None:
        self._open.discard(who)


class OpenWakeWordStream(WakeStream):
    """One microphone."""

    def __init__(self, engine: OpenWakeWord, network: Network) -> None:
        self._engine = engine
        self._words = network.words
        self._hearing = network.open()
        self._rest = np.zeros(0, np.int16)
        self._reached = [0] * len(self._words)
        """How many of the newest scores reached the threshold one after the other."""
        self._resting = [0] * len(self._words)

    async def feed(self, chunk: PcmChunk) -> str | None:
        sound = np.concatenate([self._rest, chunk.samples])
        whole = len(sound) // STEP * STEP
        self._rest = sound[whole:]
        heard: str | None = None
        for at in range(0, whole, STEP * AT_ONCE):
            for scores in await self._engine.compute(self._hearing, sound[at : min(at + STEP * AT_ONCE, whole)]):
                heard = self._judge(scores) or heard
        return heard

    def _judge(self, scores: Sequence[float]) -> str | None:
        """The surest word that these scores complete."""
        complete: list[tuple[float, str]] = []
        for index, (word, score) in enumerate(zip(self._words, scores, strict=True)):
            self._resting[index] = max(0, self._resting[index] - 1)
            if score < word.threshold:
                self._reached[index] = 0
                continue
            self._reached[index] += 1
            if self._reached[index] == word.patience and not self._resting[index]:
                complete.append((score, word.word))
                self._resting[index] = REST_STEPS
        return max(complete)[1] if complete else None

    async def aclose(self) -> None:
        self._engine.leave(self)


def _bare(text: str) -> str:
    """Without spaces, marks and case: ``Hey, Jarvis`` is ``hey jarvis``."""
    return "".join(char for char in text.casefold() if char.isalnum())


@asynccontextmanager
async def running(models: ModelShelf, options: Mapping[str, Any]) -> AsyncIterator[OpenWakeWord]:
    """Find and load the words; compute in a thread as long as the block lasts."""
    worker = Worker("openwakeword")
    try:
        files = await worker.run(find_words, models, options)
        yield OpenWakeWord(await worker.run(Network, files), worker, options["streams"])
    finally:
        await worker.close()


__all__ = ["OpenWakeWord", "running"]
