"""A conversation over MQTT and UDP: messages on the connection, sound in datagrams."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

from xiaozhi_hub.plugins.api import (
    DeviceHello,
    DeviceIdentity,
    DeviceMessage,
    Goodbye,
    HubGoodbye,
    HubHello,
    HubMessage,
    Link,
    Packet,
    TtsStart,
    packet_ms,
)

from .udp import AudioChannel, UdpPort

log = logging.getLogger(__name__)

INBOX = 256
"""Packets and messages that may wait for the conversation: 15 s of sound."""
LOCATE_S = 0.5
"""A device that was greeted sends sound within 180 ms (its microphone warms up first)."""
MOST_FILLED = 5
"""Lost packets in a row that are filled in; a longer gap is a pause of its own."""

Say = Callable[[HubMessage, str], Awaitable[bool]]
"""Sends a message under a session id to the device; False when the connection is gone."""


class UdpLink(Link):
    """Exists from one hello to its goodbye; the MQTT connection is there before and after it."""

    def __init__(
        self, say: Say, port: UdpPort, device: DeviceIdentity, hello: DeviceHello, frames_per_second: float
    ) -> None:
        self.device = device
        self.hello = hello
        self.session_id = secrets.token_hex(8)
        self.close_reason = ""
        self.channel: AudioChannel = port.open(device.address, frames_per_second, self._on_sound)
        self.dropped = 0
        """Packets that came while the conversation did not take them."""
        self._say = say
        self._server_port = port.port
        self._device_left = False
        self._loop = asyncio.get_running_loop()
        self._inbox: asyncio.Queue[DeviceMessage | Packet | None] = asyncio.Queue(INBOX)
        self.sent_at = self._loop.time()

    @property
    def closed(self) -> bool:
        return bool(self.close_reason)

    async def greet(self, host: str) -> None:
        """Answer the device's hello: *host* is where it finds the port for sound."""
        udp = {
            "server": host,
            "port": self._server_port,
            "key": self.channel.key.hex(),
            "nonce": self.channel.nonce.hex(),
        }
        await self.send(HubHello(udp=udp))

    # -- from the device ------------------------------------------------------------------------------------------

    def receive(self) -> AsyncIterator[DeviceMessage | Packet]:
        return _Received(self._inbox)

    async def hear(self, message: DeviceMessage) -> None:
        """The device says something; waits while the conversation is behind."""
        if isinstance(message, Goodbye):
            self._device_left = True
        if not self.close_reason:
            await self._inbox.put(message)

    def _on_sound(self, opus: bytes, timestamp: int, lost: int) -> None:
        frame_ms = self.hello.frame_ms
        if lost <= MOST_FILLED:  # nothing at all makes the decoder invent what was lost, so that time goes on
            for _ in range(lost):
                self._put(Packet(b"", frame_ms))
        self._put(Packet(opus, packet_ms(opus) or frame_ms, timestamp))

    def _put(self, packet: Packet) -> None:
        if self.close_reason or self._inbox.full():
            self.dropped += 1
        else:
            self._inbox.put_nowait(packet)

    # -- to the device --------------------------------------------------------------------------------------------

    async def send(self, message: HubMessage) -> None:
        if self.close_reason:
            return
        if isinstance(message, TtsStart) and not self.channel.located.is_set():
            # It closes its microphone now. If it has not sent anything until then, nobody knows where to send the answer.
            try:
                async with asyncio.timeout(LOCATE_S):
                    await self.channel.located.wait()
            except TimeoutError:
                log.info("%s has sent no sound; the answer may not reach it", self.device.id)
        self.sent_at = self._loop.time()
        if not await self._say(message, self.session_id):
            self._ended("the MQTT connection is gone")

    async def send_audio(self, packet: Packet) -> None:
        if not self.close_reason:
            self.sent_at = self._loop.time()
            self.channel.send(packet.data, packet.timestamp)

    # -- the end --------------------------------------------------------------------------------------------------

    async def close(self, reason: str) -> None:
        if self.close_reason:
            return
        self._ended(reason)
        if not self._device_left:
            await self._say(HubGoodbye(), self.session_id)

    def abandon(self, reason: str) -> None:
        """It is over and the device knows: its connection is gone, or it has begun anew."""
        self._device_left = True
        self._ended(reason)

    def _ended(self, reason: str) -> None:
        if self.close_reason:
            return
        self.close_reason = reason
        self.channel.close()
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)


class _Received:
    """What a link says, one after the other. Not a generator: those must be closed by whoever leaves them early."""

    def __init__(self, inbox: asyncio.Queue[DeviceMessage | Packet | None]) -> None:
        self._inbox = inbox
        self._ended = False

    def __aiter__(self) -> _Received:
        return self

    async def __anext__(self) -> DeviceMessage | Packet:
        if not self._ended and (message := await self._inbox.get()) is not None:
            return message
        self._ended = True
        raise StopAsyncIteration
