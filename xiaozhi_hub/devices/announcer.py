"""Reaches people through their devices without having been asked."""

from __future__ import annotations

import asyncio
import time

from xiaozhi_hub.devices.registry import DeviceRegistry


class DeviceAnnouncer:
    """Implements `xiaozhi_hub.plugins.api.Announcer` over the connected devices.

    Made before the devices are, because integrations are given it at their start; `attach` joins the two.
    """

    def __init__(self) -> None:
        self._devices: DeviceRegistry | None = None

    def attach(self, devices: DeviceRegistry) -> None:
        self._devices = devices

    def reachable(self) -> tuple[str, ...]:
        """Ids of the devices that could hear something now, those in use last first."""
        if self._devices is None:
            return ()
        sessions = sorted(self._devices.sessions.values(), key=lambda session: session.active_at, reverse=True)
        return tuple(session.device_id for session in sessions)

    async def ring(self, device_id: str, text: str, language: str, *, rounds: int = 3) -> bool:
        """Play a chime and say *text*, up to *rounds* times. False when the device could not be reached."""
        session = self._devices.sessions.get(device_id) if self._devices is not None else None
        return session is not None and await session.announce(text, language, rounds)

    def keep_line(self, device_id: str, key: str, until: float | None) -> None:
        """Keep the device's link open until *until* (seconds since the epoch); None withdraws it."""
        if self._devices is None:
            return
        if until is not None:  # the wall clock may be set meanwhile; the loop's cannot
            until = asyncio.get_running_loop().time() + max(0.0, until - time.time())
        self._devices.keep_line(device_id, key, until)
