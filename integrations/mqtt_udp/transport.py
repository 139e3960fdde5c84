"""What the hub knows of this way: what to tell devices about it, and how to reach those that sleep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xiaozhi_hub.plugins.api import CheckIn, HubMessage, Transport

from .credentials import Credentials
from .device import topic_of
from .server import MqttServer

PUBLISH_TOPIC = "device-server"
"""Under which devices publish. The hub takes whatever they use."""


class MqttTransport(Transport):
    """Chosen with ``devices: <id>: transport: mqtt``."""

    name = "mqtt"

    def __init__(self, server: MqttServer, credentials: Credentials, keepalive_s: int) -> None:
        self._server = server
        self._credentials = credentials
        self._keepalive_s = keepalive_s

    def answer(self, check_in: CheckIn, host: str) -> Mapping[str, Any]:
        device = check_in.device
        client_id = device.client_id or device.id
        self._server.hosts[device.id] = host
        return {
            "mqtt": {
                "endpoint": f"{host}:{self._server.port}",
                "client_id": client_id,
                "username": device.id,
                "password": self._credentials.password(device.id, client_id),
                "publish_topic": PUBLISH_TOPIC,
                "subscribe_topic": topic_of(device.id),  # the firmware does not; other clients do
                "keepalive": self._keepalive_s,
            }
        }

    def awake(self) -> tuple[str, ...]:
        return tuple(self._server.devices)

    async def push(self, device_id: str, message: HubMessage) -> bool:
        device = self._server.devices.get(device_id)
        return device is not None and await device.push(message)
