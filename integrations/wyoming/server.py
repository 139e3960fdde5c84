"""The TCP port on which the hub offers its own engines: who may come in, and how many."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from xiaozhi_hub.plugins.api import HubApi, NeedsAttention, ProtocolError, RateLimit, RateLimits, TaskScope

from .catalogue import Catalogue
from .guest import Guest
from .satellite import Satellite
from .wire import MOST_HEADER, Connection

log = logging.getLogger(__name__)

MOST_GUESTS = 32
MOST_OF_ONE = 12
"""Connections at the same time, and of one address."""
MOST_BYTES = 2**20
"""Of one part of an event."""
ASKS_PER_SECOND, ASKS_AT_ONCE = 5.0, 40.0
"""What one address may ask."""
_Serve = Callable[[Connection, str], Awaitable[None]]


class Server:
    """Serves Wyoming. Nobody has to prove who he is, so only known networks are let in."""

    def __init__(self, hub: HubApi, options: Mapping[str, Any], scope: TaskScope) -> None:
        self._hub = hub
        self._scope = scope
        self._allowed = [ipaddress.ip_network(each) for each in options["allow"]]
        self._catalogue = Catalogue(hub, options["offer"])
        self._guests: Counter[str] = Counter()
        self._asks = RateLimits(ASKS_PER_SECOND, ASKS_AT_ONCE)
        self._told = RateLimit(1 / 10, 5)
        self.port = 0
        self.satellites: dict[str, tuple[Satellite, int]] = {}
        """With their ports, by device."""
        self._loop = asyncio.get_running_loop()

    @classmethod
    @asynccontextmanager
    async def listening(
        cls, hub: HubApi, options: Mapping[str, Any], answer_s: float, scope: TaskScope
    ) -> AsyncIterator[Server]:
        """Serve while the block is entered. Raises `NeedsAttention` when the port cannot be had."""
        server = cls(hub, options, scope)
        async with AsyncExitStack() as stack:
            server.port = await server._open(stack, options["port"], server._serve_guest)
            for device_id, port in options["satellites"].items():
                satellite = Satellite(hub, device_id, answer_s, scope)
                await stack.enter_async_context(satellite.ready())
                used = await server._open(stack, port, partial(server._serve_satellite, satellite))
                server.satellites[device_id] = (satellite, used)
            log.info("Wyoming is served on port %s", server.port)
            yield server

    async def _open(self, stack: AsyncExitStack, port: int, serve: _Serve) -> int:
        """Open a port until the stack is left; return its number."""
        connected = partial(self._connected, serve)
        try:
            listener = await asyncio.start_server(connected, self._hub.config.server.ip, port, limit=MOST_HEADER)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise NeedsAttention(
                f"TCP port {port} is in use, perhaps by another Wyoming service."
                if taken
                else f"TCP port {port} cannot be used: {error.strerror or error}.",
                hint="Choose another port.",
            ) from error
        stack.callback(listener.close)
        return int(listener.sockets[0].getsockname()[1])

    @property
    def guests(self) -> int:
        """Open connections."""
        return self._guests.total()

    def _connected(self, serve: _Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, MOST_BYTES)
        peer = str((writer.get_extra_info("peername") or ("",))[0])
        if not self._is_allowed(peer):
            self._tell("Wyoming: %s is not allowed to connect", peer)
            connection.abort()
        elif self.guests >= MOST_GUESTS or self._guests[peer] >= MOST_OF_ONE:
            self._tell("Wyoming: %s has too many connections", peer)
            connection.abort()
        else:
            self._guests[peer] += 1
            self._scope.start(self._serve(serve, connection, peer), name=f"guest-{peer}")

    def _is_allowed(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer.split("%")[0])
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return any((mapped or address) in network for network in self._allowed)

    async def _serve_guest(self, connection: Connection, peer: str) -> None:
        guest = Guest(connection, self._hub, self._catalogue, lambda: self._asks.allows(peer, self._loop.time()))
        await guest.serve()

    async def _serve_satellite(self, satellite: Satellite, connection: Connection, peer: str) -> None:
        await satellite.serve(connection)

    async def _serve(self, serve: _Serve, connection: Connection, peer: str) -> None:
        try:
            await serve(connection, peer)
        except ProtocolError as error:
            self._tell("Wyoming: %s breaks the rules: %s", peer, error.message)
        except OSError as error:
            log.debug("Wyoming: %s is gone: %s", peer, error)
        except Exception:  # the border of the connection
            log.exception("Wyoming: the connection of %s failed", peer)
        finally:
            connection.abort()
            self._guests -= Counter([peer])

    def _tell(self, text: str, *values: object) -> None:
        """Log what strangers cause, not as often as they like."""
        log.log(logging.WARNING if self._told.allows(self._loop.time()) else logging.DEBUG, text, *values)
