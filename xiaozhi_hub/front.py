"""The front of the hub: the ports, what is served on them, and the names and addresses under which they are reached.

It opens before everything else, so that whoever comes while the hub starts gets an answer. What lies behind it, `Rooms`, is
there a moment later; until then whoever wants more than to check in waits. It closes after everything behind it, and until
then refuses all but check-ins and questions how the hub is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from aiohttp import web

from xiaozhi_hub import __version__
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.i18n import Texts, language_of
from xiaozhi_hub.devices.pairing.pairing import Pairing
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.protocol.transport import WEBSOCKET, Transports
from xiaozhi_hub.web.app import DEVICE_DOOR, WebParts, build_app, serve
from xiaozhi_hub.web.devices.moved import Forwarding
from xiaozhi_hub.web.devices.ota import Contribution, clock, framing
from xiaozhi_hub.web.devices.pairing import PairingDesk
from xiaozhi_hub.web.devices.reached import Reached
from xiaozhi_hub.web.devices.sharing import Sharing
from xiaozhi_hub.web.devices.transports import transport_offer
from xiaozhi_hub.web.devices.websocket import DeviceDoor, DeviceLimits, Guest, Guests
from xiaozhi_hub.web.pages.status import HubStatus, PartStatus
from xiaozhi_hub.web.programs.health import Health
from xiaozhi_hub.web.requests.later import LaterRoutes, stopping

if TYPE_CHECKING:
    from xiaozhi_hub.discovery import Discovery

EVERY_ADDRESS = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class FrontParts:
    """What answers to check-ins are made from."""

    config: Config
    texts: Texts
    transports: Transports
    pairing: Pairing
    check_in: Callable[[CheckIn], None]
    """Called for each check-in; must not block."""


@dataclass(frozen=True, slots=True)
class Rooms:
    """What lies behind the front."""

    routes: Sequence[web.AbstractRouteDef]
    """The APIs."""
    contributions: Sequence[Contribution]
    """What more is added to the answers to check-ins, in this order."""
    guests: Guests
    """Who else than devices may open a WebSocket."""
    serve_link: Callable[[Link], Awaitable[None]]
    status: Callable[[], Awaitable[HubStatus]]
    health: Callable[[], Sequence[PartStatus] | None]
    """None until the engines are there."""


class Front:
    """``async with front.listening()``; people and devices are told of it with ``async with front.announced()``."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts
        config = parts.config
        self._language = language_of(config.hub.language)
        self._written = config.devices
        self._rooms: Rooms | None = None
        self._open = asyncio.Event()
        self._later = LaterRoutes()
        self.ports: tuple[int, ...] = ()
        """Those that are open; empty before."""
        self.door: DeviceDoor
        """Where devices come in by WebSocket."""
        self.desk = PairingDesk(parts.pairing, parts.texts, self._language)
        self.reached = Reached()
        to = config.http.moved_to
        self.forwarding = Forwarding(to) if to else None
        """Answers check-ins where the hub has moved to another machine."""
        self._contributions = self._first_contributions()
        self.discovery: Discovery | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Keep the ports open while the block is entered; `HubError` when one cannot be had."""
        server = self._parts.config.server
        app = self._app()
        self.door = app[DEVICE_DOOR]
        try:
            async with serve(app, server.ip, tuple(dict.fromkeys((server.http_port, server.port)))) as self.ports:
                try:
                    yield
                finally:
                    self.shut_rooms()
                    self._open.set()
        finally:
            if self.forwarding is not None:
                await self.forwarding.close()

    def open_rooms(self, rooms: Rooms) -> None:
        """Let everybody through who has waited. To be called once."""
        if self.forwarding is None:  # a hub that has moved passes on another one's answer instead
            self._contributions.extend(rooms.contributions)
        self._later.add(rooms.routes)
        self._rooms = rooms
        self._open.set()

    def shut_rooms(self) -> None:
        """Refuse whoever wants something of the APIs: what they would ask is going away. Safe to call more than once."""
        self._later.shut()

    @asynccontextmanager
    async def announced(self) -> AsyncIterator[None]:
        """Tell the local network where the hub is while the block is entered, unless the owner does not want that."""
        config = self._parts.config
        if not config.discovery.enabled:
            yield
            return
        # Not before the ports are open, and in a thread then: devices may be waiting to be answered.
        discovery: type[Discovery] = (await asyncio.to_thread(import_module, "xiaozhi_hub.discovery")).Discovery
        only = None if config.server.ip == EVERY_ADDRESS else (config.server.ip,)
        self.discovery = discovery(config.hub.name, self.port, __version__, only=only)
        async with self.discovery:
            yield

    def configure(self, config: Config) -> None:
        """The owner has written something else of devices; they learn of it when they check in."""
        self._written = config.devices

    # -- where it is reached --------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port of the pages, the OTA address and the devices."""
        return self.ports[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses under which the hub is reached."""
        ip = self._parts.config.server.ip
        if ip != EVERY_ADDRESS:
            return (ip,)
        from xiaozhi_hub.discovery import network_addresses

        return (self.discovery.addresses if self.discovery is not None else ()) or network_addresses()

    @property
    def hosts(self) -> tuple[str, ...]:
        """What people and devices may put before the port: the name first, where one is announced."""
        named = self.discovery is not None and self.discovery.addresses
        return (*((self.discovery.host_name,) if self.discovery is not None and named else ()), *self.addresses)

    @property
    def local_url(self) -> str:
        """How this machine reaches the hub."""
        ip = self._parts.config.server.ip
        return f"http://{'127.0.0.1' if ip == EVERY_ADDRESS else ip}:{self.port}"

    # -- what is served -------------------------------------------------------------------------------------------

    def _app(self) -> web.Application:
        parts, config = self._parts, self._parts.config
        limits = config.limits
        return build_app(
            WebParts(
                texts=parts.texts,
                version=__version__,
                status=self._status,
                serve_link=self._serve_link,
                on_check_in=parts.check_in,
                language=self._language,
                public_host=config.http.public_host,
                limits=DeviceLimits(
                    limits.devices, limits.message_bytes, limits.frames_per_second, limits.json_per_second
                ),
                now=clock(config.hub.time_zone),
                admit=self.desk.admit,
                guests=self._guests,
                contributions=self._contributions,
                routes=(*self.desk.routes(), *Health(self._health, __version__).routes(), self._later),
            )
        )

    def _first_contributions(self) -> list[Contribution]:
        """What is added to the answers to check-ins from the start, in this order."""
        if self.forwarding is not None:
            return [self.forwarding.contribute]
        return [
            self.desk.withhold,  # who must wait for approval gets nothing of what the others add
            Sharing(self._parts.config.http.websocket_urls).contribute,
            framing(self._framing_of),
            transport_offer(self._parts.transports, self._transport_of),
            self.desk.contribute,
            self.reached.contribute,
        ]

    async def _behind(self) -> Rooms:
        await self._open.wait()
        if self._rooms is None:  # the hub has not come so far
            raise stopping()
        return self._rooms

    async def _status(self) -> HubStatus:
        return await (await self._behind()).status()

    async def _serve_link(self, link: Link) -> None:
        await (await self._behind()).serve_link(link)

    async def _guests(self, request: web.Request) -> Guest | None:
        if "Device-Id" in request.headers:
            return None  # it is a device: its hellos need nothing that is not there
        return await (await self._behind()).guests(request)

    def _health(self) -> Sequence[PartStatus] | None:
        return self._rooms.health() if self._rooms is not None else None

    def _framing_of(self, device_id: str) -> int:
        written = self._written.get(device_id)
        return written.framing if written is not None else 1

    def _transport_of(self, device_id: str) -> str:
        written = self._written.get(device_id)
        return written.transport if written is not None else WEBSOCKET


__all__ = ["Front", "FrontParts", "Rooms"]
