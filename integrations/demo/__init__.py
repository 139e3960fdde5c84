"""A small home that exists only in memory, to try things with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Entity, Entry, HubApi, hookimpl

from .home import AREAS, build_home


@hookimpl
@asynccontextmanager
async def entry_context(hub: HubApi, entry: Entry) -> AsyncIterator[None]:
    for name, aliases in AREAS.items():
        hub.entities.add_area(name, entry.domain, aliases)
    yield


@hookimpl
def register_entities(register: Callable[[Entity], None]) -> None:
    for entity in build_home():
        register(entity)
