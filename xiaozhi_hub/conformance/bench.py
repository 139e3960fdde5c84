"""What a check works with: the server's addresses, the firmware to be, a voice, and what is known of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from xiaozhi_hub.conformance.timeline import Timeline
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable
from xiaozhi_hub.conformance.voice import Voice
from xiaozhi_hub.conformance.wire import Socket, open_socket
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.device_messages import ListenMode
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile
from xiaozhi_hub.testing.check_in import Address, open_http, ota_headers, system_report

LANGUAGE = "en-US"
HTTP_SECONDS = 30.0
"""As long as the firmware waits for headers (§1.4)."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long is watched, in seconds. The defaults are those of the checklist; shorter ones must be told with the result."""

    pongless: float = 300.0
    """P-42."""
    quiet_spells: int = 2
    """P-43: so many times 60 s."""
    no_hello: float = 32.0
    """P-22."""
    long_answer: float = 60.0
    """P-32: shorter answers are looked at as far as they go."""
    ending: float = 190.0
    """P-44: within this the server ends a conversation in which nobody speaks."""
    lead_ms: float = 600.0
    """P-32: audio may be this far ahead."""
    reply: float = 30.0
    """Until an answer begins."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the server's settings; None: take it as it shows itself."""

    pairing: bool | None = None
    vision: bool | None = None
    mqtt: bool = False
    """MQTT is switched on for the devices under test."""
    loading: bool = False
    """The server is starting: its speech components are not there yet."""
    host: str = ""
    """The host that the owner made the server tell to devices, whatever they asked with."""
    time_zone: str = ""
    """IANA name of the server's zone."""
    mdns_name: str = ""
    """What it announces, such as ``xiaozhi-hub.local``."""
    mdns_server: tuple[str, int] | None = None
    """Where to send the question instead of the multicast group."""
    fails: bool = False
    """Something was made to fail in it: answers need not be right, but must end."""
    device_ids: Callable[[], Awaitable[Sequence[str]]] | None = None
    """The devices that it has remembered."""
    connected: Callable[[], Sequence[str]] | None = None
    """The devices that it holds to be connected."""
    offered_tools: Callable[[], Sequence[str]] | None = None
    """The names of all tools that it has offered to its language model so far."""


@dataclass(frozen=True, slots=True)
class Server:
    """Who is checked."""

    voice: Voice
    ota_url: str | None = None
    ws_url: str | None = None
    token: str = ""
    """For `ws_url`; an OTA answer brings its own."""
    known: Known = field(default_factory=Known)
    times: Times = field(default_factory=Times)
    approve: Callable[[str], Awaitable[None]] | None = None
    """Approves the device that shows this code."""
    device_id: str = ""
    """Be this one device in all checks."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    seconds: float
    """Until its first byte."""

    def json(self) -> dict[str, Any]:
        """The object in the body; `Broken` where there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Broken(f"status {self.status} with a body that is no JSON object: {self.body[:80]!r}")
        return value


