"""What is said in recordings, as the OpenAI API writes it: in one piece, with the times of what was said, or while it is recognised."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from xiaozhi_hub.dialog.transcribe import Recognised, Utterance
from xiaozhi_hub.errors import HubError, ProtocolError
from xiaozhi_hub.web.openai.answers import event, failure_body

_FORMS = ("json", "text", "verbose_json")
_YES, _NO = ("true", "1"), ("false", "0", "")


def read_form(fields: dict[str, str]) -> tuple[str, bool]:
    """In which form a transcript is wanted, and whether as a stream. Raises `ProtocolError`."""
    form = fields.get("response_format", "json")
    if form not in _FORMS:
        raise ProtocolError("'response_format' must be json, text or verbose_json.", code="field-invalid")
    wanted = fields.get("stream", "").lower()
    if wanted not in (*_YES, *_NO):
        raise ProtocolError("'stream' must be true or false.", code="field-invalid")
    if wanted in _YES and form != "json":
        raise ProtocolError("What is streamed is json: leave 'response_format' out.", code="field-invalid")
    return form, wanted in _YES


def verbose(heard: Recognised, ms: float) -> dict[str, Any]:
    """A transcript with its language, and with the times of each utterance in a recording of *ms*."""
    segments = [
        {
            "id": number,
            "start": _seconds(each.span.start_ms),
            "end": _seconds(each.span.end_ms),
            "text": each.transcript.text,
        }
        for number, each in enumerate(heard.utterances)
    ]
    return {
        "task": "transcribe",
        "language": heard.language,
        "duration": _seconds(ms),
        "text": heard.text,
        "segments": segments,
    }


async def events(utterances: AsyncGenerator[Utterance, None]) -> AsyncGenerator[bytes, None]:
    """A transcript as server-sent events, utterance by utterance, and all of it at the end.

    Where recognition fails on the way there is an error instead of the end, so that no half is taken for the whole.
    """
    said = ""
    async with aclosing(utterances):
        try:
            async for utterance in utterances:
                more = (" " if said else "") + utterance.transcript.text
                said += more
                yield event({"type": "transcript.text.delta", "delta": more})
        except HubError as error:
            if not said:
                raise
            yield event(failure_body(502, error))
            return
    yield event({"type": "transcript.text.done", "text": said})


def _seconds(ms: float) -> float:
    return round(ms / 1000, 2)


__all__ = ["events", "read_form", "verbose"]
