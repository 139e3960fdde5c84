"""Speech recognition that writes down anything: Whisper models on this machine, through faster-whisper."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, HubApi, hookimpl

from .engine import Whisper


@hookimpl
@asynccontextmanager
async def entry_context(hub: HubApi, entry: Entry) -> AsyncIterator[None]:
    async with Whisper.running(hub.models, entry.options, entry.scope) as engine:
        entry.runtime = engine
        yield


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    register(entry.runtime)
