"""Another assistant for a device: at once, and remembered."""

from __future__ import annotations

import time
from collections.abc import Callable

from xiaozhi_hub.dialog.assistants.assistants import DEFAULT, Assistants
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.devices import Devices

_PROBLEM = "assistant-choice"


class Switching:
    """Changes `Assistants` and the rows of devices together. What the disk refuses holds until the next start, and is shown."""

    def __init__(
        self,
        assistants: Assistants,
        store: Callable[[], Devices],
        problem: Callable[[str, str, str], None],
        solved: Callable[[str], object],
    ) -> None:
        self._assistants = assistants
        self._store = store
        self._problem = problem
        self._solved = solved

    async def load(self) -> None:
        """Take in what was chosen before; `StoreError` when it cannot be read."""
        self._assistants.remembered(await self._store().chosen_assistants())

    async def switch(self, device_id: str, assistant: str) -> None:
        """From now on the assistant with this id answers on the device; the default one is what the configuration says."""
        self._assistants.choose(device_id, assistant)
        try:
            await self._store().choose_assistant(device_id, assistant or DEFAULT, time.time())
        except StoreError as error:
            self._problem(_PROBLEM, f"Who answers on which device is not remembered: {error.message}", error.hint)
        else:
            self._solved(_PROBLEM)


__all__ = ["Switching"]
