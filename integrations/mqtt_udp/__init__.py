"""Devices over MQTT and UDP, for those that shall be reached while they sleep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing

from xiaozhi_hub.plugins.api import Entry, HubApi, TaskScope, Transport, hookimpl

from .credentials import load_credentials
from .server import MqttServer
from .transport import MqttTransport
from .udp import UdpPort


@hookimpl
@asynccontextmanager
async def entry_context(hub: HubApi, entry: Entry) -> AsyncIterator[None]:
    config = hub.config
    credentials = await asyncio.to_thread(
        load_credentials, hub.data_dir / "mqtt_udp.key", config.server.auth_key.reveal()
    )
    async with TaskScope("mqtt_udp") as scope:
        with closing(await UdpPort.bind(config.server.ip, entry.options["udp_port"])) as udp:
            async with MqttServer.listening(hub, credentials, udp, scope, entry.options["port"]) as server:
                entry.runtime = MqttTransport(server, credentials, entry.options["keepalive_s"])
                yield


@hookimpl
def register_transports(register: Callable[[Transport], None], entry: Entry) -> None:
    register(entry.runtime)
