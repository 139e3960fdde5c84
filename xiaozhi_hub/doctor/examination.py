"""The order in which the doctor looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from xiaozhi_hub.core.config import Config
from xiaozhi_hub.discovery import network_addresses
from xiaozhi_hub.discovery.service import host_of
from xiaozhi_hub.doctor.address import Way, look_at_name, look_at_ports, look_at_way
from xiaozhi_hub.doctor.finding import Finding, Level, error, ok, warning
from xiaozhi_hub.doctor.machine import look_at_machine
from xiaozhi_hub.doctor.parts import look_at_devices, look_at_parts

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
LATELY_DAYS = 7


async def examine(config: Config, root: Path = Path("/")) -> AsyncIterator[Finding]:
    """Look at the hub with *config* on this machine, and at the machine."""
    server = config.server
    everywhere = server.ip == EVERYWHERE
    here = LOOPBACK if everywhere else server.ip
    listens = False
    async for finding in look_at_ports(here, (server.http_port, server.port)):
        listens = listens or finding.code == "port"
        yield finding
    if listens:
        ways = [Way(address, server.http_port) for address in (network_addresses() if everywhere else (server.ip,))]
        if config.http.public_host:
            ways.append(Way(config.http.public_host, server.http_port))
        for way in ways:
            async for finding in look_at_way(way):
                yield finding
        if len(ways) > 1 and not config.http.public_host:
            yield ok("several_addresses", addresses=", ".join(way.host for way in ways))
        async for finding in _look_at_names(config, [way.host for way in ways if way.host != config.http.public_host]):
            yield finding
        async for finding in look_at_parts(here, server.http_port):
            yield finding
    came_lately = False
    async for finding in look_at_devices(config):
        came_lately = came_lately or (finding.code == "devices" and finding.values["days"] < LATELY_DAYS)
        yield finding
    for finding in await asyncio.to_thread(lambda: list(look_at_machine(config, root))):
        yield finding
    if not listens:
        yield warning("not_running")
    elif not came_lately:  # nobody has proven yet that the network lets devices through
        yield warning("isolation")


async def _look_at_names(config: Config, interfaces: list[str]) -> AsyncIterator[Finding]:
    if not config.discovery.enabled:
        yield ok("discovery_off")
    elif all(interface.startswith("127.") for interface in interfaces):
        yield warning("no_network")
    else:
        async for finding in look_at_name(host_of(config.hub.name), interfaces):
            yield finding


async def examine_from_afar(way: Way) -> AsyncIterator[Finding]:
    """Look at a hub on another machine, from the place of a device: on the same Wi-Fi, best."""
    if way.host.endswith(".local"):
        interfaces = network_addresses()
        heard = False
        async for finding in look_at_name(way.host, interfaces, own=False):
            heard = heard or finding.level is Level.OK
            yield finding
            if finding.level is Level.OK:
                way = Way(str(finding.values["address"]), way.port)
        if not heard:
            yield error("name_nowhere", host=way.host)
            return
    async for finding in look_at_way(way):
        yield finding


__all__ = ["examine", "examine_from_afar"]
