"""Starts integrations, calls their hooks one by one, and survives whatever they do."""

from __future__ import annotations

import asyncio
import importlib
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pluggy

from xiaozhi_hub.core.events import EntryChanged, NamesChanged
from xiaozhi_hub.core.schema import check_options
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.engines.base import Engine
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.entities.base import Entity
from xiaozhi_hub.errors import ConfigError, HubError, NotReady
from xiaozhi_hub.plugins.api import HubApi
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.hookspecs import PROJECT, Hooks
from xiaozhi_hub.plugins.loader import (
    NAMESPACE,
    check_requirements,
    find_integrations,
    forget_integration,
    import_integration,
)
from xiaozhi_hub.plugins.manifest import Manifest
from xiaozhi_hub.tools.base import Tool

log = logging.getLogger(__name__)

START_SECONDS = 30.0
"""An entry that has not started by then has failed: models load from slow SD cards, but not for ever."""
STOP_SECONDS = 5.0
"""An entry that has not let go by then is left behind."""
RETRY_SECONDS = (5, 10, 30, 60, 300)
"""Waits before an entry that was not ready is tried again; the last one repeats."""


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
    worker: Worker | None = None
    retry: asyncio.Task[None] | None = None
    tries: int = 0


class PluginManager:
    """All integrations that were found, and the entries that run."""

    def __init__(self, hub: HubApi, engines: EngineRegistry, sentences: SentenceSink) -> None:
        self._hub = hub
        self._engines = engines
        self._sentences = sentences
        self._pluggy = pluggy.PluginManager(PROJECT)
        self._pluggy.add_hookspecs(Hooks)
        self._scope = TaskScope("plugins")
        self._running: dict[str, _Running] = {}
        self.manifests: Mapping[str, Manifest] = {}

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(running.entry for running in self._running.values())

    async def start(self) -> None:
        """Find the integrations and start those that are on. Returns when each is ready, retrying or failed."""
        own = self._hub.config.config_dir / "integrations"
        self.manifests, wrong = await asyncio.to_thread(find_integrations, own)
        for problem in wrong:
            log.error("an integration cannot be used: %s", problem)
            domain = Path(problem.place.file).parent.name
            broken = Entry(domain, {}, domain, EntryState.FAILED, str(problem), problem.hint)
            self._running[domain] = _Running(
                Manifest(domain, domain, "0", (), False, False, (), Path(problem.place.file).parent), broken
            )
        chosen = self._hub.config.integrations
        for domain in chosen:
            if domain not in self.manifests and domain not in self._running:
                place = self._hub.config.place(("integrations", domain))
                log.error("%s: there is no integration called %s", place, domain)
                self._running[domain] = _Running(
                    Manifest(domain, domain, "0", (), False, False, (), own / domain),
                    Entry(
                        domain,
                        {},
                        domain,
                        EntryState.FAILED,
                        f"{place}: there is no integration called {domain!r}.",
                        f"Known: {', '.join(sorted(self.manifests))}. Your own go into {own}.",
                    ),
                )
        for domain, manifest in self.manifests.items():
            if domain in self._running:
                continue
            if domain in chosen and chosen[domain] is False:
                entry = Entry(domain, {}, manifest.name, EntryState.DISABLED, "Switched off in the configuration.")
                self._running[domain] = _Running(manifest, entry)
            elif domain in chosen or manifest.default:
                self._running[domain] = _Running(manifest, Entry(domain, {}, manifest.name))
        starting = [r for r in self._running.values() if r.entry.state is EntryState.STARTING]
        await asyncio.gather(*(self._start(running) for running in starting))

    async def stop(self) -> None:
        """Stop every entry, last started first."""
        await self._scope.close()
        for running in reversed(tuple(self._running.values())):
            await self._stop(running)

    async def reload(self, domain: str) -> Entry:
        """Stop an entry, read its files and options again, and start it; people may talk meanwhile."""
        running = self._running[domain]
        await self._stop(running)
        forget_integration(domain)
        running.tries = 0
        await self._start(running)
        return running.entry

    # -- one entry ------------------------------------------------------------------------------------------------

    async def _start(self, running: _Running) -> None:
        domain = running.manifest.domain
        entry = running.entry
        entry.state, entry.reason, entry.hint, entry.retry_at = EntryState.STARTING, "", "", None
        running.stack = AsyncExitStack()
        running.worker = Worker(f"hooks-{domain}")
        entry.scope = TaskScope(domain)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._set_up(running)
        except NotReady as error:
            await self._undo(running)
            self._retry(running, error)
            return
        except (HubError, TimeoutError, Exception) as error:
            await self._undo(running)
            self._fail(running, error)
            return
        except BaseException:
            await self._undo(running)
            raise
        running.tries = 0
        self._change(entry, EntryState.READY)
        if running.manifest.has_sentences or "entities" in running.manifest.kinds:
            self._hub.bus.tell(NamesChanged())

    async def _set_up(self, running: _Running) -> None:
        manifest, entry, worker = running.manifest, running.entry, running.worker
        assert worker is not None
        check_requirements(manifest)
        running.plugin = await worker.run(import_integration, manifest.folder)
        entry.options = await worker.run(self._options_of, manifest)
        self._pluggy.register(running.plugin, name=manifest.domain)
        self._pluggy.check_pending()
        if (manifest.folder / "translations").is_dir():
            await worker.run(self._hub.texts.add_folder, manifest.folder / "translations", manifest.domain)
        context = self._hook(running, "entry_context")
        if context is not None:
            await running.stack.enter_async_context(context())
        await self._contribute(running)

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

    async def _contribute(self, running: _Running) -> None:
        domain, worker = running.manifest.domain, running.worker
        assert worker is not None
        taken: list[tuple[Callable[[Any, str], None], Any]] = []
        sinks: dict[str, Callable[[Any, str], None]] = {
            "register_engines": self._engines.add,
            "register_tools": self._hub.tools.add,
            "register_entities": self._hub.entities.add,
            "register_sentences": lambda path, source: self._sentences.add_sentences(source, path),
        }
        for name, sink in sinks.items():
            hook = self._hook(running, name)
            if hook is None:
                continue

            def register(thing: Engine | Tool | Entity | Path, sink: Callable[[Any, str], None] = sink) -> None:
                taken.append((sink, thing))

            await worker.run(lambda hook=hook, register=register: hook(register=register))
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
        if isinstance(error, TimeoutError):
            reason, hint = f"It did not start within {START_SECONDS:.0f} s.", "See the log for what it was doing."
        elif isinstance(error, ConfigError):
            reason, hint = str(error), error.hint
        elif isinstance(error, HubError):
            reason, hint = error.message, error.hint
        else:
            reason, hint = f"{type(error).__name__}: {error}", "The log has the details."
        level = log.error if isinstance(error, (HubError, TimeoutError)) else log.exception
        level("integration %s failed: %s %s", entry.domain, reason, hint)
        self._change(entry, EntryState.FAILED, reason, hint)

    def _retry(self, running: _Running, error: NotReady) -> None:
        entry = running.entry
        wait = RETRY_SECONDS[min(running.tries, len(RETRY_SECONDS) - 1)]
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

        running.retry = self._scope.start(again(), name=f"retry-{entry.domain}")

    def _change(self, entry: Entry, state: EntryState, reason: str = "", hint: str = "") -> None:
        entry.state, entry.reason, entry.hint = state, reason, hint
        self._hub.bus.tell(EntryChanged(entry.domain, state.value))

    async def _stop(self, running: _Running) -> None:
        if running.retry is not None and running.retry is not asyncio.current_task():
            running.retry.cancel()
            running.retry = None
        await self._undo(running)

    async def _undo(self, running: _Running) -> None:
        """Take back everything an entry contributed and leave its context."""
        domain = running.manifest.domain
        self._engines.remove_source(domain)
        self._hub.tools.remove_source(domain)
        self._hub.entities.remove_source(domain)
        self._sentences.remove_source(domain)
        if running.plugin is not None and self._pluggy.is_registered(running.plugin):
            self._pluggy.unregister(running.plugin)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await running.entry.scope.close()
                await running.stack.aclose()
        except Exception:  # an integration that cannot even stop must not keep the hub from doing so
            log.exception("integration %s did not stop cleanly", domain)
        running.plugin = None
        running.entry.runtime = None
        if running.worker is not None:
            await running.worker.close()
            running.worker = None


__all__ = ["PluginManager", "SentenceSink", "import_integration"]
