"""The check-in of devices: where they are told where to connect."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from aiohttp import web

from xiaozhi_hub.protocol.ota import CheckIn, build_answer, encode_answer, read_check_in
from xiaozhi_hub.web.requests.body import read_body
from xiaozhi_hub.web.requests.hosts import Address, local_address, parse_host

log = logging.getLogger(__name__)
PATHS = ("/xiaozhi/ota/", "/xiaozhi/ota")
BODY_LIMIT = 64 * 1024
BODY_SECONDS = 10.0
CONTRIBUTION_SECONDS = 1.0
"""A device waits for its answer, and everything behind it waits for the device."""

Contribution = Callable[[CheckIn, Address, dict[str, Any]], Awaitable[None]]
"""Adds its part to the answer to a check-in: pairing, firmware, another transport. It is given where the device should connect,
and the answer as it stands; whatever it does, the device is answered."""


class Ota:
    """Answers check-ins from the moment the hub listens; it waits for nothing but the request."""

    def __init__(
        self,
        on_check_in: Callable[[CheckIn], None],
        status_page: Callable[[web.Request], Awaitable[web.StreamResponse]],
        *,
        public_host: str | None = None,
        now: Callable[[], datetime],
        contributions: Sequence[Contribution] = (),
    ) -> None:
        self._on_check_in = on_check_in
        self._status_page = status_page
        self._public = parse_host(public_host) if public_host else None
        self._now = now
        self._contributions = contributions

    def routes(self) -> list[web.RouteDef]:
        # Both forms are served as they are: a device takes a redirect for a failure.
        return [route for path in PATHS for route in (web.post(path, self._check_in), web.get(path, self._status_page))]

    async def _check_in(self, request: web.Request) -> web.Response:
        body = await read_body(request, BODY_LIMIT, BODY_SECONDS)
        check_in = read_check_in(request.headers, body, request.remote or "")
        host, port = device_address(request, self._public)
        answer = await self._answer(check_in, Address(host, port))
        log.info("device %s checked in (%s %s)", check_in.device.id, check_in.board, check_in.firmware)
        self._on_check_in(check_in)
        # A body of known length makes aiohttp send Content-Length; nothing turns compression or chunking on.
        return web.Response(body=answer, content_type="application/json")

    async def _answer(self, check_in: CheckIn, address: Address) -> bytes:
        answer = build_answer(check_in, host=address.host, port=address.port or 0, now=self._now())
        good = encode_answer(answer)
        for contribute in self._contributions:
            try:
                async with asyncio.timeout(CONTRIBUTION_SECONDS):
                    await contribute(check_in, address, answer)
                good = encode_answer(answer)
            except TimeoutError:
                log.warning("an addition to the answer for %s took too long; it goes without", check_in.device.id)
                answer = json.loads(good)
            except Exception:  # a device without an answer waits longer and longer, up to 85 minutes
                log.exception("an addition to the answer for %s failed; it goes without", check_in.device.id)
                answer = json.loads(good)
        return good


def framing(version_of: Callable[[str], int]) -> Contribution:
    """Tells each device which binary framing to use; *version_of* knows it by device id."""

    async def contribute(check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        answer["websocket"]["version"] = version_of(check_in.device.id)

    return contribute


def device_address(request: web.Request, public: Address | None) -> tuple[str, int]:
    """Host and port where a device should connect: the way it came, because that way is known to work.

    The owner's word goes first, then the ``Host`` header, then the socket.
    """
    here = local_address(request)
    asked = parse_host(request.headers.get("Host", "")) or Address(here.host)
    host = public.host if public is not None else asked.host
    port = public.port if public is not None and public.port else asked.port
    return host, port or here.port


def clock(time_zone: str) -> Callable[[], datetime]:
    """A clock that shows the time in *time_zone*, an IANA name; empty is the system's."""
    zone = ZoneInfo(time_zone) if time_zone else None
    return lambda: datetime.now(zone).astimezone(zone)
