"""The voice that needs no download: eSpeak NG."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, hookimpl

from .engine import running


@hookimpl
@asynccontextmanager
async def entry_context(entry: Entry) -> AsyncIterator[None]:
    async with running(entry.options) as engine:
        entry.runtime = engine
        yield


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    register(entry.runtime)
