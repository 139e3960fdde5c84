"""Tells a device about another way to the hub, where the owner has chosen one for it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.protocol.transport import WEBSOCKET, Transports
from xiaozhi_hub.web.devices.ota import Contribution
from xiaozhi_hub.web.requests.hosts import Address

log = logging.getLogger(__name__)
STARTING_SECONDS = 0.8
"""A device that boots together with the hub waits so long for an integration to start; then it gets the WebSocket only,
which works until its next check-in."""


def transport_offer(transports: Transports, chosen: Callable[[str], str]) -> Contribution:
    """*chosen* tells the name of the transport that the owner wants for a device."""
    missed: set[tuple[str, str]] = set()

    async def offer(check_in: CheckIn, address: Address, answer: dict[str, Any]) -> None:
        device_id = check_in.device.id
        name = chosen(device_id)
        if name == WEBSOCKET or "activation" in answer:  # who is not let in yet gets no credentials
            return
        transport = await transports.wait_for(name, STARTING_SECONDS)
        if transport is not None:
            answer.update(transport.answer(check_in, address.host))
        elif (device_id, name) not in missed:
            missed.add((device_id, name))
            log.warning("device %s: no integration brings the transport %s; it gets the WebSocket", device_id, name)

    return offer
