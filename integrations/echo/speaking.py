"""A voice that speaks in tones."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from xiaozhi_hub.plugins.api import EngineInfo, PcmChunk, Role, SpeechRequest, Tts, Worker

from .behaviour import Behaviour
from .tones import write_text

RATE = 24000
"""What devices play: nothing has to be resampled."""
PIECE = RATE * 60 // 1000


class EchoTts(Tts):
    """Says every text in tones that `tones.read_text` understands."""

    def __init__(self, options: Mapping[str, Any], worker: Worker) -> None:
        self.info = EngineInfo(
            "echo", Role.TTS, "Echo voice", streams_output=True, licence="Apache-2.0", detail="tones"
        )
        self.behaviour = Behaviour(Role.TTS, options)
        self._ms: float = options["ms"]
        self._ms_per_char: float = options["ms_per_char"]
        self._fail_after: int | None = options.get("fail_after")
        self._worker = worker

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        await self.behaviour.act()
        ms = max(self._ms, self._ms_per_char * len(request.text)) / request.speed
        sound = await self._worker.run(_write, request.text, ms)
        for number, at in enumerate(range(0, len(sound.samples), PIECE)):
            if number == self._fail_after:
                raise self.behaviour.failure()
            yield PcmChunk(sound.samples[at : at + PIECE], RATE)


def _write(text: str, ms: float) -> PcmChunk:
    return write_text(text, RATE, ms=ms)
