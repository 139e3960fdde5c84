"""Writes down what was decided about devices, beside the decisions: nobody waits long for a disk."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.pairing.tokens import TokenRing
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.grants import Grant, Grants, PairingState

log = logging.getLogger(__name__)
CLOSE_SECONDS = 1.0


class PairingMemory:
    """Writes in the order of the calls. A disk that refuses is told in the log: what was decided holds until the next start."""

    def __init__(self, store: Grants) -> None:
        self._store = store
        self._scope = TaskScope("pairing-memory")
        self._writing: set[asyncio.Task[None]] = set()

    def put(self, grant: Grant, ring: TokenRing) -> asyncio.Task[None]:
        """Keep a decision and the tokens as they are now."""
        return self._write(self._store.put(grant, ring.tokens), grant.device_id)

    def forget(self, device_id: str) -> None:
        self._write(self._store.forget(device_id), device_id)

    def set_state(self, state: PairingState) -> None:
        self._write(self._store.set_state(state), "door")

    async def close(self) -> None:
        """Finish what is being written."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=CLOSE_SECONDS)
        await self._scope.close()

    def _write(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[None]:
        async def write() -> None:
            try:
                await work
            except StoreError as error:
                log.warning("what was decided about devices is not remembered: %s", error)

        task = self._scope.start(write(), name=name)
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return task


__all__ = ["PairingMemory"]
