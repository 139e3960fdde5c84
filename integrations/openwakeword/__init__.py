"""Wake words in sound that streams to the hub: openWakeWord's models on onnxruntime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, HubApi, hookimpl

from .engine import running


@hookimpl
@asynccontextmanager
async def entry_context(hub: HubApi, entry: Entry) -> AsyncIterator[None]:
    async with running(hub.models, entry.options) as engine:
        entry.runtime = engine
        yield


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    register(entry.runtime)
