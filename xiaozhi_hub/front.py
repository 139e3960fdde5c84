"""The front of the hub: the ports, what is served on them, and the names and addresses under which they are reached.

It opens before everything else, so that whoever comes while the hub starts gets an answer; what needs more of the hub than
its address waits until that is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from xiaozhi_hub import __version__
from xiaozhi_hub.answering import Answering
from xiaozhi_hub.archive import Archive
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.flow import TurnRecord
from xiaozhi_hub.core.forgetting import Forgetting
from xiaozhi_hub.core.i18n import Texts, language_of
from xiaozhi_hub.devices.acquaintance import Acquaintance
from xiaozhi_hub.devices.management import DeviceManagement
from xiaozhi_hub.devices.messenger import Messenger
from xiaozhi_hub.devices.pairing import Pairing
from xiaozhi_hub.devices.registry import DeviceRegistry
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.protocol.transport import WEBSOCKET, Transports
from xiaozhi_hub.reloading import Reloading
from xiaozhi_hub.services import DeviceServices
from xiaozhi_hub.store.chats import ChatHistory
from xiaozhi_hub.store.memory import Facts
from xiaozhi_hub.web.app import DEVICE_DOOR, WebParts, build_app, serve
from xiaozhi_hub.web.devices.client_link import ClientParts
from xiaozhi_hub.web.devices.clients import ClientRules, Clients
from xiaozhi_hub.web.devices.ota import Contribution, clock, framing
from xiaozhi_hub.web.devices.pairing import PairingDesk
from xiaozhi_hub.web.devices.sharing import Sharing
from xiaozhi_hub.web.devices.transports import transport_offer
from xiaozhi_hub.web.devices.websocket import DeviceDoor, DeviceLimits
from xiaozhi_hub.web.openai.api import OpenAiApi, OpenAiParts
from xiaozhi_hub.web.pages.status import HubStatus, PartStatus
from xiaozhi_hub.web.programs.announcements import AnnouncementsApi
from xiaozhi_hub.web.programs.assistants import AssistantsApi
from xiaozhi_hub.web.programs.configuration import ConfigurationApi
from xiaozhi_hub.web.programs.devices import DevicesApi
from xiaozhi_hub.web.programs.health import Health
from xiaozhi_hub.web.programs.integrations import IntegrationsApi
from xiaozhi_hub.web.programs.memory import MemoryApi
from xiaozhi_hub.web.programs.own_turns import OwnTurns
from xiaozhi_hub.web.programs.talk import Api, ApiParts

if TYPE_CHECKING:
    from xiaozhi_hub.discovery import Discovery

T = TypeVar("T")
EVERY_ADDRESS = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class FrontParts:
    """What the front shows to the outside."""

    config: Config
    texts: Texts
    built: asyncio.Event
    """Set when everything is there but the engines; until then only *pairing*, *acquaintance* and *services* may be asked."""
    archive: Archive
    services: DeviceServices
    transports: Transports
    pairing: Pairing
    acquaintance: Acquaintance
    management: DeviceManagement
    messenger: Messenger
    answering: Answering
    forgetting: Forgetting
    devices: Callable[[], DeviceRegistry]
    serve_link: Callable[[Link], Awaitable[None]]
    check_in: Callable[[CheckIn], None]
    integrations: Callable[[], Sequence[Entry]]
    """As far as they are known."""
    reload_integration: Callable[[str], Awaitable[Entry | None]]
    reloading: Reloading
    status: Callable[[], Awaitable[HubStatus]]
    health: Callable[[], Sequence[PartStatus] | None]
    """None until the engines are there."""


class Front:
    """``async with front.listening()``; people and devices are told of it with ``async with front.announced()``."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts
        self._language = language_of(parts.config.hub.language)
        self._written = parts.config.devices
        self.ports: tuple[int, ...] = ()
        """Those that are open; empty before."""
        self.door: DeviceDoor
        """Where devices come in by WebSocket."""
        self.discovery: Discovery | None = None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Keep the ports open while the block is entered; `HubError` when one cannot be had."""
        server = self._parts.config.server
        app = self._app()
        self.door = app[DEVICE_DOOR]
        async with serve(app, server.ip, tuple(dict.fromkeys((server.http_port, server.port)))) as self.ports:
            yield

    @asynccontextmanager
    async def announced(self) -> AsyncIterator[None]:
        """Tell the local network where the hub is while the block is entered, unless the owner does not want that."""
        config = self._parts.config
        if not config.discovery.enabled:
            yield
            return
        from xiaozhi_hub.discovery import Discovery  # not before the ports are open: a device may be waiting for them

        only = None if config.server.ip == EVERY_ADDRESS else (config.server.ip,)
        self.discovery = Discovery(config.hub.name, self.port, __version__, only=only)
        async with self.discovery:
            yield

    def configure(self, config: Config) -> None:
        """The owner has written something else of devices; they learn of it when they check in."""
        self._written = config.devices

    # -- where it is reached --------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port of the pages, the OTA address and the devices."""
        return self.ports[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses under which the hub is reached."""
        ip = self._parts.config.server.ip
        if ip != EVERY_ADDRESS:
            return (ip,)
        from xiaozhi_hub.discovery import network_addresses

        return (self.discovery.addresses if self.discovery is not None else ()) or network_addresses()

    @property
    def hosts(self) -> tuple[str, ...]:
        """What people and devices may put before the port: the name first, where one is announced."""
        named = self.discovery is not None and self.discovery.addresses
        return (*((self.discovery.host_name,) if self.discovery is not None and named else ()), *self.addresses)

    @property
    def local_url(self) -> str:
        """How this machine reaches the hub."""
        ip = self._parts.config.server.ip
        return f"http://{'127.0.0.1' if ip == EVERY_ADDRESS else ip}:{self.port}"

    # -- what is served -------------------------------------------------------------------------------------------

    def _app(self) -> web.Application:
        parts, config = self._parts, self._parts.config
        desk = PairingDesk(parts.pairing, parts.texts, self._language)
        clients = Clients(
            ClientRules(desk.admit_token, parts.acquaintance.met, config.http.origins, config.http.public_host),
            ClientParts(
                texts=parts.texts,
                language_of=self._client_language,
                read_picture=parts.services.vision.read_picture,
                eyes=parts.services.eyes,
            ),
        )
        limits = config.limits
        return build_app(
            WebParts(
                texts=parts.texts,
                version=__version__,
                status=self._status,
                serve_link=parts.serve_link,
                on_check_in=parts.check_in,
                language=self._language,
                public_host=config.http.public_host,
                limits=DeviceLimits(
                    limits.devices, limits.message_bytes, limits.frames_per_second, limits.json_per_second
                ),
                now=clock(config.hub.time_zone),
                admit=desk.admit,
                guests=clients.recognise,
                contributions=self._contributions(desk),
                routes=self._routes(desk, clients),
            )
        )

    def _contributions(self, desk: PairingDesk) -> tuple[Contribution, ...]:
        """What is added to the answers to check-ins, in this order."""
        parts, http = self._parts, self._parts.config.http
        if http.moved_to:
            return parts.services.contributions()
        return (
            desk.withhold,  # who must wait for approval gets nothing of what the others add
            Sharing(http.websocket_urls).contribute,
            framing(self._framing_of),
            transport_offer(parts.transports, self._transport_of),
            desk.contribute,
            *parts.services.contributions(),
        )

    def _routes(self, desk: PairingDesk, clients: Clients) -> tuple[web.AbstractRouteDef, ...]:
        """The APIs, each with what it needs."""
        parts, answering = self._parts, self._parts.answering
        openai = OpenAiParts(answering.turn_parts, answering.ask_stream, clients.admit, self._client_language)
        management = self._once_built(parts.management)
        openai = OpenAiParts(answering.turn_parts, answering.ask_stream, clients.admit, self._client_language)
        programs = OpenAiApi(openai)
        parts.forgetting.add("talks", programs.forget)
        return (
            *Api(ApiParts(answering.turn_parts, answering.ask_stream, self._chat_history, self._language)).routes(),
            *OwnTurns(self._session_of, self._turns_of).routes(),
            *programs.routes(),
            *desk.routes(),
            *DevicesApi(management).routes(),
            *AnnouncementsApi(self._once_built(parts.messenger)).routes(),
            *AssistantsApi(answering.assistants, answering.switching, management).routes(),
            *MemoryApi(
                self._once_built(answering.memories), lambda ids: Facts(parts.archive.database).words_behind(ids)
            ).routes(),
            *Health(parts.health, __version__).routes(),
            *IntegrationsApi(parts.integrations, parts.reload_integration).routes(),
            *ConfigurationApi(parts.reloading.now, parts.reloading.outstanding).routes(),
            *parts.services.routes(),
        )

    def _once_built(self, part: T) -> Callable[[], Awaitable[T]]:
        async def wait() -> T:
            await self._parts.built.wait()
            return part

        return wait

    async def _status(self) -> HubStatus:
        await self._parts.built.wait()
        return await self._parts.status()

    async def _chat_history(self, device_id: str, limit: int) -> ChatHistory:
        await self._parts.built.wait()
        return await self._parts.archive.history.chat_history(device_id, limit)

    async def _turns_of(self, device_id: str, limit: int) -> Sequence[TurnRecord]:
        return await self._parts.archive.history.turns(limit, device_id)

    def _session_of(self, device_id: str) -> str | None:
        session = self._parts.devices().sessions.get(device_id) if self._parts.built.is_set() else None
        return session.link.session_id if session is not None else None

    def _client_language(self, client_id: str) -> str:
        return self._parts.devices().profile(client_id).language if self._parts.built.is_set() else self._language

    def _framing_of(self, device_id: str) -> int:
        written = self._written.get(device_id)
        return written.framing if written is not None else 1

    def _transport_of(self, device_id: str) -> str:
        written = self._written.get(device_id)
        return written.transport if written is not None else WEBSOCKET


__all__ = ["Front", "FrontParts"]
