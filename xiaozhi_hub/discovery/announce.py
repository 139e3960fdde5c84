"""Announces the hub: the host name ``<name>.local`` and the service ``_xiaozhi._tcp.local.``

Devices take the first address of an answer, so an answer must hold exactly one: the one on their own network. That is
why each interface has a responder of its own that knows only this interface's address.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import sys
from collections.abc import Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Self

from zeroconf import Error as ZeroconfError
from zeroconf import RecordUpdate, RecordUpdateListener, ServiceInfo, Zeroconf
from zeroconf.asyncio import AsyncZeroconf

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.discovery.ask import MDNS_GROUP, ask
from xiaozhi_hub.discovery.dns import TYPE_A, TYPE_SRV
from xiaozhi_hub.discovery.interfaces import LOOPBACK, interface_addresses, own_addresses
from xiaozhi_hub.discovery.service import OTA_PATH, SERVICE_TYPE, WEBSOCKET_PATH, host_of, instance_of

log = logging.getLogger(__name__)
LOOK_S = 3.0
"""Seconds between two looks at the interfaces."""
FIRST_LOOK_S = 3.0
"""How long entering `Discovery` waits for the name to be settled."""
CLOSE_S = 2.0
PROBE_S = 0.7
PROBE_AGAIN_AFTER = (0.25, 0.25)  # RFC 6762 §8.1: three probes, 250 ms apart
NAMES_TRIED = 20
PATIENCE_S = 15.0
"""How long the one of two hubs that may keep the name waits for the other to give way before it gives way itself."""
_LOOKING = "interfaces"
"""What is said to have failed where it is no single interface."""
_IP_MULTICAST_ALL = 49  # linux/in.h; not among Python's constants


def network_addresses() -> tuple[str, ...]:
    """The addresses under which the hub is reached, one for each interface; loopback when there is nothing else."""
    return interface_addresses() or (LOOPBACK,)


class Discovery:
    """Announces the hub while its block is entered; what fails is tried again and never raised.

    When another machine owns the name, the next free one is taken (``<name>-2``, ``-3`` …): read `host_name` when you
    need it, do not keep it. Interfaces may come and go; *only* restricts the hub to some own addresses.
    """

    def __init__(
        self, name: str, port: int, version: str, *, only: Sequence[str] | None = None, look_s: float = LOOK_S
    ) -> None:
        self._name = name
        self._port = port
        self._version = version
        self._only = None if only is None else tuple(only)
        self._look_s = look_s
        self._number = 1
        self._responders: dict[str, _Responder] = {}
        self._failures: dict[str, str] = {}
        self._no_name = False
        self._settled = asyncio.Event()
        self._look_now = asyncio.Event()
        self._scope = TaskScope("discovery")

    @property
    def name(self) -> str:
        """The name the hub has on this network: the wished one, or the next that was free."""
        return self._name if self._number == 1 else f"{self._name}-{self._number}"

    @property
    def host_name(self) -> str:
        """The name by which the hub is reached: ``xiaozhi-hub.local``."""
        return host_of(self.name)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the hub is announced, one address for each interface."""
        return tuple(self._responders)

    @property
    def problem(self) -> str | None:
        """Why devices may be unable to find the hub by name; None while all is well."""
        if self._no_name:
            return f"Other machines own the name {host_of(self._name)} and the next {NAMES_TRIED - 1}."
        if self._failures:
            return "; ".join(f"{address}: {reason}" for address, reason in self._failures.items())
        if self._only is None and set(self._responders) == {LOOPBACK}:
            return "This machine has no network interface with an IPv4 address."
        return None

    async def __aenter__(self) -> Self:
        self._scope.start(self._follow(), name="interfaces")
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), FIRST_LOOK_S)
        except BaseException:  # the hub is stopped before it has a name
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        await self._scope.close()
        await self._close(tuple(self._responders))

    async def _follow(self) -> None:
        told: tuple[object, ...] | None = None
        while True:
            self._look_now.clear()
            try:
                await self._look()
            except OSError as error:  # no more files may be opened, perhaps: the next look may work
                self._failures[_LOOKING] = _reason(error)
            self._settled.set()
            if (state := (self.host_name, self.addresses, self.problem)) != told:
                told = state
                log.info("announced as %s at %s", self.host_name, ", ".join(self.addresses) or "no address")
                if self.problem:
                    log.warning("devices may not find the hub by name: %s", self.problem)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), self._look_s)

    async def _look(self) -> None:
        """Bring the responders in line with the interfaces and the name in line with the neighbours."""
        wanted = network_addresses() if self._only is None else self._only
        self._failures = {key: reason for key, reason in self._failures.items() if key in wanted}
        await self._close([address for address in self._responders if address not in wanted])
        number = self._number
        if await self._must_give_way():
            log.warning("another machine also calls itself %s", self.host_name)
            await self._close(tuple(self._responders))
            number += 1
        while new := [address for address in wanted if address not in self._responders]:
            free = await self._free_number(new, number)
            self._no_name = free is None
            if free is None:
                return
            if free == self._number or not self._responders:
                self._number = free
                await self._open(new)
                return
            await self._close(tuple(self._responders))  # one name everywhere, so it has to be free everywhere
            number = free

    async def _must_give_way(self) -> bool:
        """Does another machine own the name? Who claims it is asked once more: it may have gone without a word, and a name that
        stands in devices is not given up for that."""
        own = own_addresses()
        for address, responder in self._responders.items():
            if responder.must_give_way():
                if await _owned_by_other(self.name, self._port, address, own):
                    return True
                responder.forget_rivals()
        return False

    async def _free_number(self, addresses: list[str], number: int) -> int | None:
        own = own_addresses()
        for candidate in range(number, number + NAMES_TRIED):
            name = self._name if candidate == 1 else f"{self._name}-{candidate}"
            taken = await asyncio.gather(*(_owned_by_other(name, self._port, address, own) for address in addresses))
            if not any(taken):
                return candidate
            log.info("the name %s is taken by %s", host_of(name), next(filter(None, taken)))
        return None

    async def _open(self, addresses: list[str]) -> None:
        for address in addresses:
            try:
                responder = await _Responder.open(self.name, address, self._port, self._version, self._look_now)
            except (OSError, ZeroconfError) as error:
                self._failures[address] = _reason(error)
            else:
                self._failures.pop(address, None)
                self._responders[address] = responder

    async def _close(self, addresses: list[str] | tuple[str, ...]) -> None:
        """Say goodbye on these interfaces, all at once."""
        leaving = [self._responders.pop(address) for address in addresses]
        await asyncio.gather(*(responder.close() for responder in leaving))


