"""Makes application images and assets files as the firmware's build makes them (esp-idf image format, main/assets.cc)."""

from __future__ import annotations

import hashlib
import struct

import numpy as np

CHIPS = {"esp32": 0, "esp32s3": 9, "esp32c3": 5}


def description(version: str, project: str, *, magic: int = 0xABCD5432) -> bytes:
    return struct.pack(
        "<II8x32s32s16s16s32s32s80x",
        magic,
        0,
        version.encode(),
        project.encode(),
        b"08:33:45",
        b"Aug  8 2026",
        b"v5.5.2",
        bytes(32),
    )


def image(
    version: str = "2.5.0",
    *,
    chip: str = "esp32s3",
    project: str = "xiaozhi",
    size: int = 5000,
    hashed: bool = True,
    segments: tuple[bytes, ...] | None = None,
) -> bytes:
    filling = (bytes(i * 7 % 251 for i in range(251)) * (size // 251 + 1))[:size]
    parts = segments if segments is not None else (description(version, project) + filling, b"\x00\x01\x02\x03" * 9)
    head = struct.pack(
        "<BBBBIB3sHBHH4sB",
        0xE9,
        len(parts),
        2,
        0x4F,
        0x40375948,
        0xEE,
        b"\0\0\0",
        CHIPS[chip],
        0,
        0,
        99,
        b"\0\0\0\0",
        hashed,
    )
    data, checksum = head, 0xEF
    for part in parts:
        data += struct.pack("<II", 0x3C000020, len(part)) + part
        checksum ^= int(np.bitwise_xor.reduce(np.frombuffer(part, np.uint8), initial=0))
    data += bytes(15 - len(data) % 16) + bytes([checksum])
    return data + hashlib.sha256(data).digest() if hashed else data


def assets(files: dict[str, bytes]) -> bytes:
    table, body = b"", b""
    for name, content in files.items():
        table += struct.pack("<32sIIHH", name.encode(), len(content), len(body), 0, 0)
        body += b"ZZ" + content
    stored = table + body
    return struct.pack("<III", len(files), sum(stored) & 0xFFFF, len(stored)) + stored
