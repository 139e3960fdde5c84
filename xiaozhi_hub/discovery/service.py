"""What the hub calls itself in mDNS, shared by those who announce it and those who look for it."""

from __future__ import annotations

from xiaozhi_hub.protocol.ota import WEBSOCKET_PATH

SERVICE_TYPE = "_xiaozhi._tcp.local."
OTA_PATH = "/xiaozhi/ota/"


__all__ = ["OTA_PATH", "SERVICE_TYPE", "WEBSOCKET_PATH", "host_of", "instance_of"]


def host_of(name: str) -> str:
    """The host name under which the hub *name* is reached, as it is written in a URL."""
    return f"{name}.local"


def instance_of(name: str) -> str:
    """The full service name of the hub *name*."""
    return f"{name}.{SERVICE_TYPE}"
