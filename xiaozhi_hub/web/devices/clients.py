"""Plain clients at the door of devices: which requests are theirs, from which pages they may come, and the token they show.

A browser cannot set headers on a WebSocket, so the token may stand in the address (``?token=…``) or, after ``?client``, in the
hello. It is never logged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from aiohttp import web

from xiaozhi_hub.devices.pairing.invitation import split_token
from xiaozhi_hub.protocol.client import ClientHello
from xiaozhi_hub.protocol.identity import DeviceIdentity, plain
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.web.devices.client_link import ClientLink, ClientParts
from xiaozhi_hub.web.devices.pairing import shown_token
from xiaozhi_hub.web.devices.websocket import DeviceLimits
from xiaozhi_hub.web.requests.failures import Rejected
from xiaozhi_hub.web.requests.hosts import is_safe_for_pages, parse_host

STRANGERS = 16
"""Connections that may be open at once of which nobody knows yet whose they are."""


@dataclass(frozen=True, slots=True)
class ClientRules:
    """Who may come in."""

    admit: Callable[[DeviceIdentity, str], Awaitable[None]]
    """Raises `Rejected` when the token does not prove that it is this client."""
    arrived: Callable[[CheckIn], None]
    """Told of a client that was let in; must not block."""
    origins: tuple[str, ...] = ()
    """Of pages from elsewhere that may connect, beside those of the hub itself."""
    public_host: str | None = None


class Clients:
    """Tells clients from devices and lets them in."""

    def __init__(self, rules: ClientRules, parts: ClientParts) -> None:
        self._rules = rules
        self._parts = parts
        self._strangers = 0

    async def recognise(self, request: web.Request) -> Guest | None:
        """Return the client that asks, or None: it is a device. Raises `Rejected` when it may not come in."""
        if "Device-Id" in request.headers:
            return None
        token = request.query.get("token", "") or shown_token(request.headers.get("Authorization", ""))
        said = split_token(token)
        if said is None and not request.query.keys() & {"token", "client"}:
            return None
        self._check_origin(request)
        headers = request.headers
        nobody = DeviceIdentity(
            "", "", plain(headers.get("User-Agent")), request.remote or "", plain(headers.get("Host"))
        )
        guest = Guest(self, nobody, plain(headers.get("Accept-Language", "").split(",")[0].split(";")[0]))
        if token or "token" in request.query:
            await guest.prove(token)
        elif self._strangers >= STRANGERS:
            raise Rejected(503, "Too many clients have not shown a token yet.", code="too-many-strangers")
        return guest

    def _check_origin(self, request: web.Request) -> None:
        origin = request.headers.get("Origin")
        if origin is None or origin.lower().rstrip("/") in self._rules.origins:
            return
        host = request.headers.get("Host", "")
        asked = parse_host(host)
        try:
            page = urlsplit(origin).hostname
        except ValueError:
            page = None
        if asked is None or page != asked.host.lower() or not is_safe_for_pages(host, self._rules.public_host):
            raise Rejected(
                403,
                "A web page from elsewhere may not talk to the hub.",
                code="origin-forbidden",
                hint="Write the page's address into http: origins: of configuration.yaml.",
            )

    async def admit(self, nobody: DeviceIdentity, token: str) -> DeviceIdentity:
        """Return who shows this token; raises `Rejected`."""
        said = split_token(token)
        client_id, secret = said if said is not None else ("", "-")  # what is no token is as wrong as a wrong one
        device = replace(nobody, id=client_id)
        await self._rules.admit(device, secret)
        return device

    def arrived(self, device: DeviceIdentity, language: str) -> None:
        """A client was let in."""
        self._rules.arrived(CheckIn(device, language=language))

    def link(
        self, guest: Guest, ws: web.WebSocketResponse, transport: asyncio.Transport, limits: DeviceLimits
    ) -> ClientLink:
        """Return the link of a guest after the upgrade."""
        return ClientLink(ws, transport, guest.device, limits, self._parts, guest.arrive)

    def count(self, strangers: int) -> None:
        """So many more connections, or fewer, are open of which nobody knows whose they are."""
        self._strangers += strangers


class Guest:
    """A client that is coming in."""

    def __init__(self, clients: Clients, nobody: DeviceIdentity, language: str) -> None:
        self._clients = clients
        self._language = language
        self._token = ""
        self.device = nobody
        self._counted = False

    async def prove(self, token: str) -> None:
        """Raises `Rejected` when the token is not good (any more)."""
        self.device = await self._clients.admit(self.device, token)
        self._token = token

    def link(self, ws: web.WebSocketResponse, transport: asyncio.Transport, limits: DeviceLimits) -> ClientLink:
        """Return the link after the upgrade. Call `leave` when it has ended."""
        if not self._token:
            self._counted = True
            self._clients.count(1)
        return self._clients.link(self, ws, transport, limits)

    async def arrive(self, hello: ClientHello) -> DeviceIdentity:
        """Let it in with the token that it has shown, or shows now; raises `Rejected`. Much may have changed since the upgrade."""
        await self.prove(self._token or hello.token)
        self.leave()
        self._clients.arrived(self.device, hello.language or self._language)
        return self.device

    def leave(self) -> None:
        """It is no stranger any more, or gone. Safe to call more than once."""
        if self._counted:
            self._counted = False
            self._clients.count(-1)


__all__ = ["ClientRules", "Clients", "Guest"]