class _Responder(RecordUpdateListener):
    """Answers for one address on one interface, and hears when somebody else claims the same name there."""

    def __init__(self, zc: AsyncZeroconf, info: ServiceInfo, address: str, look_now: asyncio.Event) -> None:
        self._zc = zc
        self._info = info
        self._address = ipaddress.IPv4Address(address)
        self._look_now = look_now
        self._host_key = (info.server or "").lower()
        self._rivals: dict[ipaddress.IPv4Address, float] = {}
        """Since when (loop time) others have claimed the name."""
        self._announcing: asyncio.Future[object] | None = None

    @classmethod
    async def open(cls, name: str, address: str, port: int, version: str, look_now: asyncio.Event) -> _Responder:
        """Start answering and announcing; raises OSError or zeroconf's Error."""
        _check_interface(address)
        zc = AsyncZeroconf(interfaces=[address])
        try:
            await zc.zeroconf.async_wait_for_start()
            if not zc.zeroconf.engine.senders:
                raise OSError("the interface does not carry multicast")
            _hear_only_own_interface(zc.zeroconf)
            info = ServiceInfo(
                SERVICE_TYPE,
                instance_of(name),
                port=port,
                addresses=[socket.inet_aton(address)],
                server=f"{host_of(name)}.",
                properties={"ota": OTA_PATH, "websocket": WEBSOCKET_PATH, "version": version},
            )
            responder = cls(zc, info, address, look_now)
            zc.zeroconf.async_add_listener(responder, None)
            # The names were probed already. The library's own probing would take the hub's responder on a second
            # interface of the same network for a rival.
            # Announcing takes a second more, beside us.
            announcing = await zc.async_register_service(info, cooperating_responders=True)
            assert isinstance(announcing, asyncio.Future)
            responder._announcing = announcing
        except BaseException:
            await zc.async_close()
            raise
        return responder

    async def close(self) -> None:
        """Say goodbye (records with a lifetime of 0) and stop. What is said after a goodbye takes it back, for two minutes."""
        if self._announcing is not None:
            self._announcing.cancel()
        try:
            await asyncio.wait_for(self._zc.async_close(), CLOSE_S)
        except (OSError, ZeroconfError, TimeoutError) as error:
            log.debug("leaving %s: %s", self._address, error)

    def must_give_way(self) -> bool:
        """Of two that claim one name the lower address gives way; the higher one too when the other does not."""
        own = own_addresses()
        now = asyncio.get_running_loop().time()
        return any(
            str(rival) not in own and (rival > self._address or now - since > PATIENCE_S)
            for rival, since in self._rivals.items()
        )

    def forget_rivals(self) -> None:
        """Nobody answers for the name; who claims it again is noticed again."""
        self._rivals.clear()

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        for update in records:
            record = update.new
            if record.type != TYPE_A or record.key != self._host_key:
                continue
            rival = ipaddress.IPv4Address(getattr(record, "address"))  # noqa: B009  # the base class does not declare it
            if rival == self._address:
                continue
            if record.ttl == 0 or record.is_expired(now):
                self._rivals.pop(rival, None)
            elif rival not in self._rivals and len(self._rivals) < NAMES_TRIED:
                self._rivals[rival] = asyncio.get_running_loop().time()
                self._look_now.set()


