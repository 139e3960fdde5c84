"""A link that takes everything and answers nothing: for tests of what devices may say at worst."""

from __future__ import annotations

from collections.abc import AsyncIterator

from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.protocol.device_messages import DeviceMessage
from xiaozhi_hub.protocol.hub_messages import HubMessage
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.link import Link


class Deaf(Link):
    """A link into nothing."""

    device = DeviceIdentity("02:00:00:00:00:01")
    closed = False

    def __init__(self) -> None:
        self.sent: list[HubMessage] = []

    def receive(self) -> AsyncIterator[DeviceMessage | Packet]:
        raise NotImplementedError

    async def send(self, message: HubMessage) -> None:
        message.json("")
        self.sent.append(message)

    async def send_audio(self, packet: Packet) -> None: ...

    async def close(self, reason: str) -> None: ...
