"""What a packet of Opus (RFC 6716 §3) says of itself, for those who only pass packets on."""

from __future__ import annotations

_SILK_MS = (10.0, 20.0, 40.0, 60.0)
_HYBRID_MS = (10.0, 20.0)
_CELT_MS = (2.5, 5.0, 10.0, 20.0)
_FRAME_MS = tuple(
    _SILK_MS[config & 3] if config < 12 else _HYBRID_MS[config & 1] if config < 16 else _CELT_MS[config & 3]
    for config in range(32)
)


def packet_ms(data: bytes) -> float:
    """Return how long a packet sounds, from its first bytes; 0.0 where they do not say (empty or broken)."""
    if not data:
        return 0.0
    toc = data[0]
    code = toc & 3
    if code == 0:
        return _FRAME_MS[toc >> 3]
    if code < 3:
        return _FRAME_MS[toc >> 3] * 2
    return _FRAME_MS[toc >> 3] * (data[1] & 63) if len(data) > 1 else 0.0


__all__ = ["packet_ms"]
