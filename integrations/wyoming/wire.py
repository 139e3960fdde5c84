"""Wyoming events over one connection, from and to somebody who is not trusted.

The library reads and writes the format; what it leaves out is here: how much may come, and what happens with what is no event.
"""

from __future__ import annotations

import asyncio
from typing import cast
from urllib.parse import urlsplit

from wyoming.event import Event, async_read_event, async_write_event

from xiaozhi_hub.plugins.api import ProtocolError

MOST_HEADER = 64 * 1024
"""Bytes of the line that an event begins with."""
WRITE_S = 10.0
"""Whoever does not take what he is sent for so long is gone."""
CLOSE_S = 1.0
NOT_AN_EVENT = (ArithmeticError, AssertionError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the library raises where something else than an event of the expected kind came."""


class Connection:
    """One connection. Any failure to read is final: nobody knows where the next event would begin."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most_bytes: int) -> None:
        """*reader* must have the limit `MOST_HEADER`; no part of an event may be longer than *most_bytes*."""
        self._reader = _Bounded(reader, most_bytes)
        self._writer = writer

    @classmethod
    async def to(cls, uri: str, most_bytes: int) -> Connection:
        """Connect to ``tcp://host:port`` or ``unix:///path``. Raises OSError."""
        parts = urlsplit(uri)
        if parts.scheme == "unix":
            reader, writer = await asyncio.open_unix_connection(parts.path, limit=MOST_HEADER)
        else:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=MOST_HEADER)
        return cls(reader, writer, most_bytes)

    async def read(self) -> Event | None:
        """The next event; None when the other side has closed. Raises `ProtocolError`, OSError."""
        self._reader.ended = False
        try:
            event = await async_read_event(cast(asyncio.StreamReader, self._reader))
        except asyncio.IncompleteReadError as error:
            raise ProtocolError("it ends in the middle of an event", close=True) from error
        except NOT_AN_EVENT as error:
            raise ProtocolError("this is no Wyoming event", close=True) from error
        if event is None:
            if self._reader.ended:
                return None
            raise ProtocolError("this is no JSON", close=True)
        kind: object = event.type  # whatever the types say, it comes from outside
        data: object = {} if event.data is None else event.data
        if not isinstance(kind, str) or not isinstance(data, dict):
            raise ProtocolError("this is no Wyoming event", close=True)
        return Event(kind, data, event.payload)

    async def write(self, event: Event) -> None:
        """Send an event. Raises OSError, of which TimeoutError is one kind."""
        async with asyncio.timeout(WRITE_S):
            await async_write_event(event, self._writer)

    async def close(self) -> None:
        """Close it, and let what was written go out first."""
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.wait_closed()
        except OSError:
            self.abort()
        except asyncio.CancelledError:  # or what nobody takes would be kept for as long as they stay
            self.abort()
            raise

    def abort(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()


class _Bounded:
    """The two ways in which `async_read_event` reads, within limits."""

    def __init__(self, reader: asyncio.StreamReader, most_bytes: int) -> None:
        self._reader = reader
        self._most = most_bytes
        self.ended = False

    async def readline(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.LimitOverrunError as error:
            raise ProtocolError("the header is too long", close=True) from error
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            self.ended = True
            return b""

    async def readexactly(self, count: object) -> bytes:
        if not isinstance(count, int) or not 0 <= count <= self._most:
            raise ProtocolError(f"an event may have {self._most} bytes", close=True)
        return await self._reader.readexactly(count)
