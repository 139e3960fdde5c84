"""Answers and failures as the OpenAI API writes them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from aiohttp import web

from xiaozhi_hub.core.flow import Outcome, TurnRecord
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.web.programs.local import HEADERS, encode

OWNER = "xiaozhi-hub"


def model_json(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": OWNER}


def completion(record: TurnRecord, model: str, said: str) -> dict[str, Any]:
    """A whole answer."""
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "logprobs": None, "finish_reason": "stop"}
    told = {**_head(record.id, "chat.completion", model), "choices": [choice]}
    return told if record.tokens is None else {**told, "usage": usage(record.tokens)}


def usage(tokens: tuple[int, int]) -> dict[str, int]:
    """What language models have read and written for an answer, tools and what the hub adds included; nothing where none was asked."""
    read, written = tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def joined(sentences: Sequence[str]) -> str:
    """Sentences as one text: with spaces between them, where the language has any."""
    text = ""
    for sentence in sentences:
        text += ("" if not text or not text[-1].isascii() else " ") + sentence
    return text


async def chunks(
    pieces: AsyncGenerator[str | TurnRecord, None], answer_id: str, model: str, *, with_usage: bool = False
) -> AsyncGenerator[bytes, None]:
    """An answer as server-sent events; *with_usage* one more tells what it has cost. One that fails ends with an error and without
    ``[DONE]``, so that no half is taken for the whole."""
    head = _head(answer_id, "chat.completion.chunk", model)

    def piece_of(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return event({**head, "choices": [choice], **({"usage": None} if with_usage else {})})

    said: list[str] = []
    tokens: tuple[int, int] | None = None
    async with aclosing(pieces):
        yield piece_of({"role": "assistant", "content": ""})
        try:
            async for piece in pieces:
                if isinstance(piece, str):
                    before = len(joined(said))
                    said.append(piece)
                    yield piece_of({"content": joined(said)[before:]})
                    continue
                tokens = piece.tokens
                if piece.outcome is Outcome.FAILED:
                    yield event(failure_body(502, failure_of_turn(piece)))
                    return
        except HubError as error:
            yield event(failure_body(502, error))
            return
    yield piece_of({}, "stop")
    if with_usage:
        yield event({**head, "choices": [], "usage": None if tokens is None else usage(tokens)})
    yield b"data: [DONE]\n\n"


def failure_of_turn(record: TurnRecord) -> HubError:
    return HubError(record.said, code=record.error)


def failure_body(status: int, error: HubError, param: str | None = None) -> dict[str, Any]:
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status) or ("server_error" if status >= 500 else "invalid_request_error")
    code = error.code.replace("-", "_")
    return {"error": {"message": str(error), "type": kind, "param": param, "code": code}}


def failure_answer(status: int, error: HubError) -> web.Response:
    headers = {**HEADERS, **({"WWW-Authenticate": "Bearer"} if status == 401 else {})}
    body = encode(failure_body(status, error))
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _head(answer_id: str, kind: str, model: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer_id}", "object": kind, "created": int(time.time()), "model": model}


def event(values: dict[str, Any]) -> bytes:
    """One server-sent event."""
    return b"data: " + encode(values) + b"\n\n"


__all__ = [
    "chunks",
    "completion",
    "event",
    "failure_answer",
    "failure_body",
    "failure_of_turn",
    "joined",
    "model_json",
    "usage",
]
