"""Spoken phrases on the disk: what was said before a restart begins at once after it.

One file for each phrase, named by the hash of its key: magic, key, length and checksum of the rest, then for each packet its
length, its duration in ms, and its bytes. Everything here blocks and belongs to one thread, except `has`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

from xiaozhi_hub.core.flow import Packet

log = logging.getLogger(__name__)

KEEP_DAYS = 60
"""What nobody has asked for in so long is deleted."""
_MAGIC = b"XHP1"
_HEAD = struct.Struct(">4s32sII")
_PACKET = struct.Struct(">HH")
_PART = ".part"
_NAME = re.compile(r"[0-9a-f]{64}\.phrase")
Key = tuple[str, str]
"""The voice with everything that changes its sound, and the text."""


class PhraseFiles:
    """At most *limit* bytes of phrases in *folder*. Files of others are left alone; a disk that refuses only costs time."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._sizes: dict[str, int] = {}
        self._failed = False

    @property
    def used(self) -> int:
        """Bytes of all phrases."""
        return sum(self._sizes.values())

    def has(self, key: Key) -> bool:
        """May `load` find this? Quick, for any thread."""
        return bool(self._sizes) and _name(key) in self._sizes

    def open(self) -> None:
        """See what is there, and delete what is old or too much."""
        now = time.time()
        used: list[tuple[float, str, int]] = []
        try:
            for entry in os.scandir(self._folder):
                if entry.name.endswith(_PART) and _NAME.fullmatch(entry.name.removesuffix(_PART)):
                    self._delete(entry.name)  # the machine was switched off while it was written
                elif _NAME.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    status = entry.stat()
                    used.append((status.st_mtime, entry.name, status.st_size))
        except FileNotFoundError:
            return
        except OSError as error:
            self._refused(error)
            return
        for when, name, size in sorted(used):  # in the order of last use: the first ones are deleted first
            self._sizes[name] = size
            if when < now - KEEP_DAYS * 86400:
                self._delete(name)
        self._shrink()

    def load(self, key: Key) -> tuple[Packet, ...] | None:
        """The packets of a phrase; None when they are not there or not whole."""
        name = _name(key)
        path = self._folder / name
        try:
            packets = _read(path.read_bytes(), key)
            if packets:
                os.utime(path)
        except (OSError, ValueError, struct.error) as error:
            log.info("a kept phrase cannot be used: %s", error)
            packets = ()
        if not packets:
            self._delete(name)
            return None
        self._sizes[name] = self._sizes.pop(name, 0) or path.stat().st_size
        return packets

    def store(self, key: Key, packets: Sequence[Packet]) -> None:
        """Keep a phrase. What was used longest ago makes room."""
        content = _written(key, packets)
        if len(content) > self._limit // 4:
            return
        name = _name(key)
        part = self._folder / f"{name}{_PART}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            part.replace(self._folder / name)
        except OSError as error:
            self._refused(error)
            part.unlink(missing_ok=True)
            return
        self._sizes.pop(name, None)
        self._sizes[name] = len(content)
        self._shrink()

    def clear(self) -> None:
        """Delete all phrases."""
        for name in tuple(self._sizes):
            self._delete(name)

    def _shrink(self) -> None:
        used = self.used
        while used > self._limit:
            name = next(iter(self._sizes))
            used -= self._sizes[name]
            self._delete(name)

    def _delete(self, name: str) -> None:
        self._sizes.pop(name, None)
        try:
            (self._folder / name).unlink(missing_ok=True)
        except OSError as error:
            self._refused(error)

    def _refused(self, error: OSError) -> None:
        if not self._failed:  # once is enough: speech goes on without
            self._failed = True
            log.warning("phrases cannot be kept in %s: %s", self._folder, error.strerror)


def _name(key: Key) -> str:
    return f"{_digest(key).hex()}.phrase"


def _digest(key: Key) -> bytes:
    return hashlib.sha256("\0".join(key).encode("utf-8", "surrogatepass")).digest()


def _written(key: Key, packets: Sequence[Packet]) -> bytes:
    body = b"".join(_PACKET.pack(len(packet.data), round(packet.ms)) + packet.data for packet in packets)
    return _HEAD.pack(_MAGIC, _digest(key), len(body), zlib.crc32(body)) + body


def _read(content: bytes, key: Key) -> tuple[Packet, ...]:
    magic, digest, size, checksum = _HEAD.unpack_from(content)
    body = content[_HEAD.size :]
    if magic != _MAGIC or digest != _digest(key) or size != len(body) or checksum != zlib.crc32(body):
        raise ValueError("it is not what was written")
    packets: list[Packet] = []
    at = 0
    while at < len(body):
        length, ms = _PACKET.unpack_from(body, at)
        at += _PACKET.size + length
        packets.append(Packet(body[at - length : at], ms))
    return tuple(packets)


__all__ = ["Key", "PhraseFiles"]
