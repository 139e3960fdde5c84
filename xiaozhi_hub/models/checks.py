"""Are the bytes of a file those that its publisher gave out?"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from xiaozhi_hub.models.catalogue import ModelFile
from xiaozhi_hub.models.progress import Progress

PIECE_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Digests:
    """What the bytes of a file add up to."""

    size: int
    sha256: str
    md5: str

    def differs(self, file: ModelFile) -> str:
        """How it is not *file*, for people; empty when nothing that is known of *file* speaks against it."""
        if file.size is not None and self.size != file.size:
            return f"it has {self.size} bytes, not {file.size}"
        if (checksum := file.checksum) is not None:
            kind, wanted = checksum
            found = self.sha256 if kind == "sha256" else self.md5
            if found != wanted:
                return f"its {kind} is {found[:12]}…, not {wanted[:12]}…"
        return ""


def digests_of(path: Path, progress: Progress) -> Digests:
    """Read the whole of *path*; blocks, for about a second per 100 MB and more on slow disks. OSError as it comes."""
    with path.open("rb") as file:
        return read_through(file, f"checking {path.name}", progress)


def read_through(file: BinaryIO, doing: str, progress: Progress, copy: BinaryIO | None = None) -> Digests:
    """Read *file* to its end, and write what is read to *copy*. Blocks; OSError as it comes, with the name of *file* when it is its."""
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    size = 0
    progress.begin(doing, os.fstat(file.fileno()).st_size)
    try:
        while piece := _read(file):
            if copy is not None:
                copy.write(piece)
            sha256.update(piece)
            md5.update(piece)
            size += len(piece)
            progress.advance(size)
    finally:
        progress.end()
    return Digests(size, sha256.hexdigest(), md5.hexdigest())


def _read(file: BinaryIO) -> bytes:
    try:
        return file.read(PIECE_BYTES)
    except OSError as error:
        error.filename = file.name  # the system names only what cannot be opened
        raise


__all__ = ["PIECE_BYTES", "Digests", "digests_of", "read_through"]
