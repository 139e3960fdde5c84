"""How Opus packets are wrapped in binary frames: three framings, chosen by the device for each connection."""

from __future__ import annotations

import struct

from xiaozhi_hub.errors import ProtocolError

VERSIONS = (1, 2, 3)
_V2 = struct.Struct(">HHIII")
"""version, type, reserved, timestamp in ms, payload size"""
_V3 = struct.Struct(">BBH")
"""type, reserved, payload size"""
_OPUS = 0


def framing_of(value: str | int | None) -> int:
    """Return the framing that a ``Protocol-Version`` header or hello asks for; 1 when it is missing or unknown."""
    try:
        version = int(value) if value is not None else 1
    except ValueError:
        return 1
    return version if version in VERSIONS else 1


def unpack(version: int, frame: bytes) -> tuple[bytes, int]:
    """Return the Opus packet (perhaps empty) and its timestamp in ms, 0 where the framing carries none.

    A frame whose header contradicts its size or kind raises `ProtocolError`; the link can go on.
    """
    if version == 2:
        if len(frame) < _V2.size:
            raise ProtocolError("a binary frame shorter than its header", code="frame-invalid")
        number, kind, _, timestamp, size = _V2.unpack_from(frame)
        if (number, kind, size) != (2, _OPUS, len(frame) - _V2.size):
            raise ProtocolError("a binary frame with a wrong header", code="frame-invalid")
        return frame[_V2.size :], timestamp
    if version == 3:
        if len(frame) < _V3.size:
            raise ProtocolError("a binary frame shorter than its header", code="frame-invalid")
        kind, _, size = _V3.unpack_from(frame)
        if (kind, size) != (_OPUS, len(frame) - _V3.size):
            raise ProtocolError("a binary frame with a wrong header", code="frame-invalid")
        return frame[_V3.size :], 0
    return frame, 0


def pack(version: int, opus: bytes, timestamp: int = 0) -> bytes:
    """Return the frame that carries one Opus packet. The device trusts the size in it blindly."""
    if version == 2:
        return _V2.pack(2, _OPUS, 0, timestamp & 0xFFFFFFFF, len(opus)) + opus
    if version == 3:
        return _V3.pack(_OPUS, 0, len(opus)) + opus
    return opus


__all__ = ["VERSIONS", "framing_of", "pack", "unpack"]
