"""What is in an assets file (fonts, wake words, emoji), checked as the device does it (firmware main/assets.cc):
number of files, checksum and length, four bytes each, then a table and the files."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from xiaozhi_hub.firmware.image import MOST_BYTES, BadImage

_HEAD = struct.Struct("<III")
_ROW = struct.Struct("<32s II HH")
_MOST_FILES = 4096


@dataclass(frozen=True, slots=True)
class Assets:
    """What a sound assets file says of itself."""

    files: tuple[str, ...]
    bytes: int
    sha256: str


def read_assets(data: bytes) -> Assets:
    """Read and check a whole assets file. Raises `BadImage`."""
    if len(data) > MOST_BYTES:
        raise BadImage(f"it is larger than {MOST_BYTES // 2**20} MiB")
    try:
        count, checksum, length = _HEAD.unpack_from(data)
    except struct.error:
        raise BadImage("it is too short for an assets file") from None
    if not 1 <= count <= _MOST_FILES or length < count * _ROW.size:
        raise BadImage("it is no assets file")
    if _HEAD.size + length > len(data):
        raise BadImage("it is cut short")
    # Bytes are added up as the firmware's compiler takes a char: unsigned on RISC-V chips, and modulo 65536 everywhere.
    stored = np.frombuffer(data, np.uint8, length, _HEAD.size)
    sums = {int(stored.sum(dtype=np.int64)) & 0xFFFF, int(stored.view(np.int8).sum(dtype=np.int64)) & 0xFFFF}
    if checksum not in sums:
        raise BadImage("it is damaged: its checksum is wrong")
    names = []
    for row in range(count):
        name, size, offset, _, _ = _ROW.unpack_from(data, _HEAD.size + row * _ROW.size)
        if count * _ROW.size + offset + size > length:
            raise BadImage("it is damaged: a file in it lies outside of it")
        names.append(name.partition(b"\0")[0].decode("utf-8", "replace"))
    return Assets(tuple(names), len(data), hashlib.sha256(data).hexdigest())


__all__ = ["Assets", "read_assets"]
