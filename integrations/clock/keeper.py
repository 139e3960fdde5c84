"""Keeps timers and alarms: remembers them, waits for them, rings, and does not give up when nobody can hear it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from xiaozhi_hub.plugins.api import DeviceConnected, Due, HubError, TaskScope

from .local_time import LocalTime, next_ring
from .timers import LATE_SECONDS, Alarm, Clocks, Timer
from .wording import Wording

log = logging.getLogger(__name__)
DOMAIN = "clock"
LINE_SECONDS = 30 * 60.0
"""A device's link is kept open for a timer that is due within this time."""
LINE_MARGIN_SECONDS = 60.0
"""The link stays open a little longer, for the ringing itself."""
LOOK_SECONDS = 20.0
"""The clock on the wall may be set while we wait, so it is looked at this often."""
DOMAIN_LIMIT = 100
"""Timers and alarms at most: a broken automation must not fill the disk."""


class Ringer(Protocol):
    """The part of `xiaozhi_hub.plugins.api.Announcer` that is needed here."""

    def reachable(self) -> tuple[str, ...]: ...

    async def ring(self, device_id: str, text: str, language: str, *, rounds: int = 3) -> bool: ...

    def keep_line(self, device_id: str, key: str, until: float | None) -> None: ...


class Memory(Protocol):
    """The part of `xiaozhi_hub.plugins.api.Schedule` that is needed here."""

    async def put(self, due: Due) -> None: ...

    async def remove(self, domain: str, id: str) -> None: ...

    async def all(self, domain: str) -> list[Due]: ...


@dataclass(frozen=True, slots=True)
class Unheard:
    """Something that was due and that nobody has heard yet."""

    item: Timer | Alarm
    since: float
    """On the steady clock."""
    wall_at: float
    """When it was due, by the clock on the wall."""
    missed: bool = False
    """It rings no more, it is only told."""


