"""Starts integrations, calls their hooks one by one, and survives whatever they do."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pluggy

from xiaozhi_hub.core.checking import check_options
from xiaozhi_hub.core.events import EntryChanged, NamesChanged
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.engines.base import Engine
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.entities.base import Entity
from xiaozhi_hub.errors import ConfigError, EntryError, HubError, NotInstalled, NotReady
from xiaozhi_hub.plugins.checking import Prepared
from xiaozhi_hub.plugins.containing import THREAD_SECONDS, call_plainly, contained, is_ours, told
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.hookspecs import PROJECT, Hooks
from xiaozhi_hub.plugins.hub_api import HubApi
from xiaozhi_hub.plugins.loader import (
    NAMESPACE,
    check_requirements,
    find_integrations,
    forget_integration,
    import_integration,
)
from xiaozhi_hub.plugins.manifest import Manifest, read_manifest
from xiaozhi_hub.protocol.transport import Transport
from xiaozhi_hub.tools.base import Tool

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds the hub waits for an integration."""

    start: float = 30.0
    """An entry that has not started by then has failed: models load from slow SD cards, but not for ever."""
    stop: float = 2.0
    """An entry that has not let go by then is left behind: the whole hub ends within five seconds."""
    retry: tuple[float, ...] = (5, 10, 30, 60, 300)
    """Waits before an entry that was not ready is tried again; the last one repeats."""


PATIENCE = Patience()


class SentenceSink(Protocol):
    """Takes sentence files in; the intents are one."""

    def add_sentences(self, source: str, path: Path) -> None: ...

    def remove_source(self, source: str) -> None: ...


@dataclass(slots=True)
class _Running:
    """What belongs to one entry while it exists."""

    manifest: Manifest
    entry: Entry
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    plugin: Any = None
    task: asyncio.Task[None] | None = None
    """What starts it, or will try again."""
    tries: int = 0


