"""What a request carries, read with a limit in bytes and in time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from xiaozhi_hub.core.characters import whole
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.web.requests.failures import Rejected
from xiaozhi_hub.web.requests.held import Held

JSON_BYTES = 64 * 1024
JSON_SECONDS = 10.0
UNFINISHED = web.AppKey("unfinished", Held)
"""Of the application: for bodies up to `JSON_BYTES` that come in pieces. Who may send longer ones is known."""
UNFINISHED_BYTES = (2 * 2**20, 8 * 2**20)
"""… from one address, and from all."""


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """Return the body; HTTP 413 when it is longer than *limit*, `ProtocolError` when it takes longer than *seconds*, and
    `Rejected` (503) when its sender has begun more than the hub keeps for one."""
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    body, counted = bytearray(), 0
    held = request.app.get(UNFINISHED) if limit <= JSON_BYTES else None
    address = request.remote or ""
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > limit:
                    raise web.HTTPRequestEntityTooLarge(limit, len(body))
                if held is not None and not request.content.at_eof():
                    if not held.takes(address, len(chunk)):
                        raise Rejected(503, "Too many requests are under way.", code="too-many-bodies")
                    counted += len(chunk)
    except TimeoutError as error:
        raise ProtocolError("The request did not come in time.", code="body-timeout") from error
    finally:
        if held is not None and counted:
            held.give_back(address, counted)
    return bytes(body)


async def read_json(request: web.Request, most: int = JSON_BYTES, within_s: float = JSON_SECONDS) -> dict[str, Any]:
    """Return the JSON object of the body, which has up to *most* bytes; `ProtocolError` when it is none."""
    body = await read_body(request, most, within_s)
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
    value = whole(value).strip()
    if required and not value:
        raise ProtocolError(f"{name!r} is missing.", code="field-missing")
    if len(value) > most:
        raise ProtocolError(f"{name!r} is longer than {most} characters.", code="field-invalid")
    return value


__all__ = ["UNFINISHED", "UNFINISHED_BYTES", "read_body", "read_json", "text_field"]
