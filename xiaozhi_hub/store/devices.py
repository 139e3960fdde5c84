"""The devices that the hub has ever met."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database


@dataclass(frozen=True, slots=True)
class Device:
    """A remembered piece of hardware. Texts are empty where the device never said."""

    id: str
    """Its MAC address, as it gives it."""
    first_seen_at: float
    """Seconds since the epoch, as is `last_seen_at`."""
    last_seen_at: float
    client_id: str = ""
    name: str = ""
    area: str = ""
    board: str = ""
    firmware: str = ""
    user_agent: str = ""
    language: str = ""
    address: str = ""
    """Where it was last seen on the network."""
    keep_audio: bool = True
    """Its recordings may be kept."""


_TOLD = ("client_id", "name", "board", "firmware", "user_agent", "language", "address")
_COLUMNS = ", ".join(("id", "first_seen_at", "last_seen_at", *_TOLD, "area", "keep_audio"))


def _device(row: dict[str, Any]) -> Device:
    return Device(**{**row, "keep_audio": bool(row["keep_audio"])})


class Devices:
    """Remembers devices; which of them are connected is not its business."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def seen(
        self,
        id: str,
        at: float,
        *,
        client_id: str = "",
        name: str = "",
        board: str = "",
        firmware: str = "",
        user_agent: str = "",
        language: str = "",
        address: str = "",
    ) -> Device:
        """Note that the device was there at *at* and what it said of itself; what it leaves empty stays as it was known."""
        told = (client_id, name, board, firmware, user_agent, language, address)

        def note(db: sqlite_utils.Database) -> Device:
            db.execute(
                f"INSERT INTO device (id, first_seen_at, last_seen_at, {', '.join(_TOLD)})"
                f" VALUES (?, ?, ?{', ?' * len(_TOLD)}) ON CONFLICT (id) DO UPDATE SET"
                " last_seen_at = max(last_seen_at, excluded.last_seen_at), "
                + ", ".join(f"{column} = coalesce(nullif(excluded.{column}, ''), {column})" for column in _TOLD),
                (id, at, at, *told),
            )
            device = _get(db, id)
            assert device is not None
            return device

        return await self._db.write(note)

    async def get(self, id: str) -> Device | None:
        return await self._db.read(lambda db: _get(db, id))

    async def all(self) -> list[Device]:
        """Return all devices, the one seen last first."""

        def rows(db: sqlite_utils.Database) -> list[Device]:
            query = f"SELECT {_COLUMNS} FROM device ORDER BY last_seen_at DESC, id"
            return [_device(row) for row in db.query(query)]

        return await self._db.read(rows)

    async def keep_audio(self, id: str, keep: bool) -> None:
        """Say whether recordings of this device may be kept from now on."""
        await self._db.write(
            lambda db: db.execute("UPDATE device SET keep_audio = ? WHERE id = ?", (keep, id)).rowcount
        )

    async def forget(self, id: str) -> bool:
        """Forget a device; False when it is not known, or the owner has given it a name or a place, which are kept."""
        query = "DELETE FROM device WHERE id = ? AND name = '' AND area = ''"
        return await self._db.write(lambda db: bool(db.execute(query, (id,)).rowcount))

    async def rename(self, id: str, name: str, area: str | None = None) -> bool:
        """Call the device *name* and, unless None, put it into *area*; False when it is not known."""

        def note(db: sqlite_utils.Database) -> bool:
            query = "UPDATE device SET name = ?, area = coalesce(?, area) WHERE id = ?"
            return bool(db.execute(query, (name, area, id)).rowcount)

        return await self._db.write(note)

    async def choose_assistant(self, id: str, assistant: str, at: float) -> None:
        """Remember which assistant people have chosen on a device; ``default`` for none."""
        query = (
            "INSERT INTO device (id, agent_id, first_seen_at, last_seen_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET agent_id = excluded.agent_id"
        )
        await self._db.write(lambda db: db.execute(query, (id, assistant, at, at)).rowcount)

    async def chosen_assistants(self) -> dict[str, str]:
        """Return what `choose_assistant` was told, by device, without those that have none."""
        query = "SELECT id, agent_id FROM device WHERE agent_id NOT IN ('', 'default')"
        return await self._db.read(lambda db: dict(db.execute(query).fetchall()))


def _get(db: sqlite_utils.Database, id: str) -> Device | None:
    rows = list(db.query(f"SELECT {_COLUMNS} FROM device WHERE id = ?", (id,)))
    return _device(rows[0]) if rows else None


__all__ = ["Device", "Devices"]
