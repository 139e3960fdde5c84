"""What can be wrong with an engine, on request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from xiaozhi_hub.plugins.api import Role, StageError


class Behaviour:
    """Delay, failure and hanging of one engine. Public counters tell tests what happened."""

    def __init__(self, role: Role, options: Mapping[str, Any]) -> None:
        self._stage = role.value
        self._delay: float = options["delay"]
        self._failures: int | bool = options["fail"]
        self._hang: bool = options["hang"]
        self.calls = 0
        """How often the engine was asked to work."""
        self.cancelled = 0
        """How often it was interrupted while it pretended to."""

    async def act(self) -> None:
        """Pretend to work: return later, raise, or never return, as the options say."""
        self.calls += 1
        try:
            if self._hang:
                await asyncio.get_running_loop().create_future()
            if self._delay:
                await asyncio.sleep(self._delay)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self._failures is True or self.calls <= self._failures:
            raise self.failure()

    def failure(self) -> StageError:
        return StageError(self._stage, f"the echo {self._stage} was told to fail", code="echo-failed")
