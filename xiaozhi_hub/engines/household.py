"""The memory that comes with the hub: facts in its own database, found by their words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.memory import Fact, Memory
from xiaozhi_hub.store.memory import FactRow, Facts

_LAST = -10
"""An integration that brings a memory is asked before this one."""


class Household(Memory):
    """Implements the contract over `Facts`."""

    def __init__(self, facts: Facts) -> None:
        self.info = EngineInfo(
            "household", Role.MEMORY, "Household memory", licence="Apache-2.0", detail="full-text search", rank=_LAST
        )
        self._facts = facts

    async def note(self, fact: Fact) -> Fact:
        row = await self._facts.add(
            fact.text,
            person=fact.person,
            language=fact.language,
            turn_id=fact.turn_id,
            device_id=fact.device_id,
            noted_by=fact.noted_by,
            noted_at=fact.noted_at,
        )
        return _fact(row)

    async def recall(self, text: str, limit: int = 5, *, strict: bool = False) -> Sequence[Fact]:
        find = self._facts.with_all_of if strict else self._facts.with_any_of
        return [_fact(row) for row in await find(text, limit)]

    async def listed(self, limit: int = 100, before: str = "") -> Sequence[Fact]:
        return [_fact(row) for row in await self._facts.newest(limit, _row_id(before))]

    async def count(self) -> int:
        return await self._facts.count()

    async def forget(self, ids: Sequence[str]) -> int:
        return await self._facts.forget(row_id for id in ids if (row_id := _row_id(id)) is not None)

    async def forget_devices(self, what: Forget) -> None:
        """Facts are the household's and stay until somebody wants them forgotten; on which device they were said goes with it."""
        if what.gone and what.devices is not None:
            for device_id in what.devices:
                await self._facts.forget_device(device_id)

    async def clear(self) -> int:
        return await self._facts.clear()


def _row_id(id: str) -> int | None:
    return int(id) if re.fullmatch(r"[0-9]{1,18}", id) else None


def _fact(row: FactRow) -> Fact:
    return Fact(
        text=row.text,
        person=row.person,
        turn_id=row.turn_id,
        noted_at=row.noted_at,
        id=str(row.id),
        device_id=row.device_id,
        language=row.language,
        noted_by=row.noted_by,
    )


__all__ = ["Household"]
