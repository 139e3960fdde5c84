"""The composition root: builds the parts, starts them in order, stops them in reverse. No business rules.

The web server comes first, so that a device that boots with the hub gets its OTA answer at once: the firmware waits longer
after every failed try (firmware application.cc). Engines follow; `Hub.ready` returns when they are there.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from xiaozhi_hub import __version__
from xiaozhi_hub.audio import ogg
from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import (
    DeviceForgotten,
    DeviceRenamed,
    DeviceRevoked,
    EntryChanged,
    NamesChanged,
    TurnFinished,
)
from xiaozhi_hub.core.flow import Channel, Outcome, TurnInfo, TurnRecord
from xiaozhi_hub.core.i18n import LANGUAGES, Texts, language_of
from xiaozhi_hub.core.places import PACKAGE
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.acquaintance import Acquaintance
from xiaozhi_hub.devices.announce_tools import announce_tools
from xiaozhi_hub.devices.announcer import DeviceAnnouncer
from xiaozhi_hub.devices.audience import Audience
from xiaozhi_hub.devices.device_commands import DeviceCommands, device_tools
from xiaozhi_hub.devices.device_entities import DeviceEntities
from xiaozhi_hub.devices.device_tools import DeviceTools
from xiaozhi_hub.devices.management import DeviceManagement
from xiaozhi_hub.devices.messenger import Messenger
from xiaozhi_hub.devices.pairing import Pairing
from xiaozhi_hub.devices.registry import DeviceRegistry
from xiaozhi_hub.devices.tickets import Tickets
from xiaozhi_hub.dialog.agent import Agent, keeping
from xiaozhi_hub.dialog.agent.briefing import Briefing
from xiaozhi_hub.dialog.ask import ask
from xiaozhi_hub.dialog.assistant_tools import assistant_tools
from xiaozhi_hub.dialog.assistants import Assistants
from xiaozhi_hub.dialog.commands import conversation_tools
from xiaozhi_hub.dialog.intents import SENTENCES, Intents
from xiaozhi_hub.dialog.learning import Learning
from xiaozhi_hub.dialog.memories import Memories
from xiaozhi_hub.dialog.memory_tools import memory_tools
from xiaozhi_hub.dialog.prewarm import Prewarm
from xiaozhi_hub.dialog.respond import Responder
from xiaozhi_hub.dialog.speak import Speaker
from xiaozhi_hub.dialog.switching import Switching
from xiaozhi_hub.dialog.turn import TurnParts, new_id
from xiaozhi_hub.display.lettering import Lettering
from xiaozhi_hub.engines.brains import Brains
from xiaozhi_hub.engines.household import Household
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.entities.phrasing import Phrasing
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.entities.tools import home_tools
from xiaozhi_hub.errors import HubError, StoreError
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.overview import gather_status, parts_of
from xiaozhi_hub.plugins.api import HubApi
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.manager import PATIENCE, Patience, PluginManager
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.protocol.transport import WEBSOCKET, Transports
from xiaozhi_hub.services import DeviceServices, Surroundings
from xiaozhi_hub.stepping import Stepping
from xiaozhi_hub.store.announcements import Announcements
from xiaozhi_hub.store.chats import ChatHistory
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.devices import Devices
from xiaozhi_hub.store.grants import Grants
from xiaozhi_hub.store.history import History
from xiaozhi_hub.store.memory import Facts
from xiaozhi_hub.store.schedule import Schedule
from xiaozhi_hub.tools.registry import ToolRegistry
from xiaozhi_hub.web.announcements import AnnouncementsApi
from xiaozhi_hub.web.api import Api, ApiParts
from xiaozhi_hub.web.app import DEVICE_DOOR, WebParts, build_app, serve
from xiaozhi_hub.web.assistants import AssistantsApi
from xiaozhi_hub.web.client_link import ClientParts
from xiaozhi_hub.web.clients import ClientRules, Clients
from xiaozhi_hub.web.device import DeviceDoor, DeviceLimits
from xiaozhi_hub.web.devices_api import DevicesApi
from xiaozhi_hub.web.health import Health
from xiaozhi_hub.web.integrations_api import IntegrationsApi
from xiaozhi_hub.web.memory import MemoryApi
from xiaozhi_hub.web.ota import clock, framing
from xiaozhi_hub.web.pairing import PairingDesk
from xiaozhi_hub.web.sharing import Sharing
from xiaozhi_hub.web.status import HubStatus, PartStatus
from xiaozhi_hub.web.transports import transport_offer

if TYPE_CHECKING:
    from xiaozhi_hub.discovery import Discovery

log = logging.getLogger(__name__)

CORE = "core"
"""The source under which the hub's own tools are registered."""
SELF_TEST = "self-test"
"""The device id under which the hub talks with itself; nothing of it is remembered."""
DIALOGUES = "dialogues.json"
"""What was talked about with language models, in the data folder while the hub does not run."""
RETENTION_SECONDS = 6 * 3600.0
RELOAD_SECONDS = 10.0
"""A large model may take longer to load: whoever asked for it learns that it is starting."""
REMEMBER_SECONDS = 1.0
"""For turns to end, and for what is then still to be written, when the hub stops."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not work although the hub does."""

    code: str
    message: str
    hint: str = ""


