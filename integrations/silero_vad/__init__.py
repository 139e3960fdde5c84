"""Voice activity detection with the Silero network, computed for all microphones together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, hookimpl

from .assets import find_model
from .blas import keep_to_one_thread
from .engine import SileroVad
from .network import Network
from .weights import read_weights


@hookimpl
@asynccontextmanager
async def entry_context(entry: Entry) -> AsyncIterator[None]:
    def load() -> Network:
        keep_to_one_thread()
        return Network(read_weights(find_model(entry.options.get("model"))))

    async with SileroVad.running(load, entry.scope, gate=entry.options["gate"]) as engine:
        entry.runtime = engine
        yield


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    register(entry.runtime)
