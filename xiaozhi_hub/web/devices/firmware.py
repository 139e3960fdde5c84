"""Where devices learn of new firmware and fetch it, and where they fetch assets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from aiohttp import web

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.firmware.assets import Assets
from xiaozhi_hub.firmware.image import Image
from xiaozhi_hub.firmware.rollout import Rollout
from xiaozhi_hub.firmware.shelf import Changed, Shelf, Stocked
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.store.rollouts import Offer
from xiaozhi_hub.web.devices.files import File, send_file
from xiaozhi_hub.web.requests.failures import Rejected
from xiaozhi_hub.web.requests.hosts import Address

log = logging.getLogger(__name__)
FIRMWARE_PATH = "/xiaozhi/firmware"
ASSETS_PATH = "/xiaozhi/assets"
WAIT_S = 20.0
"""For a free place; a device waits 30 s for the answer."""
EXPECTED_S = 60.0
"""A device that was told of new firmware comes for it at once; after so long it is not expected any more."""


class FirmwareDoor:
    """Adds firmware to answers, and serves what it told of; at most *most_at_once* downloads run."""

    def __init__(
        self,
        firmware: Shelf[Image],
        assets: Shelf[Assets],
        rollout: Callable[[], Rollout | None],
        *,
        most_at_once: int = 4,
    ) -> None:
        self._firmware = firmware
        self._assets = assets
        self._rollout = rollout
        self._most = most_at_once
        self._places = asyncio.Semaphore(most_at_once)
        self._running = 0
        self._expected: dict[str, float] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{FIRMWARE_PATH}/{{ticket}}/{{board}}/{{file}}", self._send_firmware, allow_head=False),
            web.get(f"{ASSETS_PATH}/{{board}}/{{file}}", self._send_assets, allow_head=False),
        ]

    async def contribute(self, check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        """Name newer firmware in the answer, where the device may have it (a `Contribution`)."""
        rollout = self._rollout()
        if rollout is None:
            return  # the hub is still starting; the device is not kept waiting
        if "activation" in answer:
            return  # it has yet to be let in
        try:
            offer = await rollout.offer(check_in, room=self._has_room())
        except HubError as error:
            log.warning("device %s is offered no firmware: %s", check_in.device.id, error)
            return
        if offer is None:
            return
        self._expected[offer.ticket] = time.monotonic() + EXPECTED_S
        answer["firmware"] = {
            "version": offer.version,
            "url": _url(address, FIRMWARE_PATH, offer.ticket, *_file(offer)),
        }
        log.info("device %s is offered firmware %s in place of %s", offer.device_id, offer.version, offer.from_version)

    async def assets_url(self, board: str, name: str, address: Address) -> str | None:
        """Where a device fetches the assets file *name* of its *board*, for ``self.assets.set_download_url``; None when there
        is no such sound file."""
        item = await self._assets.find(board, name)
        return _url(address, ASSETS_PATH, board, f"{name}.bin") if item is not None else None

    async def close(self) -> None:
        await self._firmware.close()
        await self._assets.close()

    def _has_room(self) -> bool:
        now = time.monotonic()
        self._expected = {ticket: until for ticket, until in self._expected.items() if until > now}
        return self._running + len(self._expected) < self._most

    # -- downloads ------------------------------------------------------------------------------------------------

    async def _send_firmware(self, request: web.Request) -> web.StreamResponse:
        rollout = self._rollout()
        found = await rollout.file(request.match_info["ticket"]) if rollout is not None else None
        if rollout is None or found is None or _file(found[0]) != _asked(request):
            raise _nothing_here()
        offer, item = found
        assert item.content is not None
        self._expected.pop(offer.ticket, None)
        try:
            async with self._place():
                await rollout.fetched(offer)
                response, whole = await self._send(request, self._firmware, item, item.content.sha256)
                if whole:
                    await rollout.delivered(offer)
                    log.info("device %s has received firmware %s", offer.device_id, offer.version)
                return response
        except Rejected:
            await rollout.turned_away(offer)
            raise

    async def _send_assets(self, request: web.Request) -> web.StreamResponse:
        board, file = _asked(request)
        item = await self._assets.find(board, file.removesuffix(".bin")) if file.endswith(".bin") else None
        if item is None or item.content is None:
            raise _nothing_here()
        async with self._place():
            return (await self._send(request, self._assets, item, item.content.sha256))[0]

    async def _send(
        self, request: web.Request, shelf: Shelf[Any], item: Stocked[Any], sha256: str
    ) -> tuple[web.StreamResponse, bool]:
        try:
            descriptor = await shelf.open(item)
        except Changed as error:
            raise Rejected(503, f"{item.path.name}: {error.message}.", code=error.code) from error
        return await send_file(request, File(descriptor, item.stamp.bytes, sha256), shelf.read)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._places.acquire()
        except TimeoutError:
            raise Rejected(
                503, "Too many downloads are running.", code="downloads-busy", hint="Try again later."
            ) from None
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._places.release()


def _file(offer: Offer) -> tuple[str, str]:
    return offer.board, f"{offer.version}.bin"


def _asked(request: web.Request) -> tuple[str, str]:
    return request.match_info["board"], request.match_info["file"]


def _url(address: Address, *parts: str) -> str:
    path = "/".join([parts[0], *(quote(part, safe="") for part in parts[1:])])
    return f"http://{address.host}:{address.port}{path}"


def _nothing_here() -> Rejected:
    return Rejected(404, "There is no such file here for you.", code="no-such-file")


__all__ = ["ASSETS_PATH", "FIRMWARE_PATH", "FirmwareDoor"]