class Hub:
    """One hub. ``async with Hub(config) as hub: await hub.ready()``; leaving the block stops everything."""

    def __init__(self, config: Config, patience: Patience = PATIENCE) -> None:
        self.config = config
        self._patience = patience
        self.started_at = time.time()
        self.problems: dict[str, Problem] = {}
        self.bus = Bus()
        self.texts = Texts()
        self.engines = EngineRegistry()
        self.brains = Brains()
        self.entities = EntityRegistry(self.bus)
        self.tools = ToolRegistry(self.texts)
        self.device_tools = DeviceTools(config.devices, self.entities, self.texts)
        DeviceEntities(config.devices, self.entities, self.device_tools, self.texts, language_of(config.hub.language))
        commands = DeviceCommands(self.device_tools, self.entities, self.texts)
        for tool in (
            *home_tools(self.entities, self.texts, commands),
            *device_tools(commands),
            *conversation_tools(self.texts),
        ):
            self.tools.add(tool, CORE)
        self.tools.add_for_turns(self.device_tools.for_turn, CORE)
        self.assistants = Assistants(config.voice, config.assistants, config.devices)
        self.switching = Switching(self.assistants, lambda: self.known_devices, self._problem, self._solved)
        self.intents = Intents(self.texts, self.entities, self.tools, self.assistants.spoken_names())
        self.memories = Memories(self.engines, config.memory, self.assistants)
        self.speaker = Speaker()
        self.lettering = Lettering(config.display)
        self.transports = Transports()
        self.announcer = DeviceAnnouncer(self.texts, self.transports)
        shares = len(config.http.websocket_urls) > 0 and bool(config.server.auth_key)
        self.pairing = Pairing(config.pairing, self.bus, tickets=Tickets(config.server.auth_key) if shares else None)
        self.self_test_client_id = self.pairing.own_device(SELF_TEST)
        self.device_management = DeviceManagement(
            self.pairing,
            self._devices_known,
            config.devices,
            lambda: self.devices.sessions,
            self.bus,
            lambda device_id: self.devices.sound_figures(device_id),
        )
        audience = Audience(self._management, self.device_tools, self.entities, self.texts)
        self.messenger = Messenger(self.texts, self.transports, audience, lambda: self.devices, time.time)
        for tool in announce_tools(self.messenger, self.texts, Phrasing(self.texts, self.entities)):
            self.tools.add(tool, CORE)
        sentences = [PACKAGE / "devices" / "sentences"]
        if config.assistants:
            for tool in assistant_tools(
                self.assistants, self.texts, self.switching.switch, lambda id: self.devices.profile(id).language
            ):
                self.tools.add(tool, CORE)
            sentences.append(SENTENCES / "assistants")
        if config.memory.enabled:
            zone = ZoneInfo(config.hub.time_zone) if config.hub.time_zone else None
            for tool in memory_tools(self.memories, self.texts, time.time, lambda at: datetime.fromtimestamp(at, zone)):
                self.tools.add(tool, CORE)
            sentences.append(SENTENCES / "memory")
        for folder in sentences:
            for language in LANGUAGES:
                self.intents.add_sentences(CORE, folder / f"{language}.yaml")
        self._built = asyncio.Event()
        self._ready = asyncio.Event()
        self._ports: tuple[int, ...] = ()
        self._scope = TaskScope("hub")
        self._leisure = TaskScope("leisure")
        """What is done while nobody speaks; it ends before the voices do."""
        self._talking: set[asyncio.Future[None]] = set()
        self._writing: set[asyncio.Task[None]] = set()
        self.services: DeviceServices
        self._door: DeviceDoor
        self._stack = AsyncExitStack()
        self._acquaintance = Acquaintance(self._scope, self._problem)
        self._learning = Learning(self.intents, self.engines, self._scope, self._problem, self._solved)
        self.discovery: Discovery | None = None
        self.database: Database
        self.history: History
        self.known_devices: Devices
        self.announcements: Announcements
        self.plugins: PluginManager
        self.stepping: Stepping
        self.devices: DeviceRegistry
        self.parts: TurnParts
        self.prewarm: Prewarm

    async def __aenter__(self) -> Hub:
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def ready(self) -> None:
        """Return when the engines have started and the recognisers have learned."""
        await self._ready.wait()

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    # -- start and stop -------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        enter = self._stack.push_async_callback
        enter(self._scope.close)
        await self._listen()
        data_dir = await self._open_store()
        enter(self.pairing.close)
        if len(self.config.http.websocket_urls) > 1 and not self.config.server.auth_key:
            self._problem(
                "sharing",
                "Devices are sent to other hubs, which cannot check their tokens.",
                "Set server: auth_key: to the same words on all of them.",
            )
        try:
            await self.pairing.load(Grants(self.database))
        except StoreError as error:  # then nobody comes in
            self._problem("pairing", f"Which devices may come in is not known: {error.message}.", error.hint)
        try:
            await self.switching.load()
        except StoreError as error:
            self._problem("assistant-choice", f"Who answers on which device is not known: {error.message}", error.hint)
        await self.services.open(self.database, data_dir)
        models = ModelShelf(data_dir / "models")
        self.stepping = Stepping(self.config, models, self._reload, self._scope, self._problem, self._solved)
        self.engines.asked = self.stepping.asked
        api = HubApi(
            config=self.config,
            data_dir=data_dir,
            models=models,
            texts=self.texts,
            bus=self.bus,
            entities=self.entities,
            tools=self.tools,
            schedule=Schedule(self.database),
            announcer=self.announcer,
            now=time.time,
            transports=self.transports,
            serve_link=self.serve_link,
            admits=self.admits,
            engines=self.engines,
            ask=self.ask_stream,
            brains=self.brains,
        )
        self.plugins = PluginManager(api, self.engines, self.intents, self._patience)
        if self.config.memory.enabled:
            self.engines.add(Household(Facts(self.database)), CORE)
            self._stack.callback(self.engines.remove_source, CORE)
        briefing = Briefing(
            self.texts,
            self.entities,
            self.intents,
            self.memories,
            clock(self.config.hub.time_zone),
            self.device_tools.name_of,
        )
        self.parts = TurnParts(
            texts=self.texts,
            engines=self.engines,
            responder=Responder(
                self.texts,
                self.intents,
                self.tools,
                self.engines,
                self._scope,
                self.services.eyes,
                self.assistants,
                Agent(self.texts, self.tools, self.intents, briefing),
                brains=self.brains,
            ),
            speaker=self.speaker,
            voice=self.config.voice,
            assistants=self.assistants,
            judge=self.intents.completeness,
            remember=self._remember,
            ready=self.ready,
            brains=self.brains,
        )
        self.devices = DeviceRegistry(
            self.config,
            self.bus,
            self.parts,
            self.device_tools,
            self._acquaintance.locale,
            self._acquaintance.area,
        )
        self.devices.resume(await asyncio.to_thread(keeping.take, data_dir / DIALOGUES), time.time())
        self.announcer.attach(self.devices)
        self.prewarm = Prewarm(self.parts, self._languages, self.devices.quiet)
        enter(self.speaker.close)
        enter(self._leisure.close)
        enter(self.lettering.close)
        self._stack.callback(self.bus.watch(NamesChanged, self._names_changed))
        self._stack.callback(self.bus.watch(EntryChanged, self._entry_changed))
        self._stack.callback(self.bus.watch(TurnFinished, self.stepping.turn_finished))
        self._stack.callback(self.bus.watch(DeviceRevoked, self._device_revoked))
        self._stack.callback(self.bus.watch(DeviceRenamed, self._device_renamed))
        self._stack.callback(self.bus.watch(DeviceForgotten, lambda event: self._acquaintance.forget(event.device_id)))
        self._stack.callback(self.bus.watch(DeviceForgotten, lambda event: self.assistants.forget(event.device_id)))
        self._stack.callback(self.bus.watch(DeviceForgotten, lambda event: self.devices.forget(event.device_id)))
        enter(self.plugins.stop)
        enter(self.messenger.close)
        self.announcements = Announcements(self.database, keep_days=self.config.history.keep_days)
        await self.messenger.open(self.announcements, self.bus)
        enter(self._keep_dialogues, data_dir / DIALOGUES)
        enter(self._hang_up)
        self._scope.start(self.devices.housekeeping(), name="housekeeping")
        self._scope.start(self._warm_up(data_dir), name="warm-up")
        self._scope.start(self._retention(), name="retention")
        self._leisure.start(self.prewarm.run(), name="prewarm")
        self._scope.start(self.stepping.watch(), name="stepping")
        self._built.set()

    async def _listen(self) -> None:
        """Open the ports. What needs more of the hub than its address waits until that is there."""

        async def status() -> HubStatus:
            await self._built.wait()
            return await gather_status(self)

        async def turn_parts() -> TurnParts:
            await self.ready()
            return self.parts

        async def chat_history(device_id: str, limit: int) -> ChatHistory:
            await self._built.wait()
            return await self.history.chat_history(device_id, limit)

        def health() -> tuple[PartStatus, ...] | None:
            return parts_of(self) if self.is_ready else None

        config = self.config
        limits = config.limits

        desk = PairingDesk(self.pairing, self.texts, language_of(config.hub.language))
        self.services = DeviceServices(
            Surroundings(
                config=config,
                texts=self.texts,
                engines=self.engines,
                devices=lambda: self.devices,
                port=lambda: self.port,
                start=lambda work, name: self._scope.start(work, name=name),
                problem=self._problem,
                solved=self._solved,
                nobody=SELF_TEST,
            )
        )
        self.device_tools.offer_vision = self.services.offer_vision
        self._stack.push_async_callback(self.services.close)

        def client_language(client_id: str) -> str:
            default = language_of(config.hub.language)
            return self.devices.profile(client_id).language if self._built.is_set() else default

        clients = Clients(
            ClientRules(desk.admit_token, self._acquaintance.met, config.http.origins, config.http.public_host),
            ClientParts(
                texts=self.texts,
                language_of=client_language,
                read_picture=self.services.vision.read_picture,
                eyes=self.services.eyes,
            ),
        )
        api = Api(ApiParts(turn_parts, self.ask_stream, chat_history, language_of(config.hub.language)))
        app = build_app(
            WebParts(
                texts=self.texts,
                version=__version__,
                status=status,
                serve_link=self.serve_link,
                on_check_in=self.check_in,
                language=language_of(config.hub.language),
                public_host=config.http.public_host,
                limits=DeviceLimits(
                    limits.devices, limits.message_bytes, limits.frames_per_second, limits.json_per_second
                ),
                now=clock(config.hub.time_zone),
                admit=desk.admit,
                guests=clients.recognise,
                contributions=self.services.contributions()
                if config.http.moved_to
                # Who must wait for approval gets nothing of what the others add.
                else (
                    desk.withhold,
                    Sharing(config.http.websocket_urls).contribute,
                    framing(self._framing_of),
                    transport_offer(self.transports, self._transport_of),
                    desk.contribute,
                    *self.services.contributions(),
                ),
                routes=(
                    *api.routes(),
                    *desk.routes(),
                    *DevicesApi(self._management).routes(),
                    *AnnouncementsApi(self._open_messenger).routes(),
                    *AssistantsApi(self.assistants, self.switching, self._management).routes(),
                    *MemoryApi(self._open_memories, lambda ids: Facts(self.database).words_behind(ids)).routes(),
                    *Health(health, __version__).routes(),
                    *IntegrationsApi(self.reload_integration).routes(),
                    *self.services.routes(),
                ),
            )
        )
        self._door = app[DEVICE_DOOR]
        ports = dict.fromkeys((config.server.http_port, config.server.port))
        self._ports = await self._stack.enter_async_context(serve(app, config.server.ip, tuple(ports)))

    async def _hang_up(self) -> None:
        """End all conversations while everything they need is still there, and remember them."""
        await self._door.close()
        await self.devices.close()
        if self._talking:
            await asyncio.wait(self._talking, timeout=REMEMBER_SECONDS)
        if self._writing:
            await asyncio.wait(self._writing, timeout=REMEMBER_SECONDS)

    async def _keep_dialogues(self, path: Path) -> None:
        if self.config.history.enabled:
            kept = [item for item in self.devices.dialogues(time.time()) if item.device_id != SELF_TEST]
            await asyncio.to_thread(keeping.write, path, kept)

    async def announce(self) -> None:
        """Tell the local network where the hub is."""
        if self.config.discovery.enabled:
            from xiaozhi_hub.discovery import (
                Discovery,  # not before the ports are open: a device may be waiting for them
            )

            ip = self.config.server.ip
            only = None if ip == "0.0.0.0" else (ip,)
            self.discovery = Discovery(self.config.hub.name, self.port, __version__, only=only)
            await self._stack.enter_async_context(self.discovery)

    @property
    def port(self) -> int:
        """The port of the pages, the OTA address and the devices."""
        return self._ports[0]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses under which the hub is reached."""
        ip = self.config.server.ip
        if ip != "0.0.0.0":
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
        ip = self.config.server.ip
        return f"http://{'127.0.0.1' if ip == '0.0.0.0' else ip}:{self.port}"

    async def _open_store(self) -> Path:
        """Open the database; where the data folder refuses, work without remembering and say so. Returns the folder that
        is used."""
        folder = self.config.data_dir
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            self.database = Database(folder / "hub.db")
            await self.database.open()
        except (OSError, StoreError) as error:
            if isinstance(error, StoreError):
                reason, hint = error.message, error.hint
            elif isinstance(error, (FileExistsError, NotADirectoryError)):
                reason, hint = (
                    f"{folder} is not a folder",
                    "Move what is there away, or set data_dir to another folder.",
                )
            else:
                reason = f"{folder}: {error.strerror}"
                hint = "Let the user the hub runs as write to the folder, or set data_dir to another one."
            self._problem("store", f"Nothing will be remembered after a restart: {reason}.", hint)
            folder = Path(tempfile.mkdtemp(prefix="xiaozhi-hub-"))
            self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self.database = Database(folder / "hub.db")
            await self.database.open()
        self._stack.push_async_callback(self.database.close)
        history = self.config.history
        self.history = History(
            self.database,
            folder / "audio",
            ogg.write_ogg,
            enabled=history.enabled,
            keep_audio=history.audio,
            keep_days=history.keep_days,
        )
        self.known_devices = Devices(self.database)
        for device in await self._acquaintance.load(self.known_devices):
            self._name_device(device.id, device.name, device.area)
        return folder

    async def _warm_up(self, data_dir: Path) -> None:
        began = time.monotonic()
        try:
            await asyncio.gather(self._start_plugins(), self.intents.warm(), self._warm_speaker(data_dir))
            await self._learning.learn()
            self._check_assistants()
        except Exception as error:  # whatever it was: a hub that answers badly says more than one that never answers
            log.exception("the start is not complete")
            self._problem("start", f"The start is not complete: {type(error).__name__}: {error}.", "See the log.")
        finally:
            self._ready.set()
        log.info("ready after %.1f s", time.monotonic() - began)

    async def reload_integration(self, domain: str) -> Entry | None:
        """Have an integration look again at its packages, models and files; return its entry as it is after a few seconds.

        None when there is no such integration, or it is not set up.
        """
        await self.ready()
        entry = next((entry for entry in self.plugins.entries if entry.domain == domain), None)
        if entry is None:
            return None

        await self.stepping.choose()
        await asyncio.wait([self._scope.start(self._reload(domain), name=f"reload-{domain}")], timeout=RELOAD_SECONDS)
        return entry

    async def _reload(self, domain: str) -> None:
        if any(entry.domain == domain for entry in self.plugins.entries):
            await self.plugins.reload(domain)
            self._learning.soon()  # a recogniser that is new here has learned nothing yet

    async def _start_plugins(self) -> None:
        await self.stepping.choose()
        await self.plugins.start()

    async def _warm_speaker(self, data_dir: Path) -> None:
        if (megabytes := self.config.voice.phrase_cache_mb) > 0:
            await self.speaker.keep_in(data_dir / "phrases", megabytes * 2**20)
        try:
            await self.speaker.warm()
        except HubError as error:  # without Opus there is no voice, but there are pages that can say why
            self._problem(error.code, error.message, error.hint)

    def _entry_changed(self, event: EntryChanged) -> None:
        entry = next((entry for entry in self.plugins.entries if entry.domain == event.domain), None)
        if entry is not None and entry.state in (EntryState.FAILED, EntryState.RETRYING):
            self._problem(f"integration-{entry.domain}", f"{entry.name or entry.domain}: {entry.reason}", entry.hint)
        else:
            self.problems.pop(f"integration-{event.domain}", None)
            if self._ready.is_set():
                self.prewarm.again()
        if self._ready.is_set():
            self._check_assistants()

    def _check_assistants(self) -> None:
        """Show which engines are missing that the owner has written for an assistant."""
        cures = {entry.domain: f"{entry.reason} {entry.hint}".strip() for entry in self.plugins.entries}
        lacking = self.assistants.lacking(self.engines.all(), cures) | self.memories.lacking()
        for code in [code for code in self.problems if code.startswith("lacking-") and code not in lacking]:
            del self.problems[code]
        for code, (message, hint) in lacking.items():
            self._problem(code, message, hint)

    def _languages(self) -> set[str]:
        """Those that people speak with this hub."""
        devices = {*self.config.devices, *self._acquaintance.known()}
        return {language_of(self.config.hub.language), *(self.devices.profile(device).language for device in devices)}

    def _names_changed(self, _: NamesChanged) -> None:
        if self._ready.is_set():  # the warm-up learns at its end
            self._learning.soon()

    def _problem(self, code: str, message: str, hint: str = "") -> None:
        if code not in self.problems:
            log.warning("%s %s", message, hint)
        self.problems[code] = Problem(code, message, hint)

    def _solved(self, code: str) -> None:
        self.problems.pop(code, None)

    # -- turns ----------------------------------------------------------------------------------------------------

    def _remember(self, record: TurnRecord) -> None:
        """Hand a finished turn to the history; what was only noise is not worth a record."""
        if (
            record.device_id == SELF_TEST
            or record.outcome is Outcome.NO_SPEECH
            or (record.outcome is Outcome.INTERRUPTED and not record.heard)
        ):
            return
        self.bus.tell(TurnFinished(record))
        task = self._scope.start(self._write(record), name="remember")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _write(self, record: TurnRecord) -> None:
        try:
            await self.history.add(record)
        except StoreError as error:
            self._problem("history", f"Turns are not remembered: {error.message}", error.hint)
        else:
            self.problems.pop("history", None)

    async def _retention(self) -> None:
        while True:
            try:
                await self.history.apply_retention(time.time())
                await self.services.apply_retention(time.time())
                await self.announcements.apply_retention(time.time())
            except StoreError as error:
                self._problem("retention", f"Old turns are not deleted: {error.message}", error.hint)
            await asyncio.sleep(RETENTION_SECONDS)

    async def ask_stream(self, text: str, language: str, device_id: str) -> AsyncGenerator[str | TurnRecord, None]:
        """Answer a written question without a device: yield the sentences and, last, the record of the turn."""
        await self.ready()
        async with aclosing(ask(self.parts, self._text_turn(language, device_id), text)) as pieces:
            async for piece in pieces:
                yield piece

    async def ask(self, text: str, language: str, device_id: str) -> TurnRecord:
        """Answer a written question, without a device."""
        async with aclosing(self.ask_stream(text, language, device_id)) as pieces:
            async for piece in pieces:
                if isinstance(piece, TurnRecord):
                    return piece
        raise HubError("the turn ended without a record")

    def _text_turn(self, language: str, device_id: str) -> TurnInfo:
        profile = self.devices.profile(device_id)
        turn_id = new_id()
        return TurnInfo(
            turn_id, turn_id, device_id, language_of(language, profile.language), profile.area, Channel.TEXT
        )

    # -- devices --------------------------------------------------------------------------------------------------

    async def serve_link(self, link: Link) -> None:
        """Hold the conversation of *link*, whose hellos have been exchanged; returns when it has ended."""
        await self._built.wait()
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._talking.add(ended)
        try:
            await self.devices.serve(self.lettering.letter(link))
        finally:
            self._talking.discard(ended)
            ended.set_result(None)

    def admits(self, device: DeviceIdentity) -> bool:
        """May this device, which has proven to a transport who it is, talk to the hub?"""
        return device.id != SELF_TEST and self.pairing.is_welcome(device)

    def _framing_of(self, device_id: str) -> int:
        written = self.config.devices.get(device_id)
        return written.framing if written is not None else 1

    def _transport_of(self, device_id: str) -> str:
        written = self.config.devices.get(device_id)
        return written.transport if written is not None else WEBSOCKET

    def check_in(self, check_in: CheckIn) -> None:
        """A device has asked for its configuration: remember it."""
        if check_in.device.id == SELF_TEST or not self.pairing.is_kept(check_in.device):
            return
        self._acquaintance.met(check_in)

    def _device_revoked(self, event: DeviceRevoked) -> None:
        async def hang_up() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._door.hang_up(event.device_id, "shut out"))
                if (session := self.devices.sessions.get(event.device_id)) is not None:  # on whatever transport
                    group.create_task(session.link.close("shut out"))

        self._scope.start(hang_up(), name="shut-out")

    def _device_renamed(self, event: DeviceRenamed) -> None:
        self._acquaintance.placed(event.device_id, event.area)
        self._name_device(event.device_id, event.name, event.area)

    def _name_device(self, device_id: str, name: str, area: str) -> None:
        written = self.config.devices.get(device_id)
        if written is None or written.name == device_id:
            self.device_tools.name(device_id, name, (written.area if written is not None else None) or area)

    async def _management(self) -> DeviceManagement:
        await self._built.wait()
        return self.device_management

    async def _open_memories(self) -> Memories:
        await self._built.wait()
        return self.memories

    async def _open_messenger(self) -> Messenger:
        await self._built.wait()
        return self.messenger

    async def _devices_known(self) -> Devices:
        return await asyncio.shield(self._acquaintance.store)
