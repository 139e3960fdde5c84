"""The database keeps whole transactions, never blocks readers, and says what to do when the disk refuses."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlite_utils

from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.schedule import Due, Schedule


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "data" / "hub.db")
    await database.open()
    yield database
    await database.close()


def due(db: sqlite_utils.Database, id: str) -> None:
    db.execute("INSERT INTO schedule (domain, id, at, payload) VALUES ('test', ?, 1, '{}')", (id,))


def count(db: sqlite_utils.Database) -> int:
    return int(db.execute("SELECT count(*) FROM schedule").fetchone()[0])


async def failure_of(path: Path, *, read_only: bool = False) -> StoreError:
    """Open a database that cannot be opened."""
    database = Database(path, read_only=read_only)
    with pytest.raises(StoreError) as caught:
        await database.open()
    assert caught.value.hint, "a person must be told what to do"
    return caught.value


async def test_a_new_database_is_utf8_and_uses_a_write_ahead_log(db: Database) -> None:
    def settings(db: sqlite_utils.Database) -> tuple[str, ...]:
        names = ("journal_mode", "encoding", "synchronous", "foreign_keys", "busy_timeout")
        return tuple(str(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in names)

    assert await db.write(settings) == ("wal", "UTF-8", "1", "1", "30000")


async def test_a_function_that_fails_leaves_nothing_behind(db: Database) -> None:
    def half(db: sqlite_utils.Database) -> None:
        due(db, "one")
        raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        await db.write(half)
    assert await db.read(count) == 0


async def test_a_nested_block_belongs_to_the_same_transaction(db: Database) -> None:
    def nested(db: sqlite_utils.Database) -> None:
        with db.atomic():
            due(db, "one")
        db.table("schedule").insert({"domain": "test", "id": "two", "at": 1.0, "payload": "{}"})
        raise ValueError("after the block")

    with pytest.raises(ValueError, match="after the block"):
        await db.write(nested)
    assert await db.read(count) == 0


async def test_a_reader_never_waits_for_a_writer(db: Database) -> None:
    writing, go_on = threading.Event(), threading.Event()

    def slow(db: sqlite_utils.Database) -> None:
        due(db, "one")
        writing.set()
        assert go_on.wait(10)

    slow_write = asyncio.ensure_future(db.write(slow))
    await asyncio.to_thread(writing.wait, 10)
    try:
        async with asyncio.timeout(20):
            assert await db.read(count) == 0, "an unfinished write must not be seen"
    finally:
        go_on.set()
    await slow_write
    assert await db.read(count) == 1


async def test_all_writes_run_in_one_thread_and_in_the_order_of_the_calls(db: Database) -> None:
    order: list[int] = []

    def write(number: int) -> int:
        order.append(number)
        return threading.get_ident()

    threads = await asyncio.gather(*(db.write(lambda _, number=number: write(number)) for number in range(50)))  # type: ignore[misc]
    assert order == list(range(50))
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


async def test_a_write_whose_caller_left_before_its_turn_is_left_out(db: Database) -> None:
    go_on = threading.Event()
    first = asyncio.ensure_future(db.write(lambda _: go_on.wait(10)))
    second = asyncio.ensure_future(db.write(lambda db: due(db, "two")))
    await asyncio.sleep(0)
    second.cancel()
    go_on.set()
    await first
    assert await db.read(count) == 0


async def test_reading_cannot_change_anything(db: Database) -> None:
    with pytest.raises(StoreError):
        await db.read(lambda db: due(db, "one"))
    assert await db.read(count) == 0


async def test_closing_finishes_the_writes_that_wait(tmp_path: Path) -> None:
    database = Database(tmp_path / "hub.db")
    await database.open()
    writes = [asyncio.ensure_future(database.write(lambda db, n=n: due(db, str(n)))) for n in range(20)]  # type: ignore[misc]
    await asyncio.sleep(0)
    await database.close()
    await asyncio.gather(*writes)
    await database.close()
    again = Database(tmp_path / "hub.db")
    await again.open()
    assert await again.read(count) == 20
    await again.close()


async def test_a_database_that_is_far_behind_closes_when_it_has_caught_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database, begun, may_go_on = Database(tmp_path / "hub.db"), threading.Event(), threading.Event()
    await database.open()
    monkeypatch.setattr("xiaozhi_hub.core.workers.QUEUE_JOBS", 1)
    holding = asyncio.ensure_future(database.work(lambda: (begun.set(), may_go_on.wait(20))[1]))
    await asyncio.to_thread(begun.wait, 20)
    last = asyncio.ensure_future(database.write(lambda db: due(db, "last")))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(database.close())  # one more would be too many
    await asyncio.to_thread(may_go_on.wait, 0.05)
    may_go_on.set()
    await closing
    await asyncio.gather(holding, last)
    assert not (tmp_path / "hub.db-wal").exists()  # the file was let go of
    again = Database(tmp_path / "hub.db")
    await again.open()
    assert await again.read(count) == 1
    await again.close()


async def test_no_thread_is_left_after_closing(tmp_path: Path) -> None:
    database = Database(tmp_path / "hub.db")
    await database.open()
    assert any(thread.name.startswith("worker-store") for thread in threading.enumerate())
    await database.close()
    assert not any(thread.name.startswith("worker-store") for thread in threading.enumerate())


async def test_using_it_after_closing_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "hub.db")
    await database.open()
    await database.close()
    with pytest.raises(StoreError):
        await database.read(count)


async def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    path.write_text("This is my diary.\n" * 100)
    error = await failure_of(path)
    assert error.code == "store-not-a-database"
    assert str(path) in error.message
    assert path.read_text().startswith("This is my diary.")


async def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    database = Database(path)
    await database.open()
    await database.write(lambda db: [due(db, f"{n:05}") for n in range(2000)])
    await database.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = os.urandom(len(content) - len(content) // 2)
    path.write_bytes(content)
    error = await failure_of(path)
    assert error.code == "store-damaged"
    assert "backup" in error.hint


async def test_the_database_of_a_newer_hub_is_refused_and_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    database = Database(path)
    await database.open()
    await database.write(
        lambda db: db.table("_sqlite_migrations").insert(
            {"migration_set": "xiaozhi_hub", "name": "m999_telepathy", "applied_at": "2031-01-01"}
        )
    )
    await database.close()
    error = await failure_of(path)
    assert error.code == "store-too-new"
    assert "m999_telepathy" in error.message
    assert (await failure_of(path, read_only=True)).code == "store-too-new"


async def test_a_folder_in_the_place_of_the_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "hub.db").mkdir()
    assert (await failure_of(tmp_path / "hub.db")).code == "store-disk"


async def test_a_program_beside_a_running_hub_reads_what_is_written(db: Database) -> None:
    beside = Database(db.path, read_only=True)
    await beside.open()
    try:
        assert await beside.read(count) == 0
        await db.write(lambda db: due(db, "one"))
        assert await beside.read(count) == 1
        with pytest.raises(StoreError):
            await beside.write(lambda db: due(db, "two"))
    finally:
        await beside.close()


async def test_reading_only_works_after_the_hub_has_ended_and_makes_no_new_database(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    assert "first run" in (await failure_of(path, read_only=True)).hint
    assert not path.exists()
    database = Database(path)
    await database.open()
    await database.write(lambda db: due(db, "one"))
    await database.close()
    before = path.read_bytes()
    beside = Database(path, read_only=True)
    await beside.open()
    assert await beside.read(count) == 1
    await beside.close()
    assert path.read_bytes() == before


async def test_a_database_without_room_refuses_and_works_again_when_there_is_room(db: Database) -> None:
    await db.write(lambda db: due(db, "before"))

    def limit(db: sqlite_utils.Database, pages: int) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}")

    await db.write(lambda db: limit(db, 1))
    with pytest.raises(StoreError) as caught:
        await db.write(lambda db: [due(db, f"{n:05}") for n in range(5000)])
    assert caught.value.code == "store-full"
    assert not caught.value.permanent
    assert await db.read(count) == 1
    await db.write(lambda db: limit(db, 100_000))
    await db.write(lambda db: due(db, "after"))
    assert await db.read(count) == 2


async def test_another_program_that_holds_the_file_is_waited_for(db: Database) -> None:
    other = sqlite3.connect(db.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    write = asyncio.ensure_future(db.write(lambda db: due(db, "one")))
    await db.read(count)
    assert not write.done()
    other.execute("ROLLBACK")
    other.close()
    async with asyncio.timeout(30):
        await write
    assert await db.read(count) == 1


# -- a disk of its own ------------------------------------------------------------------------------------------------

DISK = """
import asyncio, sys
from pathlib import Path
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.schedule import Due, Schedule

