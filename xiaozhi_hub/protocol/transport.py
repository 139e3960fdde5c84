"""Other ways to the hub than the WebSocket, contributed by integrations."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from xiaozhi_hub.errors import EntryError
from xiaozhi_hub.protocol.device_messages import DeviceMessage
from xiaozhi_hub.protocol.hub_messages import HubMessage
from xiaozhi_hub.protocol.ota import CheckIn

log = logging.getLogger(__name__)

WEBSOCKET = "websocket"
"""The way that every device has; it needs no `Transport`."""
Listener = Callable[[str, DeviceMessage], None]
"""Told the id of a device and what it said while no conversation was open."""


class Transport(ABC):
    """One such way. Conversations over it are links, given to `HubApi.serve_link`."""

    name: str
    """What the owner writes at ``devices: <id>: transport:``."""

    @abstractmethod
    def answer(self, check_in: CheckIn, host: str) -> Mapping[str, Any]:
        """Return what to add to the answer to the check-in of a device for which the owner chose this way.

        *host* is where the device has reached the hub. The part ``websocket`` is in the answer already and stays: a device
        must always find one (firmware ota.cc keeps what it was told once).
        """

    @abstractmethod
    def awake(self) -> tuple[str, ...]:
        """Ids of the devices that `push` would reach."""

    @abstractmethod
    async def push(self, device_id: str, message: HubMessage) -> bool:
        """Send a message to a device that may be idle; False when it cannot be reached, or must not be sent this now."""


class Transports:
    """Those that are there. Integrations come and go; nobody may keep one of these for long."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Transport, str]] = {}
        self._news = asyncio.Event()
        self._listeners: list[Listener] = []

    def add(self, transport: Transport, source: str) -> None:
        """Take in a transport. Raises `EntryError` for a name that is taken."""
        if transport.name == WEBSOCKET or transport.name in self._known:
            raise EntryError(f"There is a transport called {transport.name} already.", code="transport-known")
        self._known[transport.name] = (transport, source)
        news, self._news = self._news, asyncio.Event()
        news.set()

    def remove_source(self, source: str) -> None:
        self._known = {name: known for name, known in self._known.items() if known[1] != source}

    def get(self, name: str) -> Transport | None:
        known = self._known.get(name)
        return known[0] if known is not None else None

    async def wait_for(self, name: str, seconds: float) -> Transport | None:
        """As `get`, but give an integration that is just starting *seconds* to be there."""
        try:
            async with asyncio.timeout(seconds):
                while (transport := self.get(name)) is None:
                    await self._news.wait()
        except TimeoutError:
            return None
        return transport

    # -- devices that sleep ---------------------------------------------------------------------------------------

    def awake(self) -> tuple[str, ...]:
        """Ids of the devices that `push` would reach, in a conversation or not."""
        return tuple(dict.fromkeys(id for transport, _ in self._known.values() for id in transport.awake()))

    async def push(self, device_id: str, message: HubMessage) -> bool:
        """Send *message* to a device, idle or not. False when no transport reaches it, or when it must not be sent now."""
        for transport, _ in tuple(self._known.values()):
            if await transport.push(device_id, message):
                return True
        return False

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Be told what devices say outside of conversations, such as answers to what was pushed. The returned function
        ends that."""
        self._listeners.append(listener)

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return stop

    def heard(self, device_id: str, message: DeviceMessage) -> None:
        """A device said something although no conversation is open."""
        for listener in tuple(self._listeners):
            try:
                listener(device_id, message)
            except Exception:  # the transport must go on serving devices, whoever listens
                log.exception("a listener failed on what %s said", device_id)


__all__ = ["WEBSOCKET", "Transport", "Transports"]
