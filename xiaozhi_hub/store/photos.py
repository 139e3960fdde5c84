"""Photos that belong to turns, where the owner chose to keep them: one JPEG file each, beside the recordings."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.store.files import write_whole

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database

_DAY = 86400.0
_COLUMNS = "id, file, turn_id, session_id, device_id, question, answer, bytes, created_at"


@dataclass(frozen=True, slots=True)
class KeptPhoto:
    """A photo that was asked about."""

    id: str
    file: str
    """SHA-256 of the JPEG, in hexadecimal."""
    turn_id: str
    """The turn in which it was taken; empty when there was none."""
    session_id: str
    device_id: str
    question: str
    answer: str
    bytes: int
    created_at: float


class Photos:
    """Keeps photos, or with *keep* off nothing."""

    def __init__(self, db: Database, folder: Path, *, keep: bool, keep_days: int = 30) -> None:
        self._db = db
        self._folder = folder
        self._keep = keep
        self._keep_days = keep_days

    def configure(self, *, keep: bool, keep_days: int) -> None:
        """The owner wants it otherwise from now on."""
        self._keep, self._keep_days = keep, keep_days

    async def add(
        self, jpeg: bytes, *, turn_id: str, session_id: str, device_id: str, question: str, answer: str, at: float
    ) -> None:
        """Keep a photo, unless the owner does not want that, here or for this device."""
        if not self._keep or not await self._may_keep(device_id):
            return
        file = hashlib.sha256(jpeg).hexdigest()
        row = (secrets.token_hex(8), file, turn_id, session_id, device_id, question, answer, len(jpeg), at)

        def write(db: sqlite_utils.Database) -> None:
            _save(
                self.path(file), jpeg
            )  # in the writer's thread, as sweeping is: nobody is between the file and its row
            db.execute(f"INSERT INTO photo ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

        await self._db.write(write)

    async def of_turn(self, turn_id: str) -> list[KeptPhoto]:
        return await self._db.read(lambda db: _read(db, "WHERE turn_id = ? ORDER BY created_at", turn_id))

    def path(self, file: str) -> Path:
        return self._folder / file[:2] / f"{file}.jpg"

    async def forget_device(self, device_id: str) -> None:
        await self._db.write(lambda db: db.execute("DELETE FROM photo WHERE device_id = ?", (device_id,)).rowcount)
        await self._sweep()

    async def forget_all(self) -> None:
        await self._db.write(lambda db: db.execute("DELETE FROM photo").rowcount)
        await self._sweep()

    async def apply_retention(self, now: float) -> None:
        """Forget what is older than the owner wishes, and files that nothing speaks of."""
        if self._keep_days > 0:
            cutoff = now - self._keep_days * _DAY
            await self._db.write(lambda db: db.execute("DELETE FROM photo WHERE created_at < ?", (cutoff,)).rowcount)
        await self._sweep()

    async def _sweep(self) -> None:
        def sweep(db: sqlite_utils.Database) -> None:
            known = {row[0] for row in db.execute("SELECT file FROM photo")}
            for path in _files(self._folder):
                if path.stem not in known:
                    path.unlink(missing_ok=True)

        await self._db.write(sweep)

    async def _may_keep(self, device_id: str) -> bool:
        def ask(db: sqlite_utils.Database) -> bool:
            row = db.execute("SELECT keep_audio FROM device WHERE id = ?", (device_id,)).fetchone()
            return row is None or bool(row[0])

        return await self._db.read(ask)


def _save(path: Path, jpeg: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, jpeg)


def _files(folder: Path) -> Iterator[Path]:
    try:
        shelves = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for shelf in shelves:
        yield from shelf.glob("*.jpg")
        yield from shelf.glob(".*.jpg")


def _read(db: sqlite_utils.Database, where: str, *values: Any) -> list[KeptPhoto]:
    return [KeptPhoto(**row) for row in db.query(f"SELECT {_COLUMNS} FROM photo {where}", values)]


__all__ = ["KeptPhoto", "Photos"]
