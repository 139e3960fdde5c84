"""Devices on the WebSocket: the handshake, the hellos, and then frames both ways until the link ends."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

from xiaozhi_hub.audio.packets import packet_ms
from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.core.rate import RateLimit
from xiaozhi_hub.errors import HubError, ProtocolError
from xiaozhi_hub.protocol.binary import framing_of, pack, unpack
from xiaozhi_hub.protocol.device_messages import DeviceHello, DeviceMessage, parse_device_message
from xiaozhi_hub.protocol.hub_messages import HubHello, HubMessage
from xiaozhi_hub.protocol.identity import DeviceIdentity, identify
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.protocol.ota import WEBSOCKET_PATH
from xiaozhi_hub.web.requests.failures import Rejected

log = logging.getLogger(__name__)
PATHS = (WEBSOCKET_PATH, WEBSOCKET_PATH.rstrip("/"))
HELLO_S = 30.0
CLOSE_S = 0.5
"""How long a device has to answer a close frame. The firmware never does."""
SEND_S = 5.0
"""A device that takes nothing for so long is gone or ill."""
BURST_S = 5.0
"""A Wi-Fi link that hung delivers everything at once: so many seconds' worth may come together."""
_SEND_BUFFER = 64 * 1024
"""Bytes the kernel keeps for one device: at least 10 s of speech."""
_WAITING_BYTES = 16 * 1024
"""What the hub keeps beyond that before it waits for the device."""
_DEAD_AFTER_MS = 20_000
IN_A_ROW = 8
"""Frames of one link that are worked through before others have their turn; a hundred can come in one piece."""
SPELL_S = 0.001
"""… or what takes so long, whatever their number."""
_WAITED_S = 0.0002
"""A frame that was there already is had in less."""
_REASON_BYTES = 120  # RFC 6455 §5.5: a control frame has room for 125


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What devices may ask of the hub."""

    connections: int = 1000
    message_bytes: int = 65535
    frames_per_second: float = 60
    json_per_second: float = 50
    hello_s: float = HELLO_S
    send_s: float = SEND_S


class WebSocketLink(Link):
    """One WebSocket connection after its hellos."""

    def __init__(
        self, ws: web.WebSocketResponse, transport: asyncio.Transport, device: DeviceIdentity, limits: DeviceLimits
    ) -> None:
        self.device = device
        self.session_id = secrets.token_hex(8)
        self.hello = DeviceHello()
        self.close_reason = ""
        self.dropped = 0
        """Frames that broke the rules or came too early."""
        self._ws = ws
        self._transport = transport
        self._send_s = limits.send_s
        self._loop = asyncio.get_running_loop()
        self._frames = RateLimit(limits.frames_per_second, limits.frames_per_second * BURST_S)
        self._messages = RateLimit(limits.json_per_second, limits.json_per_second * BURST_S)
        self._framing = 1
        self.turns = asyncio.Lock()
        """Shared by those who take turns when they have much to work through."""
        self._in_a_row = 0
        """Frames since it last waited for anything."""
        self._since = self._loop.time()
        """… which was then."""
        self.sent_at = self._loop.time()

    @property
    def closed(self) -> bool:
        return bool(self.close_reason)

    async def greet(self, framing: str | None, within_s: float) -> None:
        """Wait for the device's hello and answer it; `ProtocolError` when none comes."""
        try:
            async with asyncio.timeout(within_s):
                while (message := await self._next()) is not None:
                    if isinstance(message, DeviceHello):
                        self.hello = message
                        # The header counts: it belongs to this connection. A hello may come from another time.
                        self._framing = framing_of(framing) if framing is not None else message.version
                        await self.send(HubHello())
                        return
                    self.dropped += 1
        except TimeoutError:
            raise ProtocolError(f"no hello within {within_s:g} s", code="hello-missing", close=True) from None
        raise ProtocolError(self.close_reason, code="hello-missing", close=True)

    def receive(self) -> AsyncIterator[DeviceMessage | Packet]:
        return _Received(self)

    async def next_message(self) -> DeviceMessage | Packet | None:
        """What the device says next after the hellos; None when the link has ended."""
        while isinstance(message := await self._next(), DeviceHello):
            self._drop("a second hello")
        return message

    async def _next(self) -> DeviceMessage | Packet | None:
        # Runs some twenty times a second for every device that listens: no task, no timer, no log line for a frame.
        while (frame := await self._frame()) is not None:
            try:
                if isinstance(frame, bytes):
                    opus, timestamp = unpack(self._framing, frame)
                    return Packet(opus, packet_ms(opus) or self.hello.frame_ms, timestamp)
                return parse_device_message(frame)
            except ProtocolError as error:
                if error.close:
                    await self._break_off(error)
                else:
                    self._drop(error.message)
        return None

    async def _frame(self) -> str | bytes | None:
        """What comes next, within the limits, whatever it means; None when the link has ended."""
        while not self.close_reason:
            try:
                asked = await self._give_way()
                frame = await self._ws.receive()
                now = self._loop.time()
                if now - asked > _WAITED_S:
                    self._in_a_row, self._since = 0, now
                self._in_a_row += 1
                kind = frame.type
                data: str | bytes = frame.data
                if kind is WSMsgType.BINARY:
                    if not self._frames.allows(now):
                        raise ProtocolError("too many audio frames", code="rate-limit", close=True)
                    return data
                if kind is WSMsgType.TEXT:
                    if not self._messages.allows(now):
                        raise ProtocolError("too many messages", code="rate-limit", close=True)
                    return data
                if kind is WSMsgType.ERROR:
                    raise ProtocolError(f"unusable frame: {frame.data}", code="frame-invalid", close=True)
            except ProtocolError as error:
                await self._break_off(error)
            except ConnectionError as error:  # it pinged and was gone before the pong
                self._ended(f"connection lost: {error}")
            else:
                self._ended("the device closed the connection")
        return None

    async def _give_way(self) -> float:
        """Return the time (of the loop) at which the next frame may be taken: now, unless this link has worked for a spell without
        waiting. aiohttp hands out what is there without a pause, and so many links would keep the sound of others waiting."""
        now = self._loop.time()
        if self._in_a_row >= IN_A_ROW or (self._in_a_row and now - self._since > SPELL_S):
            async with self.turns:
                await asyncio.sleep(0)
            self._in_a_row, self._since = 0, self._loop.time()
            return self._since
        return now

    async def _break_off(self, error: ProtocolError) -> None:
        log.warning("%s breaks the rules: %s", self.device.id, error)
        await self.close(error.message, WSCloseCode.POLICY_VIOLATION)

    def _drop(self, why: str) -> None:
        if self.dropped == 0:  # once for each link: a device that does it once does it often
            log.info("%s sent %s; dropped, as will be more of the kind", self.device.id, why)
        self.dropped += 1

    async def send(self, message: HubMessage) -> None:
        await self._send(self._ws.send_str, message.json(self.session_id))

    async def send_audio(self, packet: Packet) -> None:
        await self._send(self._ws.send_bytes, pack(self._framing, packet.data, packet.timestamp))

    async def _send(self, write: Callable[[Any], Awaitable[None]], data: str | bytes) -> None:
        if self.close_reason:
            return
        self.sent_at = self._loop.time()
        try:
            if self._transport.get_write_buffer_size() == 0:  # nothing waits, so this cannot either: spare the timer
                await write(data)
            else:
                async with asyncio.timeout(self._send_s):
                    await write(data)
        except TimeoutError:
            log.warning("%s takes nothing any more; connection cut", self.device.id)
            self._ended("the device takes nothing any more")
            self._transport.abort()
        except (ConnectionError, RuntimeError) as error:
            self._ended(f"connection lost: {error}")

    async def close(self, reason: str, code: int = WSCloseCode.OK) -> None:
        if self.close_reason:
            return
        self._ended(reason)
        text = reason.encode()[:_REASON_BYTES].decode(errors="ignore").encode()
        try:
            async with asyncio.timeout(CLOSE_S * 2):
                await self._ws.close(code=code, message=text)
        except (TimeoutError, ConnectionError, RuntimeError) as error:
            log.debug("closing %s: %s", self.device.id, error)
        finally:
            if self._transport.get_write_buffer_size():
                self._transport.abort()  # it would wait for ever for a device that takes nothing

    def _ended(self, reason: str) -> None:
        self.close_reason = self.close_reason or reason


