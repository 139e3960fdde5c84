"""A second look at what devices take to be their wake word: televisions say such words, too.

It runs beside the turn that the device has begun, so that whoever really said the word never waits for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import numpy as np

from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.core.flow import Packet, PcmChunk
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import HubError, ProtocolError

log = logging.getLogger(__name__)

SURELY_NOT = 0.02
"""An engine that is no surer than this has not heard anything like the word. What it half hears is left to the device: hanging
up on a person is worse than answering a television."""
ENOUGH_MS = 700.0
"""Less sound may not hold the whole word."""
LIMIT_SECONDS = 3.0
"""Later nobody would understand any more why the device falls silent."""
RATE = 16000


class WakeCheck:
    """Shared by all devices."""

    def __init__(self, engines: EngineRegistry, enabled: bool) -> None:
        self._engines = engines
        self.enabled = enabled
        self.checked = 0
        """Wake words that were looked at."""
        self.refused = 0
        """Those of them that were none."""

    async def is_false(self, text: str, sound: Sequence[Packet]) -> bool:
        """Is *sound* surely not the wake word that the device calls *text*?

        False where nobody can tell: the word is unknown, there is not enough sound, or no time.
        """
        if not self.enabled or sum(packet.ms for packet in sound) < ENOUGH_MS:
            return False
        for engine in self._engines.wakes():
            if (word := engine.knows(text)) is None:
                continue
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    surely = await engine.likelihood(word, PcmChunk(decoded(sound), RATE))
            except (HubError, TimeoutError) as error:
                log.debug("%s cannot look at a wake word: %s", engine.info.id, error)
                return False
            if surely is None:
                continue
            self.checked += 1
            self.refused += surely < SURELY_NOT
            log.info("a device heard %r; %s is sure of it to %.3f", word, engine.info.id, surely)
            return surely < SURELY_NOT
        return False


def decoded(sound: Sequence[Packet]) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """The samples of *sound*; a broken packet is silence."""
    with OpusDecoder(RATE) as decoder:
        pieces = []
        for packet in sound:
            try:
                pieces.append(decoder.decode(packet.data))
            except ProtocolError:
                pieces.append(np.zeros(int(packet.ms * RATE / 1000), np.int16))
    return np.concatenate(pieces)


__all__ = ["WakeCheck"]
