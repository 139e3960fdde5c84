"""The datagrams that carry sound: a clear header of 16 bytes, and one Opus packet under AES-128 in counter mode.

The header is at the same time the first counter block (firmware mqtt_protocol.cc). Nothing signs a datagram: this hides
sound from a casual ear on the network, and proves nothing about who sent it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

HEADER = struct.Struct(">BBHIII")
"""type, flags, payload length, ssrc, timestamp in ms, sequence"""
AUDIO = 1
LONGEST = 1500
"""Bytes of a datagram; devices take no longer ones."""
KEY_BYTES = 16


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the sound."""

    ssrc: int
    timestamp: int
    sequence: int


def read_header(datagram: bytes) -> Header | None:
    """Return the header of a datagram with sound; None for anything else."""
    if not HEADER.size <= len(datagram) <= LONGEST:
        return None
    kind, _, length, ssrc, timestamp, sequence = HEADER.unpack_from(datagram)
    if kind != AUDIO or length != len(datagram) - HEADER.size:
        return None
    return Header(ssrc, timestamp, sequence)


def nonce(ssrc: int) -> bytes:
    """The header that a device takes for a pattern: type and ssrc are set, it fills in the rest."""
    return HEADER.pack(AUDIO, 0, 0, ssrc, 0, 0)


class AudioCipher:
    """One conversation's key."""

    def __init__(self, key: bytes) -> None:
        self._key = algorithms.AES(key)

    def seal(self, header: Header, opus: bytes) -> bytes:
        """Return the datagram."""
        clear = HEADER.pack(AUDIO, 0, len(opus), header.ssrc, header.timestamp, header.sequence)
        return clear + self._crypt(clear, opus)

    def open(self, datagram: bytes) -> bytes:
        """Return what is in a datagram whose header was read. Any key gives something: only its sound tells."""
        return self._crypt(datagram[: HEADER.size], datagram[HEADER.size :])

    def _crypt(self, counter: bytes, data: bytes) -> bytes:
        return Cipher(self._key, modes.CTR(counter)).encryptor().update(data)
