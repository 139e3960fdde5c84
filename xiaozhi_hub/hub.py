"""The composition root: builds the parts, starts them in order, stops them in reverse. No business rules.

The threshold comes first, so that a device that boots with the hub gets its OTA answer at once; ``xiaozhi-hub run`` opens it
before it even imports the rest. Engines come last; `Hub.ready` returns when they are there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from xiaozhi_hub.answering import Answering, AnsweringParts
from xiaozhi_hub.archive import Archive
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.forgetting import Forgetting, Holder
from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.abilities.entities import DeviceEntities
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.devices.announcements.announcer import DeviceAnnouncer
from xiaozhi_hub.devices.announcements.audience import Audience
from xiaozhi_hub.devices.announcements.messenger import Messenger
from xiaozhi_hub.devices.management import DeviceManagement
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.dialog.prewarm import Prewarm
from xiaozhi_hub.display.lettering import Lettering
from xiaozhi_hub.engines.household import Household
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.overview import Overview, OverviewParts
from xiaozhi_hub.own_tools import CORE, OwnTools, OwnToolsParts
from xiaozhi_hub.plugins.checking import Prepared
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.hub_api import HubApi
from xiaozhi_hub.plugins.manager import PATIENCE, Patience, PluginManager
from xiaozhi_hub.readiness import Readiness, ReadinessParts
from xiaozhi_hub.reception import Reception, ReceptionParts
from xiaozhi_hub.reloading import Reloading, ReloadingParts, hand_out
from xiaozhi_hub.rooms import RoomParts, rooms_of
from xiaozhi_hub.services import DeviceServices, Surroundings
from xiaozhi_hub.stepping import Stepping
from xiaozhi_hub.store.announcements import Announcements
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.devices import Devices
from xiaozhi_hub.store.habits import HabitRows
from xiaozhi_hub.store.history import History
from xiaozhi_hub.store.memory import Facts
from xiaozhi_hub.store.schedule import Schedule
from xiaozhi_hub.threshold import SELF_TEST, Threshold
from xiaozhi_hub.tools.registry import ToolRegistry

if TYPE_CHECKING:
    from xiaozhi_hub.discovery import Discovery

REMEMBER_SECONDS = 1.0
"""For turns to end, and for what is then still to be written, when the hub stops."""


class Hub:
    """One hub. ``async with Hub(config) as hub: await hub.ready()``; leaving the block stops everything.

    With *load*, which gives the configuration again as the files say it then, it follows the files while it runs. *threshold* is
    one with the same configuration that is open already, and is closed after the hub; without it the hub has its own.
    """

    def __init__(
        self,
        config: Config,
        patience: Patience = PATIENCE,
        load: Callable[[], Config] | None = None,
        threshold: Threshold | None = None,
    ) -> None:
        """Build what needs neither store nor integrations; the rest follows in `_start`."""
        self.config = config
        """What is in force."""
        self.started_at = time.time()
        self._built = asyncio.Event()
        self._stack = AsyncExitStack()
        self._threshold = threshold or Threshold(config)
        self._has_its_own = threshold is None
        self._scope = self._threshold.scope
        self._start_up = TaskScope("start-up")
        """What starts engines; it ends before they do."""
        self._leisure = TaskScope("leisure")
        """What is done while nobody speaks; it ends before the voices do."""
        self.forgetting = Forgetting(self._scope)
        language = language_of(config.hub.language)
        first = self._threshold
        self.problems, self.bus, self.texts, self.front = first.problems, first.bus, first.texts, first.front
        self.transports, self.pairing, self._acquaintance = first.transports, first.pairing, first.acquaintance
        self.self_test_client_id = first.self_test_client_id
        self.engines = EngineRegistry()
        self.entities = EntityRegistry(self.bus)
        self.tools = ToolRegistry(self.texts)
        self.archive = Archive(
            config, first.storage, self.bus, self._scope, self.problems, self.forgetting, nobody=SELF_TEST
        )

        self.device_tools = DeviceTools(config.devices, self.entities, self.texts)
        self.reloading = Reloading(ReloadingParts(load, self, self.bus, self.problems, patience.start))
        DeviceEntities(config.devices, self.entities, self.device_tools, self.texts, language)
        around = Surroundings(
            config=config,
            texts=self.texts,
            engines=self.engines,
            devices=lambda: self.devices,
            front=self.front,
            start=lambda work, name: self._scope.start(work, name=name),
            problem=self.problems.show,
            solved=self.problems.solved,
            nobody=SELF_TEST,
        )
        self.services = DeviceServices(around)
        self.device_tools.offer_vision = self.services.offer_vision

        answering = AnsweringParts(
            config=config,
            texts=self.texts,
            engines=self.engines,
            entities=self.entities,
            tools=self.tools,
            device_tools=self.device_tools,
            eyes=self.services.eyes,
            scope=self._scope,
            problems=self.problems,
            devices=lambda: self.devices,
            known_devices=lambda: self.known_devices,
            remember=self.archive.remember,
            ready=self.ready,
        )
        self.answering = Answering(answering)
        self.assistants, self.switching = self.answering.assistants, self.answering.switching
        self.intents, self.memories = self.answering.intents, self.answering.memories
        self.brains, self.speaker, self.parts = self.answering.brains, self.answering.speaker, self.answering.parts
        self.ask, self.ask_stream = self.answering.ask, self.answering.ask_stream
        readiness = ReadinessParts(
            config=config,
            bus=self.bus,
            engines=self.engines,
            answering=self.answering,
            problems=self.problems,
            scope=self._scope,
            patience=patience,
            prewarm=lambda: self.prewarm,
        )
        self.readiness = Readiness(readiness)

        self.announcer = DeviceAnnouncer(self.texts, self.transports)
        self.device_management = DeviceManagement(
            self.pairing,
            self._devices_known,
            config.devices,
            lambda: self.devices.sessions,
            self.bus,
            self.forgetting,
            lambda device_id: self.devices.sound_figures(device_id),  # noqa: PLW0108 (the registry is built later)
        )
        audience = Audience(self._management, self.device_tools, self.entities, self.texts)
        self.messenger = Messenger(self.texts, self.transports, audience, lambda: self.devices, time.time)
        own = OwnToolsParts(
            config=config,
            texts=self.texts,
            entities=self.entities,
            device_tools=self.device_tools,
            messenger=self.messenger,
            answering=self.answering,
            language_of=lambda device_id: self.devices.profile(device_id).language,
        )
        self.own_tools = OwnTools(own, self.tools)

        self.lettering = Lettering(config.display)
        reception = ReceptionParts(
            pairing=self.pairing,
            acquaintance=self._acquaintance,
            device_tools=self.device_tools,
            assistants=self.assistants,
            lettering=self.lettering,
            scope=self._scope,
            forgetting=self.forgetting,
            built=self._built,
            devices=lambda: self.devices,
            door=lambda: self.front.door,
            nobody=SELF_TEST,
        )
        self.reception = Reception(reception)
        self.serve_link, self.admits = self.reception.serve_link, self.reception.admits

        overview = OverviewParts(
            config=lambda: self.config,
            started_at=self.started_at,
            front=self.front,
            archive=self.archive,
            engines=self.engines,
            pairing=self.pairing,
            problems=self.problems,
            devices=lambda: self.devices,
            entries=lambda: self.plugins.entries,
            is_ready=lambda: self.is_ready,
        )
        self.overview = Overview(overview)
        self._rooms = rooms_of(
            RoomParts(
                config=config,
                texts=self.texts,
                built=self._built,
                desk=self.front.desk,
                archive=self.archive,
                services=self.services,
                acquaintance=self._acquaintance,
                management=self.device_management,
                messenger=self.messenger,
                answering=self.answering,
                forgetting=self.forgetting,
                devices=lambda: self.devices,
                serve_link=self.serve_link,
                integrations=lambda: self.plugins.entries if self._built.is_set() else (),
                reload_integration=self.readiness.reload,
                reloading=self.reloading,
                status=self.overview.status,
                health=self.overview.health,
            )
        )
        self.database: Database
        self.history: History
        self.known_devices: Devices
        self.announcements: Announcements
        self.plugins: PluginManager
        self.stepping: Stepping
        self.devices: DeviceRegistry
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
        await self.readiness.wait()

    @property
    def is_ready(self) -> bool:
        return self.readiness.reached

    # -- start and stop -------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        enter, config = self._stack.push_async_callback, self.config
        afterwards = self._threshold.afterwards
        afterwards.callback(self.intents.close)  # last of all
        afterwards.push_async_callback(self.services.close)
        if self._has_its_own:
            await self._stack.enter_async_context(self._threshold)
        self.front.open_rooms(self._rooms)
        self.archive.open()
        data_dir, self.database = self.archive.folder, self.archive.database
        self.history, self.known_devices = self.archive.history, self.archive.known_devices
        self.reception.open(self._threshold.known)
        await self.answering.open(HabitRows(self.database))
        await self.services.open(self.database, data_dir)

        self.readiness.open(self._api(data_dir))
        self.plugins, self.stepping = self.readiness.plugins, self.readiness.stepping
        household = Household(Facts(self.database)) if config.memory.enabled else None
        if household is not None:
            self.engines.add(household, CORE)
            self._stack.callback(self.engines.remove_source, CORE)
        self.devices = DeviceRegistry(
            config, self.bus, self.parts, self.device_tools, self._acquaintance.locale, self._acquaintance.area
        )
        self.devices.resume(await self.archive.take_dialogues(), time.time())
        self.announcer.attach(self.devices)
        self.prewarm = Prewarm(
            self.parts, lambda: self.devices.languages(self._acquaintance.known()), self.devices.quiet
        )

        enter(self.speaker.close)
        enter(self._leisure.close)
        enter(self.lettering.close)
        self._stack.callback(self.bus.watch(TurnFinished, self.answering.waits.turn_finished))
        for stop in (*self.readiness.watch(), *self.reception.watch(self.bus)):
            self._stack.callback(stop)
        enter(self.plugins.stop)
        enter(self._start_up.close)
        enter(self.messenger.close)
        self.announcements = Announcements(self.database, keep_days=config.history.keep_days)
        await self.messenger.open(self.announcements, self.bus)
        enter(self.archive.keep_dialogues, self.devices.dialogues)
        enter(self._hang_up)
        for name, holder in self._holders(household).items():
            self._stack.callback(self.forgetting.add(name, holder))
        self._stack.callback(self.front.shut_rooms)  # first of all

        others = (self.services.apply_retention, self.announcements.apply_retention)
        self._scope.start(self.devices.housekeeping(), name="housekeeping")
        self._start_up.start(self.readiness.warm_up(data_dir), name="warm-up")
        self._scope.start(self.archive.retention(others), name="retention")
        self._leisure.start(self.prewarm.run(), name="prewarm")
        self._scope.start(self.stepping.watch(), name="stepping")
        self._scope.start(self.reloading.watch(), name="reloading")
        self._built.set()

    def _holders(self, household: Household | None) -> dict[str, Holder]:
        """Which parts hold what was said. Integrations and the API for programs add themselves."""
        holders: dict[str, Holder] = {
            "turns": self.archive.forget,
            "habits": self.answering.waits.forget,
            "photos": self.services.forget,
            "announcements": self.messenger.forget,
            "conversations": self.devices.forget,
            "phrases": self.speaker.forget,
            "devices": self.reception.forget,
            "caches": self.archive.forget_caches,
        }
        if household is not None:  # its notes are there even while another memory is in use
            holders["memory"] = household.forget_devices
        return holders

    def _api(self, data_dir: Path) -> HubApi:
        """What integrations are given."""
        return HubApi(
            current_config=lambda: self.config,
            data_dir=data_dir,
            models=ModelShelf(data_dir / "models"),
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
            forgetting=self.forgetting,
            brains=self.brains,
        )

    async def _hang_up(self) -> None:
        """End all conversations while everything they need is still there, and remember them."""
        await self.reception.hang_up(REMEMBER_SECONDS)
        await self.archive.written(REMEMBER_SECONDS)
        await self.answering.waits.written(REMEMBER_SECONDS)

    # -- where it is reached: see `Front` -------------------------------------------------------------------------

    async def announce(self) -> None:
        """Tell the local network where the hub is."""
        await self._stack.enter_async_context(self.front.announced())

    @property
    def discovery(self) -> Discovery | None:
        return self.front.discovery

    @property
    def port(self) -> int:
        return self.front.port

    @property
    def addresses(self) -> tuple[str, ...]:
        return self.front.addresses

    @property
    def hosts(self) -> tuple[str, ...]:
        return self.front.hosts

    @property
    def local_url(self) -> str:
        return self.front.local_url

    # -- a new configuration: see `Reloading` ----------------------------------------------------------------------

    async def take_over(self, config: Config, prepared: Prepared) -> tuple[asyncio.Task[None], ...]:
        """Make *config* what is in force, in one step; then let integrations follow, each by itself. See `Reloading`."""
        before, self.config = self.config, config
        hand_out(
            {
                "pairing": lambda: self.pairing.configure(config.pairing),
                "the list of devices": lambda: self.device_management.configure(config.devices),
                "device tools": lambda: self.device_tools.configure(config.devices),
                "display": lambda: self.lettering.configure(config.display),
                "messages": lambda: self.announcements.configure(keep_days=config.history.keep_days),
                "history": lambda: self.archive.configure(config),
                "voice and assistants": lambda: self.answering.configure(config),
                "the hub's own tools": lambda: self.own_tools.configure(config),
                "photos and firmware": lambda: self.services.configure(config),
                "check-ins": lambda: self.front.configure(config),
                "devices": lambda: self.devices.configure(config),
                "choice of models": lambda: self.stepping.configure(config),
            },
            self.problems,
        )
        renamed = (before.assistants, before.devices) != (config.assistants, config.devices)
        return await self.readiness.follow(prepared, renamed=renamed)

    def entry(self, domain: str) -> Entry | None:
        """The entry of an integration; None when there is no such one, or it is not set up."""
        return self.plugins.entry(domain)

    async def _management(self) -> DeviceManagement:
        await self._built.wait()
        return self.device_management

    async def _devices_known(self) -> Devices:
        return await asyncio.shield(self._acquaintance.store)
