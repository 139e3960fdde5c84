"""The application put together, and the ports it is served on."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.core.loop import ACCEPTED_AT_ONCE
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.web.devices.ota import Contribution, Ota, clock
from xiaozhi_hub.web.devices.websocket import (
    Admit,
    DeviceDoor,
    DeviceLimits,
    Guests,
    ServeLink,
    admit_everybody,
    only_devices,
)
from xiaozhi_hub.web.pages.pages import Pages
from xiaozhi_hub.web.pages.status import HubStatus
from xiaozhi_hub.web.requests.body import UNFINISHED, UNFINISHED_BYTES
from xiaozhi_hub.web.requests.entrance import Answered, Entrance, at_work
from xiaozhi_hub.web.requests.failures import failure_middleware
from xiaozhi_hub.web.requests.held import Held
from xiaozhi_hub.web.requests.hosts import is_safe_for_pages
from xiaozhi_hub.web.requests.peer_faults import PeerFaults, ignore_odd_forms

log = logging.getLogger(__name__)
DEVICE_DOOR = web.AppKey("device_door", DeviceDoor)
_FOR_DEVICES = ("/xiaozhi/", "/mcp/vision/")
_API_BODY_LIMIT = 16 * 2**20
_IDLE_S = 75.0
"""A connection on which nothing is asked for so long is closed."""
_BACKLOG = 1024
"""Connections that may wait to be accepted: after a power cut all devices come at once."""
_MOST_HEADERS = 64
"""Browsers send about twenty."""
_STOP_S = 1.0
"""For what still runs when the hub stops, and for the rest of a request that was answered already."""


@dataclass(frozen=True, slots=True)
class WebParts:
    """What the application needs from the rest of the hub."""

    texts: Texts
    version: str
    status: Callable[[], Awaitable[HubStatus]]
    serve_link: ServeLink
    on_check_in: Callable[[CheckIn], None]
    """Called for each check-in; must not block."""
    language: str = "en"
    """For readers whose browser asks for none of ours."""
    public_host: str | None = None
    limits: DeviceLimits = field(default_factory=DeviceLimits)
    now: Callable[[], datetime] = field(default_factory=lambda: clock(""))
    """The time in the zone of the house."""
    contributions: Sequence[Contribution] = ()
    """What is added to the answers to check-ins, in this order."""
    admit: Admit = admit_everybody
    """Who may open a WebSocket."""
    guests: Guests = only_devices
    """Who else may open one."""
    routes: Sequence[web.AbstractRouteDef] = ()
    """More to serve: the APIs."""


def build_app(parts: WebParts) -> web.Application:
    """Make the application; it may be served on several ports."""
    pages = Pages(parts.texts, parts.status, parts.version, default_language=parts.language)
    ota = Ota(
        parts.on_check_in,
        pages.ota,
        public_host=parts.public_host,
        now=parts.now,
        contributions=parts.contributions,
    )
    door = DeviceDoor(parts.serve_link, pages.device, parts.limits, parts.admit, parts.guests)
    app = web.Application(
        middlewares=[at_work, failure_middleware(pages.failure), _host_middleware(parts.public_host), _plain_bodies],
        client_max_size=_API_BODY_LIMIT,
    )
    app[DEVICE_DOOR] = door
    app[UNFINISHED] = Held(*UNFINISHED_BYTES)
    app.add_routes([*ota.routes(), *door.routes(), *pages.routes(), *parts.routes])

    async def hang_up(_: web.Application) -> None:
        await door.close()

    async def let_go(_: web.Application) -> None:
        await pages.close()

    app.on_shutdown.append(hang_up)
    app.on_cleanup.append(let_go)
    return app


@asynccontextmanager
async def serve(app: web.Application, host: str, ports: Sequence[int]) -> AsyncIterator[tuple[int, ...]]:
    """Serve *app* while the block is entered; yields the ports (0 asks for any free one).

    Raises `HubError` when a port cannot be had. Leaving takes a few seconds at most, whoever is connected.
    """
    http_log = logging.getLogger(f"{__name__}.http")
    if not any(isinstance(each, PeerFaults) for each in http_log.filters):
        http_log.addFilter(PeerFaults())
    ignore_odd_forms()
    runner = web.AppRunner(
        app,
        access_log=http_log,
        access_log_class=Answered,
        handle_signals=False,
        shutdown_timeout=_STOP_S,
        keepalive_timeout=_IDLE_S,
        lingering_time=_STOP_S,
        max_headers=_MOST_HEADERS,
        auto_decompress=False,
        logger=http_log,
    )
    await runner.setup()
    servers: list[asyncio.Server] = []
    try:
        assert runner.server is not None
        entrance = Entrance(runner.server)
        for port in ports:
            try:
                servers.append(await listen(entrance, host, port))
            except OSError as error:
                raise _cannot_listen(host, port, error) from error
        yield tuple(listener.getsockname()[1] for server in servers for listener in server.sockets)
    finally:
        for server in servers:
            server.close()
        await runner.cleanup()


async def listen(made: Callable[[], asyncio.BaseProtocol], host: str, port: int) -> asyncio.Server:
    """Open one port; each connection is served by what *made* returns. `OSError` when the port cannot be had."""
    address: tuple[str, int] | tuple[str, int, int, int] = (host, port)
    if "%" in host:  # good on one network card only: fe80::1%eth0
        alone, card = host.split("%", 1)
        address = (alone, port, 0, int(card) if card.isdecimal() else socket.if_nametoindex(card))
    sock = socket.create_server(address, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    # asyncio takes in as many in one pass of its loop as it lets wait: it is told few, and the system many.
    server = await asyncio.get_running_loop().create_server(made, sock=sock, backlog=ACCEPTED_AT_ONCE)
    sock.listen(_BACKLOG)
    return server


def _host_middleware(public_host: str | None) -> Middleware:
    @web.middleware
    async def check_host(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Devices are let through: whatever way they came, it works, and browsers cannot speak as they do.
        if not request.path.startswith(_FOR_DEVICES) and not is_safe_for_pages(
            request.headers.get("Host", ""), public_host
        ):
            raise web.HTTPMisdirectedRequest(
                text="The hub does not know this name. Use its IP address or .local name, or set http: public_host:."
            )
        return await handler(request)

    return check_host


@web.middleware
async def _plain_bodies(request: web.Request, handler: Handler) -> web.StreamResponse:
    # No device and no browser packs what it sends, and a few bytes could be unpacked to very many.
    if request.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
        raise web.HTTPUnsupportedMediaType(text="Send the body as it is, without Content-Encoding.")
    return await handler(request)


def _cannot_listen(host: str, port: int, error: OSError) -> HubError:
    if error.errno == errno.EADDRINUSE:
        return HubError(
            f"Port {port} is in use, by a hub that is already running or by another program.",
            code="port-in-use",
            hint=f"Stop that one, or choose another port: xiaozhi-hub run --port {_another(port)}",
            permanent=True,
        )
    if error.errno == errno.EACCES:
        return HubError(
            f"This user may not listen on port {port}.",
            code="port-forbidden",
            hint="Choose a port above 1023: xiaozhi-hub run --port 8003",
            permanent=True,
        )
    return HubError(
        f"Cannot listen on {host}, port {port}: {error.strerror or error}.",
        code="address-unusable",
        hint="Set server: ip: to an address of this machine, or to 0.0.0.0 for all of them.",
        permanent=True,
    )


def _another(port: int) -> int:
    return port + 10 if port + 10 < 65536 else 8013