class Bench:
    """One for each run of a check; no two have the same device."""

    def __init__(self, server: Server, profile: FirmwareProfile, device_id: str) -> None:
        self.server = server
        self.profile = profile
        self.device_id = server.device_id or device_id
        self.client_id = f"00000000-0000-4000-8000-{device_id.replace(':', '')}"
        self._address: Address | None = None

    @property
    def voice(self) -> Voice:
        return self.server.voice

    @property
    def known(self) -> Known:
        return self.server.known

    @property
    def times(self) -> Times:
        return self.server.times

    # -- check-in -------------------------------------------------------------------------------------------------

    @property
    def ota_url(self) -> str:
        """Raises `NotApplicable` where only a WebSocket address is known."""
        if self.server.ota_url is None:
            raise NotApplicable("No OTA address was given.")
        return self.server.ota_url

    @property
    def ota_headers(self) -> dict[str, str]:
        return ota_headers(self.device_id, self.client_id, LANGUAGE, self.profile)

    @property
    def ota_report(self) -> dict[str, Any]:
        return system_report(self.device_id, self.client_id, LANGUAGE, self.profile)

    async def check_in(
        self,
        *,
        url: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Reply:
        """``POST`` to the OTA address as the firmware does, or with other headers or another body."""
        sent = {
            **(self.ota_headers if headers is None else headers),
            **(more or {}),
            "Content-Type": "application/json",
        }
        return await self.post(
            url or self.ota_url, sent, json.dumps(self.ota_report).encode() if body is None else body
        )

    async def post(self, url: str, headers: Mapping[str, str], body: bytes | AsyncIterable[bytes]) -> Reply:
        return await self._request("POST", url, headers, body)

    async def get(self, url: str) -> Reply:
        return await self._request("GET", url, {}, None)

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | AsyncIterable[bytes] | None
    ) -> Reply:
        loop = asyncio.get_running_loop()
        began = loop.time()
        timeout = aiohttp.ClientTimeout(total=2 * HTTP_SECONDS, sock_read=HTTP_SECONDS)
        async with (
            open_http() as http,
            http.request(method, url, data=body, headers=headers, timeout=timeout, allow_redirects=False) as response,
        ):
            seconds = loop.time() - began
            lower = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, lower, await response.read(), seconds)

    # -- WebSocket ------------------------------------------------------------------------------------------------

    async def address(self) -> Address:
        """Where the server wants the device; asked once. Raises `NotApplicable` for a device that must wait outside."""
        if self._address is None:
            if self.server.ws_url is not None:
                self._address = Address(self.server.ws_url, self.server.token)
            else:
                self._address = await self._ask_address()
        return self._address

    async def _ask_address(self) -> Address:
        reply = await self.check_in()
        if reply.status != 200:
            raise Broken(f"the check-in is answered with status {reply.status}")
        answer = reply.json()
        activation = answer.get("activation")
        if isinstance(activation, dict):
            if self.server.approve is None:
                raise NotApplicable(
                    f"The server does not let the device in before {activation.get('code')} is approved.",
                    hint="Give a device that is approved with --device-id, or a command with --approve.",
                )
            await self.server.approve(str(activation.get("code")))
            answer = (await self.check_in()).json()
        section = answer.get("websocket")
        if not isinstance(section, dict) or not isinstance(section.get("url"), str):
            raise Broken("the answer to the check-in holds no websocket.url")
        version = section.get("version")
        return Address(section["url"], str(section.get("token") or ""), version if version in (1, 2, 3) else 1)

    async def upgrade_headers(self, *, framing: str = "1") -> list[tuple[str, str]]:
        """What the firmware puts into its upgrade, in its order (§3.2); ``Host`` without the port."""
        address = await self.address()
        headers = [("Host", urlsplit(address.url).hostname or "")]
        if address.token:
            headers.append(("Authorization", address.token if " " in address.token else f"Bearer {address.token}"))
        return [
            *headers,
            ("Client-Id", self.client_id),
            ("Device-Id", self.device_id),
            ("Protocol-Version", framing),
        ]

    @asynccontextmanager
    async def socket(
        self, *, headers: Sequence[tuple[str, str]] | None = None, framing: str = "1"
    ) -> AsyncIterator[Socket]:
        """A bare connection; nothing has been said yet."""
        address = await self.address()
        sent = await self.upgrade_headers(framing=framing) if headers is None else headers
        opened = await open_socket(address.url, sent, framing=int(framing) if framing in ("1", "2", "3") else 1)
        async with opened:
            yield opened

    def hello(self, **changes: Any) -> dict[str, Any]:
        """The firmware's hello; a change to None leaves that part out."""
        hello: dict[str, Any] = {"type": "hello", "version": 1}
        if self.profile.features is not None:
            hello["features"] = dict.fromkeys(self.profile.features, True)
        hello["transport"] = "websocket"
        hello["audio_params"] = {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60}
        hello.update(changes)
        return {name: value for name, value in hello.items() if value is not None}

    @asynccontextmanager
    async def greeted(self, *, framing: str = "1", **changes: Any) -> AsyncIterator[Socket]:
        """A bare connection after the hellos."""
        async with self.socket(framing=framing) as socket:
            await socket.send(self.hello(version=socket.framing, **changes))
            hello = await socket.timeline.until_message("hello", within=10)
            socket.session_id = str(hello.message.get("session_id") or "")
            yield socket

    @asynccontextmanager
    async def device(
        self, mode: ListenMode = "auto", *, profile: FirmwareProfile | None = None
    ) -> AsyncGenerator[Watched, None]:
        """A device with the habits of the profile that has not opened its WebSocket yet."""
        address = await self.address()
        timeline = Timeline()
        async with FakeDevice(
            url=address.url,
            token=address.token,
            device_id=self.device_id,
            client_id=self.client_id,
            mode=mode,
            profile=profile or self.profile,
            watch=timeline,
        ) as fake:
            try:
                yield Watched(fake, timeline)
            except HubError as error:
                if isinstance(error, NotApplicable):
                    raise
                error.add_note(fake.transcript())
                raise


@dataclass(frozen=True, slots=True)
class Watched:
    """A device, and everything that passes over its connection."""

    fake: FakeDevice
    timeline: Timeline


__all__ = ["Bench", "Known", "Reply", "Server", "Times", "Watched"]
