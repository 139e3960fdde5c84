"""Which devices may come in, and the hashes of the tokens they prove it with. No token itself is ever stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database


class GrantState(StrEnum):
    """What was decided about a device."""

    IN = "in"
    OUT = "out"
    """It was let in once, and the owner took that back."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A decision about one device."""

    device_id: str
    client: str
    """The fingerprint of the Client-Id it was made for."""
    state: GrantState
    granted_by: str
    """``owner``, or what stood open: ``first-day``, ``window``, ``open``."""
    changed_at: float
    """Seconds since the epoch, as all times here."""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that a device was given."""

    hash: str
    issued_at: float
    used_at: float | None = None
    """When the device first showed it: from then on it surely has it."""
    expires_at: float | None = None
    """Set when a later one was used."""


@dataclass(frozen=True, slots=True)
class PairingState:
    """What the hub remembers of its own door."""

    key: str
    """Random, hexadecimal, made at the first start: codes are derived from it."""
    first_start_at: float
    closed_at: float | None = None
    """When the first day ended early: by the first approval, or because the owner closed the door."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """All that is stored about pairing."""

    state: PairingState
    grants: tuple[Grant, ...]
    tokens: tuple[tuple[str, IssuedToken], ...]
    """With the ids of their devices, the oldest first."""


class Grants:
    """Keeps decisions and token hashes; what they mean is not its business."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def load(self, fresh: PairingState) -> Remembered:
        """Return everything; *fresh* is written and returned as the state when this is the first start."""

        def read(db: sqlite_utils.Database) -> Remembered:
            db.execute(
                "INSERT OR IGNORE INTO pairing (id, key, first_start_at, closed_at) VALUES (1, ?, ?, ?)",
                (fresh.key, fresh.first_start_at, fresh.closed_at),
            )
            (state,) = db.query("SELECT key, first_start_at, closed_at FROM pairing")
            grants = db.query("SELECT device_id, client, state, granted_by, changed_at FROM device_grant")
            tokens = db.query(
                "SELECT device_id, hash, issued_at, used_at, expires_at FROM device_token ORDER BY issued_at, hash"
            )
            return Remembered(
                PairingState(**state),
                tuple(Grant(**{**row, "state": GrantState(row["state"])}) for row in grants),
                tuple((row.pop("device_id"), IssuedToken(**row)) for row in tokens),
            )

        return await self._db.write(read)

    async def set_state(self, state: PairingState) -> None:
        await self._db.write(
            lambda db: (
                db.execute(
                    "UPDATE pairing SET first_start_at = ?, closed_at = ?", (state.first_start_at, state.closed_at)
                ).rowcount
            )
        )

    async def put(self, grant: Grant, tokens: Sequence[IssuedToken]) -> None:
        """Replace what is stored about a device by *grant* and *tokens*."""

        def write(db: sqlite_utils.Database) -> None:
            db.execute(
                "INSERT INTO device_grant (device_id, client, state, granted_by, changed_at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (device_id) DO UPDATE SET client = excluded.client, state = excluded.state,"
                " granted_by = excluded.granted_by, changed_at = excluded.changed_at",
                (grant.device_id, grant.client, grant.state.value, grant.granted_by, grant.changed_at),
            )
            db.execute("DELETE FROM device_token WHERE device_id = ?", (grant.device_id,))
            for token in tokens:
                db.execute(
                    "INSERT INTO device_token (hash, device_id, issued_at, used_at, expires_at) VALUES (?, ?, ?, ?, ?)",
                    (token.hash, grant.device_id, token.issued_at, token.used_at, token.expires_at),
                )

        await self._db.write(write)

    async def forget(self, device_id: str) -> None:
        """Remove all that is stored about a device's right to come in."""
        await self._db.write(
            lambda db: db.execute("DELETE FROM device_grant WHERE device_id = ?", (device_id,)).rowcount
        )


__all__ = ["Grant", "GrantState", "Grants", "IssuedToken", "PairingState", "Remembered"]
