"""The machine below the hub: disk, database, clock, memory, firewall, container. Blocking."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from xiaozhi_hub.core.config import Config
from xiaozhi_hub.display.fonts import find_face
from xiaozhi_hub.doctor.finding import Finding, error, ok, warning

TOO_LITTLE_DISK = 100 * 2**20
LITTLE_DISK = 1024 * 2**20
LITTLE_MEMORY = 150 * 2**20
EARLIEST_YEAR = 2026
_BUSY_S = 2.0


def look_at_machine(config: Config, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield what is found. *root* is where the system's own files lie."""
    yield from _disk(config)
    yield from _database(config.data_dir / "hub.db")
    yield from _clock(root)
    yield from _memory(root)
    yield from _firewall(root, config)
    yield from _container(root)
    yield from _font(config, root)


def _disk(config: Config) -> Iterator[Finding]:
    folder = config.data_dir
    there = next((each for each in (folder, *folder.parents) if each.is_dir()), Path("/"))
    try:
        with tempfile.TemporaryFile(dir=there) as probe:
            probe.write(b"doctor")
        free = shutil.disk_usage(there).free
    except OSError as trouble:
        yield error("folder_unwritable", folder=folder, why=trouble.strerror or trouble)
        return
    if folder.exists() and not folder.is_dir():
        yield error("folder_is_file", folder=folder)
    elif free < TOO_LITTLE_DISK:
        yield error("disk_full", free=free // 2**20, folder=folder)
    elif free < LITTLE_DISK:
        yield warning("disk_low", free=free // 2**20, folder=folder)
    else:
        yield ok("disk", free=f"{free / 2**30:.1f}", folder=folder)


def _database(path: Path) -> Iterator[Finding]:
    if not path.exists():
        yield ok("database_none", path=path)
        return
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S, isolation_level=None
        )
        try:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            connection.execute("BEGIN IMMEDIATE")  # what a write begins with; nothing is written
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error as trouble:
        name = getattr(trouble, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            yield warning("database_busy", path=path)
        elif name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            yield error("database_damaged", path=path, why=trouble)
        else:
            yield error("database_unwritable", path=path, why=trouble)
        return
    if verdict == "ok":
        yield ok("database", path=path)
    else:
        yield error("database_damaged", path=path, why=verdict)


def _clock(root: Path) -> Iterator[Finding]:
    now = time.localtime()
    shown = time.strftime("%Y-%m-%d %H:%M", now)
    if now.tm_year < EARLIEST_YEAR:
        yield error("clock_wrong", now=shown)
        return
    daemon = root / "run/systemd/timesync"
    if daemon.is_dir() and not (daemon / "synchronized").exists():
        yield warning("clock_unsynchronised", now=shown)
    else:
        yield ok("clock", now=shown, zone=time.strftime("%Z", now))


def _memory(root: Path) -> Iterator[Finding]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        told = next(line for line in lines if line.startswith("MemAvailable:"))
        available = int(told.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return
    if available < LITTLE_MEMORY:
        yield warning("memory_high", free=available // 2**20)
    else:
        yield ok("memory", free=available // 2**20)


def _firewall(root: Path, config: Config) -> Iterator[Finding]:
    """Only whether one is on: its rules are for the administrator's eyes."""
    ports = f"{config.server.http_port}/tcp, {config.server.port}/tcp, 5353/udp"
    try:
        ufw = "ENABLED=yes" in (root / "etc/ufw/ufw.conf").read_text()
    except OSError:
        ufw = False
    if ufw:
        yield warning("firewall_ufw", ports=ports, port=config.server.http_port, second=config.server.port)
    elif (root / "run/firewalld").is_dir():
        yield warning("firewall_firewalld", ports=ports, port=config.server.http_port, second=config.server.port)


def _container(root: Path) -> Iterator[Finding]:
    if (root / ".dockerenv").exists() or (root / "run/.containerenv").exists():
        yield warning("container")


def _font(config: Config, root: Path) -> Iterator[Finding]:
    if not config.display.glyph_push:
        return
    try:
        face = find_face(config.display, root)
    except OSError as trouble:
        yield error("font_unreadable", path=config.display.font, why=trouble.strerror or trouble)
        return
    # No warning without one: most devices have all the characters they need.
    yield ok("font", path=face.path) if face is not None else ok("font_none")


__all__ = ["look_at_machine"]
