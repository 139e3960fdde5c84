"""Pairing as devices see it: the code in the answer to their check-in, the question whether they may go on, and the door."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiohttp import web

from xiaozhi_hub.core.i18n import Texts, language_of
from xiaozhi_hub.core.rate import RateLimits
from xiaozhi_hub.devices.pairing.admission import Refused
from xiaozhi_hub.devices.pairing.pairing import Pairing
from xiaozhi_hub.protocol.identity import DeviceIdentity, identify
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.web.devices.ota import BODY_LIMIT, BODY_SECONDS, PATHS
from xiaozhi_hub.web.requests.body import read_body
from xiaozhi_hub.web.requests.failures import Rejected
from xiaozhi_hub.web.requests.hosts import Address

log = logging.getLogger(__name__)
REFUSALS_BURST = 20.0
REFUSALS_PER_SECOND = 0.2
"""For each address. A device that is refused asks once for each time that somebody talks to it."""


class PairingDesk:
    """Asks *pairing* and puts its word into the forms that devices understand."""

    def __init__(self, pairing: Pairing, texts: Texts, language: str) -> None:
        self._pairing = pairing
        self._texts = texts
        self._language = language
        self._refusals = RateLimits(REFUSALS_PER_SECOND, REFUSALS_BURST)

    def routes(self) -> list[web.RouteDef]:
        # The firmware writes "activate" behind the OTA address and puts one slash between.
        paths = (f"{path.rstrip('/')}/activate{end}" for path in PATHS[:1] for end in ("", "/"))
        return [web.post(path, self._activate) for path in paths]

    async def withhold(self, check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        """Take the empty token out of the answer. Must come first: it is what remains if the decision fails or takes too long.

        An empty token would erase the one that the device has, and it checks in only once for each start.
        """
        answer["websocket"].pop("token", None)

    async def contribute(self, check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        """Add the token to the answer to a check-in, or the code. Must come last: who waits gets nothing else."""
        admission = await self._pairing.check_in(check_in)
        if admission.token is not None:
            answer["websocket"]["token"] = admission.token
            if "mqtt" in answer:  # a device proves the same on every transport
                answer["mqtt"].setdefault("password", admission.token)
            return
        if admission.waiting is None and not admission.refused:
            return
        answer["websocket"]["token"] = ""
        answer.pop("mqtt", None)
        if "firmware" in answer:
            answer["firmware"]["url"] = ""
        language = language_of(check_in.language, self._language)
        waiting = admission.waiting
        if waiting is None:
            # Without a code the device asks silently, again and again, until there is room for it.
            message = self._texts.text("pairing.full", language)
            answer["activation"] = {"message": message, "challenge": "later"}
            return
        answer["activation"] = {
            "code": waiting.code,
            "message": self._texts.text("pairing.message", language, code=waiting.code),
            "challenge": waiting.challenge,
        }

    async def _activate(self, request: web.Request) -> web.Response:
        """200 when the device should check in again, 202 while it waits.

        The body may be anything. Version 2 signs the challenge with a key that only the maker of the device knows, so
        there is nothing to check it with.
        """
        device = identify(request.headers, request.remote or "")
        await read_body(request, BODY_LIMIT, BODY_SECONDS)
        done = self._pairing.is_activated(device)
        return web.json_response({"status": "done" if done else "pending"}, status=200 if done else 202)

    async def admit(self, request: web.Request, device: DeviceIdentity) -> None:
        """Let a device through the door, or raise `Rejected`: 401, or 429 for an address that tries and tries."""
        await self.admit_token(device, shown_token(request.headers.get("Authorization", "")))

    async def admit_token(self, device: DeviceIdentity, token: str) -> None:
        """As `admit`, for who shows the token in another way."""
        try:
            await self._pairing.admit(device, token)
        except Refused as error:
            if not self._refusals.allows(device.address, asyncio.get_running_loop().time()):
                # A right token is still good: honest devices may share the address, behind a proxy or a container's network.
                raise Rejected(
                    429, "Too many wrong tokens from this address.", code="too-many-tries", hint="Wait a minute."
                ) from error
            raise Rejected(401, error.message, code=error.code, hint=error.hint) from error


def shown_token(header: str) -> str:
    """Return the token of an ``Authorization`` header; empty when there is none of the form that devices send."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


__all__ = ["PairingDesk", "shown_token"]
