"""Disks of a few hundred kilobytes for tests, which can be full or read-only. Needs mount namespaces, which root may make."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


class SmallDisk:
    """A file system in memory, mounted at *folder* where `command` runs, and for nobody else."""

    def __init__(self, folder: Path, kilobytes: int) -> None:
        unshare = shutil.which("unshare")
        if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small disk needs mount namespaces, which this user may not make")
        self._unshare = unshare
        self._folder = folder
        self._mount = f"mount -t tmpfs -o size={kilobytes}k none '{folder}'"

    def command(self, *arguments: str, before: str = ":", after: str = ":") -> list[str]:
        """The command line that runs *arguments* with the disk in its place. The shell runs *before* and *after* around mounting."""
        script = f'{before} && {self._mount} && {after} && exec "$@"'
        return [self._unshare, "-m", "sh", "-c", script, "sh", *arguments]

    def seen_by(self, pid: int) -> Path:
        """The disk as the process *pid* has it, a way in from outside."""
        return Path(f"/proc/{pid}/root{self._folder}")


def fill(disk: Path) -> Path:
    """Leave no room on *disk*; removing the file that is returned makes room again."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for piece in (4096, 1):
            try:
                while file.write(bytes(piece)):
                    pass
            except OSError:
                continue
    return filler
