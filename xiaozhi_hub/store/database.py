"""The one database of the hub: SQLite in WAL mode.

One thread owns the connection that writes, another the one that reads, so nobody on the event loop waits for a disk and a
reader never waits for a writer. A function handed to `Database.write` is one transaction: all of it is kept, or nothing.
"""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from xiaozhi_hub.core.workers import Worker, WorkerBusy, WorkerLost
from xiaozhi_hub.errors import StoreError

if TYPE_CHECKING:
    import sqlite_utils

log = logging.getLogger(__name__)
T = TypeVar("T")
F = TypeVar("F")

BUSY_SECONDS = 30.0
"""How long a statement waits for another program (a backup, a person with a database browser) to let go of the file."""
_MAGIC = b"SQLite format 3\x00"


class Database:
    """One file. Open it before use and close it after; *read_only* looks at it without changing a byte.

    Every failure is a `StoreError` whose hint says what a person can do. A failed write leaves nothing behind, and the next one
    is tried anew: a disk that has room again needs no restart.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._writer = Worker("store-write")
        self._reader = Worker("store-read")
        self._writing: sqlite_utils.Database | None = None
        self._reading: sqlite_utils.Database | None = None

    async def open(self) -> None:
        """Check the file, bring its schema up to date, and be ready."""
        try:
            if not self._read_only:
                await self._writer.run(self._open_writer)
            await self._reader.run(self._open_reader)
        except BaseException:
            await self.close()
            raise

    async def write(self, function: Callable[[sqlite_utils.Database], T]) -> T:
        """Run *function* in the writer thread as one transaction and return its result.

        Writes happen in the order of the calls. One whose caller was cancelled before its turn is left out; one that has begun
        is finished.
        """
        return await self._on(self._writer, self._transact, function)

    async def read(self, function: Callable[[sqlite_utils.Database], T]) -> T:
        """Run *function* in the reader thread; all its queries see the same moment."""
        return await self._on(self._reader, self._look, function)

    async def work(self, function: Callable[[], T]) -> T:
        """Run *function* in the writer thread, in its turn and outside any transaction: for files that rows speak of."""
        return await self._on(self._writer, self._plainly, function)

    async def close(self) -> None:
        """Finish the writes that wait, then let go of the file. Safe to call more than once."""
        for worker, end in ((self._reader, self._close_reader), (self._writer, self._close_writer)):
            try:
                await worker.run(end)
            except WorkerLost:
                continue  # closed before
            except WorkerBusy:
                worker.post(end)  # after all that waits
            except StoreError as error:
                log.warning("the database was not closed properly: %s", error)
            await worker.close()

    async def _on(self, worker: Worker, how: Callable[[F], T], function: F) -> T:
        try:
            return await worker.run(how, function)
        except (WorkerBusy, WorkerLost) as error:
            raise StoreError(f"the database does not keep up: {error.message}", code=error.code) from error

    # -- in the writer thread -------------------------------------------------------------------------------------

    def _open_writer(self) -> None:
        # Imported here and in this thread: it takes a third of a second on a small board, and devices are answered meanwhile.
        import sqlite_utils

        from xiaozhi_hub.store.migrations import MIGRATIONS

        with translated(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._check_magic()
            connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                connection.execute("PRAGMA encoding = 'UTF-8'")
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise StoreError(
                        f"the file system under {self.path} does not allow a write-ahead log",
                        hint="Put data_dir on a local disk, not on a network share.",
                        permanent=True,
                    )
                # NORMAL: a power cut may lose the last turns, it never damages the file (https://sqlite.org/wal.html).
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA foreign_keys = ON")
                # What was deleted is overwritten: people who press "delete" mean it.
                connection.execute("PRAGMA secure_delete = ON")
                _check_whole(connection, self.path)
                db = sqlite_utils.Database(connection, execute_plugins=False)
                _check_age(db, self.path)
                MIGRATIONS.apply(db)
            except BaseException:
                connection.close()
                raise
        self._writing = db

    def _transact(self, function: Callable[[sqlite_utils.Database], T]) -> T:
        db = self._writing
        if db is None:
            raise _not_open(self.path)
        with translated(self.path):
            db.execute("BEGIN IMMEDIATE")
            try:
                result = function(db)
                db.commit()
            except BaseException:
                db.rollback()
                raise
        return result

    def _plainly(self, function: Callable[[], T]) -> T:
        if self._writing is None:
            raise _not_open(self.path)
        with translated(self.path):
            return function()

    def _close_writer(self) -> None:
        db, self._writing = self._writing, None
        if db is not None:
            with translated(self.path):
                try:
                    db.execute("PRAGMA optimize")
                finally:
                    db.close()

    # -- in the reader thread -------------------------------------------------------------------------------------

    def _open_reader(self) -> None:
        import sqlite_utils

        with translated(self.path):
            if not self.path.exists():
                raise StoreError(
                    f"there is no database at {self.path}",
                    hint="It comes into being when the hub is first run.",
                    permanent=True,
                )
            self._check_magic()
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_SECONDS, isolation_level=None
            )
            try:
                connection.execute("PRAGMA query_only = ON")
                db = sqlite_utils.Database(connection, execute_plugins=False, recursive_triggers=False)
                if self._read_only:
                    _check_age(db, self.path, exactly=True)
            except BaseException:
                connection.close()
                raise
        self._reading = db

    def _look(self, function: Callable[[sqlite_utils.Database], T]) -> T:
        db = self._reading
        if db is None:
            raise _not_open(self.path)
        with translated(self.path), db.atomic():
            return function(db)

    def _close_reader(self) -> None:
        db, self._reading = self._reading, None
        if db is not None:
            db.close()

    # -- in either ------------------------------------------------------------------------------------------------

    def _check_magic(self) -> None:
        """SQLite would take an empty file for a new database, which is right, and name any other file only later."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            start = file.read(len(_MAGIC))
        if start and start != _MAGIC:
            raise StoreError(
                f"{self.path} is not a database",
                hint="Move the file away; the hub then makes a new one.",
                code="store-not-a-database",
                permanent=True,
            )


