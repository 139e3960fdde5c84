"""What is due later: timers, alarms, reminders. It survives a restart; waiting for it is the integrations' own business."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database


@dataclass(frozen=True, slots=True)
class Due:
    """Something that is to happen at a certain time."""

    id: str
    """Unique within its domain."""
    domain: str
    """The integration it belongs to."""
    at: float
    """Seconds since the epoch."""
    payload: Mapping[str, Any] = field(default_factory=dict)
    """JSON values only; nobody but the domain reads it."""


class Schedule:
    """Remembers what is due. A name is unique within its domain: putting it again replaces it."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def put(self, due: Due) -> None:
        """Remember *due*; it is on the disk when this returns. A payload that is not JSON is a TypeError."""
        payload = json.dumps(dict(due.payload), ensure_ascii=False)

        def put(db: sqlite_utils.Database) -> None:
            db.execute(
                "INSERT INTO schedule (domain, id, at, payload) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (domain, id) DO UPDATE SET at = excluded.at, payload = excluded.payload",
                (due.domain, due.id, due.at, payload),
            )

        await self._db.write(put)

    async def remove(self, domain: str, id: str) -> None:
        """Forget it; nothing happens when it is not known."""

        def remove(db: sqlite_utils.Database) -> None:
            db.execute("DELETE FROM schedule WHERE domain = ? AND id = ?", (domain, id))

        await self._db.write(remove)

    async def all(self, domain: str) -> list[Due]:
        """Return everything of *domain*, the next first."""

        def rows(db: sqlite_utils.Database) -> list[Due]:
            found = db.query("SELECT id, at, payload FROM schedule WHERE domain = ? ORDER BY at, id", (domain,))
            return [Due(row["id"], domain, row["at"], json.loads(row["payload"])) for row in found]

        return await self._db.read(rows)


__all__ = ["Due", "Schedule"]
