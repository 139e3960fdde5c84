"""Forgetting: the one place that reaches everything that holds what was said.

Whoever keeps words, sounds or pictures of people, on the disk or in memory, says so here and is asked when they shall go. So what is
forgotten is forgotten everywhere, also by integrations that the hub knows nothing of.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from xiaozhi_hub.core.tasks import TaskScope

log = logging.getLogger(__name__)

MOST_LATER = 1000
"""Devices that wait to be forgotten; what there is no room for goes when it is too old."""
GATHER_SECONDS = 1.0
PATIENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Forget:
    """What shall go."""

    devices: frozenset[str] | None = None
    """What was said on these, by ids; None: on all, and without any."""
    before: float | None = None
    """Only what is older (seconds since the epoch). Holders with a date of expiry of their own need not care."""
    gone: bool = False
    """The devices themselves are forgotten: also what is only of use with them."""

    def concerns(self, device_id: str) -> bool:
        return self.devices is None or device_id in self.devices


Holder = Callable[[Forget], Awaitable[None]]
"""Forgets what it holds, and returns when it is gone."""


class Forgetting:
    """Asks all holders at the same time; one that fails or takes long keeps none of the others from it."""

    def __init__(self, scope: TaskScope) -> None:
        self._scope = scope
        self._holders: dict[str, Holder] = {}
        self._later: set[str] = set()
        self._gathering = False

    def add(self, name: str, holder: Holder) -> Callable[[], None]:
        """*holder* holds something from now on; the returned function ends that. *name* is for the owner to read."""
        if name in self._holders:
            raise ValueError(f"{name} holds something already")
        self._holders[name] = holder

        def remove() -> None:
            if self._holders.get(name) is holder:
                del self._holders[name]

        return remove

    @property
    def holders(self) -> tuple[str, ...]:
        return tuple(self._holders)

    async def forget(self, what: Forget) -> tuple[str, ...]:
        """Forget *what*; return the names of those who have failed, or have not finished after a while: they go on, and the
        log tells what becomes of it."""
        tasks = {
            name: self._scope.start(_told(name, holder, what), name=f"forget-{name}")
            for name, holder in self._holders.items()
        }
        if tasks:
            await asyncio.wait(tasks.values(), timeout=PATIENCE_SECONDS)
        return tuple(name for name, task in tasks.items() if not task.done() or task.cancelled() or not task.result())

    def later(self, device_id: str) -> None:
        """Forget a device soon, with others: whoever makes up devices must not keep the disk busy."""
        if len(self._later) >= MOST_LATER:
            return
        self._later.add(device_id)
        if not self._gathering and not self._scope.is_closed():
            self._gathering = True
            self._scope.start(self._gathered(), name="forget-later")

    async def _gathered(self) -> None:
        try:
            while self._later:
                await asyncio.sleep(GATHER_SECONDS)
                devices = frozenset(self._later)
                self._later.clear()
                await self.forget(Forget(devices, gone=True))
        finally:
            self._gathering = False


async def _told(name: str, holder: Holder, what: Forget) -> bool:
    try:
        await holder(what)
    except Exception:  # a holder may be anybody's code, and the others must be asked
        log.exception("%s could not forget", name)
        return False
    return True


__all__ = ["Forget", "Forgetting", "Holder"]
