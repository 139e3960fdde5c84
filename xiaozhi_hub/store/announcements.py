"""What the hub is to tell people through their devices, and who has heard it when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database

_DAY = 86400.0
_COLUMNS = "id, kind, text, language, sound, from_device, from_session, created_at, expires_at"
MOST_LISTED = 200


class Kind(StrEnum):
    """How urgent it is."""

    ANNOUNCEMENT = "announcement"
    """For now: spoken at once where that is possible."""
    MESSAGE = "message"
    """Left for somebody: waits until they talk to the device."""


class Delivery(StrEnum):
    """What has become of it at one device."""

    WAITING = "waiting"
    HEARD = "heard"
    """Played; also when the person stopped it."""
    SHOWN = "shown"
    """The device sleeps: it made a sound and shows the text."""
    EXPIRED = "expired"
    """Nobody came in time."""
    FAILED = "failed"
    """It could not be spoken."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Something to tell."""

    id: str
    kind: Kind
    text: str
    """With a sound: what was understood of it, perhaps nothing."""
    language: str
    sound: bytes
    """Ogg Opus as it was recorded; empty for a text."""
    from_device: str
    """Where it was said; empty for programs."""
    from_session: str
    created_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """What has become of an announcement at one device, and since when."""

    device_id: str
    state: Delivery
    at: float


class Announcements:
    """Keeps announcements until their devices have heard them, and what became of them for as long as the owner wishes."""

    def __init__(self, db: Database, *, keep_days: int = 30) -> None:
        self._db = db
        self._keep_days = keep_days

    def configure(self, *, keep_days: int) -> None:
        """The owner wants them kept for another time."""
        self._keep_days = keep_days

    async def add(self, item: Announcement, device_ids: tuple[str, ...]) -> None:
        """Remember *item* as waiting for each of the devices; it is on the disk when this returns."""

        def add(db: sqlite_utils.Database) -> None:
            values = (
                item.id,
                item.kind.value,
                item.text,
                item.language,
                item.sound,
                item.from_device,
                item.from_session,
                item.created_at,
                item.expires_at,
            )
            db.execute(f"INSERT INTO announcement ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values)
            for device_id in device_ids:
                db.execute(
                    "INSERT INTO announcement_receipt (announcement_id, device_id, state, changed_at) VALUES (?, ?, ?, ?)",
                    (item.id, device_id, Delivery.WAITING.value, item.created_at),
                )

        await self._db.write(add)

    async def note(self, id: str, device_id: str, state: Delivery, at: float) -> None:
        """Remember what has become of an announcement at a device."""

        def note(db: sqlite_utils.Database) -> None:
            db.execute(
                "UPDATE announcement_receipt SET state = ?, changed_at = ? WHERE announcement_id = ? AND device_id = ?",
                (state.value, at, id, device_id),
            )

        await self._db.write(note)

    async def expire(self, now: float) -> None:
        """Give up on what has waited too long."""

        def expire(db: sqlite_utils.Database) -> None:
            db.execute(
                "UPDATE announcement_receipt SET state = ?, changed_at ="
                " (SELECT expires_at FROM announcement WHERE id = announcement_id)"
                " WHERE state = ? AND (SELECT expires_at FROM announcement WHERE id = announcement_id) <= ?",
                (Delivery.EXPIRED.value, Delivery.WAITING.value, now),
            )

        await self._db.write(expire)

    async def waiting(self) -> list[tuple[str, Announcement]]:
        """Return what waits, each with the id of its device, the oldest first."""

        def rows(db: sqlite_utils.Database) -> list[tuple[str, Announcement]]:
            found = db.query(
                f"SELECT device_id, {_COLUMNS} FROM announcement JOIN announcement_receipt ON id = announcement_id"
                " WHERE state = ? ORDER BY created_at, id",
                (Delivery.WAITING.value,),
            )
            return [(row.pop("device_id"), _announcement(row)) for row in found]

        return await self._db.read(rows)

    async def listed(self) -> list[tuple[Announcement, tuple[Receipt, ...]]]:
        """Return the newest announcements with their receipts, the newest first and without their sound: `sound` holds
        one byte where there is one."""

        def rows(db: sqlite_utils.Database) -> list[tuple[Announcement, tuple[Receipt, ...]]]:
            columns = _COLUMNS.replace("sound", "substr(sound, 1, 1) AS sound")
            found = [
                _announcement(row)
                for row in db.query(
                    f"SELECT {columns} FROM announcement ORDER BY created_at DESC, id DESC LIMIT {MOST_LISTED}"
                )
            ]
            return [(item, _receipts(db, item.id)) for item in found]

        return await self._db.read(rows)

    async def forget_device(self, device_id: str) -> None:
        """Delete what waits for a device, its receipts, and what was said on it."""

        def forget(db: sqlite_utils.Database) -> None:
            db.execute("DELETE FROM announcement_receipt WHERE device_id = ?", (device_id,))
            db.execute(
                "DELETE FROM announcement WHERE from_device = ?"
                " OR id NOT IN (SELECT announcement_id FROM announcement_receipt)",
                (device_id,),
            )

        await self._db.write(forget)

    async def forget_all(self) -> None:
        """Delete everything, also what waits."""

        def forget(db: sqlite_utils.Database) -> None:
            db.execute("DELETE FROM announcement_receipt")
            db.execute("DELETE FROM announcement")

        await self._db.write(forget)

    async def apply_retention(self, now: float) -> None:
        """Forget what is older than the owner wishes and waits for nobody. With ``keep_days`` 0 everything stays."""
        await self.expire(now)
        if self._keep_days <= 0:
            return

        def forget(db: sqlite_utils.Database) -> None:
            db.execute(
                "DELETE FROM announcement WHERE created_at < ? AND expires_at <= ?", (now - self._keep_days * _DAY, now)
            )

        await self._db.write(forget)


def _announcement(row: dict[str, Any]) -> Announcement:
    return Announcement(**{**row, "kind": Kind(row["kind"]), "sound": bytes(row["sound"] or b"")})


def _receipts(db: sqlite_utils.Database, id: str) -> tuple[Receipt, ...]:
    found = db.execute(
        "SELECT device_id, state, changed_at FROM announcement_receipt WHERE announcement_id = ? ORDER BY device_id",
        (id,),
    )
    return tuple(Receipt(device_id, Delivery(state), at) for device_id, state, at in found)


__all__ = ["Announcement", "Announcements", "Delivery", "Kind", "Receipt"]
