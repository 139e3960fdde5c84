"""What a request carries, read with a limit in bytes and in time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from xiaozhi_hub.errors import ProtocolError

JSON_BYTES = 64 * 1024
JSON_SECONDS = 10.0


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """Return the body; HTTP 413 when it is longer than *limit*, `ProtocolError` when it takes longer than *seconds*."""
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise web.HTTPRequestEntityTooLarge(limit, len(body))
    except TimeoutError as error:
        raise ProtocolError("The request did not come in time.", code="body-timeout") from error
    return bytes(body)


async def read_json(request: web.Request) -> dict[str, Any]:
    """Return the JSON object of the body; `ProtocolError` when it is none."""
    body = await read_body(request, JSON_BYTES, JSON_SECONDS)
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("The request is not JSON.", code="json-invalid") from error
    if not isinstance(value, dict):
        raise ProtocolError("The request is not a JSON object.", code="json-invalid")
    return value


def text_field(values: dict[str, Any], name: str, *, most: int, required: bool = False) -> str:
    """Return the text under *name*, empty where it is left out; `ProtocolError` when it is no text or too long."""
    value = values.get(name)
    if value is None:
        value = ""
    if not isinstance(value, str):
        raise ProtocolError(f"{name!r} must be a text.", code="field-invalid")
    value = value.strip()
    if required and not value:
        raise ProtocolError(f"{name!r} is missing.", code="field-missing")
    if len(value) > most:
        raise ProtocolError(f"{name!r} is longer than {most} characters.", code="field-invalid")
    return value


__all__ = ["read_body", "read_json", "text_field"]
