"""Time, date, timers and alarms."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from zoneinfo import ZoneInfo

from xiaozhi_hub.plugins.api import DeviceConnected, Entry, HubApi, TaskScope, Tool, hookimpl

from .keeper import Keeper, read_clocks
from .local_time import LocalTime
from .tools import clock_tools
from .wording import Wording


@hookimpl
@asynccontextmanager
async def entry_context(hub: HubApi, entry: Entry) -> AsyncIterator[None]:
    name = hub.config.hub.time_zone
    local = LocalTime(ZoneInfo(name) if name else None)
    rounds = {"timer": entry.options["timer_rounds"], "alarm": entry.options["alarm_rounds"]}
    async with TaskScope("clock") as scope:
        keeper = Keeper(
            hub.schedule, hub.announcer, Wording(hub.texts), local, lambda: read_clocks(hub.now), scope, rounds
        )
        await keeper.load()
        stop_listening = hub.bus.watch(DeviceConnected, keeper.connected)
        scope.start(keeper.watch(), name="watch")
        entry.runtime = keeper
        try:
            yield
        finally:
            stop_listening()


@hookimpl
def register_tools(register: Callable[[Tool], None], entry: Entry) -> None:
    for tool in clock_tools(entry.runtime):
        register(tool)
