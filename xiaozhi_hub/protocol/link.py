"""One transport connection of a device, whatever carries it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.protocol.device_messages import DeviceHello, DeviceMessage
from xiaozhi_hub.protocol.hub_messages import HubMessage
from xiaozhi_hub.protocol.identity import DeviceIdentity


class Link(ABC):
    """Used once: it exists from the exchange of hellos until it ends, and is never opened again."""

    device: DeviceIdentity
    hello: DeviceHello
    session_id: str
    sent_at: float
    """When something was last sent (loop time)."""
    close_reason: str = ""
    """Why it ended, empty while it lives."""

    waits_for_wake: bool = False
    """It streams all the time, and the hub is to wait for a wake word in that."""
    shows_captions: bool = False
    """It wants to know what has been heard so far while the person still speaks (`SttSoFar`)."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """It has ended, whoever ended it."""

    @abstractmethod
    def receive(self) -> AsyncIterator[DeviceMessage | Packet]:
        """Yield what the device says until the link ends. What breaks the rules is dropped and counted here.

        A packet's length is never 0: an empty or broken one counts as long as the device's hello says packets are.
        """

    @abstractmethod
    async def send(self, message: HubMessage) -> None:
        """Send a message. Nothing happens when the link has ended: the reader of `receive` learns of that."""

    @abstractmethod
    async def send_audio(self, packet: Packet) -> None:
        """Send one Opus packet; as `send`."""

    @abstractmethod
    async def close(self, reason: str) -> None:
        """End the link; `receive` then ends too. Safe to call more than once, the first reason counts."""


__all__ = ["DeviceIdentity", "Link"]
