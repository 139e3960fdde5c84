"""Hears an utterance that comes from somewhere else than a device."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    HubError,
    PcmChunk,
    ProtocolError,
    Resampler,
    StageError,
    Transcript,
    VadStream,
)

from .sound import RATE

log = logging.getLogger(__name__)

MOST_SECONDS = 120
MARGIN_MS = 300.0
"""Silence that is left around the speech: recognisers lose the first and last sounds without."""
SPEECH = 0.5
FAINT = 0.2
"""Probabilities from which sound is speech, and from which it still is once it has begun."""


class Ear:
    """One utterance: trimmed of the silence around it, and recognised while it comes.

    A recogniser that fails, or knows the hub's own sentences only and has heard none, is replaced by the next, which hears everything
    from the beginning.
    """

    def __init__(self, recognisers: Sequence[Asr], vad: VadStream | None, request: AsrRequest, rate: int) -> None:
        """*rate* is that of the sound. Raises `StageError` when there is no recogniser."""
        if not recognisers:
            raise StageError("asr", f"no recogniser for {', '.join(request.languages)} is ready", code="no-asr")
        self._recognisers = list(recognisers)
        self._vad = vad
        self._request = request
        self._resampler = Resampler(rate, RATE)
        self._ms = 0.0
        self._heard: list[PcmChunk] = []
        self._quiet: deque[PcmChunk] = deque()
        """What came since the last speech and is not known to be a pause in it; before any speech, the margin."""
        self._stream: AsrStream | None = None

    async def feed(self, chunk: PcmChunk) -> None:
        """Take the next piece, of the rate that was announced."""
        self._ms += chunk.ms
        if self._ms > MOST_SECONDS * 1000:
            raise ProtocolError(f"more than {MOST_SECONDS} seconds for one utterance", close=True)
        await self._take(PcmChunk(self._resampler.feed(chunk.samples), RATE))

    async def _take(self, chunk: PcmChunk) -> None:
        if not len(chunk.samples):
            return
        begun = bool(self._heard)
        spoken = self._vad is None or await self._vad.feed(chunk) >= (FAINT if begun else SPEECH)
        self._quiet.append(chunk)
        if spoken:
            while self._quiet:
                await self._hear(self._quiet.popleft())
        elif not begun:
            while sum(piece.ms for piece in self._quiet) - self._quiet[0].ms >= MARGIN_MS:
                self._quiet.popleft()

    async def _hear(self, chunk: PcmChunk) -> None:
        self._heard.append(chunk)
        try:
            if self._stream is None:
                self._stream = await self._opened()
            else:
                await self._stream.feed(chunk)
        except HubError as error:
            await self._replace(error)

    async def finish(self) -> Transcript:
        """Say what was said; an empty text when nobody spoke."""
        await self._take(PcmChunk(self._resampler.flush(), RATE))
        if not self._heard:
            return Transcript("", self._request.languages[0])
        margin = 0.0
        while self._quiet and margin < MARGIN_MS:
            margin += self._quiet[0].ms
            await self._hear(self._quiet.popleft())
        while True:
            try:
                if self._stream is None:
                    self._stream = await self._opened()
                heard = await self._stream.finish()
            except HubError as error:
                await self._replace(error)
                continue
            if heard.text or not self._recognisers[0].info.closed or len(self._recognisers) == 1:
                return heard
            await self._next()

    async def aclose(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
            self._stream = None

    async def _opened(self) -> AsrStream:
        stream = self._stream = self._recognisers[0].open(self._request)
        for piece in self._heard:
            await stream.feed(piece)
        return stream

    async def _replace(self, error: HubError) -> None:
        """Go on with the next recogniser; raises *error* when there is none."""
        log.warning("recogniser %s failed: %s", self._recognisers[0].info.id, error)
        await self._next()
        if not self._recognisers:
            raise error

    async def _next(self) -> None:
        del self._recognisers[0]
        await self.aclose()
