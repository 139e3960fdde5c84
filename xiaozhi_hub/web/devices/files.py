"""Sending a large file to a device: with its length, in one piece, never compressed, never by way of a redirect."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

log = logging.getLogger(__name__)
_PIECE = 64 * 1024
STALLED_S = 30.0
"""A device gives up on a download that stands still for so long; so does the hub."""


@dataclass(frozen=True, slots=True)
class File:
    """An open file that is sent; whoever sends it closes it."""

    descriptor: int
    bytes: int
    sha256: str


async def send_file(
    request: web.Request, file: File, read: Callable[[int, int, int], Awaitable[bytes]]
) -> tuple[web.StreamResponse, bool]:
    """Answer *request* with *file*, or the range of it that was asked for, and close it. *read* is given the descriptor, where
    to begin and how much. Tells with the response whether the last byte of the file was sent."""
    try:
        return await _send(request, file, read)
    finally:
        os.close(file.descriptor)


async def _send(
    request: web.Request, file: File, read: Callable[[int, int, int], Awaitable[bytes]]
) -> tuple[web.StreamResponse, bool]:
    tag = f'"{file.sha256}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store, no-transform",
        "Content-Type": "application/octet-stream",
        "ETag": tag,
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(file.sha256)).decode()}:",
        "X-Content-Type-Options": "nosniff",
    }
    part = _range_of(request, file.bytes, tag)
    if part is None:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{file.bytes}"}), False
    begin, end = part
    response = web.StreamResponse(headers=headers)
    if (begin, end) != (0, file.bytes):
        response.set_status(206)
        response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{file.bytes}"
    response.content_length = end - begin
    try:
        await response.prepare(request)
        while begin < end:
            piece = await read(file.descriptor, begin, min(_PIECE, end - begin))
            if not piece:
                raise ConnectionResetError("the file has become shorter")
            async with asyncio.timeout(STALLED_S):
                await response.write(piece)
            begin += len(piece)
        await response.write_eof()
    except (TimeoutError, ConnectionError) as error:
        log.info(
            "%s broke off at %d of %d bytes: %s", request.path.rpartition("/")[2], begin, end, error or "it stood still"
        )
        if request.transport is not None:
            request.transport.abort()  # what was sent so far must not look like the whole
        return response, False
    return response, end == file.bytes


def _range_of(request: web.Request, size: int, tag: str) -> tuple[int, int] | None:
    """Which bytes are asked for; None when there are none such. What cannot be read asks for everything (RFC 9110 §14.2)."""
    if "Range" not in request.headers or request.headers.get("If-Range", tag) != tag:
        return 0, size
    try:
        asked = request.http_range
    except ValueError:
        return 0, size
    begin, end, _ = slice(asked.start, asked.stop).indices(size)
    return (begin, end) if begin < end else None


__all__ = ["File", "send_file"]