class Keeper:
    """All timers and alarms of the house."""

    def __init__(
        self,
        memory: Memory,
        ringer: Ringer,
        wording: Wording,
        local: LocalTime,
        clocks: Callable[[], Clocks],
        scope: TaskScope,
        rounds: Mapping[str, int],
    ) -> None:
        """*rounds* says how often a ``timer`` and an ``alarm`` ring. *clocks* is asked whenever the time is needed."""
        self.local = local
        self.wording = wording
        self._memory = memory
        self._ringer = ringer
        self._clocks = clocks
        self._scope = scope
        self._rounds = rounds
        self._timers: dict[str, Timer] = {}
        self._alarms: dict[str, Alarm] = {}
        self._unheard: dict[str, Unheard] = {}
        self._ringing: dict[str, asyncio.Task[None]] = {}
        self._lines: set[str] = set()
        self._changed = asyncio.Event()

    # -- what there is --------------------------------------------------------------------------------------------

    def now(self) -> Clocks:
        return self._clocks()

    @property
    def timers(self) -> tuple[Timer, ...]:
        """Timers that run or are paused, the next first."""
        steady = self.now().steady
        return tuple(sorted(self._timers.values(), key=lambda timer: timer.remaining(steady)))

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Alarms to come, the next first."""
        return tuple(sorted(self._alarms.values(), key=lambda alarm: alarm.at))

    @property
    def is_full(self) -> bool:
        return len(self._timers) + len(self._alarms) >= DOMAIN_LIMIT

    @staticmethod
    def new_id() -> str:
        return secrets.token_hex(6)

    # -- changing it ----------------------------------------------------------------------------------------------

    async def keep_timer(self, timer: Timer) -> None:
        """Start a timer, or go on with a changed one."""
        self._timers[timer.id] = timer
        self._release_line(timer)  # it may be due at another time than before
        self._hold_line(timer)
        self._changed.set()
        await self._remember_timer(timer)

    async def keep_alarm(self, alarm: Alarm) -> None:
        self._alarms[alarm.id] = alarm
        self._changed.set()
        await self._remember(Due(alarm.id, DOMAIN, alarm.at, alarm.payload()))

    async def drop(self, item: Timer | Alarm) -> None:
        """Cancel it, also while it rings."""
        self._timers.pop(item.id, None)
        self._alarms.pop(item.id, None)
        self._unheard.pop(item.id, None)
        ringing = self._ringing.pop(item.id, None)
        if ringing is not None:
            ringing.cancel()
        self._release_line(item)
        self._changed.set()
        await self._forget(item.id)

    async def drop_all(self, kind: type[Timer] | type[Alarm]) -> int:
        """Cancel all timers or all alarms, those nobody has heard yet too; return how many there were."""
        items = [item for item in (*self._timers.values(), *self._alarms.values()) if isinstance(item, kind)]
        items += [held.item for held in self._unheard.values() if isinstance(held.item, kind)]
        for item in items:
            await self.drop(item)
        return len(items)

    # -- waiting --------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Take up what was kept before the last stop."""
        now = self.now()
        try:
            dues = await self._memory.all(DOMAIN)
        except HubError as error:
            log.warning("timers and alarms of before are lost: %s", error)
            return
        for due in dues:
            try:
                self._take_up(due, now)
            except (KeyError, TypeError, ValueError):
                log.warning("a timer or alarm cannot be read any more and is forgotten")
                await self._forget(due.id)
        await self.tick()

    def _take_up(self, due: Due, now: Clocks) -> None:
        payload = due.payload
        item: Timer | Alarm
        if payload["kind"] == "alarm":
            item = Alarm.from_payload(due.id, due.at, payload)
            self._alarms[due.id] = item
        else:
            item = Timer.from_payload(due.id, due.at, payload, now)
            self._timers[due.id] = item
        if "unheard_since" in payload:
            self._timers.pop(due.id, None)
            since = now.steady - max(0.0, now.wall - payload["unheard_since"])
            self._unheard[due.id] = Unheard(item, since, payload["unheard_since"], payload["missed"])
            if isinstance(item, Alarm) and not item.repeat:
                self._alarms.pop(due.id, None)

    async def watch(self) -> None:
        """Ring what is due, for ever."""
        while True:
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, self._wait_seconds())):
                    await self._changed.wait()
            except TimeoutError:
                pass
            await self.tick()

    def _wait_seconds(self) -> float:
        now = self.now()
        waits = [timer.due_at - now.steady for timer in self._timers.values() if timer.due_at is not None]
        waits += [alarm.at - now.wall for alarm in self._alarms.values()]
        return min([LOOK_SECONDS, *waits])

    async def tick(self) -> None:
        """Do what the time has come for."""
        now = self.now()
        for timer in tuple(self._timers.values()):
            if timer.due_at is not None and timer.due_at <= now.steady:
                del self._timers[timer.id]
                await self._ring(Unheard(timer, timer.due_at, timer.wall_at(now)))
            else:
                self._hold_line(timer)
        for alarm in tuple(self._alarms.values()):
            if alarm.at <= now.wall:
                await self._ring(Unheard(alarm, now.steady - (now.wall - alarm.at), alarm.at))
                await self._after(alarm, now)
        for held in tuple(self._unheard.values()):
            if held.item.id in self._ringing:
                continue
            if not held.missed and _is_late(held, now):
                log.info("nobody could hear something that was due for %d minutes", LATE_SECONDS // 60)
                held = replace(held, missed=True)
                await self._note(held)
            self._start_ringing(held)

    async def _after(self, alarm: Alarm, now: Clocks) -> None:
        """An alarm has rung: set it for its next day, or be done with it."""
        if alarm.repeat is None:
            self._alarms.pop(alarm.id, None)
            return
        at = next_ring(alarm.hour, alarm.minute, alarm.repeat, now.wall, self.local)
        # Another id: the ringing of today may still wait for somebody to hear it.
        del self._alarms[alarm.id]
        await self.keep_alarm(replace(alarm, id=self.new_id(), at=at))

    def connected(self, event: DeviceConnected) -> None:
        """A device can be reached: tell it what nobody has heard, and keep its line for what is due soon."""
        for timer in self._timers.values():
            if timer.device_id == event.device_id:
                self._lines.discard(timer.id)
                self._hold_line(timer)
        for held in tuple(self._unheard.values()):
            if held.item.id not in self._ringing:
                self._start_ringing(held)

    # -- ringing --------------------------------------------------------------------------------------------------

    async def _ring(self, held: Unheard) -> None:
        held = replace(held, missed=_is_late(held, self.now()))
        await self._note(held)
        self._start_ringing(held)

    def _start_ringing(self, held: Unheard) -> None:
        if not self._ringer.reachable():
            return
        task = self._scope.start(self._until_heard(held), name="ring")
        self._ringing[held.item.id] = task
        task.add_done_callback(lambda _: self._ringing.pop(held.item.id, None))

    async def _until_heard(self, held: Unheard) -> None:
        item = held.item
        for device_id in self._order(item.device_id):
            if await self._ringer.ring(device_id, self._text(held), item.language, rounds=self._rounds_of(held)):
                self._unheard.pop(item.id, None)
                self._release_line(item)
                await self._forget(item.id)
                return

    def _order(self, device_id: str) -> tuple[str, ...]:
        """The device that asked, then the others."""
        reachable = self._ringer.reachable()
        others = tuple(other for other in reachable if other != device_id)
        return (device_id, *others) if device_id in reachable else others

    def _rounds_of(self, held: Unheard) -> int:
        if held.missed:
            return 1
        return self._rounds["timer" if isinstance(held.item, Timer) else "alarm"]

    def _text(self, held: Unheard) -> str:
        item, words = held.item, self.wording
        if isinstance(item, Alarm):
            time_said = words.time(item.hour, item.minute, item.language)
            return words.text("alarm_missed" if held.missed else "alarm_rings", item.language, time=time_said)
        name = words.timer(item, item.language)
        if held.missed:
            when = words.time_at(self.local.at(held.wall_at), item.language)
            return words.text("timer_missed", item.language, timer=name, time=when)
        return words.text("timer_done", item.language, timer=name)

    async def _note(self, held: Unheard) -> None:
        """Remember that it was due, so that it is told even after a restart."""
        self._unheard[held.item.id] = held
        item, now = held.item, self.now()
        payload = item.payload(now) if isinstance(item, Timer) else item.payload()
        payload |= {"unheard_since": held.wall_at, "missed": held.missed}
        if isinstance(item, Alarm):
            payload["repeat"] = None  # the next day is kept by itself
        await self._remember(Due(item.id, DOMAIN, held.wall_at, payload))

    # -- lines and memory -----------------------------------------------------------------------------------------

    def _hold_line(self, timer: Timer) -> None:
        now = self.now()
        if timer.due_at is None or not timer.device_id:
            self._release_line(timer)
            return
        if timer.due_at - now.steady <= LINE_SECONDS:
            if timer.id not in self._lines:
                self._lines.add(timer.id)
                until = timer.wall_at(now) + LINE_MARGIN_SECONDS
                self._ringer.keep_line(timer.device_id, f"{DOMAIN}.{timer.id}", until)
        else:
            self._release_line(timer)

    def _release_line(self, item: Timer | Alarm) -> None:
        if item.id in self._lines:
            self._lines.discard(item.id)
            self._ringer.keep_line(item.device_id, f"{DOMAIN}.{item.id}", None)

    async def _remember_timer(self, timer: Timer) -> None:
        now = self.now()
        await self._remember(Due(timer.id, DOMAIN, timer.wall_at(now), timer.payload(now)))

    async def _remember(self, due: Due) -> None:
        await self._with_memory(lambda: self._memory.put(due))

    async def _forget(self, id: str) -> None:
        await self._with_memory(lambda: self._memory.remove(DOMAIN, id))

    async def _with_memory(self, work: Callable[[], Awaitable[Any]]) -> None:
        try:
            await work()
        except HubError as error:  # it still rings, unless the hub is restarted
            log.warning("a timer or alarm could not be written down: %s", error)


def _is_late(held: Unheard, now: Clocks) -> bool:
    return now.steady - held.since >= LATE_SECONDS


def read_clocks(wall: Callable[[], float]) -> Clocks:
    """Read both clocks of this machine. The steady one counts while the machine sleeps, where the system can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        steady = time.clock_gettime(time.CLOCK_BOOTTIME)
    else:
        steady = time.monotonic()
    return Clocks(wall(), steady, _boot())


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""  # unknown: after a restart the clock on the wall decides
