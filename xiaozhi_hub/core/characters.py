"""Text that can be written down."""

from __future__ import annotations


def whole(text: str) -> str:
    """*text* with ``?`` for halves of characters. JSON can name them, and programs that cut texts make them; but neither a wire nor a
    disk nor an engine takes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


__all__ = ["whole"]
