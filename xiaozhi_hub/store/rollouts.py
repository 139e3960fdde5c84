"""Which firmware was released, who was offered it, and what became of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database

T = TypeVar("T")
HOLD = "hold"
"""In place of a pinned version: the device keeps what it has."""


class ReleaseState(StrEnum):
    CANARY = "canary"
    """One device tries it."""
    RELEASED = "released"
    """Every device of the board may have it."""
    STOPPED = "stopped"
    """Nobody gets it any more; `Release.reason` says why."""


@dataclass(frozen=True, slots=True)
class Release:
    """The owner's word that a version may be installed."""

    board: str
    version: str
    state: ReleaseState
    canary: str = ""
    """The device that tries it first; empty until one has come."""
    reason: str = ""
    changed_at: float = 0.0


class Result(StrEnum):
    OPEN = ""
    UPDATED = "updated"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Offer:
    """A version that a device was told of."""

    device_id: str
    board: str
    version: str
    from_version: str
    ticket: str
    """Stands in the address of the download, which tells nothing else of who asks."""
    offered_at: float
    times: int = 1
    fetched_at: float | None = None
    """When the download began."""
    delivered_at: float | None = None
    """When all of it had been sent."""
    result: Result = Result.OPEN


@dataclass(frozen=True, slots=True)
class Known:
    """What the store knows that concerns one device."""

    releases: tuple[Release, ...] = ()
    """Of its board."""
    offers: tuple[Offer, ...] = ()
    """To it."""
    pin: str = ""


class Rollouts:
    """Remembers releases, pins and offers. Deciding is not its business."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def known(self, device_id: str, board: str) -> Known:
        return await self._db.read(lambda db: _known(db, device_id, board))

    async def change(
        self, device_id: str, board: str, decide: Callable[[Known], tuple[T, Sequence[Release | Offer]]]
    ) -> T:
        """Let *decide* look at what is known and write what it returns, all in one transaction."""

        def apply(db: sqlite_utils.Database) -> T:
            result, changes = decide(_known(db, device_id, board))
            for change in changes:
                if isinstance(change, Release):
                    _put_release(db, change)
                else:
                    _put_offer(db, change)
            return result

        return await self._db.write(apply)

    async def releases(self) -> list[Release]:
        return await self._db.read(lambda db: _releases(db, "ORDER BY board, version"))

    async def offers(self) -> list[Offer]:
        """The newest first."""
        return await self._db.read(lambda db: _offers(db, "ORDER BY offered_at DESC LIMIT 500"))

    async def offer(self, ticket: str) -> Offer | None:
        found = await self._db.read(lambda db: _offers(db, "WHERE ticket = ?", ticket))
        return found[0] if found else None

    async def release(
        self, board: str, version: str, state: ReleaseState, at: float, *, canary: str = "", reason: str = ""
    ) -> None:
        """Write the owner's word; an earlier failure with this version is forgotten when it is released anew."""

        def write(db: sqlite_utils.Database) -> None:
            _put_release(db, Release(board, version, state, canary, reason, at))
            if state is not ReleaseState.STOPPED:
                db.execute(
                    "DELETE FROM firmware_offer WHERE board = ? AND version = ? AND result <> ?",
                    (board, version, str(Result.UPDATED)),
                )

        await self._db.write(write)

    async def pins(self) -> dict[str, str]:
        return await self._db.read(
            lambda db: dict(db.execute("SELECT device_id, version FROM firmware_pin").fetchall())
        )

    async def pin(self, device_id: str, version: str | None) -> None:
        """Give the device this version and no other, `HOLD` for the one it has, None for what is released."""

        def write(db: sqlite_utils.Database) -> None:
            db.execute("DELETE FROM firmware_pin WHERE device_id = ?", (device_id,))
            if version is not None:
                db.execute("INSERT INTO firmware_pin (device_id, version) VALUES (?, ?)", (device_id, version))
                db.execute(
                    "DELETE FROM firmware_offer WHERE device_id = ? AND version = ? AND result = ?",
                    (device_id, version, str(Result.FAILED)),
                )

        await self._db.write(write)

    async def fetching(self, ticket: str, at: float, *, delivered: bool) -> None:
        """Note that a download has begun, or that all of it was sent."""
        column = "delivered_at" if delivered else "fetched_at"
        await self._db.write(
            lambda db: db.execute(f"UPDATE firmware_offer SET {column} = ? WHERE ticket = ?", (at, ticket)).rowcount
        )

    async def turned_away(self, ticket: str) -> None:
        """Take an offer back that the hub itself could not keep."""
        await self._db.write(lambda db: db.execute("DELETE FROM firmware_offer WHERE ticket = ?", (ticket,)).rowcount)


def new_ticket() -> str:
    return secrets.token_urlsafe(16)


def _known(db: sqlite_utils.Database, device_id: str, board: str) -> Known:
    pin = db.execute("SELECT version FROM firmware_pin WHERE device_id = ?", (device_id,)).fetchone()
    return Known(
        tuple(_releases(db, "WHERE board = ?", board)),
        tuple(_offers(db, "WHERE device_id = ?", device_id)),
        pin[0] if pin else "",
    )


_RELEASE = "board, version, state, canary, reason, changed_at"
_OFFER = "device_id, board, version, from_version, ticket, offered_at, times, fetched_at, delivered_at, result"


def _releases(db: sqlite_utils.Database, where: str, *values: str) -> list[Release]:
    rows = db.query(f"SELECT {_RELEASE} FROM firmware_release {where}", values)
    return [Release(**{**row, "state": ReleaseState(row["state"])}) for row in rows]


def _offers(db: sqlite_utils.Database, where: str, *values: str) -> list[Offer]:
    rows = db.query(f"SELECT {_OFFER} FROM firmware_offer {where}", values)
    return [Offer(**{**row, "result": Result(row["result"])}) for row in rows]


def _put_release(db: sqlite_utils.Database, release: Release) -> None:
    db.execute(
        f"INSERT OR REPLACE INTO firmware_release ({_RELEASE}) VALUES (?, ?, ?, ?, ?, ?)",
        (release.board, release.version, str(release.state), release.canary, release.reason, release.changed_at),
    )


def _put_offer(db: sqlite_utils.Database, offer: Offer) -> None:
    db.execute(
        f"INSERT OR REPLACE INTO firmware_offer ({_OFFER}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            offer.device_id,
            offer.board,
            offer.version,
            offer.from_version,
            offer.ticket,
            offer.offered_at,
            offer.times,
            offer.fetched_at,
            offer.delivered_at,
            str(offer.result),
        ),
    )


__all__ = ["HOLD", "Known", "Offer", "Release", "ReleaseState", "Result", "Rollouts", "new_ticket"]
