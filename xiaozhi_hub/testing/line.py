"""The device's end of the WebSocket, with the firmware's manners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from xiaozhi_hub.testing.check_in import CONNECT_SECONDS, Address, NoLink, open_http


class Line:
    """One connection, used once. Never answers a close frame; ends without sending one."""

    transport = "websocket"

    def __init__(self, http: aiohttp.ClientSession, ws: aiohttp.ClientWebSocketResponse) -> None:
        self._http = http
        self._ws = ws
        self.close_code: int | None = None
        """What the hub's close frame said, None when there was none."""
        self.ended = False

    @classmethod
    async def open(cls, address: Address, headers: dict[str, str], *, answers_pings: bool) -> Line:
        """Connect. Raises `NoLink`."""
        host = urlsplit(address.url).hostname or ""
        upgrade = {"Host": host, **headers}  # without the port, whatever it is
        if address.token:
            upgrade["Authorization"] = address.token if " " in address.token else f"Bearer {address.token}"
        http = open_http()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                ws = await http.ws_connect(
                    address.url, headers=upgrade, autoping=answers_pings, autoclose=False, max_msg_size=0
                )
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError, too
            await http.close()
            raise NoLink(f"No connection to {address.url}: {error or 'it takes too long'}.") from error
        except BaseException:
            await http.close()
            raise
        return cls(http, ws)

    def accepts(self, hello: Mapping[str, Any]) -> bool:
        """Take the hub's hello, which says nothing that is needed here."""
        return True

    async def open_sound(self) -> None:
        """Sound travels the same way as messages."""

    async def frames(self) -> AsyncGenerator[str | bytes, None]:
        """Yield text and binary frames until the hub closes the connection, in whatever way."""
        while True:
            frame = await self._ws.receive()
            if frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                yield frame.data
            elif frame.type not in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG):
                break
        if frame.type is aiohttp.WSMsgType.CLOSE:
            self.close_code = frame.data
        self.ended = True

    async def write(self, data: str | bytes) -> bool:
        """Send a frame; False when nobody is there any more."""
        if self.ended:
            return False
        try:
            await (self._ws.send_str(data) if isinstance(data, str) else self._ws.send_bytes(data))
        except (ConnectionError, RuntimeError):
            self.ended = True
        return not self.ended

    async def drop(self) -> None:
        """Close the TCP connection."""
        self.ended = True
        await self._http.close()
