"""Lets devices in: the TCP port, who may connect, and one connection for each device."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager

from xiaozhi_hub.plugins.api import DeviceIdentity, HubApi, NeedsAttention, ProtocolError, RateLimit, TaskScope

from .connection import Connection
from .credentials import Credentials
from .device import ConnectedDevice, topic_of, udp_host
from .packets import (
    ACCEPTED,
    LEVEL,
    NOT_AUTHORISED,
    SUBSCRIBE_FAILED,
    UNAVAILABLE,
    WRONG_ID,
    WRONG_LEVEL,
    WRONG_PASSWORD,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    Publish,
    Subscribe,
    Unsubscribe,
    connack,
    pingresp,
    puback,
    suback,
    unsuback,
)
from .udp import UdpPort

log = logging.getLogger(__name__)

UNPROVEN_FROM_ONE_PLACE = 16
"""Connections from one address that have not proven anything yet; more are closed at once."""
_LONGEST_ID = 128
_BACKLOG = 1024
_CODES = {
    WRONG_LEVEL: "another version of MQTT",
    WRONG_ID: "an unusable id",
    WRONG_PASSWORD: "a wrong password",
    NOT_AUTHORISED: "the owner does not let it in",
    UNAVAILABLE: "as many devices are connected as can be served",
}


class MqttServer:
    """Serves MQTT 3.1.1 to devices: each may publish, and is sent what is meant for it without having subscribed."""

    def __init__(self, hub: HubApi, credentials: Credentials, port: UdpPort, scope: TaskScope) -> None:
        self._hub = hub
        self._credentials = credentials
        self._udp = port
        self._scope = scope
        self._server: asyncio.Server | None = None
        self._devices: dict[str, ConnectedDevice] = {}
        self._unproven: Counter[str] = Counter()
        self._connections: set[Connection] = set()
        self._closing = False
        self._told = RateLimit(1 / 10, 5)
        self._loop = asyncio.get_running_loop()
        self.hosts: dict[str, str] = {}
        """How devices reached the hub at their check-in."""

    @classmethod
    @asynccontextmanager
    async def listening(
        cls, hub: HubApi, credentials: Credentials, udp: UdpPort, scope: TaskScope, port: int
    ) -> AsyncIterator[MqttServer]:
        """Serve while the block is entered. Raises `NeedsAttention` when the port cannot be had."""
        server = cls(hub, credentials, udp, scope)
        try:
            server._server = await asyncio.start_server(
                server._connected, hub.config.server.ip, port, backlog=_BACKLOG, limit=64 * 1024
            )
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise NeedsAttention(
                f"TCP port {port} is in use, perhaps by an MQTT broker."
                if taken
                else f"TCP port {port} cannot be used: {error.strerror or error}.",
                hint="Choose another port.",
            ) from error
        try:
            yield server
        finally:
            await server._close()

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def devices(self) -> Mapping[str, ConnectedDevice]:
        """Those that are connected, by id."""
        return self._devices

    @property
    def connections(self) -> int:
        """Open connections, of devices or of whoever else."""
        return len(self._connections)

    # -- one connection -------------------------------------------------------------------------------------------

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._hub.config.limits
        connection = Connection(reader, writer, limits.message_bytes, limits.json_per_second)
        if self._closing or self._unproven[connection.peer] >= UNPROVEN_FROM_ONE_PLACE:
            connection.abort()
            return
        self._unproven[connection.peer] += 1
        self._connections.add(connection)
        self._scope.start(self._serve(connection), name=f"connection-{connection.peer}")

    async def _serve(self, connection: Connection) -> None:
        device: ConnectedDevice | None = None
        proven = False
        reason = "the device closed the connection"
        try:
            async with aclosing(connection.packets()) as packets:
                async for packet in packets:
                    if isinstance(packet, Connect):
                        device = await self._admit(connection, packet)
                        if device is None:
                            return
                        proven = True
                        self._has_proven(connection.peer)
                    elif device is None or isinstance(packet, Disconnect):
                        return
                    else:
                        await self._on_packet(device, packet)
        except ProtocolError as error:
            reason = error.message
            self._tell("%s breaks the rules: %s", device.identity.id if device else connection.peer, reason)
        except Exception:  # the border of the connection
            log.exception("the MQTT connection of %s failed", connection.peer)
        finally:
            if not proven:
                self._has_proven(connection.peer)
            if device is not None:
                device.lost(reason)
                if self._devices.get(device.identity.id) is device:
                    del self._devices[device.identity.id]
                log.debug("%s is gone from MQTT: %s", device.identity.id, reason)
            connection.close()
            self._connections.discard(connection)

    def _has_proven(self, peer: str) -> None:
        """One connection fewer that has proven nothing."""
        self._unproven[peer] -= 1
        if self._unproven[peer] <= 0:
            del self._unproven[peer]

    async def _admit(self, connection: Connection, connect: Connect) -> ConnectedDevice | None:
        """Answer CONNECT; None when the client is not let in."""
        device_id = connect.username
        identity = DeviceIdentity(device_id, connect.client_id, address=connection.peer)
        code = ACCEPTED
        if connect.level != LEVEL:
            code = WRONG_LEVEL
        elif not connect.client_id or len(connect.client_id) > _LONGEST_ID:
            code = WRONG_ID
        elif not self._credentials.admits(device_id, connect.client_id, connect.password):
            code = WRONG_PASSWORD
        elif not self._hub.admits(identity):
            code = NOT_AUTHORISED
        elif device_id not in self._devices and len(self._devices) >= self._hub.config.limits.devices:
            code = UNAVAILABLE
        if code != ACCEPTED:
            self._tell("%s is not let in: %s", connection.peer, _CODES[code])
            await connection.send(connack(code))
            return None
        old = self._devices.get(device_id)
        host = udp_host(self._hub.config, self.hosts.get(device_id), connection.local)
        device = self._devices[device_id] = ConnectedDevice(
            connection, identity, self._hub, self._udp, host, self._scope
        )
        if old is not None:  # the newest wins (3.1.4): the old one is a device that lost its network
            old.lost("the device has connected anew")
            old.connection.abort()
        await connection.send(connack(ACCEPTED))
        log.info("device %s is connected by MQTT", device_id)
        return device

    async def _on_packet(self, device: ConnectedDevice, packet: Packet) -> None:
        connection = device.connection
        if not self._hub.admits(device.identity):
            raise ProtocolError("it is not let in any more", code="not-admitted", close=True)
        match packet:
            case Publish(payload=payload, id=number):
                if number is not None:
                    await connection.send(puback(number))
                await device.on_message(payload, self._loop.time())
            case Subscribe(id=number, filters=filters):
                # Whoever asks is told the truth: there is one topic for it, and nothing of others can be had.
                own = topic_of(device.identity.id)
                await connection.send(suback(number, bytes(0 if each == own else SUBSCRIBE_FAILED for each in filters)))
            case Unsubscribe(id=number):
                await connection.send(unsuback(number))
            case PingReq():
                await connection.send(pingresp())

    def _tell(self, text: str, *values: object) -> None:
        """Log what strangers cause, not as often as they like."""
        log.log(logging.WARNING if self._told.allows(self._loop.time()) else logging.DEBUG, text, *values)

    # -- the end --------------------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Say goodbye to everybody and let nobody in."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*(device.close("the hub stops") for device in tuple(self._devices.values())))
        for connection in tuple(self._connections):
            connection.close()
