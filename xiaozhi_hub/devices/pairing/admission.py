"""What comes of it when a device asks to come in, and how its identity is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from xiaozhi_hub.devices.pairing.waiting import Waiting
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.identity import DeviceIdentity


class PairingError(HubError):
    """What the owner asked for cannot be done; ``code`` says why."""


class Refused(HubError):
    """A device may not come in."""

    code = "device-refused"


@dataclass(frozen=True, slots=True)
class Admission:
    """What a device that checks in is told."""

    token: str | None = None
    """To connect with; None leaves the device the one it has."""
    waiting: Waiting | None = None
    """It has to wait, and shows this code."""
    refused: bool = False
    """It has to wait without a code: there is no room for more, or it uses a name of the hub's own."""


def fingerprint(device: DeviceIdentity) -> str:
    """Return what is kept of a device's Client-Id, for this device only; empty when it sends none."""
    if not device.client_id:
        return ""
    return hashlib.sha256(f"{device.id}\n{device.client_id}".encode()).hexdigest()


__all__ = ["Admission", "PairingError", "Refused", "fingerprint"]