def _hear_only_own_interface(zc: Zeroconf) -> None:
    """Keep questions that arrive on another interface away from this responder, which would answer them with an address
    of the wrong network.

    Linux hands a group's packets to every socket on the port unless it is told not to. Where just one socket is left to
    take a packet, Linux 6.x passes it on to any of the sockets that share the port by SO_REUSEPORT, so that has to go
    too; SO_REUSEADDR, which is set as well, suffices for sharing. Other systems deliver by membership anyway.
    """
    if sys.platform != "linux":
        return
    for reader in zc.engine.readers:
        reader.sock.setsockopt(socket.IPPROTO_IP, _IP_MULTICAST_ALL, 0)
        reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


async def _owned_by_other(name: str, port: int, interface: str, own: frozenset[str]) -> str | None:
    """Ask on one interface whether another machine owns the host name, or another hub the service name; say who."""
    host, instance = host_of(name).lower(), instance_of(name).rstrip(".").lower()
    questions, hub = ((host, TYPE_A), (instance, TYPE_SRV)), (host, port)
    async with aclosing(ask(questions, [interface], PROBE_S, PROBE_AGAIN_AFTER)) as answers:
        async for answer in answers:
            for record in answer.records:
                if record.type == TYPE_A and record.name == host and record.address not in own:
                    return record.address
                if record.type == TYPE_SRV and record.name == instance and (record.target.lower(), record.port) != hub:
                    return f"{record.target}:{record.port}"
    return None


def _check_interface(address: str) -> None:
    """Raise OSError where zeroconf would fail: when it finds out by itself it leaves sockets open."""
    for bind_to in ("", address):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "SO_REUSEPORT"):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind((bind_to, MDNS_GROUP[1]))
            membership = socket.inet_aton(MDNS_GROUP[0]) + socket.inet_aton(address)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "another program keeps UDP port 5353 to itself (Avahi: set disallow-other-stacks=no)"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
