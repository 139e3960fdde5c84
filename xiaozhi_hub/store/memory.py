"""What people have asked the hub to remember: rows with receipts, found by full-text search."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.fact_words import all_of, any_of, indexed

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database

MOST_FACTS = 2000
"""A household tells less in years. A full memory takes nothing new; it drops nothing by itself."""
_COLUMNS = "id, text, person, language, turn_id, device_id, noted_by, noted_at"


@dataclass(frozen=True, slots=True)
class FactRow:
    """Something remembered, and where it came from."""

    id: int
    """Grows with time and is never used again."""
    text: str
    person: str
    """Whom it is about or who said so; empty for the household."""
    language: str
    turn_id: str
    """In which turn it was said; that turn may be gone from the history."""
    device_id: str
    noted_by: str
    """``person``: somebody asked for it; ``model``: a language model thought it worth keeping."""
    noted_at: float


class Facts:
    """The facts of one household. Failures are `StoreError`."""

    def __init__(self, db: Database, *, most: int = MOST_FACTS) -> None:
        self._db = db
        self._most = most

    async def add(
        self, text: str, *, person: str, language: str, turn_id: str, device_id: str, noted_by: str, noted_at: float
    ) -> FactRow:
        """Remember *text*; it is on the disk when this returns. What is known already gets the newer receipt.

        `StoreError` with the code ``memory-full`` when `MOST_FACTS` are known.
        """
        values = (text, person, language, turn_id, device_id, noted_by, noted_at)

        def add(db: sqlite_utils.Database) -> FactRow:
            same = "text = ? COLLATE NOCASE AND person = ?"
            db.execute(f"DELETE FROM fact_words WHERE rowid IN (SELECT id FROM fact WHERE {same})", (text, person))
            db.execute(f"DELETE FROM fact WHERE {same}", (text, person))
            (count,) = db.execute("SELECT count(*) FROM fact").fetchone()
            if count >= self._most:
                raise StoreError(f"{count} facts are remembered already", code="memory-full", permanent=True)
            cursor = db.execute(
                "INSERT INTO fact (text, person, language, turn_id, device_id, noted_by, noted_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                values,
            )
            id = cursor.lastrowid
            assert id is not None
            db.execute("INSERT INTO fact_words (rowid, words) VALUES (?, ?)", (id, indexed(f"{person} {text}")))
            return FactRow(id, *values)

        return await self._db.write(add)

    async def with_all_of(self, text: str, limit: int) -> list[FactRow]:
        """Return facts that hold every word of *text* that means something, the fitting ones first."""
        return await self._search(all_of(text), limit)

    async def with_any_of(self, text: str, limit: int) -> list[FactRow]:
        """Return facts that have something to do with *text*, the fitting ones first."""
        return await self._search(any_of(text), limit)

    async def newest(self, limit: int, before: int | None = None) -> list[FactRow]:
        """Return facts, the newest first; *before* is the id of the last one of the page before."""
        query = f"SELECT {_COLUMNS} FROM fact WHERE id < ? ORDER BY id DESC LIMIT ?"
        last = before if before is not None else 2**62
        return await self._db.read(lambda db: [FactRow(**row) for row in db.query(query, (last, limit))])

    async def count(self) -> int:
        return await self._db.read(lambda db: int(db.execute("SELECT count(*) FROM fact").fetchone()[0]))

    async def forget(self, ids: Iterable[int]) -> int:
        """Delete facts for good, words and all; return how many there were."""
        wanted = json.dumps(list(ids))

        def forget(db: sqlite_utils.Database) -> int:
            db.execute("DELETE FROM fact_words WHERE rowid IN (SELECT value FROM json_each(?))", (wanted,))
            gone = db.execute("DELETE FROM fact WHERE id IN (SELECT value FROM json_each(?))", (wanted,)).rowcount
            _tidy(db)
            return gone

        return await self._db.write(forget)

    async def clear(self) -> int:
        """Delete everything that is remembered; return how many facts that were."""

        def clear(db: sqlite_utils.Database) -> int:
            db.execute("DELETE FROM fact_words")
            gone = db.execute("DELETE FROM fact").rowcount
            _tidy(db)
            return gone

        return await self._db.write(clear)

    async def forget_device(self, device_id: str) -> None:
        """Keep what was noted on a device, which is the household's, but no longer where and when it was said."""
        query = "UPDATE fact SET device_id = '', turn_id = '' WHERE device_id = ?"
        await self._db.write(lambda db: db.execute(query, (device_id,)).rowcount)

    async def words_behind(self, turn_ids: Sequence[str]) -> Mapping[str, str]:
        """Return what was heard in those of the turns that the history still has."""
        wanted = json.dumps(list(turn_ids))
        query = "SELECT id, heard FROM turn WHERE id IN (SELECT value FROM json_each(?))"
        return await self._db.read(lambda db: dict(db.execute(query, (wanted,)).fetchall()))

    async def _search(self, query: str, limit: int) -> list[FactRow]:
        if not query:
            return []
        columns = ", ".join(f"fact.{column}" for column in _COLUMNS.split(", "))
        sql = (
            f"SELECT {columns} FROM fact_words JOIN fact ON fact.id = fact_words.rowid"
            " WHERE fact_words MATCH ? ORDER BY bm25(fact_words), fact.id DESC LIMIT ?"
        )
        return await self._db.read(lambda db: [FactRow(**row) for row in db.query(sql, (query, limit))])


def _tidy(db: sqlite_utils.Database) -> None:
    """FTS5 keeps the words of deleted rows until its parts are merged (https://sqlite.org/fts5.html, "optimize"); whoever says
    "forget that" means now."""
    db.execute("INSERT INTO fact_words (fact_words) VALUES ('optimize')")


__all__ = ["MOST_FACTS", "FactRow", "Facts"]
