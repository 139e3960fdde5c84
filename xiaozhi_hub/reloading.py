"""Takes over what the owner changes in the configuration while the hub runs.

The files are looked at every few seconds. What has changed is read and checked as a whole, and only then given to the parts, all
of them in one step of the event loop: a turn has seen either all of it or nothing. A mistake changes nothing and is shown until
it is mended. What may change while the hub runs is said in `xiaozhi_hub.core.changes`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.changes import Change, changes_between, in_force
from xiaozhi_hub.core.config import MAIN_FILE, Config
from xiaozhi_hub.core.events import ConfigurationChanged
from xiaozhi_hub.core.yaml_files import Stamp, stamp_of
from xiaozhi_hub.errors import ConfigError, ConfigErrors, HubError, Place
from xiaozhi_hub.plugins.checking import Prepared, prepare
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.problems import Problems
from xiaozhi_hub.web.programs.configuration import Reloaded

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
QUIET_SECONDS = 0.3
"""Files that have not changed for so long are not being written any more."""
MOST_QUIET_SECONDS = 10.0
"""A file that changes all the time is read anyway; what is then half of it is a mistake like any other."""
MOST_READS = 3
"""… also when somebody writes to it each time it is read."""
ENTRY_SECONDS = 10.0
"""How long an answer waits for integrations to start again; they go on starting without it."""
SHOWN_MISTAKES = 3
BROKEN, RESTART, PARTS = "configuration", "configuration-restart", "configuration-parts"
"""The codes of the problems that are shown."""


class Running(Protocol):
    """The hub, as far as it takes part."""

    config: Config
    """What is in force."""

    async def ready(self) -> None:
        """Return when it has started."""

    async def take_over(self, config: Config, prepared: Prepared) -> tuple[asyncio.Task[None], ...]:
        """Make *config* what is in force, and show as `PARTS` what has not taken it. What is returned starts and stops
        integrations."""

    def entry(self, domain: str) -> Entry | None:
        """The entry of an integration, if it has one."""


@dataclass(frozen=True, slots=True)
class ReloadingParts:
    """What it works with."""

    load: Callable[[], Config] | None
    """Reads the files, as at the start of the hub; called in a thread. None where the configuration comes from no files."""
    hub: Running
    bus: Bus
    problems: Problems
    check_seconds: float
    """How long integrations may take to be looked at."""


class Reloading:
    """`watch` does it whenever files change, `now` at once."""

    def __init__(self, parts: ReloadingParts) -> None:
        self._parts = parts
        self._asked = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._seen: Mapping[Path, Stamp | None] | None = None
        """The files as they were when they were last read."""
        self._following: tuple[asyncio.Task[None], ...] = ()
        """What makes integrations take what was taken over last."""
        self._waiting: tuple[Change, ...] = ()
        """What has been changed and needs a restart."""

    def soon(self) -> None:
        """Have `watch` look at the files now, changed or not."""
        self._asked.set()

    async def watch(self) -> None:
        """Follow the files. Never ends by itself, unless there are none."""
        await self._parts.hub.ready()
        while self._parts.load is not None:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                if not await self._have_changed():
                    continue
            self._asked.clear()
            await self._until_quiet()
            try:
                await self._once()
            except HubError as error:
                log.debug("the configuration was not taken over: %s", error)  # it is shown
            except Exception as error:  # whatever it was: the next change of the files may work
                log.exception("the configuration could not be taken over")
                self._show(
                    f"The new configuration could not be taken over: {type(error).__name__}: {error}.", "See the log."
                )

    async def now(self) -> Reloaded:
        """Take over what the files say. `ConfigErrors` when there is a mistake in them: then nothing has changed."""
        if self._parts.load is None:
            raise _no_files()
        changes, domains, tasks = await self._once()
        if following := (*tasks, *self._following):  # `watch` may have been quicker by a moment
            await asyncio.wait(following, timeout=ENTRY_SECONDS)
        entries = (self._parts.hub.entry(domain) for domain in sorted(domains))
        trouble = problem.message if (problem := self._parts.problems.get(PARTS)) is not None else ""
        return Reloaded(changes, tuple(entry for entry in entries if entry is not None), trouble)

    async def _once(self) -> tuple[tuple[Change, ...], frozenset[str], tuple[asyncio.Task[None], ...]]:
        """Take over what the files say; return the changes, the integrations that follow, and what makes them do so."""
        hub = self._parts.hub
        await hub.ready()
        async with self._one_at_a_time:
            try:
                wanted, prepared = await self._read()
            except HubError as error:
                self._show_mistakes(error)
                raise
            self._parts.problems.solved(BROKEN)
            running, new = hub.config, in_force(hub.config, wanted)
            at_once = changes_between(running, new, prepared.secret)
            waiting = changes_between(new, wanted)
            if at_once or prepared.domains:
                tasks = await hub.take_over(new, prepared)
                self._following = (*(task for task in self._following if not task.done()), *tasks)
            else:
                hub.config, tasks = new, ()  # the same, but for where it stands in the files
            self._tell(at_once, waiting)
        return (*at_once, *waiting), prepared.domains, tasks

    async def outstanding(self) -> tuple[Change, ...]:
        """What the files say otherwise than what is in force, and change nothing. `ConfigErrors` as `now`."""
        await self._parts.hub.ready()
        async with self._one_at_a_time:
            seen = self._seen
            try:
                wanted, prepared = await self._read()
            finally:
                self._seen = seen
            return changes_between(self._parts.hub.config, wanted, prepared.secret)

    # -- reading --------------------------------------------------------------------------------------------------

    async def _read(self) -> tuple[Config, Prepared]:
        load, running = self._parts.load, self._parts.hub.config
        if load is None:
            raise _no_files()
        # Whatever comes of reading them, they are read again only when they have changed.
        self._seen = await asyncio.to_thread(_stamps, tuple(self._watched))
        for _ in range(MOST_READS):
            try:
                wanted = await asyncio.to_thread(load)
            except ConfigErrors as wrong:
                if wrong.stamps:  # none when there is no folder to read from
                    self._seen = wrong.stamps
                raise
            self._seen = wanted.stamps
            if not await self._have_changed():
                break
            await self._until_quiet()  # somebody wrote while they were read: it may be half of what was meant
        if lost := _lost(running, wanted):
            raise ConfigErrors(lost)
        return wanted, await prepare(running, wanted, self._parts.check_seconds)

    @property
    def _watched(self) -> Mapping[Path, Stamp | None]:
        return self._seen if self._seen is not None else self._parts.hub.config.stamps

    async def _have_changed(self) -> bool:
        seen = self._watched
        return dict(seen) != await asyncio.to_thread(_stamps, tuple(seen))

    async def _until_quiet(self) -> None:
        """Return when nobody writes to the files any more."""
        seen = self._watched
        before = await asyncio.to_thread(_stamps, tuple(seen))
        for _ in range(round(MOST_QUIET_SECONDS / QUIET_SECONDS)):
            await asyncio.sleep(QUIET_SECONDS)
            after = await asyncio.to_thread(_stamps, tuple(seen))
            if after == before:
                return
            before = after

    # -- telling --------------------------------------------------------------------------------------------------

    def _tell(self, at_once: tuple[Change, ...], waiting: tuple[Change, ...]) -> None:
        for change in at_once:
            log.info("configuration: %s", change)
        problems = self._parts.problems
        if waiting != self._waiting:
            problems.solved(RESTART)
        if waiting:
            keys = "; ".join(str(change) for change in waiting)
            problems.show(
                RESTART, f"This is changed in the configuration and needs a restart: {keys}.", "Restart the hub."
            )
        news = (*at_once, *(waiting if waiting != self._waiting else ()))
        self._waiting = waiting
        if news:
            self._parts.bus.tell(ConfigurationChanged(news))

    def _show_mistakes(self, error: HubError) -> None:
        errors = error.errors if isinstance(error, ConfigErrors) else (error,)
        told = " ".join(str(each) for each in errors[:SHOWN_MISTAKES])
        more = f" And {len(errors) - SHOWN_MISTAKES} more." if len(errors) > SHOWN_MISTAKES else ""
        self._show(
            f"The hub goes on with the configuration that it had. {told}{more}",
            "All mistakes: xiaozhi-hub check-config",
        )

    def _show(self, message: str, hint: str) -> None:
        problems = self._parts.problems
        if BROKEN in problems and problems[BROKEN].message != message:
            problems.solved(BROKEN)  # another one is logged, too
        problems.show(BROKEN, message, hint)


def hand_out(parts: Mapping[str, Callable[[], None]], problems: Problems) -> None:
    """Have each part take its new values, whatever the others do; *parts* are functions by the name that people are told. Those
    that fail are shown until all have taken theirs, another time."""
    failed = []
    for name, take in parts.items():
        try:
            take()
        except Exception as error:  # whatever it is: the other parts have nothing to do with it
            log.exception("%s: the new configuration was not taken over", name)
            failed.append(f"{name} ({type(error).__name__}: {error})")
    problems.solved(PARTS)
    if failed:
        told = f"The configuration is in force, but not everywhere: {', '.join(failed)}."
        problems.show(PARTS, told, "See the log. Restart the hub to have it everywhere.")


def _no_files() -> HubError:
    return HubError("The configuration of this hub comes from no files.", code="no-files", permanent=True)


def _stamps(paths: tuple[Path, ...]) -> dict[Path, Stamp | None]:
    return {path: stamp_of(path) for path in paths}


def _lost(running: Config, wanted: Config) -> list[ConfigError]:
    """Files that had something in them and are empty, or the main one gone: a full disk does that, or a slip, and it would end
    everything. An included file that is gone is a mistake anyway."""
    errors = []
    for path, before in running.stamps.items():
        now = wanted.stamps.get(path, before)
        if before is None or before[1] == 0 or (now is not None and now[1] > 0):
            continue
        if now is None and path != wanted.config_dir / MAIN_FILE:
            continue
        file = path.name if path.parent == wanted.config_dir else str(path)
        what = "this file is gone." if now is None else "this file is empty now."
        errors.append(ConfigError(what, Place(file), hint="Save it again; or restart the hub if that is meant."))
    return errors


__all__ = ["BROKEN", "PARTS", "RESTART", "Reloading", "ReloadingParts", "Running", "hand_out"]
