"""Reaches people through their devices without having been asked."""

from __future__ import annotations

import asyncio
import time

from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.protocol.hub_messages import Alert
from xiaozhi_hub.protocol.transport import Transports

ALERT_SECONDS = 4.0
"""Between two alerts on a sleeping device: each is a short sound and the text on its display."""


class DeviceAnnouncer:
    """Implements `xiaozhi_hub.plugins.api.Announcer` over the connected devices, and over those that sleep but can be sent
    messages.

    Made before the devices are, because integrations are given it at their start; `attach` joins the two.
    """

    def __init__(self, texts: Texts, transports: Transports) -> None:
        self._texts = texts
        self._transports = transports
        self._devices: DeviceRegistry | None = None

    def attach(self, devices: DeviceRegistry) -> None:
        self._devices = devices

    def reachable(self) -> tuple[str, ...]:
        """Ids of the devices that could hear something now, those in use last first."""
        if self._devices is None:
            return ()
        sessions = sorted(self._devices.sessions.values(), key=lambda session: session.active_at, reverse=True)
        talking = (session.device_id for session in sessions)
        return tuple(dict.fromkeys((*talking, *self._transports.awake())))

    async def ring(self, device_id: str, text: str, language: str, *, rounds: int = 3) -> bool:
        """Play a chime and say *text*, up to *rounds* times. A sleeping device cannot be made to speak: it sounds an alert and
        shows *text* instead. False when the device could not be reached."""
        session = self._devices.sessions.get(device_id) if self._devices is not None else None
        if session is not None:
            return await session.announce(text, language, rounds) is not None
        return await self._alert(device_id, text, language, rounds)

    async def _alert(self, device_id: str, text: str, language: str, rounds: int) -> bool:
        alert = Alert(self._texts.text("spoken.alert", language), text, "neutral")
        if not await self._transports.push(device_id, alert):
            return False
        for _ in range(rounds - 1):
            await asyncio.sleep(ALERT_SECONDS)
            if self._devices is None or device_id in self._devices.sessions:
                break  # somebody is there and has seen it
            if not await self._transports.push(device_id, alert):
                break
        return True

    def keep_line(self, device_id: str, key: str, until: float | None) -> None:
        """Keep the device's link open until *until* (seconds since the epoch); None withdraws it."""
        if self._devices is None:
            return
        if until is not None:  # the wall clock may be set meanwhile; the loop's cannot
            until = asyncio.get_running_loop().time() + max(0.0, until - time.time())
        self._devices.keep_line(device_id, key, until)
