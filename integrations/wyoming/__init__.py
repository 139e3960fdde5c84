"""Engines of other machines over Wyoming, and the hub's own engines for others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from xiaozhi_hub.plugins.api import Entry, EntryChanged, HubApi, NotReady, TaskScope, hookimpl

from .discovery import Discovery
from .follow import Following
from .offers import Offering
from .server import Server
from .service import Service

LISTED_RANK = 20
"""Before the engines of this machine: the owner has asked for these services."""
FOUND_RANK = -20
"""After them: anybody on the network can announce a service."""


@hookimpl
@asynccontextmanager
async def entry_context(hub: HubApi, entry: Entry) -> AsyncIterator[None]:
    """Engines come and go with their services, so they are registered here rather than in a hook of their own."""
    options = entry.options
    async with AsyncExitStack() as stack:
        scope = await stack.enter_async_context(TaskScope(entry.domain))
        following = Following(hub, entry, scope, options["look_s"])
        serving = options.get("server")

        def has_tool(name: str) -> bool:
            return hub.tools.get(name) is not None

        listed = [
            (
                Service(each["name"], each["uri"], options["timeout_s"]),
                Offering(each["voices"], LISTED_RANK, scope, each["guess"], each["intents"], has_tool),
            )
            for each in options["services"]
        ]
        async with asyncio.TaskGroup() as group:
            for service, how in listed:
                group.create_task(following.add(service, how))
        if listed and not following.engines and serving is None and not options["discover"]:
            raise NotReady(following.missing or "The services offer nothing that the hub can use.")

        def changed(event: EntryChanged) -> None:
            if event.domain == entry.domain:
                following.show()

        stack.callback(hub.bus.watch(EntryChanged, changed))
        announced = False
        if serving is not None:
            entry.runtime = server = await stack.enter_async_context(
                Server.listening(hub, serving, options["timeout_s"], scope)
            )
            announced = serving.get("announce", hub.config.discovery.enabled)
        if announced or options["discover"]:
            discovery = await stack.enter_async_context(Discovery.opened(hub, scope))
            if discovery is not None and announced:
                scope.start(discovery.announce(server.port), name="announce")  # takes seconds: is the name free?
            if discovery is not None and options["discover"]:
                how = Offering({}, FOUND_RANK, scope, has_tool=has_tool)
                await stack.enter_async_context(discovery.browsing(following, how, options["timeout_s"]))
        yield
