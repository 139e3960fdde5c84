"""What is in a firmware file: the ESP32 image format, read and checked as the device's boot loader does it.

Layout (esp-idf ``esp_app_format.h``, ``esp_app_desc.h``; all little-endian): a header of 24 bytes, then segments of 8 bytes of
header and their data. The first segment begins with the description of the application. After the last one the file is
padded so that a checksum ends a block of 16 bytes; the SHA-256 of everything before may follow.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

import numpy as np

from xiaozhi_hub.errors import HubError

MOST_BYTES = 32 * 2**20
_HEADER = struct.Struct("<BBBBI B3s H B H H 4s B")
_SEGMENT = struct.Struct("<II")
_DESCRIPTION = struct.Struct("<I I 8x 32s 32s 16s 16s 32s 32s")
_MAGIC = 0xE9
_DESCRIPTION_MAGIC = 0xABCD5432
_CHECKSUM_SEED = 0xEF
_MOST_SEGMENTS = 16
_CHIPS = {
    0x0000: "esp32",
    0x0002: "esp32s2",
    0x0005: "esp32c3",
    0x0009: "esp32s3",
    0x000C: "esp32c2",
    0x000D: "esp32c6",
    0x0010: "esp32h2",
    0x0012: "esp32p4",
    0x0014: "esp32c61",
    0x0017: "esp32c5",
    0x0019: "esp32h21",
    0x001C: "esp32h4",
}
"""By the number in the header; names as devices give them in their check-in."""


class BadImage(HubError):
    """A file that no device should get; the message says why."""

    code = "firmware-image-invalid"


@dataclass(frozen=True, slots=True)
class Image:
    """What a sound image says of itself."""

    project: str
    """``xiaozhi`` for the stock firmware."""
    version: str
    chip: str
    """As devices name it: ``esp32s3``."""
    bytes: int
    sha256: str
    """Of the whole file, in hexadecimal."""
    idf: str = ""
    built: str = ""


def read_image(data: bytes) -> Image:
    """Read and check a whole application image (``xiaozhi.bin``, not the merged flash image). Raises `BadImage`."""
    if len(data) > MOST_BYTES:
        raise BadImage(f"it is larger than {MOST_BYTES // 2**20} MiB")
    try:
        magic, segments, *_, chip, _, _, _, _, hashed = _HEADER.unpack_from(data)
    except struct.error:
        raise BadImage("it is too short for an image") from None
    if magic != _MAGIC:
        raise BadImage(f"it is no image: it begins with 0x{magic:02X} instead of 0x{_MAGIC:02X}")
    if not 1 <= segments <= _MOST_SEGMENTS:
        raise BadImage(f"it claims to have {segments} segments")
    if chip not in _CHIPS:
        raise BadImage(f"it is for an unknown chip (0x{chip:04X})")
    end = _check_segments(data, segments)
    if hashed == 1:
        told = data[end : end + 32]
        if len(told) < 32:
            raise BadImage("it is cut short: its hash is missing")
        if hashlib.sha256(memoryview(data)[:end]).digest() != told:
            raise BadImage("it is damaged: its hash is wrong")
    return _describe(data, _CHIPS[chip])


def _check_segments(data: bytes, count: int) -> int:
    """Check that all segments are there and their checksum is right; return where it ends."""
    at, checksum = _HEADER.size, _CHECKSUM_SEED
    for _ in range(count):
        try:
            _, size = _SEGMENT.unpack_from(data, at)
        except struct.error:
            raise BadImage("it is cut short") from None
        at += _SEGMENT.size
        if at + size > len(data):
            raise BadImage("it is cut short")
        checksum ^= int(np.bitwise_xor.reduce(np.frombuffer(data, np.uint8, size, at), initial=0))
        at += size
    end = (at // 16 + 1) * 16
    if end > len(data):
        raise BadImage("it is cut short: its checksum is missing")
    if data[end - 1] != checksum:
        raise BadImage("it is damaged: its checksum is wrong")
    return end


def _describe(data: bytes, chip: str) -> Image:
    try:
        magic, _, *texts = _DESCRIPTION.unpack_from(data, _HEADER.size + _SEGMENT.size)
    except struct.error:
        raise BadImage("it is too short to describe itself") from None
    if magic != _DESCRIPTION_MAGIC:
        raise BadImage(
            "it does not say what it is; a boot loader or a merged flash image cannot be installed over the air"
        )
    version, project, time, date, idf, _ = texts
    return Image(
        project=_text(project),
        version=_text(version),
        chip=chip,
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        idf=_text(idf),
        built=f"{_text(date)} {_text(time)}".strip(),
    )


def _text(field: bytes) -> str:
    text = field.partition(b"\0")[0].decode("ascii", "replace")
    return "".join(char for char in text if char.isprintable()).strip()


__all__ = ["MOST_BYTES", "BadImage", "Image", "read_image"]
