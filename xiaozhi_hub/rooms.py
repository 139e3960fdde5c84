"""What lies behind the front: the APIs, and what answers to check-ins get that the hub does not need to answer at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiohttp import web

from xiaozhi_hub.answering import Answering
from xiaozhi_hub.archive import Archive
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.flow import TurnRecord
from xiaozhi_hub.core.forgetting import Forgetting
from xiaozhi_hub.core.i18n import Texts, language_of
from xiaozhi_hub.devices.acquaintance import Acquaintance
from xiaozhi_hub.devices.announcements.messenger import Messenger
from xiaozhi_hub.devices.management import DeviceManagement
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.front import Rooms
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.reloading import Reloading
from xiaozhi_hub.services import DeviceServices
from xiaozhi_hub.store.chats import ChatHistory
from xiaozhi_hub.store.memory import Facts
from xiaozhi_hub.web.devices.client_link import ClientParts
from xiaozhi_hub.web.devices.clients import ClientRules, Clients
from xiaozhi_hub.web.devices.pairing import PairingDesk
from xiaozhi_hub.web.openai.api import OpenAiApi, OpenAiParts
from xiaozhi_hub.web.pages.status import HubStatus, PartStatus
from xiaozhi_hub.web.programs.announcements import AnnouncementsApi
from xiaozhi_hub.web.programs.assistants import AssistantsApi
from xiaozhi_hub.web.programs.configuration import ConfigurationApi
from xiaozhi_hub.web.programs.devices import DevicesApi
from xiaozhi_hub.web.programs.integrations import IntegrationsApi
from xiaozhi_hub.web.programs.memory import MemoryApi
from xiaozhi_hub.web.programs.own_turns import OwnTurns
from xiaozhi_hub.web.programs.talk import Api, ApiParts

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoomParts:
    """What is shown to the outside."""

    config: Config
    texts: Texts
    built: asyncio.Event
    """Set when everything is there but the engines; until then only *desk*, *acquaintance* and *services* may be asked."""
    desk: PairingDesk
    archive: Archive
    services: DeviceServices
    acquaintance: Acquaintance
    management: DeviceManagement
    messenger: Messenger
    answering: Answering
    forgetting: Forgetting
    devices: Callable[[], DeviceRegistry]
    serve_link: Callable[[Link], Awaitable[None]]
    integrations: Callable[[], Sequence[Entry]]
    """As far as they are known."""
    reload_integration: Callable[[str], Awaitable[Entry | None]]
    reloading: Reloading
    status: Callable[[], Awaitable[HubStatus]]
    health: Callable[[], Sequence[PartStatus] | None]
    """None until the engines are there."""


class _Building:
    """Puts the rooms together; where somebody comes too early they wait."""

    def __init__(self, parts: RoomParts) -> None:
        self._parts = parts
        self._language = language_of(parts.config.hub.language)

    def rooms(self) -> Rooms:
        parts, http = self._parts, self._parts.config.http
        clients = Clients(
            ClientRules(parts.desk.admit_token, parts.acquaintance.met, http.origins, http.public_host),
            ClientParts(
                texts=parts.texts,
                language_of=self._client_language,
                read_picture=parts.services.vision.read_picture,
                eyes=parts.services.eyes,
            ),
        )
        return Rooms(
            routes=self._routes(clients),
            contributions=parts.services.contributions(),
            guests=clients.recognise,
            serve_link=parts.serve_link,
            status=self._status,
            health=parts.health,
        )

    def _routes(self, clients: Clients) -> tuple[web.AbstractRouteDef, ...]:
        """The APIs, each with what it needs."""
        parts, answering = self._parts, self._parts.answering
        management = self._once_built(parts.management)
        openai = OpenAiParts(answering.turn_parts, answering.ask_stream, clients.admit, self._client_language)
        programs = OpenAiApi(openai)
        parts.forgetting.add("talks", programs.forget)
        return (
            *Api(ApiParts(answering.turn_parts, answering.ask_stream, self._chat_history, self._language)).routes(),
            *OwnTurns(self._session_of, self._turns_of).routes(),
            *programs.routes(),
            *DevicesApi(management).routes(),
            *AnnouncementsApi(self._once_built(parts.messenger)).routes(),
            *AssistantsApi(answering.assistants, answering.switching, management).routes(),
            *MemoryApi(
                self._once_built(answering.memories), lambda ids: Facts(parts.archive.database).words_behind(ids)
            ).routes(),
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


def rooms_of(parts: RoomParts) -> Rooms:
    """Put together what `Front.open_rooms` is given. Nothing of it may be asked before the store is open."""
    return _Building(parts).rooms()


__all__ = ["RoomParts", "rooms_of"]