class _Received:
    """What a link says, one after the other. Not a generator: those must be closed by whoever leaves them early."""

    def __init__(self, link: WebSocketLink) -> None:
        self._link = link

    def __aiter__(self) -> _Received:
        return self

    async def __anext__(self) -> DeviceMessage | Packet:
        if (message := await self._link.next_message()) is None:
            raise StopAsyncIteration
        return message


ServeLink = Callable[[WebSocketLink], Awaitable[None]]
Admit = Callable[[web.Request, DeviceIdentity], Awaitable[None]]
"""Raises when the device may not come in. Asked before the upgrade and, because things change meanwhile, after it."""


async def admit_everybody(request: web.Request, device: DeviceIdentity) -> None:
    """For where nobody has to prove anything."""


class Guest(Protocol):
    """Somebody who is no device and has a link of its own kind."""

    def link(self, ws: web.WebSocketResponse, transport: asyncio.Transport, limits: DeviceLimits) -> WebSocketLink: ...

    def leave(self) -> None: ...


Guests = Callable[[web.Request], Awaitable[Guest | None]]
"""Tells guests from devices; raises when one may not come in."""


async def only_devices(request: web.Request) -> Guest | None:
    """For where nobody else comes."""
    return None


class DeviceDoor:
    """Lets devices in and gives each link to *serve_link* until it ends."""

    def __init__(
        self,
        serve_link: ServeLink,
        page: Callable[[web.Request], Awaitable[web.StreamResponse]],
        limits: DeviceLimits = DeviceLimits(),
        admit: Admit = admit_everybody,
        guests: Guests = only_devices,
    ) -> None:
        self._admit = admit
        self._guests = guests
        self._serve_link = serve_link
        self._page = page
        self._limits = limits
        self._links: set[WebSocketLink] = set()
        self._turns = asyncio.Lock()
        self._closing = False

    def routes(self) -> list[web.RouteDef]:
        return [web.get(path, self._open, allow_head=False) for path in PATHS]

    @property
    def connections(self) -> int:
        """Open connections, greeted or not."""
        return len(self._links)

    async def _open(self, request: web.Request) -> web.StreamResponse:
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            return await self._page(request)
        guest = await self._guests(request)
        device = None
        if guest is None:
            device = identify(request.headers, request.remote or "")
            await self._admit(request, device)
        if self._closing:
            raise web.HTTPServiceUnavailable(text="The hub is stopping. Come back in a moment.")
        if len(self._links) >= self._limits.connections:
            log.warning("%s turned away: %d devices are connected", device and device.id, len(self._links))
            raise web.HTTPServiceUnavailable(text="The hub has as many devices as it can serve.")
        ws = web.WebSocketResponse(
            timeout=CLOSE_S,
            heartbeat=None,  # pongs prove nothing: some devices do not answer pings
            compress=False,
            max_msg_size=self._limits.message_bytes + 1,  # aiohttp refuses what is as long as its limit
            writer_limit=_WAITING_BYTES // 2,
        )
        try:
            await ws.prepare(request)
        except ValueError as error:  # aiohttp takes only ASCII for granted
            raise web.HTTPBadRequest(text="The header Sec-WebSocket-Key is not usable.") from error
        transport = request.transport
        if transport is None:
            return ws
        _tune(transport)
        if guest is not None:
            link = guest.link(ws, transport, self._limits)
        else:
            assert device is not None
            link = WebSocketLink(ws, transport, device, self._limits)
        link.turns = self._turns
        self._links.add(link)
        try:
            if device is not None:
                await self._admit(request, device)
            await self._talk(link, request.headers.get("Protocol-Version"))
        except Rejected as error:
            await link.close(error.message, WSCloseCode.POLICY_VIOLATION)
        finally:
            self._links.discard(link)
            if guest is not None:
                guest.leave()
            await link.close("the conversation is over")
            transport.close()
        return ws

    async def _talk(self, link: WebSocketLink, framing: str | None) -> None:
        try:
            await link.greet(framing, self._limits.hello_s)
        except ProtocolError as error:
            log.info("%s: %s", link.device.id, error)
            await link.close(error.message, WSCloseCode.POLICY_VIOLATION)
            return
        try:
            await self._serve_link(link)
        except HubError as error:
            log.warning("%s: %s", link.device.id, error)
        except Exception:  # the border of the HTTP request
            log.exception("serving %s failed", link.device.id)
            await link.close("the hub failed", WSCloseCode.INTERNAL_ERROR)
        log.debug("%s is gone: %s", link.device.id, link.close_reason)

    async def hang_up(self, device_id: str, reason: str) -> None:
        """End all connections of one device, greeted or not."""
        await asyncio.gather(*(link.close(reason) for link in tuple(self._links) if link.device.id == device_id))

    async def close(self) -> None:
        """Hang up on everybody and let nobody in."""
        self._closing = True
        await asyncio.gather(*(link.close("the hub stops", WSCloseCode.GOING_AWAY) for link in tuple(self._links)))


def _tune(transport: asyncio.Transport) -> None:
    transport.set_write_buffer_limits(high=_WAITING_BYTES)
    sock: socket.socket | None = transport.get_extra_info("socket")
    if sock is None:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    if sys.platform == "linux":  # a device without power acknowledges nothing; TCP would go on for a quarter of an hour
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
