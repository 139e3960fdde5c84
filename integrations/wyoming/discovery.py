"""Finds services on the network, and tells it of the hub's own (mDNS, RFC 6763)."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import ifaddr
from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from xiaozhi_hub.plugins.api import HubApi, TaskScope

from .config import PRIVATE
from .follow import Following
from .offers import Offering
from .service import Service

log = logging.getLogger(__name__)

SERVICE_TYPE = "_wyoming._tcp.local."
MOST_FOUND = 16
RESOLVE_MS = 3000
CLOSE_S = 1.5
_LONGEST_NAME = 40
_NETWORKS = [ipaddress.ip_network(each) for each in PRIVATE]


class Discovery:
    """What is said and heard on the network about Wyoming services, while the block of `opened` is entered."""

    def __init__(self, zc: AsyncZeroconf, addresses: tuple[str, ...], name: str, scope: TaskScope) -> None:
        self._zc = zc
        self._addresses = addresses
        self._name = name
        self._own_port = 0
        self._scope = scope
        self._found: dict[str, str] = {}
        """Names of services as the hub calls them, by those they announce."""
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def opened(cls, hub: HubApi, scope: TaskScope) -> AsyncIterator[Discovery | None]:
        """Listen on the hub's own addresses; None when the network does not allow it, which is logged."""
        ip = hub.config.server.ip
        addresses = (ip,) if ip != "0.0.0.0" else _addresses()
        try:
            zc = AsyncZeroconf(
                interfaces=list(addresses) if ip != "0.0.0.0" else InterfaceChoice.All, ip_version=IPVersion.V4Only
            )
        except (OSError, ZeroconfError) as error:
            log.warning("Wyoming services can be neither found nor announced: %s", error)
            yield None
            return
        try:
            await zc.zeroconf.async_wait_for_start()
            yield cls(zc, addresses, hub.config.hub.name, scope)
        finally:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await zc.async_close()
            except (OSError, ZeroconfError, TimeoutError) as error:
                log.debug("leaving the network: %s", error)

    async def announce(self, port: int) -> None:
        """Tell the network of the hub's own services until the block ends. What fails is logged."""
        self._own_port = port
        info = AsyncServiceInfo(
            SERVICE_TYPE,
            f"{self._name}.{SERVICE_TYPE}",
            port=port,
            addresses=[socket.inet_aton(address) for address in self._addresses],
            server=f"{self._name}-wyoming.local.",
        )
        try:
            await self._zc.async_register_service(info, allow_name_change=True)
        except (OSError, ZeroconfError) as error:
            log.warning("the Wyoming services of the hub are not announced: %s", error)

    @asynccontextmanager
    async def browsing(self, following: Following, how: Offering, answer_s: float) -> AsyncIterator[None]:
        """Use the services that announce themselves while the block is entered."""

        def changed(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
            gone = state_change is ServiceStateChange.Removed
            work = self._drop(name, following) if gone else self._add(name, following, how, answer_s)
            self._scope.start(work, name="discovered")

        browser = AsyncServiceBrowser(self._zc.zeroconf, [SERVICE_TYPE], handlers=[changed])
        try:
            yield
        finally:
            await browser.async_cancel()

    async def _add(self, name: str, following: Following, how: Offering, answer_s: float) -> None:
        """Ask where a service is, and follow it if it is in this house."""
        async with self._turn:
            info = AsyncServiceInfo(SERVICE_TYPE, name)
            if not await info.async_request(self._zc.zeroconf, RESOLVE_MS) or not info.port:
                return
            address = next((each for each in info.parsed_addresses(IPVersion.V4Only) if _is_private(each)), None)
            if address is None:
                log.warning("the Wyoming service %s is not in this network and is not used", name)
                return
            if info.port == self._own_port and address in self._addresses:
                return
            uri = f"tcp://{address}:{info.port}"
            if (known := self._found.pop(name, None)) is not None:  # it has moved
                await following.drop(known)
            if uri in following.uris or len(self._found) >= MOST_FOUND:
                return
            plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name.removesuffix(f".{SERVICE_TYPE}"))[:_LONGEST_NAME]
            own = plain if plain not in following.names else f"{plain}-{address}:{info.port}"
            self._found[name] = own
            log.info("the Wyoming service %s was found at %s", own, uri)
            await following.add(Service(own, uri, answer_s), how)

    async def _drop(self, name: str, following: Following) -> None:
        async with self._turn:
            if (known := self._found.pop(name, None)) is not None:
                log.info("the Wyoming service %s has left the network", known)
                await following.drop(known)


def _addresses() -> tuple[str, ...]:
    """The IPv4 addresses of this machine; loopback only where there is nothing else."""
    every = [str(each.ip) for adapter in ifaddr.get_adapters() for each in adapter.ips if each.is_IPv4]
    return tuple(a for a in every if not ipaddress.ip_address(a).is_loopback) or tuple(every)


def _is_private(address: str) -> bool:
    return any(ipaddress.ip_address(address) in network for network in _NETWORKS)