def _not_open(path: Path) -> StoreError:
    return StoreError(f"the database {path} is not open", code="store-closed")


def _check_whole(connection: sqlite3.Connection, path: Path) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, verdict)


def _damaged(path: Path, verdict: str) -> StoreError:
    return StoreError(
        f"the database {path} is damaged: {verdict}",
        hint="Restore a backup, or move the file away; the hub then makes a new one.",
        code="store-damaged",
        permanent=True,
    )


def _check_age(db: sqlite_utils.Database, path: Path, *, exactly: bool = False) -> None:
    """Refuse a schema that a newer hub has made; with *exactly* also one that has yet to be brought up to date."""
    from xiaozhi_hub.store.migrations import MIGRATIONS, known

    applied = {step.name for step in MIGRATIONS.applied(db)}
    if unknown := sorted(applied - known()):
        raise StoreError(
            f"the database {path} was made by a newer hub (it knows {unknown[-1]})",
            hint="Install that version again, or move the file away.",
            code="store-too-new",
            permanent=True,
        )
    if exactly and applied != known():
        raise StoreError(
            f"the database {path} was made by an older hub",
            hint="Run the hub once: it brings the database up to date.",
            code="store-too-old",
            permanent=True,
        )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the disk and SQLite complain of into a `StoreError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _told(error, path) from error
    except OSError as error:
        raise _disk(error, path) from error


_HINTS: tuple[tuple[tuple[str, ...], str, str, str], ...] = (
    (
        ("SQLITE_FULL",),
        "store-full",
        "the disk of {path} is full",
        "Free some space; nothing is remembered until then.",
    ),
    (
        ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH"),
        "store-read-only",
        "the database {path} cannot be written",
        "Let the user the hub runs as write to the folder, or set data_dir to another one.",
    ),
    (
        ("SQLITE_NOTADB",),
        "store-not-a-database",
        "{path} is not a database",
        "Move the file away; the hub then makes a new one.",
    ),
    (
        ("SQLITE_BUSY", "SQLITE_LOCKED"),
        "store-locked",
        "another program holds the database {path}",
        "Close programs that have the file open. Is a second hub running?",
    ),
    (
        ("SQLITE_IOERR",),
        "store-disk",
        "the disk of {path} does not work properly",
        "Check the disk and whether it is full.",
    ),
)


def _told(error: sqlite3.Error, path: Path) -> StoreError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_CORRUPT"):
        return _damaged(path, str(error))
    for prefixes, code, message, hint in _HINTS:
        if name.startswith(prefixes):
            return StoreError(message.format(path=path), code=code, hint=hint)
    return StoreError(f"the database {path} refuses: {error}")


def _disk(error: OSError, path: Path) -> StoreError:
    where = error.filename or path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreError(
            f"the disk of {where} is full", code="store-full", hint="Free some space; nothing is remembered until then."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreError(
            f"{where} cannot be written",
            code="store-read-only",
            hint="Let the user the hub runs as write to the folder, or set data_dir to another one.",
        )
    return StoreError(f"{where}: {error.strerror}", code="store-disk", hint="Check data_dir and the disk.")


__all__ = ["Database", "translated"]
