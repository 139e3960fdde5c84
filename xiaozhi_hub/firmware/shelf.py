"""The folders of the owner with one sub-folder for each board: ``firmware/<board>/<version>.bin``, ``assets/<board>/<name>.bin``.

What is served is looked up among the files that were found here, never by a path that somebody sent. Links are not followed,
and a file is served only while it is the very one that was checked.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.firmware.assets import Assets, read_assets
from xiaozhi_hub.firmware.image import MOST_BYTES, BadImage, Image, read_image
from xiaozhi_hub.firmware.versions import is_sendable

T = TypeVar("T")
LOOK_AGAIN_S = 2.0
"""A new file is seen after so long; until then the folder is not walked through again."""
_MOST_BOARDS = 500
_MOST_FILES = 100
"""Of one board."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_SUFFIX = ".bin"
_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)


class Changed(HubError):
    """The file is not the one any more that was checked."""

    code = "firmware-file-changed"


@dataclass(frozen=True, slots=True)
class Stamp:
    """By what a file is known again."""

    device: int
    inode: int
    bytes: int
    modified_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class Stocked(Generic[T]):
    """One file in the folder."""

    board: str
    name: str
    """Without ``.bin``: the version of a firmware image."""
    path: Path
    stamp: Stamp
    content: T | None
    """What it holds; None when it cannot be given to a device."""
    problem: str = ""
    """Why not, for people."""


class Shelf(Generic[T]):
    """One folder, looked through in a thread of its own. *read* makes sense of a file, or raises `BadImage`."""

    def __init__(self, folder: Path, read: Callable[[str, bytes], T]) -> None:
        self.folder = folder
        self._read = read
        self._worker = Worker(f"shelf-{folder.name}")
        self._known: dict[tuple[str, str], Stocked[T]] = {}
        self._stock: tuple[Stocked[T], ...] = ()
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def stock(self) -> tuple[Stocked[T], ...]:
        """All files, the unusable ones too."""
        async with self._looking:
            if time.monotonic() - self._looked_at > LOOK_AGAIN_S:
                self._stock = await self._worker.run(self._look)
                self._looked_at = time.monotonic()
        return self._stock

    async def find(self, board: str, name: str) -> Stocked[T] | None:
        """The usable file with exactly these names."""
        for item in await self.stock():
            if (item.board, item.name) == (board, name) and item.content is not None:
                return item
        return None

    async def open(self, item: Stocked[T]) -> int:
        """Open the file that was checked; the caller closes the descriptor. Raises `Changed` when another lies there now."""
        return await self._worker.run(_open_checked, item.path, item.stamp)

    async def read(self, descriptor: int, at: int, size: int) -> bytes:
        return await self._worker.run(os.pread, descriptor, size, at)

    async def close(self) -> None:
        await self._worker.close()

    # -- in the thread --------------------------------------------------------------------------------------------

    def _look(self) -> tuple[Stocked[T], ...]:
        found = {(item.board, item.name): item for item in self._walk()}
        self._known = found
        return tuple(found.values())

    def _walk(self) -> Iterator[Stocked[T]]:
        for board in _entries(self.folder, _MOST_BOARDS):
            if not board.is_dir(follow_symlinks=False) or _NAME.fullmatch(board.name) is None:
                continue
            for file in _entries(Path(board.path), _MOST_FILES):
                if file.name.startswith(".") or not file.name.endswith(_SUFFIX):
                    continue
                try:
                    yield self._item(board.name, file)
                except FileNotFoundError:
                    continue  # it has just been moved away

    def _item(self, board: str, file: os.DirEntry[str]) -> Stocked[T]:
        name, path = file.name.removesuffix(_SUFFIX), Path(file.path)
        stamp = Stamp.of(file.stat(follow_symlinks=False))
        known = self._known.get((board, name))
        if known is not None and known.stamp == stamp and not known.problem.startswith("it cannot be read"):
            return known
        try:
            if _NAME.fullmatch(name) is None:
                raise BadImage("its name may hold letters, digits, dots, hyphens, plus signs and underscores only")
            if not file.is_file(follow_symlinks=False):
                raise BadImage("it is no plain file; links are not followed")
            if stamp.bytes > MOST_BYTES:
                raise BadImage(f"it is larger than {MOST_BYTES // 2**20} MiB")
            return Stocked(board, name, path, stamp, self._read(name, _content(path, stamp)))
        except (BadImage, Changed) as error:
            problem = error.message
        except OSError as error:
            problem = f"it cannot be read: {error.strerror}"
        return Stocked(board, name, path, stamp, None, problem)


def firmware_shelf(folder: Path) -> Shelf[Image]:
    """The shelf of firmware images. Their names are the versions that they hold."""
    return Shelf(folder, read_named_image)


def assets_shelf(folder: Path) -> Shelf[Assets]:
    """The shelf of assets files."""
    return Shelf(folder, lambda _, data: read_assets(data))


def read_named_image(version: str, data: bytes) -> Image:
    """Read an image that is filed under *version*; `BadImage` when a device must not be told of it."""
    image = read_image(data)
    if not is_sendable(version):
        raise BadImage("its name is no version of whole numbers and dots, such as 2.4.2; devices crash at others")
    if image.version.removeprefix("v") != version:
        # A device that installs it would say its own version again at the next check-in, and install it again, for ever.
        raise BadImage(f"it holds version {image.version or 'unknown'}, so it must be named {image.version}{_SUFFIX}")
    return image


def _entries(folder: Path, most: int) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    return entries[:most]


def _open_checked(path: Path, stamp: Stamp) -> int:
    try:
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        raise Changed(f"it cannot be opened: {error.strerror}") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or Stamp.of(found) != stamp:
        os.close(descriptor)
        raise Changed("it is being changed")
    return descriptor


def _content(path: Path, stamp: Stamp) -> bytes:
    with os.fdopen(_open_checked(path, stamp), "rb") as file:
        return file.read(MOST_BYTES + 1)


__all__ = ["Changed", "Shelf", "Stamp", "Stocked", "assets_shelf", "firmware_shelf", "read_named_image"]