async def main(disk: Path) -> None:
{body}

asyncio.run(main(Path(sys.argv[1])))
"""

FULL = """
    filler = disk / "filler"
    filler.write_bytes(bytes(200_000))
    database = Database(disk / "hub.db")
    await database.open()
    schedule = Schedule(database)
    stored = 0
    try:
        while True:
            await schedule.put(Due(str(stored), "test", 1.0, {"words": "x" * 5000}))
            stored += 1
    except StoreError as error:
        print(error.code)
    print(len(await schedule.all("test")) == stored)
    filler.unlink()
    await schedule.put(Due("after", "test", 1.0))
    print(len(await schedule.all("test")) == stored + 1)
    await database.close()
"""

READ_ONLY = """
    try:
        await Database(disk / "folder" / "hub.db").open()
    except StoreError as error:
        print(error.code)
        print(bool(error.hint))
"""


def on_a_disk_of_its_own(folder: Path, options: str, body: str) -> list[str]:
    """Run *body* on a small file system that nothing else can see."""
    command = f'mount -t tmpfs -o size=600k none {folder} && {options} exec {sys.executable} -c "$PROGRAM" {folder}'
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs mount namespaces, which this user may not make")
    program = DISK.format(body=body)
    environment = {**os.environ, "PROGRAM": program, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(
        [unshare, "-m", "sh", "-c", command], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_full_disk_is_told_and_survived(tmp_path: Path) -> None:
    assert on_a_disk_of_its_own(tmp_path, "", FULL) == ["store-full", "True", "True"]


def test_a_read_only_disk_is_told(tmp_path: Path) -> None:
    assert on_a_disk_of_its_own(tmp_path, f"mount -o remount,ro {tmp_path} &&", READ_ONLY) == [
        "store-read-only",
        "True",
    ]


async def test_what_is_due_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "hub.db"
    database = Database(path)
    await database.open()
    await Schedule(database).put(Due("eggs", "clock", 1000.5, {"name": "鸡蛋", "minutes": 5, "rings": [1, 2]}))
    await database.close()
    database = Database(path)
    await database.open()
    assert await Schedule(database).all("clock") == [
        Due("eggs", "clock", 1000.5, {"name": "鸡蛋", "minutes": 5, "rings": [1, 2]})
    ]
    await database.close()


async def test_what_is_due_comes_in_the_order_of_time_and_by_domain(db: Database) -> None:
    schedule = Schedule(db)
    for id, domain, at in (("b", "clock", 20.0), ("a", "clock", 30.0), ("c", "clock", 10.0), ("a", "garden", 1.0)):
        await schedule.put(Due(id, domain, at))
    assert [due.id for due in await schedule.all("clock")] == ["c", "b", "a"]
    assert [due.id for due in await schedule.all("garden")] == ["a"]
    assert await schedule.all("kitchen") == []


async def test_putting_again_replaces_and_removing_forgets(db: Database) -> None:
    schedule = Schedule(db)
    await schedule.put(Due("eggs", "clock", 10.0, {"minutes": 5}))
    await schedule.put(Due("eggs", "clock", 20.0, {"minutes": 6}))
    assert await schedule.all("clock") == [Due("eggs", "clock", 20.0, {"minutes": 6})]
    await schedule.remove("clock", "eggs")
    await schedule.remove("clock", "eggs")
    assert await schedule.all("clock") == []


async def test_a_payload_that_is_not_json_is_refused_at_once(db: Database) -> None:
    with pytest.raises(TypeError):
        await Schedule(db).put(Due("eggs", "clock", 10.0, {"when": object()}))
