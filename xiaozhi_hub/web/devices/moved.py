"""The hub has moved to another machine: devices that still ask here are sent there.

Only the new hub can say how it wants to be entered, so it is asked on the device's behalf and its answer is passed on. When it
does not answer in time the device still learns its address.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from xiaozhi_hub.protocol.ota import BadAnswer, CheckIn, encode_answer, websocket_url
from xiaozhi_hub.web.requests.hosts import Address

log = logging.getLogger(__name__)
ASK_S = 0.7
"""For the new hub's answer; the device's own is due soon after."""
_PATH = "/xiaozhi/ota/"
_RELAYED = " (relayed)"
"""Behind the name of a device's program when another hub asks for it: two hubs that send to each other must not go round."""
_MOST_BYTES = 16 * 1024


class Forwarding:
    """Answers check-ins with the address of the hub at *moved_to* (``http://host:port``)."""

    def __init__(self, moved_to: str) -> None:
        parts = urlsplit(moved_to)
        self._url = f"{moved_to}{_PATH}"
        self._host, self._port = parts.hostname or "", parts.port or 80
        self.told: Callable[[str, float], None] | None = None
        """Called with the id of each device that was told, and when; must not block."""
        self._http: aiohttp.ClientSession | None = None

    async def contribute(self, check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        """Put the new hub's answer in place of ours (a `Contribution`; should be the only one)."""
        if check_in.device.user_agent.endswith(_RELAYED):
            return
        theirs = await self._ask(check_in)
        if theirs is not None:
            answer.clear()
            answer.update(theirs)
        else:
            answer["websocket"] = {"url": websocket_url(self._host, self._port), "token": "", "version": 1}
        log.info("device %s was told that the hub has moved to %s", check_in.device.id, self._url)
        if self.told is not None:
            self.told(check_in.device.id, time.time())

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _ask(self, check_in: CheckIn) -> dict[str, Any] | None:
        if self._http is None:
            self._http = aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar())
        device = check_in.device
        headers = {
            "Device-Id": device.id,
            "Client-Id": device.client_id,
            "Activation-Version": "1",
            "User-Agent": f"{device.user_agent}{_RELAYED}".strip(),
            "Accept-Language": check_in.language,
        }
        body = {
            "language": check_in.language,
            "mac_address": check_in.mac,
            "chip_model_name": check_in.chip,
            "application": {"name": check_in.project, "version": check_in.firmware},
            "board": {"name": check_in.board, "ip": check_in.ip, "ssid": check_in.ssid, "mac": check_in.mac},
        }
        try:
            async with (
                asyncio.timeout(ASK_S),
                self._http.post(self._url, json=body, headers=headers, allow_redirects=False) as reply,
            ):
                theirs = json.loads(await _start_of(reply))
                if reply.status == 200 and isinstance(theirs, dict) and _leads_somewhere(theirs):
                    encode_answer(theirs)
                    return theirs
                log.warning("the hub at %s gives no usable answer (status %d)", self._url, reply.status)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError, BadAnswer) as error:
            log.warning("the hub at %s does not answer: %s", self._url, error or type(error).__name__)
        return None


async def _start_of(reply: aiohttp.ClientResponse) -> bytes:
    """As much of an answer as a hub's may have, whatever its length is said to be."""
    data = bytearray()
    async for piece in reply.content.iter_any():
        data += piece
        if len(data) > _MOST_BYTES:
            break
    return bytes(data[:_MOST_BYTES])


def _leads_somewhere(answer: dict[str, Any]) -> bool:
    websocket = answer.get("websocket")
    return isinstance(websocket, dict) and isinstance(websocket.get("url"), str)


__all__ = ["Forwarding"]
