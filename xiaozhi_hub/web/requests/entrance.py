"""Connections until their requests are understood: what whoever reaches the port may hold in the hub's memory, and for how long.

aiohttp bounds each header, and how many there are, but neither their sum (half a megabyte, twice) nor the connections that
hold as much. So each connection is watched here while no request of it is being answered; after that its bytes are a body
or the frames of a WebSocket, which have bounds of their own.
"""

from __future__ import annotations

import asyncio
import sys
from http import HTTPStatus
from typing import cast

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.typedefs import Handler

from xiaozhi_hub.web.requests.held import Held

HEAD_BYTES = 32 * 1024
"""Of one request until its empty line. Devices send less than 1 KB; browsers a few, with 8 KB for cookies and as much for the address."""
HELD_BYTES = 2**20
"""… of all unfinished requests from one address. A request that comes in one piece counts for nothing here."""
ALL_HELD_BYTES = 8 * 2**20
HEAD_SECONDS = 15.0
"""From the first byte of a request to its empty line."""
MOST_WAITING = 2048
"""Connections without a request that is being answered: after a power cut all devices come at once. Beyond that the address that
has most of them loses its oldest."""
READ_BYTES = 64 * 1024
"""Read at once. asyncio would allocate four times as much for each read."""
_END = b"\r\n\r\n"


class Entrance:
    """Makes the protocols of all connections to one server, for ``loop.create_server``."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._waiting: dict[str, dict[Guarded, None]] = {}
        self.waiting = 0
        """Connections whose next request has not come whole."""
        self.held = Held(HELD_BYTES, ALL_HELD_BYTES)
        """Bytes of unfinished requests."""
        # One for all, since the loop fills it and hands it over in one step; on Windows it fills it in the background.
        self._buffer = None if sys.platform == "win32" else bytearray(READ_BYTES)

    def __call__(self) -> Guarded:
        return Guarded(self, self._server(), bytearray(READ_BYTES) if self._buffer is None else self._buffer)

    def wait(self, guarded: Guarded) -> None:
        """A connection waits for a request."""
        self._waiting.setdefault(guarded.address, {})[guarded] = None
        self.waiting += 1
        if self.waiting > MOST_WAITING:
            crowd = max(self._waiting.values(), key=len)
            next(iter(crowd)).refuse(HTTPStatus.SERVICE_UNAVAILABLE)

    def go_on(self, guarded: Guarded, held: int) -> None:
        """It has one, or is gone; *held* bytes of it had come before."""
        crowd = self._waiting[guarded.address]
        del crowd[guarded]
        self.waiting -= 1
        if not crowd:
            del self._waiting[guarded.address]
        if held:
            self.held.give_back(guarded.address, held)


class Guarded(asyncio.BufferedProtocol):
    """Stands between a connection and aiohttp's handler of it."""

    def __init__(self, entrance: Entrance, handler: asyncio.Protocol, buffer: bytearray) -> None:
        self._entrance, self._handler, self._buffer = entrance, handler, buffer
        self._transport: asyncio.Transport | None = None
        self._waits = False
        self._head = 0
        """Bytes of the unfinished request."""
        self._last = b""
        self._behind = 0
        """Bytes that have come after the headers of the request that is being answered: its body, and what is sent ahead."""
        self._ahead = False
        """The unfinished request was begun before the last answer; nobody knows where its headers end, if they have."""
        self._timer: asyncio.TimerHandle | None = None
        self.address = ""

    # -- what the loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.address = str((transport.get_extra_info("peername") or ("",))[0])
        self._handler.connection_made(transport)
        self.answered()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(memoryview(self._buffer)[:nbytes])
        if not self._waits:
            self._behind += nbytes
        elif not self._admits(data):
            return
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self.begin()
        self._handler.connection_lost(exc)
        self._transport = None

    # -- one request ----------------------------------------------------------------------------------------------

    def begin(self, behind: int | None = None) -> None:
        """A request is there, and is being answered; *behind* bytes have come after its headers, None where that is unknown."""
        if not self._waits:
            return
        self._waits = False
        self._entrance.go_on(self, self._head)
        self._behind = self._head if behind is None else behind
        self._head, self._last, self._ahead = 0, b"", False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def answered(self, body: int = 0) -> None:
        """The answer has gone out, to a request with a body of *body* bytes; another request may come, or has begun."""
        if self._waits or self._transport is None or self._transport.is_closing():
            return
        self._waits = True
        ahead, self._behind = self._behind - body, 0
        self._entrance.wait(self)
        if self._waits and ahead > len(b"\r\n"):  # which some send after a body
            if not self._entrance.held.takes(self.address, ahead):
                self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                return
            self._head, self._ahead = ahead, True
            self._expect_end()

    def _admits(self, data: bytes) -> bool:
        """May aiohttp have this, as a part of a request or as a whole one?"""
        if not self._head:
            data = data.lstrip(b"\r\n")  # empty lines may come before a request (RFC 9112 §2.2)
        seen = self._last + data
        end = seen.find(_END)
        size = len(data) if end < 0 else end + len(_END) - len(self._last)
        too_long = self._head + size > HEAD_BYTES and not self._ahead
        if too_long or (end < 0 and not self._entrance.held.takes(self.address, size)):
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
            return False
        if end >= 0:
            self.begin(len(data) - size)
            return True
        self._head += size
        self._last = seen[1 - len(_END) :]
        if self._head and self._timer is None:
            self._expect_end()
        return True

    def _expect_end(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HEAD_SECONDS, self.refuse, HTTPStatus.REQUEST_TIMEOUT)

    def refuse(self, status: HTTPStatus) -> None:
        """End the connection, which waits for a request; who has begun one is told why."""
        transport, begun = self._transport, self._head > 0 or status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        self.begin()
        if transport is None or transport.is_closing():
            return
        if begun:
            transport.write(
                f"HTTP/1.1 {status} {status.phrase}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()
            )
        transport.close()


def _guard(request: web.BaseRequest) -> Guarded | None:
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, Guarded) else None


@web.middleware
async def at_work(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Tell the guard of a request that is being answered. Outermost, so that it sees every answer."""
    if (guard := _guard(request)) is not None:
        guard.begin()
    response = await handler(request)
    unmeasured = request.content_length is None and request.body_exists
    if unmeasured or not request.content.is_eof():
        response.force_close()  # what comes after this body could not be told from it
    return response


class Answered(AbstractAccessLogger):
    """aiohttp says here when an answer has gone out; nothing is logged."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        guard = _guard(request)
        # One that is to be closed is not waited on: what still comes of its body is no request.
        if guard is not None and response.keep_alive and request.content.is_eof():
            guard.answered(request.content_length or 0)


__all__ = ["Answered", "Entrance", "at_work"]
