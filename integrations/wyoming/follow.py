"""Keeps the hub's engines in line with the services that are there now."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Never

from wyoming.info import Info

from xiaozhi_hub.plugins.api import (
    Asr,
    Engine,
    Entry,
    EntryChanged,
    EntryState,
    HubApi,
    NamesChanged,
    StageError,
    TaskScope,
    cancel_and_wait,
)

from .offers import Offering, engines_of
from .service import Service

log = logging.getLogger(__name__)

TRIES = 2
"""A service is missed when it has not answered so many times: some do not while they compute."""
SOON_S = 1.0
"""Before a service is looked at that has let somebody down, so that a flood of failures is no flood of looks."""


@dataclass(slots=True)
class _Followed:
    service: Service
    how: Offering
    info: Info | None = None
    """What it said last."""
    engines: list[Engine] = field(default_factory=list)
    there: bool = False
    failures: int = 0
    reason: str = ""
    task: asyncio.Task[None] | None = None


class Following:
    """The services in use. Their engines are in the hub's registry while they answer."""

    def __init__(self, hub: HubApi, entry: Entry, scope: TaskScope, look_s: float) -> None:
        self._hub = hub
        self._entry = entry
        self._scope = scope
        self._look_s = look_s
        self._followed: dict[str, _Followed] = {}

    @property
    def engines(self) -> tuple[Engine, ...]:
        """Those of all services that answer."""
        return tuple(engine for each in self._followed.values() if each.there for engine in each.engines)

    @property
    def missing(self) -> str:
        """Which services do not answer, and why; empty when all do."""
        return " ".join(f"{each.reason}." for each in self._followed.values() if not each.there)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._followed)

    @property
    def uris(self) -> frozenset[str]:
        return frozenset(each.service.uri for each in self._followed.values())

    async def add(self, service: Service, how: Offering) -> None:
        """Look at a service and follow it from now on."""
        followed = self._followed[service.name] = _Followed(service, how)
        await self._look(followed)
        if self._followed.get(service.name) is followed:
            followed.task = self._scope.start(self._follow(followed), name=f"follow-{service.name}")

    async def drop(self, name: str) -> None:
        """Forget a service."""
        followed = self._followed.pop(name, None)
        if followed is not None:
            if followed.task is not None:
                await cancel_and_wait(followed.task)
            self._withdraw(followed)
            self.show()

    def show(self) -> None:
        """Let the entry say what is missing although it is ready."""
        if self._entry.state is EntryState.READY:
            self._entry.reason = self.missing

    async def _follow(self, followed: _Followed) -> Never:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_s):
                    await followed.service.suspect.wait()
                    await asyncio.sleep(SOON_S)
            followed.service.suspect.clear()
            await self._look(followed)

    async def _look(self, followed: _Followed) -> None:
        service = followed.service
        try:
            info = await service.describe()
        except StageError as error:
            followed.failures += 1
            gone = not followed.there or error.code.endswith("unreachable") or followed.failures >= TRIES
            if gone and followed.reason != error.message:
                followed.reason = error.message
                log.warning("%s %s", error.message, error.hint)
                self._withdraw(followed)
                self._tell()
            return
        followed.failures = 0
        if followed.there and info == followed.info:
            return
        if info != followed.info:
            self._withdraw(followed)
            followed.info, followed.engines = info, engines_of(service, info, followed.how)
        followed.there, followed.reason = True, ""
        for engine in followed.engines:
            self._hub.engines.add(engine, self._entry.domain)
        log.info(
            "%s offers %s", service.name, ", ".join(str(e.info.role) for e in followed.engines) or "nothing of use"
        )
        self._tell()
        if any(isinstance(engine, Asr) for engine in followed.engines):
            self._hub.bus.tell(NamesChanged())  # so that new recognisers learn them

    def _withdraw(self, followed: _Followed) -> None:
        followed.there = False
        for engine in followed.engines:
            self._hub.engines.remove(engine)

    def _tell(self) -> None:
        if self._entry.state is EntryState.READY:
            self.show()
            self._hub.bus.tell(EntryChanged(self._entry.domain, self._entry.state.value))
