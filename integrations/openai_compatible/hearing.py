"""Recognition on the server: an utterance is sent as one WAV file."""

from __future__ import annotations

import io
import wave
from typing import Any

import aiohttp
import numpy as np

from xiaozhi_hub.plugins.api import Asr, AsrRequest, AsrStream, PcmChunk, Role, StageError, Transcript

from .describing import info_of
from .server import Server, parsed

ROLE = "asr"
RATE = 16000
_USUAL_MODEL = "whisper-1"
"""Servers with one model take this name for it."""
_MOST_TOLD = 1 << 20
_MOST_TEXT = 8000
"""Characters of one utterance."""


class OpenAiAsr(Asr):
    """Sends utterances to the server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._options = server.options["asr"]
        self.info = info_of(server, Role.ASR, languages=tuple(self._options["languages"]), streams=False)

    def open(self, request: AsrRequest) -> AsrStream:
        return _Utterance(self, request)

    async def transcribe(self, chunks: list[PcmChunk], request: AsrRequest) -> Transcript:
        """Return what is said in *chunks*. Raises `StageError`."""
        fields = {
            "model": await self._server.model(ROLE) or _USUAL_MODEL,
            "response_format": "json",
            **({"language": request.languages[0].partition("-")[0]} if len(request.languages) == 1 else {}),
            **{key: str(value) for key, value in self._options["extra"].items()},
        }
        sound = wav_of(chunks)

        def form() -> aiohttp.FormData:
            written = aiohttp.FormData(fields)
            written.add_field("file", sound, filename="utterance.wav", content_type="audio/wav")
            return written

        async with self._server.post(ROLE, "audio/transcriptions", form=form) as reply:
            told = await reply.content.read(_MOST_TOLD)
            while not reply.content.at_eof() and len(told) < _MOST_TOLD:
                told += await reply.content.read(_MOST_TOLD)
            is_json = reply.content_type == "application/json"
        text = self._text_of(told, is_json)
        return Transcript(text, _language_of(text, request.languages))

    def _text_of(self, told: bytes, is_json: bool) -> str:
        """The text of an answer: JSON, or the bare text that some servers send whatever was asked for."""
        try:
            value: Any = parsed(told) if is_json else told.decode()
            text = value["text"] if isinstance(value, dict) else value
            if not isinstance(text, str):
                raise ValueError("no text")
        except (ValueError, KeyError) as error:
            raise StageError(
                ROLE, f"{self._server.url} answers in a way that cannot be read", code="asr-failed"
            ) from error
        text = text.encode("utf-8", "replace").decode()  # JSON can carry halves of characters, which nothing else can
        return " ".join(text.split())[:_MOST_TEXT]


class _Utterance(AsrStream):
    """Keeps the sound; asks the server when the words are wanted, and again only when more has come."""

    def __init__(self, engine: OpenAiAsr, request: AsrRequest) -> None:
        self._engine = engine
        self._request = request
        self._chunks: list[PcmChunk] = []
        self._known: tuple[int, Transcript] | None = None

    async def feed(self, chunk: PcmChunk) -> None:
        self._chunks.append(chunk)

    async def guess(self) -> Transcript:
        heard = len(self._chunks)
        if self._known is None or self._known[0] != heard:
            self._known = heard, await self._engine.transcribe(list(self._chunks), self._request)
        return self._known[1]

    async def finish(self) -> Transcript:
        return await self.guess()

    async def aclose(self) -> None:
        self._chunks.clear()


def wav_of(chunks: list[PcmChunk]) -> bytes:
    """Return the sound (16 kHz) as a WAV file. Short ones are made a second long: Whisper refuses or invents below that."""
    samples = np.concatenate([chunk.samples for chunk in chunks]) if chunks else np.zeros(0, np.int16)
    if len(samples) < RATE:
        samples = np.concatenate([samples, np.zeros(RATE - len(samples), np.int16)])
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return out.getvalue()


def _language_of(text: str, languages: tuple[str, ...]) -> str:
    """The language of the answer: the one that the person may speak and that is written so."""
    chinese = any("\u4e00" <= char <= "\u9fff" for char in text)
    return next((each for each in languages if each.startswith("zh") == chinese), languages[0] if languages else "en")
