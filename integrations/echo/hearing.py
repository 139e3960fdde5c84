"""Voice activity by loudness, and a recogniser that reads text hidden in tones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    EngineInfo,
    PcmChunk,
    Role,
    Transcript,
    Vad,
    VadStream,
    Worker,
)

from .behaviour import Behaviour
from .tones import read_text


class EchoVad(Vad):
    """Whatever is louder than the threshold is speech."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.info = EngineInfo(
            "echo", Role.VAD, "Echo VAD", streams_input=True, licence="Apache-2.0", detail="loudness"
        )
        self.behaviour = Behaviour(Role.VAD, options)
        self._threshold = 32768 * 10 ** (options["threshold_dbfs"] / 20)

    def open(self) -> VadStream:
        return EchoVadStream(self.behaviour, self._threshold)


class EchoVadStream(VadStream):
    def __init__(self, behaviour: Behaviour, threshold: float) -> None:
        self._behaviour = behaviour
        self._threshold = threshold

    async def feed(self, chunk: PcmChunk) -> float:
        await self._behaviour.act()
        if not len(chunk.samples):
            return 0.0
        samples = chunk.samples.astype(np.float32)
        return 1.0 if math.sqrt(float(samples @ samples) / len(samples)) > self._threshold else 0.0

    def reset(self) -> None:
        """Nothing is remembered."""


class EchoAsr(Asr):
    """Hears the text that `tones.write_text` hid, or always the same."""

    def __init__(self, options: Mapping[str, Any], worker: Worker) -> None:
        self.info = EngineInfo("echo", Role.ASR, "Echo recogniser", licence="Apache-2.0", detail="tones")
        self.behaviour = Behaviour(Role.ASR, options)
        self._say: str | None = options.get("say")
        self._worker = worker

    def open(self, request: AsrRequest) -> AsrStream:
        return EchoAsrStream(self, request)

    async def recognise(self, chunks: list[PcmChunk], request: AsrRequest) -> Transcript:
        """Do what the options say, then read the tones."""
        await self.behaviour.act()
        text = self._say
        if text is None:
            text = await self._worker.run(_read, chunks)
        return Transcript(text, _language_of(text, request.languages), 1.0 if text else 0.0)


class EchoAsrStream(AsrStream):
    """Keeps the sound; recognises it when asked, and again only when more has come."""

    def __init__(self, engine: EchoAsr, request: AsrRequest) -> None:
        self._engine = engine
        self._request = request
        self._chunks: list[PcmChunk] = []
        self._guessed: tuple[int, Transcript] | None = None

    async def feed(self, chunk: PcmChunk) -> None:
        self._chunks.append(chunk)

    async def guess(self) -> Transcript:
        heard = len(self._chunks)
        if self._guessed is None or self._guessed[0] != heard:
            self._guessed = heard, await self._engine.recognise(list(self._chunks), self._request)
        return self._guessed[1]

    async def finish(self) -> Transcript:
        return await self.guess()

    async def aclose(self) -> None:
        self._chunks.clear()


def _read(chunks: list[PcmChunk]) -> str:
    if not chunks:
        return ""
    return read_text(PcmChunk(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate))


def _language_of(text: str, languages: tuple[str, ...]) -> str:
    chinese = any("\u4e00" <= char <= "\u9fff" for char in text)
    for language in languages:
        if language.startswith("zh") == chinese:
            return language
    return languages[0] if languages else "en"
