"""A WAV file, or bare samples, read while it is still coming. Pure."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from xiaozhi_hub.plugins.api import PcmChunk, Samples

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_LONGEST_HEAD = 64 * 1024
_ANY_LENGTH = 2**28
"""Bytes of sound from which on the length is a stand-in: SoX and espeak write 0x7ffff000 into a pipe, others 0xffffffff."""
_RATES = range(8000, 96_001)


class BadWav(Exception):
    """This cannot be played. The text says why."""


class WavReader:
    """Feed it bytes, take sound out, in mono. With *rate* there is no header: 16-bit samples, little-endian, one channel.

    Lengths in the header are not trusted: servers that stream write zero, or about as much as the field holds.
    """

    def __init__(self, rate: int | None = None) -> None:
        self._rate = rate or 0
        self._kind, self._channels, self._bits = _PCM, 1, 16
        self._in_samples = rate is not None
        self._rest = b""
        self._left: int | None = None

    def feed(self, data: bytes) -> PcmChunk | None:
        """Take the next bytes; return what sounds, None when nothing does yet. Raises `BadWav`."""
        self._rest += data
        if not self._in_samples and not self._read_head():
            return None
        width = self._channels * self._bits // 8
        usable = len(self._rest) // width * width
        if self._left is not None:  # what follows the samples is no sound
            usable = min(usable, self._left // width * width)
            self._left -= usable
        whole, self._rest = self._rest[:usable], self._rest[usable:]
        if self._left == 0:
            self._rest = b""
        return PcmChunk(self._samples(whole), self._rate) if whole else None

    def end(self) -> None:
        """There is no more. Raises `BadWav` when that is too early."""
        if not self._in_samples:
            raise BadWav("it is no WAV file")
        if self._left:
            raise BadWav("it broke off")

    def _read_head(self) -> bool:
        data = self._rest
        if data[:4] != b"RIFF"[: len(data[:4])] or (len(data) >= 12 and data[8:12] != b"WAVE"):
            raise BadWav("it is no WAV file")
        at = 12
        while len(data) >= at + 8:
            name, (size,) = data[at : at + 4], struct.unpack_from("<I", data, at + 4)
            if name == b"data":
                if not self._rate:
                    raise BadWav("it does not say what it holds")
                self._left = size if 0 < size < _ANY_LENGTH else None
                self._in_samples, self._rest = True, data[at + 8 :]
                return True
            if name == b"fmt " and len(data) >= at + 8 + size:
                self._read_format(data[at + 8 : at + 8 + size])
            at += 8 + size + size % 2
            if at > _LONGEST_HEAD:
                break
        if len(data) > _LONGEST_HEAD:
            raise BadWav("it holds no sound")
        return False

    def _read_format(self, head: bytes) -> None:
        if len(head) < 16:
            raise BadWav("its header is damaged")
        kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", head)
        if kind == _EXTENSIBLE and len(head) >= 26:
            (kind,) = struct.unpack_from("<H", head, 24)
        if (kind, bits) not in {(_PCM, 16), (_PCM, 32), (_FLOAT, 32)} or channels not in (1, 2) or rate not in _RATES:
            raise BadWav(f"format {kind}, {bits} bits, {channels} channels, {rate} Hz")
        self._kind, self._channels, self._rate, self._bits = kind, channels, rate, bits

    def _samples(self, data: bytes) -> Samples:
        wide: np.ndarray[tuple[int, ...], np.dtype[np.floating[Any]]]
        if self._kind == _FLOAT:
            wide = np.nan_to_num(np.frombuffer(data, "<f4")) * 32767.0
        elif self._bits == 32:
            wide = np.frombuffer(data, "<i4") / 65536.0
        else:
            plain = np.frombuffer(data, "<i2")
            if self._channels == 1:
                return plain.astype(np.int16)
            wide = plain.astype(np.float32)
        mono = wide.reshape(-1, self._channels).mean(axis=1)
        samples: Samples = np.clip(np.rint(mono), -32768, 32767).astype(np.int16)
        return samples
