"""How devices reach the hub: what it tells them later has to lead the same way."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.web.requests.hosts import Address

_REMEMBERED = 4096


class Reached:
    """Remembers where devices have last checked in."""

    def __init__(self) -> None:
        self._addresses: OrderedDict[str, Address] = OrderedDict()

    async def contribute(self, check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        """Take note; adds nothing to the answer (a `Contribution`)."""
        self._addresses[check_in.device.id] = address
        self._addresses.move_to_end(check_in.device.id)
        if len(self._addresses) > _REMEMBERED:
            self._addresses.popitem(last=False)

    def get(self, device_id: str) -> Address | None:
        """Host and port, as the device was told them; None when it has not checked in since the hub started."""
        return self._addresses.get(device_id)


__all__ = ["Reached"]
