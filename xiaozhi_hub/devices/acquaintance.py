"""What the hub remembers of the devices that have come: their language and room at once, the rest in the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.store.devices import Device, Devices

MOST_WAITING = 256
"""What waits to be written down. Whoever calls faster is not remembered for it, and an honest device comes again."""


class Acquaintance:
    """Answers from memory, writes behind. Until `load` has been called nothing is written.

    *problem* shows what the store refuses: code, message, hint.
    """

    def __init__(self, scope: TaskScope, problem: Callable[[str, str, str], None]) -> None:
        self._scope = scope
        self._problem = problem
        self._locales: dict[str, str] = {}
        self._areas: dict[str, str] = {}
        self._store: asyncio.Future[Devices] | None = None
        self._waiting: set[asyncio.Task[None]] = set()

    async def load(self, store: Devices) -> tuple[Device, ...]:
        """Take in everybody who is known; returns them."""
        known = tuple(await store.all())
        for device in known:
            self._locales[device.id], self._areas[device.id] = device.language, device.area
        self.store.set_result(store)
        return known

    @property
    def store(self) -> asyncio.Future[Devices]:
        """The rows of all devices, once they are there."""
        if self._store is None:
            self._store = asyncio.get_running_loop().create_future()
        return self._store

    def locale(self, device_id: str) -> str:
        """The locale that a device's firmware speaks; empty when it has not said so."""
        return self._locales.get(device_id, "")

    def known(self) -> tuple[str, ...]:
        """Ids of the devices whose language is known."""
        return tuple(self._locales)

    def area(self, device_id: str) -> str:
        """The room that the owner has put a device into; empty when there is none."""
        return self._areas.get(device_id, "")

    def placed(self, device_id: str, area: str) -> None:
        """The owner has put a device into a room; the row is the business of whoever asked for it."""
        self._areas[device_id] = area

    def met(self, check_in: CheckIn) -> None:
        """Somebody who may be remembered has come."""
        if check_in.language:
            self._locales[check_in.device.id] = check_in.language
        self._write(self._met(check_in), "met")

    def forget(self, device_id: str, gone: Callable[[str], None] = lambda _: None) -> None:
        """Let go of a device that nobody has a use for. *gone* is told so, unless the owner has given it a name or a place."""
        self._locales.pop(device_id, None)
        self._write(self._forgotten(device_id, gone), "forget")

    def _write(self, work: Coroutine[Any, Any, None], name: str) -> None:
        if len(self._waiting) >= MOST_WAITING:
            work.close()
            return
        task = self._scope.start(work, name=name)
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _met(self, check_in: CheckIn) -> None:
        store = await asyncio.shield(self.store)
        try:
            await store.seen(
                check_in.device.id,
                time.time(),
                board=check_in.board,
                firmware=check_in.firmware,
                user_agent=check_in.device.user_agent,
                language=check_in.language,
                address=check_in.device.address,
            )
        except StoreError as error:
            self._problem("history", f"Devices are not remembered: {error.message}", error.hint)

    async def _forgotten(self, device_id: str, gone: Callable[[str], None]) -> None:
        store = await asyncio.shield(self.store)
        try:
            await store.forget(device_id)
            if await store.get(device_id) is None:
                gone(device_id)
        except StoreError as error:
            self._problem("history", f"Devices are not forgotten: {error.message}", error.hint)


__all__ = ["Acquaintance"]
