"""Speech recognition that needs no download: it listens for the sentences that the hub understands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, hookimpl

from .engine import Phrases


@hookimpl
@asynccontextmanager
async def entry_context(entry: Entry) -> AsyncIterator[None]:
    async with Phrases.running(entry.options["pronunciations"], entry.options["threshold"]) as engine:
        entry.runtime = engine
        yield


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    register(entry.runtime)
