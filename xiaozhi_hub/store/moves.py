"""Which devices were told that the hub has moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xiaozhi_hub.store.database import Database


class Moves:
    """Remembers who was told of which new address."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def told(self, device_id: str, moved_to: str, at: float) -> None:
        await self._db.write(
            lambda db: (
                db.execute(
                    "INSERT OR REPLACE INTO moved_device (device_id, moved_to, told_at) VALUES (?, ?, ?)",
                    (device_id, moved_to, at),
                ).rowcount
            )
        )

    async def who(self, moved_to: str) -> dict[str, float]:
        """The devices that know of *moved_to*, and since when."""
        return await self._db.read(
            lambda db: dict(
                db.execute("SELECT device_id, told_at FROM moved_device WHERE moved_to = ?", (moved_to,)).fetchall()
            )
        )


__all__ = ["Moves"]
