"""Waits for a wake word in one microphone's sound, which never ends; nothing is recognised meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.core.flow import Packet, PcmChunk
from xiaozhi_hub.engines.failures import note_failure
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.engines.wake import Wake
from xiaozhi_hub.errors import HubError, ProtocolError, StageError

log = logging.getLogger(__name__)

MOST_MS = 2000.0
"""So much sound may wait for the engine; one that is further behind loses the oldest, rather than waking ever later."""
AGAIN_SECONDS = 5.0
"""Until a missing or failed engine is looked for again."""
RATE = 16000


class Doze:
    """One task runs `run`; another one hands in the sound.

    *listening* is told the words once an engine waits for them, *heard* the word and how many milliseconds of sound came after
    it, *deaf* that there is no engine; it is told once.
    """

    def __init__(
        self,
        engines: EngineRegistry,
        *,
        listening: Callable[[tuple[str, ...]], Awaitable[None]],
        heard: Callable[[str, float], Awaitable[None]],
        deaf: Callable[[HubError | None], Awaitable[None]],
    ) -> None:
        self._engines = engines
        self._listening = listening
        self._heard = heard
        self._deaf = deaf
        self._sound: deque[Packet] = deque()
        self._ms = 0.0
        self._news = asyncio.Event()
        self.dropped = 0
        """Packets that were lost because the engine was too slow."""

    def put(self, packet: Packet) -> None:
        """Take in the next piece of sound; never blocks."""
        self._sound.append(packet)
        self._ms += packet.ms
        while self._ms > MOST_MS:
            self._ms -= self._sound.popleft().ms
            self.dropped += 1
        self._news.set()

    async def run(self) -> None:
        """Listen until cancelled."""
        known: tuple[str, ...] | None = None
        while True:
            engine = next(iter(self._engines.wakes()), None)
            failure: HubError | None = None
            if engine is not None:
                try:
                    if known != engine.words:
                        known = engine.words
                        await self._listening(known)
                    while True:
                        word = await self._until_word(engine)
                        late, self._ms = self._ms, 0.0
                        self._sound.clear()
                        await self._heard(word, late)
                except HubError as error:
                    log.warning("waiting for a wake word failed: %s", error)
                    failure = error
            if known != ():
                known = ()
                await self._deaf(failure)
            await asyncio.sleep(AGAIN_SECONDS)

    async def _until_word(self, engine: Wake) -> str:
        """Return the word. An engine that fails is blamed for it, so that another one is asked before it; raises `HubError`."""
        try:
            word = await self._word_of(engine)
        except Exception as error:  # an engine is anybody's code, and the client would be deaf from now on
            note_failure(engine, error)
            if isinstance(error, HubError):
                raise
            raise StageError("wake", f"{engine.info.id} has failed: {type(error).__name__}") from error
        engine.health.succeeded()
        return word

    async def _word_of(self, engine: Wake) -> str:
        """Each time with a stream of its own: it must not hear the last word once more."""
        stream = engine.open()
        try:
            with OpusDecoder(RATE) as decoder:
                while True:
                    packet = await self._next()
                    try:
                        samples = decoder.decode(packet.data)
                    except ProtocolError:
                        samples = decoder.decode(b"")
                    if (word := await stream.feed(PcmChunk(samples, RATE))) is not None:
                        return word
        finally:
            await stream.aclose()

    async def _next(self) -> Packet:
        while not self._sound:
            self._news.clear()
            await self._news.wait()
        packet = self._sound.popleft()
        self._ms -= packet.ms
        return packet


__all__ = ["Doze"]
