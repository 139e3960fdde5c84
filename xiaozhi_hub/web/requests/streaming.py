"""Answers that are sent while they are made."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import web

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.web.requests.failures import Rejected

log = logging.getLogger(__name__)
STALLED_S = 60.0
"""Who takes nothing for so long is gone, or asleep: what is made for it, and its place, are for others."""


async def send_pieces(
    request: web.Request, pieces: AsyncGenerator[bytes, None], headers: dict[str, str]
) -> web.StreamResponse:
    """Send *pieces* as they come.

    What fails before the first of them is raised. After that the connection breaks off, so that nobody takes a half for the whole.
    """
    async with aclosing(pieces):
        first = await anext(pieces, None)
        if first is None:
            raise Rejected(422, "There is nothing in this that could be said.", code="nothing-to-say")
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            await _write(response, first)
            async for piece in pieces:
                await _write(response, piece)
            await response.write_eof()
        except _Stalled:
            log.info("%s broke off: nothing was taken of it for %g s", request.path, STALLED_S)
            if request.transport is not None:
                request.transport.abort()
        except ConnectionResetError:
            log.debug("%s: the client has gone", request.path)
        except Exception as error:  # the border of the HTTP request: its status has been sent, nothing else can be said
            known = isinstance(error, HubError)
            log.warning("%s broke off: %s", request.path, error, exc_info=None if known else error)
            if request.transport is not None:
                request.transport.abort()
    return response


class _Stalled(Exception):
    """Nobody takes what is sent."""


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    try:
        async with asyncio.timeout(STALLED_S):
            await response.write(piece)
    except TimeoutError as error:
        raise _Stalled from error


__all__ = ["send_pieces"]
