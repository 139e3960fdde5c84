"""A text read aloud for a program: a sound file that can be played while it is still being made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from xiaozhi_hub.audio.ogg import OggWriter
from xiaozhi_hub.audio.pcm import Resampler, amplify, wav_header
from xiaozhi_hub.core.flow import PcmChunk, Sentence
from xiaozhi_hub.dialog.speaking.speaker import RATE
from xiaozhi_hub.dialog.speaking.splitter import Splitter
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.tts import SpeechRequest

PAGE_MS = 240
"""How much of an Ogg file is sent at a time: less than `ogg.PAGE_MS`, because somebody waits for it."""


async def ogg_of(parts: TurnParts, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
    """Yield an Ogg Opus file of the text, as devices hear it. Nothing when there is nothing to say; `StageError` when no voice can."""
    await parts.ready()
    writer: OggWriter | None = None
    for sentence in _sentences(request):
        rendering = parts.speaker.render(parts.voices(request.language), sentence, parts.voices)
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
    begun = False
    async with aclosing(_sound_of(parts, request)) as pieces:
        async for piece in pieces:
            if not begun:
                begun = True
                yield wav_header(piece.rate)
            yield piece.samples.astype("<i2").tobytes()


async def pcm_of(parts: TurnParts, request: SpeechRequest) -> AsyncGenerator[bytes, None]:
    """Yield bare samples of the text: 24 kHz, 16 bits, little-endian, mono. Otherwise like `ogg_of`."""
    async with aclosing(_sound_of(parts, request, RATE)) as pieces:
        async for piece in pieces:
            yield piece.samples.astype("<i2").tobytes()


async def _sound_of(parts: TurnParts, request: SpeechRequest, rate: int = 0) -> AsyncGenerator[PcmChunk, None]:
    """The sound of the text at *rate*, or at that of the first voice."""
    await parts.ready()
    for sentence in _sentences(request):
        resampler: Resampler | None = None
        said_at = rate
        async with aclosing(
            parts.speaker.synthesis.say(parts.voices(request.language), sentence, parts.voices)
        ) as chunks:
            async for _, chunk in chunks:
                rate = rate or chunk.rate
                if resampler is None or chunk.rate != said_at:
                    if resampler is not None and len(tail := resampler.flush()):
                        yield PcmChunk(tail, rate)
                    resampler, said_at = Resampler(chunk.rate, rate), chunk.rate
                loud = amplify(chunk.samples, request.volume)
                if len(samples := await asyncio.to_thread(resampler.feed, loud)):
                    yield PcmChunk(samples, rate)
        if resampler is not None and len(samples := resampler.flush()):
            yield PcmChunk(samples, rate)


def _sentences(request: SpeechRequest) -> list[SpeechRequest]:
    splitter = Splitter(request.language)
    pieces = [*splitter.feed(request.text), *splitter.flush()]
    return [replace(request, text=piece.text) for piece in pieces if isinstance(piece, Sentence)]


__all__ = ["ogg_of", "pcm_of", "wav_of"]
