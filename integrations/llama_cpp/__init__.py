"""Language models on this machine, run by llama.cpp."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import ConfigurationChanged, Engine, Entry, Forget, HubApi, hookimpl, owner_of

from .engine import LlamaLlm
from .model import Files, Model, files_of
from .vision import LlamaVision


@hookimpl
@asynccontextmanager
async def entry_context(hub: HubApi, entry: Entry) -> AsyncIterator[None]:
    wanted = entry.options["model"]

    def find() -> Files:
        return files_of(hub.models.find(entry.domain, wanted), wanted)

    files = await asyncio.to_thread(find)
    cache, keep = hub.data_dir / "cache" / entry.domain, hub.config.history.enabled
    model = Model(files, entry.options, cache, entry.scope, keep_conversations=keep)

    async def forget(what: Forget) -> None:
        await model.forget(None if what.devices is None else [owner_of(id) for id in what.devices], what.before)

    def changed(_: ConfigurationChanged) -> None:
        nonlocal keep
        before, keep = keep, hub.config.history.enabled
        model.keep(conversations=keep)
        if before and not keep:  # what is kept already goes now, not with the process some day
            entry.scope.start(model.forget(None), name="forget")

    # While it loads and ends as well: the folder of one that holds nothing is deleted by the hub.
    stop = hub.forgetting.add(entry.domain, forget)
    unwatch = hub.bus.watch(ConfigurationChanged, changed)
    try:
        if not keep:
            await model.forget(None)  # what earlier runs have left
        async with model.running():
            entry.runtime = [LlamaLlm(model)]
            if files.projector is not None and entry.options["vision"]:
                entry.runtime.append(LlamaVision(model))
            yield
    finally:
        unwatch()
        stop()


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    for engine in entry.runtime:
        register(engine)