class PluginManager:
    """All integrations that were found, and the entries that run."""

    def __init__(
        self, hub: HubApi, engines: EngineRegistry, sentences: SentenceSink, patience: Patience = PATIENCE
    ) -> None:
        self._hub = hub
        self._engines = engines
        self._sentences = sentences
        self._patience = patience
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(Hooks)
        self._scope = TaskScope("plugins")
        self._running: dict[str, _Running] = {}
        self._changing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Held by whoever starts or stops the entry of an integration once `start` has returned."""
        self.manifests: Mapping[str, Manifest] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(running.entry for running in self._running.values())

    def entry(self, domain: str) -> Entry | None:
        """The entry of an integration; None when there is no such integration, or it is not set up."""
        running = self._running.get(domain)
        return running.entry if running is not None else None

    async def start(self) -> None:
        """Find the integrations and start those that are on. Returns when each is ready, retrying or failed; or, with nothing
        started, when `stop` was called meanwhile."""
        own = self._hub.config.config_dir / "integrations"
        manifests, wrong = await asyncio.to_thread(find_integrations, own)
        if self._scope.is_closed():
            return
        self.manifests = manifests
        chosen = self._hub.config.integrations
        for problem in wrong:
            folder = Path(problem.place.file).parent
            if chosen.get(folder.name) is not False:
                self._unusable(folder, *told(problem))
        for domain in chosen:
            if domain not in self.manifests and domain not in self._running and chosen[domain] is not False:
                place = self._hub.config.place(("integrations", domain))
                self._unusable(
                    own / domain,
                    f"{place}: there is no integration called {domain!r}.",
                    f"Known: {', '.join(sorted(self.manifests))}. Your own go into {own}.",
                )
        starting: list[asyncio.Task[None]] = []
        for domain, manifest in self.manifests.items():
            if domain in self._running:
                continue
            if (task := self._begin(domain, manifest)) is not None:
                starting.append(task)
        if starting:
            await asyncio.wait(starting)

    def _begin(self, domain: str, manifest: Manifest) -> asyncio.Task[None] | None:
        """Make an entry if the configuration wants one; return what starts it."""
        chosen = self._hub.config.integrations
        if domain not in chosen and not manifest.default:
            return None
        running = self._running[domain] = _Running(manifest, Entry(domain, {}, manifest.name))
        if chosen.get(domain) is False:
            running.entry.state, running.entry.reason = EntryState.DISABLED, "Switched off in the configuration."
            return None
        running.task = self._scope.start(self._start(running), name=f"start-{domain}")
        return running.task

    def _unusable(self, folder: Path, reason: str, hint: str) -> None:
        """Show an integration that cannot even be looked at."""
        domain = folder.name
        log.error("integration %s cannot be used: %s %s", domain, reason, hint)
        entry = Entry(domain, {}, domain)
        self._running[domain] = _Running(Manifest(domain, domain, "0", (), False, False, False, (), folder), entry)
        self._change(entry, EntryState.FAILED, reason, hint)

    async def stop(self) -> None:
        """Stop every entry, all at once: one that does not let go must not take the time of the others."""
        await self._scope.close()
        await asyncio.gather(*(self._undo(running) for running in self._running.values()))

    async def reload(self, domain: str) -> Entry:
        """Stop an entry, read its files again, and start it; people may talk meanwhile. What is switched off stays so, and
        after `stop` nothing starts again."""
        running = self._running[domain]
        entry = running.entry
        async with self._changing[domain]:
            if self._running.get(domain) is not running:
                return entry  # the configuration has changed meanwhile
            if entry.state is EntryState.DISABLED or self._scope.is_closed():
                return entry
            if running.task is not None:
                await cancel_and_wait(running.task)
            await self._undo(running)
            forget_integration(domain)
            running.tries = 0
            try:
                running.manifest = await asyncio.to_thread(read_manifest, running.manifest.folder)
            except ConfigError as error:
                self._fail(running, error)
            else:
                if self._scope.is_closed():
                    return entry
                entry.name = running.manifest.name
                self.manifests = {**self.manifests, domain: running.manifest}
                running.task = self._scope.start(self._start(running), name=f"start-{domain}")
                await asyncio.wait([running.task])
            if entry.state is not EntryState.READY:
                self._tell_names(running)
        return entry

    # -- another configuration ------------------------------------------------------------------------------------

    def follow(self, prepared: Prepared) -> tuple[asyncio.Task[None], ...]:
        """The configuration has become the other one: start, stop or restart the entries in question, each by itself. Returns what
        does so: nothing, after `stop`."""
        if self._scope.is_closed():
            return ()
        if prepared.domains:
            self.manifests = prepared.manifests
        return tuple(
            self._scope.start(self._renew(domain), name=f"renew-{domain}") for domain in sorted(prepared.domains)
        )

    async def _renew(self, domain: str) -> None:
        """Make the entry of an integration what the configuration of this moment says."""
        async with self._changing[domain]:
            old = self._running.get(domain)
            if old is not None:
                if old.task is not None:
                    await cancel_and_wait(old.task)
                await self._undo(old)
                del self._running[domain]
            if self._scope.is_closed():
                return
            manifest = self.manifests.get(domain)
            started = self._begin(domain, manifest) if manifest is not None else None
            if started is not None:
                await asyncio.wait([started])
            else:
                forget_integration(domain)  # it may have other code, and take other options, when it comes back
            entry = self.entry(domain)
            if entry is None or entry.state is EntryState.DISABLED:
                self._hub.bus.tell(EntryChanged(domain, EntryState.DISABLED.value))
            self._hub.bus.tell(NamesChanged())  # recognisers that are new here know nothing yet

    # -- one entry ------------------------------------------------------------------------------------------------

    async def _start(self, running: _Running) -> None:
        """Start an entry, or say in it why that does not work."""
        domain = running.manifest.domain
        entry = running.entry
        entry.state, entry.reason, entry.hint, entry.retry_at = EntryState.STARTING, "", "", None
        running.stack = AsyncExitStack()
        entry.scope = TaskScope(domain)
        worker = Worker(f"hooks-{domain}")
        limit = asyncio.timeout(self._patience.start)
        try:
            async with limit:
                await self._set_up(running, worker)
        except NotReady as error:
            await self._undo(running)
            self._retry(running, error)
        except BaseException as error:  # whatever it does: `sys.exit()` in an integration must not end the hub
            await self._undo(running)
            if is_ours(error):
                raise
            if limit.expired():
                error = EntryError(
                    f"It did not start within {self._patience.start:g} s.", hint="See the log for what it was doing."
                )
            self._fail(running, error)
        else:
            running.tries = 0
            self._change(entry, EntryState.READY)
            self._tell_names(running)
        finally:
            await worker.close(THREAD_SECONDS)

    async def _set_up(self, running: _Running, worker: Worker) -> None:
        manifest, entry = running.manifest, running.entry
        await worker.run(contained, check_requirements, manifest)
        running.plugin = await worker.run(contained, import_integration, manifest.folder)
        entry.options = await worker.run(contained, self._options_of, manifest)
        try:
            self._pluggy.register(running.plugin, name=manifest.domain)
            self._pluggy.check_pending()
        except pluggy.PluginValidationError as error:
            known = ", ".join(name for name in vars(Hooks) if not name.startswith("_"))
            raise EntryError(str(error), hint=f"The hooks are: {known}.", permanent=True) from error
        if (manifest.folder / "translations").is_dir():
            await worker.run(contained, self._hub.texts.add_folder, manifest.folder / "translations", manifest.domain)
        context = self._hook(running, "entry_context")
        if context is not None:
            await running.stack.enter_async_context(context())
        await self._contribute(running, worker)

    def _options_of(self, manifest: Manifest) -> Mapping[str, Any]:
        raw = self._hub.config.integrations.get(manifest.domain)
        raw = {} if raw is None or isinstance(raw, bool) else raw
        if not (manifest.folder / "config.py").is_file():
            return dict(raw)
        module = importlib.import_module(f"{NAMESPACE}.{manifest.domain}.config")
        prefix = ("integrations", manifest.domain)
        options: Mapping[str, Any] = check_options(
            module.SCHEMA, raw, lambda path: self._hub.config.place((*prefix, *path))
        )
        return options

    async def _contribute(self, running: _Running, worker: Worker) -> None:
        domain = running.manifest.domain
        taken: list[tuple[Callable[[Any, str], None], Any]] = []
        sinks: dict[str, Callable[[Any, str], None]] = {
            "register_engines": self._engines.add,
            "register_tools": self._hub.tools.add,
            "register_entities": self._hub.entities.add,
            "register_transports": self._hub.transports.add,
            "register_sentences": lambda path, source: self._sentences.add_sentences(source, path),
        }
        for name, sink in sinks.items():
            hook = self._hook(running, name)
            if hook is None:
                continue

            def register(
                thing: Engine | Tool | Entity | Transport | Path, sink: Callable[[Any, str], None] = sink
            ) -> None:
                taken.append((sink, thing))

            await worker.run(contained, call_plainly, name, hook, register)
        for sink, thing in taken:
            sink(thing, domain)
        if running.manifest.has_sentences:
            for path in sorted((running.manifest.folder / "sentences").glob("*.yaml")):
                self._sentences.add_sentences(domain, path)

    def _hook(self, running: _Running, name: str) -> Callable[..., Any] | None:
        """The entry's implementation of a hook, with the arguments that every hook may take filled in."""
        implementations = getattr(self._pluggy.hook, name).get_hookimpls()
        mine = next((known for known in implementations if known.plugin is running.plugin), None)
        if mine is None:
            return None
        shared = {"hub": self._hub, "entry": running.entry}

        def call(**given: Any) -> Any:
            values = {**shared, **given}
            return mine.function(**{argument: values[argument] for argument in mine.argnames})

        return call

    def _fail(self, running: _Running, error: BaseException) -> None:
        entry = running.entry
        reason, hint = told(error)
        asked_for = entry.domain in self._hub.config.integrations
        if isinstance(error, NotInstalled) and running.manifest.optional and not asked_for:
            log.info("integration %s could be used: %s %s", entry.domain, reason, hint)
            self._change(entry, EntryState.AVAILABLE, reason, hint)
            return
        unforeseen = None if isinstance(error, HubError) else error
        log.error("integration %s failed: %s %s", entry.domain, reason, hint, exc_info=unforeseen)
        self._change(entry, EntryState.FAILED, reason, hint)

    def _retry(self, running: _Running, error: NotReady) -> None:
        entry = running.entry
        waits = self._patience.retry
        wait = waits[min(running.tries, len(waits) - 1)]
        if running.tries == 0:
            log.warning("integration %s is not ready, will try again: %s", entry.domain, error)
        running.tries += 1
        entry.retry_at = time.time() + wait
        self._change(entry, EntryState.RETRYING, error.message, error.hint)

        async def again() -> None:
            await asyncio.sleep(wait)
            await self._start(running)
            if entry.state is EntryState.READY:
                log.info("integration %s is ready now", entry.domain)

        running.task = self._scope.start(again(), name=f"retry-{entry.domain}")

    def _change(self, entry: Entry, state: EntryState, reason: str = "", hint: str = "") -> None:
        entry.state, entry.reason, entry.hint = state, reason, hint
        self._hub.bus.tell(EntryChanged(entry.domain, state.value))

    def _tell_names(self, running: _Running) -> None:
        if running.manifest.has_sentences or "entities" in running.manifest.kinds:
            self._hub.bus.tell(NamesChanged())

    async def _undo(self, running: _Running) -> None:
        """Take back everything an entry contributed and leave its context."""
        domain = running.manifest.domain
        self._engines.remove_source(domain)
        self._hub.tools.remove_source(domain)
        self._hub.entities.remove_source(domain)
        self._hub.transports.remove_source(domain)
        self._sentences.remove_source(domain)
        if running.plugin is not None and self._pluggy.is_registered(running.plugin):
            self._pluggy.unregister(running.plugin)
        try:
            await self._let_go(domain, running.stack.aclose)
        finally:
            await self._let_go(domain, running.entry.scope.close)
            running.plugin = None
            running.entry.runtime = None

    async def _let_go(self, domain: str, leave: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(self._patience.stop):
                await leave()
        except BaseException as error:  # an integration that cannot even stop must not keep the hub from doing so
            if is_ours(error):
                raise
            log.error("integration %s did not stop cleanly", domain, exc_info=error)


__all__ = ["PATIENCE", "Patience", "PluginManager", "SentenceSink"]
