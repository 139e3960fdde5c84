"""How people end their sentences: counts by device and kind of sentence, and by length of pause. No words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database

MOST_ROWS = 4000
MOST_DEVICES = 1000
"""What changed longest ago makes room."""


@dataclass(frozen=True, slots=True)
class HabitRow:
    """How often a sentence of one shape has ended, and gone on after a pause, on one device. Old ones count less than one."""

    device_id: str
    shape: str
    """What it asks for and with which kinds of detail, such as ``en home.turn_on area domain``."""
    ended: float
    went_on: float
    changed_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class PausesRow:
    """How long people pause in mid-sentence, on one device."""

    device_id: str
    lengths: tuple[float, ...]
    """How many pauses of each length, the short ones first."""
    changed_at: float


class HabitRows:
    """Keeps what was learned. Failures are `StoreError`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self) -> tuple[list[HabitRow], list[PausesRow]]:
        """The ones that changed longest ago first."""

        def read(db: sqlite_utils.Database) -> tuple[list[HabitRow], list[PausesRow]]:
            habits = [HabitRow(**row) for row in db.query("SELECT * FROM habit ORDER BY changed_at")]
            pauses = [
                PausesRow(row["device_id"], tuple(json.loads(row["lengths"])), row["changed_at"])
                for row in db.query("SELECT * FROM pause_habit ORDER BY changed_at")
            ]
            return habits, pauses

        return await self._db.read(read)

    async def put(self, habits: Sequence[HabitRow], pauses: Sequence[PausesRow]) -> None:
        """Write rows down, in place of what was known before."""

        def put(db: sqlite_utils.Database) -> None:
            for habit in habits:
                db.execute(
                    "INSERT OR REPLACE INTO habit (device_id, shape, ended, went_on, changed_at) VALUES (?, ?, ?, ?, ?)",
                    (habit.device_id, habit.shape, habit.ended, habit.went_on, habit.changed_at),
                )
            for row in pauses:
                db.execute(
                    "INSERT OR REPLACE INTO pause_habit (device_id, lengths, changed_at) VALUES (?, ?, ?)",
                    (row.device_id, json.dumps(row.lengths), row.changed_at),
                )
            for table, key, most in (
                ("habit", "device_id, shape", MOST_ROWS),
                ("pause_habit", "device_id", MOST_DEVICES),
            ):
                (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
                if count > most:
                    oldest = f"SELECT {key} FROM {table} ORDER BY changed_at LIMIT ?"
                    db.execute(f"DELETE FROM {table} WHERE ({key}) IN ({oldest})", (count - most,))

        await self._db.write(put)

    async def forget(self, device_id: str | None = None, before: float | None = None) -> None:
        """Delete what was learned on a device or, with None, on all; with *before* only what has not changed since then."""

        def forget(db: sqlite_utils.Database) -> None:
            for table in ("habit", "pause_habit"):
                db.execute(
                    f"DELETE FROM {table} WHERE (? IS NULL OR device_id = ?) AND (? IS NULL OR changed_at < ?)",
                    (device_id, device_id, before, before),
                )

        await self._db.write(forget)


__all__ = ["MOST_DEVICES", "MOST_ROWS", "HabitRow", "HabitRows", "PausesRow"]
