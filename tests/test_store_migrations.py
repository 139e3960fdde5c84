"""Every database that a released hub has made can be brought up to date."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest
import sqlite_utils

from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.migrations import MIGRATIONS, known
from xiaozhi_hub.store.records import read_messages, read_turns

HERE = Path(__file__).parent
SAVED = sorted(HERE.glob("store_schema_v*.sql"), key=lambda path: int(path.stem.rpartition("v")[2]))
"""What each step led to, with a turn in it. After adding a step, save the new state:
``python tests/test_store_migrations.py``."""


def schema(db: sqlite_utils.Database) -> dict[str, str]:
    """What the database is made of, without regard to spaces."""
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
    return {name: re.sub(r"\s+", " ", sql) for name, sql in rows}


async def fresh(path: Path) -> Database:
    database = Database(path)
    await database.open()
    return database


def test_every_step_has_its_saved_database_and_its_number() -> None:
    names = sorted(known())
    assert [name[:5] for name in names] == [f"m{number:03}_" for number in range(1, len(names) + 1)]
    assert [path.stem for path in SAVED] == [f"store_schema_v{number}" for number in range(1, len(names) + 1)]


@pytest.mark.parametrize("saved", SAVED, ids=lambda path: path.stem)
async def test_an_upgraded_database_is_like_a_new_one_and_has_lost_nothing(saved: Path, tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(saved.read_text(encoding="utf-8"))
    old.close()
    upgraded = await fresh(tmp_path / "old.db")
    new = await fresh(tmp_path / "new.db")
    try:
        assert await upgraded.read(schema) == await new.read(schema)
        (turn,) = await upgraded.read(lambda db: read_turns(db, "", ()))
        assert (turn.heard, turn.said) == ("what time is it", "It is 9:41 PM.")
        assert turn.tool_calls[0].name == "clock.get_time"
        messages = await upgraded.read(lambda db: read_messages(db, "ORDER BY id", ()))
        assert [message.content for message in messages][-1] == "It is 9:41 PM."
    finally:
        await upgraded.close()
        await new.close()


async def test_a_released_step_has_not_been_changed(tmp_path: Path) -> None:
    """The newest saved database is exactly what the steps make today."""
    old = sqlite3.connect(tmp_path / "old.db")
    old.executescript(SAVED[-1].read_text(encoding="utf-8"))
    db = sqlite_utils.Database(old)
    new = await fresh(tmp_path / "new.db")
    try:
        assert schema(db) == await new.read(schema)
        assert {step.name for step in MIGRATIONS.applied(db)} == known()
    finally:
        old.close()
        await new.close()


async def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    def applied(db: sqlite_utils.Database) -> list[tuple[str, str]]:
        return [(step.name, step.applied_at) for step in MIGRATIONS.applied(db)]

    database = await fresh(tmp_path / "hub.db")
    first = await database.read(applied)
    await database.close()
    database = await fresh(tmp_path / "hub.db")
    assert await database.read(applied) == first
    assert len(first) == len(known())
    await database.close()


async def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "hub.db")
    old.execute("CREATE TABLE schedule (mine TEXT)")  # the last table of the first step cannot be made
    old.close()
    with pytest.raises(StoreError, match="schedule"):
        await fresh(tmp_path / "hub.db")
    old = sqlite3.connect(tmp_path / "hub.db")
    db = sqlite_utils.Database(old)
    assert "turn" not in db.table_names()
    assert not MIGRATIONS.applied(db)
    old.close()


def _save() -> None:
    """Write the state that the newest step leads to."""
    from xiaozhi_hub.core.flow import Channel, Outcome, ToolCall, TurnRecord
    from xiaozhi_hub.store.records import put_turn

    db = sqlite_utils.Database(memory=True)
    MIGRATIONS.apply(db)
    record = TurnRecord(
        id="turn-1",
        session_id="session-1",
        device_id="02:00:00:00:00:01",
        started_at=1_800_000_000.0,
        channel=Channel.VOICE,
        mode="auto",
        language="en",
        heard="what time is it",
        said="It is 9:41 PM.",
        outcome=Outcome.ANSWERED,
        stamps={"transcript": 1210.0, "reply": 1215.0, "played": 2900.0},
        tool_calls=(ToolCall("clock.get_time", {}, "It is 9:41 PM.", ms=0.4),),
    )
    with db.atomic():
        put_turn(db, record)
    path = HERE / f"store_schema_v{len(known())}.sql"
    path.write_text("\n".join(db.iterdump()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _save()
