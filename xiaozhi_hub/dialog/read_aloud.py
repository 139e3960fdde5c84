"""A text read aloud for a program: a sound file that can be played while it is still being made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

from xiaozhi_hub.audio.ogg import OggWriter
from xiaozhi_hub.audio.pcm import Resampler, wav_header
from xiaozhi_hub.core.flow import PcmChunk, Sentence
from xiaozhi_hub.dialog.sentences import Splitter
from xiaozhi_hub.dialog.speak import RATE
from xiaozhi_hub.dialog.turn import TurnParts
from xiaozhi_hub.engines.base import Role, SpeechRequest, Tts
from xiaozhi_hub.engines.registry import no_engine
from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)

PAGE_MS = 240
"""How much of an Ogg file is sent at a time: less than `ogg.PAGE_MS`, because somebody waits for it."""


async def ogg_of(parts: TurnParts, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
    """Yield an Ogg Opus file of the text, as devices hear it. Nothing when there is nothing to say; `StageError` when no voice can."""
    await parts.ready()
    writer: OggWriter | None = None
    for sentence in _sentences(request):
        rendering = parts.speaker.render(parts.voices(request.language), sentence)
        try:
            async with aclosing(rendering.packets()) as packets:
                async for packet in packets:
                    if writer is None:
                        writer = OggWriter(RATE, PAGE_MS)
                        yield writer.begin()
                    if page := writer.feed(packet):
                        yield page
        finally:
            rendering.leave()
    if writer is not None:
        yield writer.end()


async def wav_of(parts: TurnParts, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
    """Yield a WAV file of the text as the voice made it, at the voice's own rate. Otherwise like `ogg_of`."""
    await parts.ready()
    rate = 0
    for sentence in _sentences(request):
        resampler: Resampler | None = None
        async with aclosing(_speak(parts.voices(request.language), sentence)) as chunks:
            async for chunk in chunks:
                if not rate:
                    rate = chunk.rate
                    yield wav_header(rate)
                if resampler is None:
                    resampler = Resampler(chunk.rate, rate)
                if data := (await asyncio.to_thread(resampler.feed, chunk.samples)).astype("<i2").tobytes():
                    yield data
        if resampler is not None and (data := resampler.flush().astype("<i2").tobytes()):
            yield data


def _sentences(request: SpeechRequest) -> list[SpeechRequest]:
    splitter = Splitter(request.language)
    pieces = [*splitter.feed(request.text), *splitter.flush()]
    return [replace(request, text=piece.text) for piece in pieces if isinstance(piece, Sentence)]


async def _speak(voices: Sequence[Tts], request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
    """The sound of one sentence from the first voice that can."""
    problem: HubError = no_engine(Role.TTS, request.language)
    for voice in voices:
        begun = False
        try:
            async with aclosing(voice.speak(request)) as chunks:
                async for chunk in chunks:
                    begun = True
                    yield chunk
            return
        except HubError as error:
            log.warning("voice %s failed: %s", voice.info.id, error)
            problem = error
            if begun:  # half a sentence was said: another voice would begin it again
                break
    raise problem


__all__ = ["ogg_of", "wav_of"]
