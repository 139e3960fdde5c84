"""A voice on the server; what it says is played while it is still being made."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator

from xiaozhi_hub.plugins.api import PcmChunk, Role, SpeechRequest, StageError, Tts

from .describing import info_of
from .server import Server
from .wav import BadWav, WavReader

ROLE = "tts"
_USUAL_MODEL = "tts-1"
"""Servers with one model take this name for it."""
_MOST_BYTES = 64 * 2**20


class OpenAiTts(Tts):
    """Lets the server speak."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._options = server.options["tts"]
        self.info = info_of(server, Role.TTS, languages=tuple(self._options["languages"]))

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        asked = {
            "model": await self._server.model(ROLE) or _USUAL_MODEL,
            "input": request.text,
            "voice": self._voice(request),
            "response_format": self._options["format"],
            "speed": request.speed,
            **self._options["extra"],
        }
        reader = WavReader(self._options["rate"] if self._options["format"] == "pcm" else None)
        try:
            async with self._server.post(ROLE, "audio/speech", json=asked) as reply:
                if reply.content_type == "application/json":
                    raise BadWav("it sends JSON")
                heard = 0
                async for data in reply.content.iter_any():
                    heard += len(data)
                    if heard > _MOST_BYTES:
                        raise BadWav("it does not stop")
                    for chunk in _pieces(reader, data):
                        yield chunk
            reader.end()
        except BadWav as error:
            raise StageError(
                ROLE, f"{self._server.url} sends no sound that can be played: {error}", code="tts-failed"
            ) from error

    def voice_key(self, request: SpeechRequest) -> str:
        model = self._options["model"]
        return f"{self.info.id}/{model}/{self._voice(request)}/{request.language}/{request.speed:g}"

    def _voice(self, request: SpeechRequest) -> str:
        voice: str = request.voice or self._options["voices"].get(request.language) or self._options["voice"]
        return voice


def _pieces(reader: WavReader, data: bytes) -> Iterator[PcmChunk]:
    chunk = reader.feed(data)
    if chunk is not None:
        yield chunk
