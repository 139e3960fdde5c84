"""The hub's voice for programs: hear a recording, answer a text, read one aloud, look up what was said.

Only programs on this machine may ask: there are no accounts yet.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from xiaozhi_hub.core.flow import Outcome, TurnRecord
from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.dialog.read_aloud import ogg_of, wav_of
from xiaozhi_hub.dialog.transcribe import FRAME_MS, find_speech, transcribe
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import HubError, ProtocolError
from xiaozhi_hub.store.history import ChatHistory
from xiaozhi_hub.web.programs.chat_json import told_calls, told_history
from xiaozhi_hub.web.programs.local import HEADERS, answer, encode, envelope, local_only
from xiaozhi_hub.web.programs.voice_names import choose_voice
from xiaozhi_hub.web.requests.body import read_json, text_field
from xiaozhi_hub.web.requests.sound_body import read_sound
from xiaozhi_hub.web.requests.streaming import send_pieces

LONGEST_MESSAGE = 4000
LONGEST_TEXT = 5000
LONGEST_NAME = 64
TURNS_TOLD = 100

# RFC 7845: an Ogg file of Opus is what other programs call "an Opus file".
_FORMATS = {"wav": (wav_of, "audio/wav"), "ogg": (ogg_of, "audio/ogg"), "opus": (ogg_of, "audio/ogg")}


@dataclass(frozen=True, slots=True)
class ApiParts:
    """What the API needs from the rest of the hub."""

    turn_parts: Callable[[], Awaitable[TurnParts]]
    """Returns once the engines have started."""
    ask: Callable[[str, str, str], AsyncGenerator[str | TurnRecord, None]]
    """Answers a text in a language (empty: the device's) for a device: sentences and, last, the record."""
    chat_history: Callable[[str, int], Awaitable[ChatHistory]]
    """Of a device, from its newest turns."""
    language: str = "en"
    """Of recordings, where nobody says."""


class Api:
    """The endpoints."""

    def __init__(self, parts: ApiParts) -> None:
        self._parts = parts

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/vad", local_only(self._vad)),
            web.post("/api/asr", local_only(self._asr)),
            web.post("/api/chat", local_only(self._chat)),
            web.post("/api/tts", local_only(self._tts)),
            web.get("/api/v2/chat-history/{device_id}", local_only(self._chat_history)),
        ]

    async def _vad(self, request: web.Request) -> web.Response:
        sound = await read_sound(request)
        activity = await find_speech(await self._parts.turn_parts(), sound)
        return answer(
            {
                "success": True,
                "has_speech": bool(activity.utterances),
                "segments": [
                    {"start_ms": round(span.start_ms), "end_ms": round(span.end_ms)} for span in activity.utterances
                ],
                "probabilities": [round(float(probability), 4) for probability in activity.probabilities],
                "frame_ms": FRAME_MS,
            }
        )

    async def _asr(self, request: web.Request) -> web.Response:
        sound = await read_sound(request)
        language = language_of(request.query.get("language", ""), self._parts.language)
        heard = await transcribe(await self._parts.turn_parts(), sound, language)
        return answer(
            {
                "success": True,
                "text": heard.text,
                "language": heard.language,
                "confidence": heard.confidence,
                "timings": heard.timings,
            }
        )

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        values = await read_json(request)
        stream = values.get("stream", False)
        if not isinstance(stream, bool):
            raise ProtocolError("'stream' must be true or false.", code="field-invalid")
        pieces = self._parts.ask(
            text_field(values, "message", most=LONGEST_MESSAGE, required=True),
            text_field(values, "language", most=LONGEST_NAME),
            text_field(values, "device_id", most=LONGEST_NAME),
        )
        if stream:
            return await send_pieces(request, _events(pieces), {**HEADERS, "Content-Type": "text/event-stream"})
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, TurnRecord):
                    return answer(_told_answer(piece), status=502 if piece.outcome is Outcome.FAILED else 200)
        raise HubError("the turn ended without a record")

    async def _tts(self, request: web.Request) -> web.StreamResponse:
        values = await read_json(request)
        text = text_field(values, "text", most=LONGEST_TEXT, required=True)
        name = text_field(values, "format", most=LONGEST_NAME).lower() or "wav"
        if name not in _FORMATS:
            raise ProtocolError(f"'format' must be one of {', '.join(_FORMATS)}.", code="field-invalid")
        chosen = choose_voice(
            text_field(values, "voice", most=LONGEST_NAME), text_field(values, "language", most=LONGEST_NAME), text
        )
        parts = await self._parts.turn_parts()
        write, content_type = _FORMATS[name]
        speech = write(parts, SpeechRequest(text, chosen.language, chosen.voice, parts.voice.speed))
        return await send_pieces(request, speech, {**HEADERS, "Content-Type": content_type})

    async def _chat_history(self, request: web.Request) -> web.Response:
        return answer(told_history(await self._parts.chat_history(request.match_info["device_id"], TURNS_TOLD)))


async def _events(pieces: AsyncGenerator[str | TurnRecord, None]) -> AsyncGenerator[bytes, None]:
    """The answer as server-sent events: each sentence, and last all of it."""
    async with aclosing(pieces):
        try:
            async for piece in pieces:
                if isinstance(piece, TurnRecord):
                    yield _event({**_told_answer(piece), "done": True})
                else:
                    yield _event({"response": piece, "done": False})
        except HubError as error:
            yield _event({**envelope(error), "done": True})


def _event(values: dict[str, Any]) -> bytes:
    return b"data: " + encode(values) + b"\n\n"


def _told_answer(record: TurnRecord) -> dict[str, Any]:
    told = {
        "success": True,
        "response": record.said,
        "tool_calls": told_calls(record.tool_calls),
        "turn_id": record.id,
        "language": record.language,
        "outcome": record.outcome.value,
    }
    if record.outcome is Outcome.FAILED:
        told |= envelope(HubError(record.said, code=record.error))
    return told


__all__ = ["Api", "ApiParts"]
