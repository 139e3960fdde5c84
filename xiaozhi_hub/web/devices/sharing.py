"""Several hubs that share devices: each device is sent to one of them, always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.web.requests.hosts import Address


class Sharing:
    """Puts one of *urls* into answers to check-ins. All hubs with the same list choose the same one for a device."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = tuple(urls)

    async def contribute(self, check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        if self._urls:
            answer["websocket"]["url"] = choose(self._urls, check_in.device.id)


def choose(urls: Sequence[str], device_id: str) -> str:
    """Return the address for a device. When one is added or removed, only the devices that go to or come from it move."""
    return max(urls, key=lambda url: hashlib.sha256(f"{url}\n{device_id}".encode()).digest())


__all__ = ["Sharing", "choose"]
