"""When the hub is ready, and what brings it there again: integrations start, recognisers learn, usual phrases are made.

At the start it happens once for all; later, whenever an integration or a name has come, gone or changed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from xiaozhi_hub.answering import Answering
from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import EntryChanged, NamesChanged, TurnFinished
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.prewarm import Prewarm
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.plugins.checking import Prepared
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.hub_api import HubApi
from xiaozhi_hub.plugins.manager import Patience, PluginManager
from xiaozhi_hub.problems import Problems
from xiaozhi_hub.stepping import Stepping

log = logging.getLogger(__name__)

RELOAD_SECONDS = 10.0
"""A large model may take longer to load: whoever asked for it learns that it is starting."""


@dataclass(frozen=True, slots=True)
class ReadinessParts:
    """What has to be made ready, and what does it."""

    config: Config
    bus: Bus
    engines: EngineRegistry
    answering: Answering
    problems: Problems
    scope: TaskScope
    patience: Patience
    prewarm: Callable[[], Prewarm]


class Readiness:
    """`open` when the store is there, then `warm_up`. Turns that come earlier wait for `wait`."""

    def __init__(self, parts: ReadinessParts) -> None:
        self._parts = parts
        self._reached = asyncio.Event()
        self.plugins: PluginManager
        self.stepping: Stepping

    def open(self, api: HubApi) -> None:
        """Build what starts integrations; *api* is what they are given."""
        parts = self._parts
        shown, solved = parts.problems.show, parts.problems.solved
        self.stepping = Stepping(parts.config, api.models, self._start_again, parts.scope, shown, solved)
        parts.engines.asked = self.stepping.asked
        self.plugins = PluginManager(api, parts.engines, parts.answering.intents, parts.patience)

    async def wait(self) -> None:
        """Return when the engines have started and the recognisers have learned."""
        await self._reached.wait()

    @property
    def reached(self) -> bool:
        return self._reached.is_set()

    async def warm_up(self, data_dir: Path) -> None:
        """Start everything that takes long. Whatever fails is shown, and the hub is ready without it."""
        began, answering = time.monotonic(), self._parts.answering
        # Whatever one of them fails with, the others go on to their end.
        works = (self._start(), *answering.warming(data_dir))
        for done in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(done, Exception):
                self._show_incomplete(done)
        try:
            await answering.learning.learn()
            answering.show_lacking(self.plugins.entries)
        except Exception as error:  # a hub that answers badly says more than one that never answers
            self._show_incomplete(error)
        self._reached.set()
        log.info("ready after %.1f s", time.monotonic() - began)

    def _show_incomplete(self, error: Exception) -> None:
        log.error("the start is not complete", exc_info=error)
        told = f"The start is not complete: {type(error).__name__}: {error}."
        self._parts.problems.show("start", told, "See the log.")

    async def _start(self) -> None:
        await self.stepping.choose()
        await self.plugins.start()

    # -- later --------------------------------------------------------------------------------------------------------

    async def reload(self, domain: str) -> Entry | None:
        """Have an integration look again at its packages, models and files; return its entry as it is after a few seconds.

        None when there is no such integration, or it is not set up.
        """
        await self.wait()
        if (entry := self.plugins.entry(domain)) is None:
            return None
        await self.stepping.choose()
        task = self._parts.scope.start(self._start_again(domain), name=f"reload-{domain}")
        await asyncio.wait([task], timeout=RELOAD_SECONDS)
        return entry

    async def _start_again(self, domain: str) -> None:
        if self.plugins.entry(domain) is not None:
            await self.plugins.reload(domain)
            self._parts.answering.learning.soon()  # a recogniser that is new here has learned nothing yet

    async def follow(self, prepared: Prepared, *, renamed: bool) -> tuple[asyncio.Task[None], ...]:
        """Another configuration is in force: let integrations follow, each by itself. *renamed* says whether people call devices
        or assistants otherwise now."""
        try:
            await self.stepping.choose()
        finally:  # whatever happens: nobody would find a difference another time
            tasks = self.plugins.follow(prepared)
            if renamed:
                self._parts.bus.tell(NamesChanged())
            self._parts.answering.show_lacking(self.plugins.entries)
            self._parts.prewarm().again()
        return tasks

    def watch(self) -> Iterator[Callable[[], None]]:
        """Follow what happens; yields what ends that."""
        bus = self._parts.bus
        yield bus.watch(NamesChanged, self._names_changed)
        yield bus.watch(EntryChanged, self._entry_changed)
        yield bus.watch(TurnFinished, self.stepping.turn_finished)

    def _names_changed(self, _: NamesChanged) -> None:
        if self.reached:  # the warm-up learns at its end
            self._parts.answering.learning.soon()

    def _entry_changed(self, event: EntryChanged) -> None:
        in_trouble = self._parts.problems.of_entry(event.domain, self.plugins.entry(event.domain))
        if self.reached:  # the warm-up does so at its end
            if not in_trouble:
                self._parts.prewarm().again()
            self._parts.answering.show_lacking(self.plugins.entries)


__all__ = ["Readiness", "ReadinessParts"]
