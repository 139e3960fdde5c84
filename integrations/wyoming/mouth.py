"""Says texts for others."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

from xiaozhi_hub.plugins.api import HubError, PcmChunk, SpeechRequest, StageError, Tts, resample

MOST_TEXT = 16 * 1024
_END = re.compile(r"(?<=[。！？；\n])|(?<=[.!?…])(?=\s)")
_HAN = re.compile(r"[\u3400-\u9fff]")
_READABLE = re.compile(r"\w")


def language_in(text: str) -> str:
    """The language that *text* seems to be in."""
    return "zh-Hans" if _HAN.search(text) else "en"


async def sentences(pieces: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """Cut a text that comes in pieces into sentences, each as soon as its end is known."""
    rest = ""
    async for piece in pieces:
        *whole, rest = _END.split(rest + piece)
        for sentence in whole:
            if _READABLE.search(sentence):
                yield sentence.strip()
    if _READABLE.search(rest):
        yield rest.strip()


async def speak(voices: Sequence[Tts], request: SpeechRequest, rate: int | None) -> AsyncGenerator[PcmChunk, None]:
    """Say one sentence with the first of *voices* that can, at *rate* if one is given. Raises `StageError`."""
    problem: HubError = StageError("tts", f"no voice for {request.language} is ready", code="no-tts")
    for voice in voices:
        begun = False
        try:
            async with aclosing(voice.speak(request)) as chunks:
                async for chunk in chunks:
                    begun = True
                    yield chunk if rate is None else resample(chunk, rate)
            return
        except HubError as error:
            problem = error
            if begun:  # half a sentence was said: another voice would begin it again
                break
    raise problem
