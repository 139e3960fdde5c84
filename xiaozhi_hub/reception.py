"""Receives devices, on whatever transport: who may talk to the hub, whose conversation is held, and how all of them end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.events import DeviceForgotten, DeviceRenamed, DeviceRevoked
from xiaozhi_hub.core.forgetting import Forget, Forgetting
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.devices.acquaintance import Acquaintance
from xiaozhi_hub.devices.pairing.pairing import Pairing
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.dialog.assistants.assistants import Assistants
from xiaozhi_hub.display.lettering import Lettering
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.store.devices import Device
from xiaozhi_hub.web.devices.websocket import DeviceDoor


@dataclass(frozen=True, slots=True)
class ReceptionParts:
    """Who is asked about devices, and who is told of them."""

    pairing: Pairing
    acquaintance: Acquaintance
    device_tools: DeviceTools
    assistants: Assistants
    lettering: Lettering
    scope: TaskScope
    forgetting: Forgetting
    built: asyncio.Event
    """Set when *devices* may be asked."""
    devices: Callable[[], DeviceRegistry]
    door: Callable[[], DeviceDoor]
    nobody: str
    """The id of a device that is none: the hub's own self-test."""


class Reception:
    """Open from the start; a link that comes early waits until the hub is built."""

    def __init__(self, parts: ReceptionParts) -> None:
        self._parts = parts
        self._talking: set[asyncio.Future[None]] = set()

    def open(self, known: Iterable[Device]) -> None:
        """Take in who is known."""
        for device in known:
            self._parts.device_tools.name(device.id, device.name, device.area)

    async def serve_link(self, link: Link) -> None:
        """Hold the conversation of *link*, whose hellos have been exchanged; returns when it has ended."""
        await self._parts.built.wait()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._talking.add(ended)
        try:
            await self._parts.devices().serve(self._parts.lettering.letter(link))
        finally:
            self._talking.discard(ended)
            ended.set_result(None)

    def admits(self, device: DeviceIdentity) -> bool:
        """May this device, which has proven to a transport who it is, talk to the hub?"""
        return device.id != self._parts.nobody and self._parts.pairing.is_welcome(device)

    async def hang_up(self, seconds: float) -> None:
        """End all conversations, and wait for their ends, but no longer than *seconds*."""
        await self._parts.door().close()
        await self._parts.devices().close()
        if self._talking:
            await asyncio.wait(self._talking, timeout=seconds)

    # -- what becomes of devices ----------------------------------------------------------------------------------

    def watch(self, bus: Bus) -> Iterator[Callable[[], None]]:
        """Follow what is decided about devices; yields what ends that."""
        yield bus.watch(DeviceRevoked, self._revoked)
        yield bus.watch(DeviceRenamed, self._renamed)
        later = self._parts.forgetting.later
        yield bus.watch(DeviceForgotten, lambda event: self._parts.acquaintance.forget(event.device_id, later))
        yield bus.watch(DeviceForgotten, lambda event: self._parts.assistants.forget(event.device_id))

    async def forget(self, what: Forget) -> None:
        """Let go of what is known of devices that are gone."""
        if what.gone and what.devices is not None:
            for device_id in what.devices:
                self._parts.acquaintance.forget(device_id)
                self._parts.assistants.forget(device_id)

    def _revoked(self, event: DeviceRevoked) -> None:
        async def shut_out() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._parts.door().hang_up(event.device_id, "shut out"))
                session = self._parts.devices().sessions.get(event.device_id)
                if session is not None:  # on whatever transport
                    group.create_task(session.link.close("shut out"))

        self._parts.scope.start(shut_out(), name="shut-out")

    def _renamed(self, event: DeviceRenamed) -> None:
        self._parts.acquaintance.placed(event.device_id, event.area)
        self._parts.device_tools.name(event.device_id, event.name, event.area)


__all__ = ["Reception", "ReceptionParts"]
