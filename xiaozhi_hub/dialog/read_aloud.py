"""A text read aloud for a program: a sound file that can be played while it is still being made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from xiaozhi_hub.audio.ogg import OggWriter
from xiaozhi_hub.audio.pcm import Resampler, amplify, wav_header
from xiaozhi_hub.core.flow import Sentence
from xiaozhi_hub.dialog.sentences import Splitter
from xiaozhi_hub.dialog.speak import RATE
from xiaozhi_hub.dialog.turn import TurnParts
from xiaozhi_hub.engines.base import SpeechRequest

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
    await parts.ready()
    rate = 0
    for sentence in _sentences(request):
        resampler: Resampler | None = None
        said_at = rate
        async with aclosing(
            parts.speaker.voicing.say(parts.voices(request.language), sentence, parts.voices)
        ) as chunks:
            async for _, chunk in chunks:
                if not rate:
                    rate = chunk.rate
                    yield wav_header(rate)
                if resampler is None or chunk.rate != said_at:
                    tail = resampler.flush() if resampler is not None else chunk.samples[:0]
                    resampler, said_at = Resampler(chunk.rate, rate), chunk.rate
                    if len(tail):
                        yield tail.astype("<i2").tobytes()
                loud = amplify(chunk.samples, request.volume)
                if data := (await asyncio.to_thread(resampler.feed, loud)).astype("<i2").tobytes():
                    yield data
        if resampler is not None and (data := resampler.flush().astype("<i2").tobytes()):
            yield data


def _sentences(request: SpeechRequest) -> list[SpeechRequest]:
    splitter = Splitter(request.language)
    pieces = [*splitter.feed(request.text), *splitter.flush()]
    return [replace(request, text=piece.text) for piece in pieces if isinstance(piece, Sentence)]


__all__ = ["ogg_of", "wav_of"]
