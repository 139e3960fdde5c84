"""Ogg Opus files (RFC 3533, RFC 7845): packets are kept as they came, nothing is encoded again."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence

from xiaozhi_hub.audio.opus import packet_ms
from xiaozhi_hub.audio.pcm import BadAudio
from xiaozhi_hub.core.flow import Packet

VENDOR = b"xiaozhi-hub"
PRE_SKIP = 312
"""What libopus delays the sound, in samples of 48 kHz: 6.5 ms."""
PAGE_MS = 1000
"""About how much one page holds, so that players can seek."""
_SERIAL = 0x585A4855  # fixed: the same sound makes the same file
_CONTINUED, _FIRST, _LAST = 1, 2, 4
_PAGE = struct.Struct("<4sBBqIIIB")
_CRC_AT = 22
_LOST = b"\x18"
"""A packet of 60 ms that holds nothing: a player conceals it."""


def write_ogg(packets: Sequence[Packet], input_rate: int) -> bytes:
    """Return *packets* as an Ogg Opus file. *input_rate* is the rate before encoding, for information only."""
    writer = OggWriter(input_rate)
    return b"".join((writer.begin(), *map(writer.feed, packets), writer.end()))


class OggWriter:
    """Makes an Ogg Opus file piece by piece: `begin`, `feed` for each packet, `end`. What they return makes the file.

    A page is complete after about *page_ms*; until then `feed` returns nothing.
    """

    def __init__(self, input_rate: int, page_ms: float = PAGE_MS) -> None:
        self._input_rate = input_rate
        self._page_ms = page_ms
        self._position = 0
        self._count = 0
        self._content: list[bytes] = []
        self._since = 0.0
        self._segments = 0

    def begin(self) -> bytes:
        head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, PRE_SKIP, self._input_rate, 0, 0)
        tags = b"OpusTags" + struct.pack("<I", len(VENDOR)) + VENDOR + struct.pack("<I", 0)
        self._count = 2
        return _page([head], 0, 0, _FIRST) + _page([tags], 0, 1, 0)

    def feed(self, packet: Packet) -> bytes:
        data = packet.data or _LOST
        ms = packet_ms(data)
        full = self._since + ms > self._page_ms or self._segments + len(data) // 255 + 1 > 255
        page = self._finish_page(0) if self._content and full else b""
        self._content.append(data)
        self._since += ms
        self._segments += len(data) // 255 + 1
        self._position += round(ms * 48)
        return page

    def end(self) -> bytes:
        return self._finish_page(_LAST)

    def _finish_page(self, flags: int) -> bytes:
        page = _page(self._content, self._position, self._count, flags)
        self._count += 1
        self._content, self._since, self._segments = [], 0.0, 0
        return page


def read_ogg(content: bytes) -> list[bytes]:
    """Return the Opus packets of a file; of a damaged one those before the damage.

    Raises `BadAudio` when it is no such file.
    """
    packets = _packets(_pages(content))
    if not next(packets, b"").startswith(b"OpusHead"):
        raise BadAudio("This is not an Ogg Opus file.")
    next(packets, None)  # the tags
    return list(packets)


def _page(packets: Iterable[bytes], position: int, number: int, flags: int) -> bytes:
    lacing = bytearray()
    body = bytearray()
    for packet in packets:
        lacing += b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,))
        body += packet
    page = bytearray(_PAGE.pack(b"OggS", 0, flags, position, _SERIAL, number, 0, len(lacing)))
    page += lacing + body
    page[_CRC_AT : _CRC_AT + 4] = struct.pack("<I", checksum(page))
    return bytes(page)


def _pages(content: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield flags, lacing and body of the first stream's pages, up to the first damage."""
    at = 0
    stream: int | None = None
    while at + _PAGE.size <= len(content):
        magic, version, flags, _, serial, _, crc, count = _PAGE.unpack_from(content, at)
        if magic != b"OggS" or version != 0:
            return
        lacing = content[at + _PAGE.size : at + _PAGE.size + count]
        begin = at + _PAGE.size + count
        end = begin + sum(lacing)
        if len(lacing) < count or end > len(content):
            return
        page = bytearray(content[at:end])
        page[_CRC_AT : _CRC_AT + 4] = bytes(4)
        if checksum(page) != crc:
            return
        stream = serial if stream is None else stream
        if serial == stream:
            yield flags, lacing, content[begin:end]
        at = end


def _packets(pages: Iterable[tuple[int, bytes, bytes]]) -> Iterator[bytes]:
    begun = b""
    for flags, lacing, body in pages:
        if not flags & _CONTINUED:
            begun = b""
        at = 0
        for size in lacing:
            begun += body[at : at + size]
            at += size
            if size < 255:
                yield begun
                begun = b""


_MIRROR = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def checksum(data: bytes | bytearray) -> int:
    """Return Ogg's CRC-32 of *data*: zlib's polynomial with the bits the other way round and nothing inverted."""
    mirrored = zlib.crc32(data.translate(_MIRROR), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


__all__ = ["OggWriter", "read_ogg", "write_ogg"]
