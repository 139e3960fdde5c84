"""What a device knows of its hub: where to connect, and whether it is let in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xiaozhi_hub.testing.activation import Activation, ask_activation, read_activation, wait_for_activation
from xiaozhi_hub.testing.check_in import Address, check_in
from xiaozhi_hub.testing.device_log import DeviceLog
from xiaozhi_hub.testing.profile import FirmwareProfile


class Registration:
    """Learns the address by checking in at *ota_url*, or was given it."""

    def __init__(
        self,
        ota_url: str | None,
        address: Address | None,
        device_id: str,
        client_id: str,
        language: str,
        profile: FirmwareProfile,
        log: DeviceLog,
    ) -> None:
        self.address = address
        """Where to connect; None before the first check-in."""
        self.ota_url = ota_url
        self.answer: dict[str, Any] = {}
        """To the last check-in, whole."""
        self.activation: Activation | None = None
        """What the device shows while the hub makes it wait for approval: until then it cannot be used."""
        self._who = (device_id, client_id, language, profile)
        self._profile = profile
        self._log = log

    async def check_in(self) -> Address:
        """Ask the hub at the OTA address where to connect. Raises `NoLink`."""
        assert self.ota_url is not None
        self._log.note("→", f"check-in at {self.ota_url}")
        before = self.address
        address, self.answer = await check_in(self.ota_url, *self._who)
        if before is not None and "token" not in self.answer["websocket"]:  # what is left out stays in its memory
            address = replace(address, token=before.token)
        self.address = address
        self.activation = read_activation(self.answer)
        if self.activation is not None:
            self._log.note("←", f"wait for approval, code {self.activation.code}: {self.activation.message}")
        elif address.mqtt is not None:
            self._log.note("←", f"connect to MQTT at {address.mqtt.host}:{address.mqtt.port}")
        else:
            self._log.note("←", f"connect to {address.url}")
        return address

    async def activate(self) -> int:
        """Ask once whether the hub lets the device in; return the status of the answer."""
        return await self._ask(self.activation.challenge if self.activation is not None else "")

    async def wait_for_yes(self) -> None:
        """Ask until the hub says yes, or as often as the firmware does before it checks in again."""
        assert self.activation is not None
        await wait_for_activation(self.activation, self._ask, self._profile)

    async def _ask(self, challenge: str) -> int:
        assert self.ota_url is not None
        status = await ask_activation(self.ota_url, *self._who, challenge)
        self._log.note("←", f"activation: {status}")
        return status


__all__ = ["Registration"]
