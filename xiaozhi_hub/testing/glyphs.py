"""What the firmware does with pictures of characters: it takes all of a message, or none (firmware docs/glyph-push.md)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

_MOST = 64
_BOX = range(65)
_OFFSET = range(-(1 << 15), 1 << 15)
_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PushedGlyph:
    """One character as it came."""

    advance: int
    width: int
    height: int
    left: int
    bottom: int
    levels: tuple[int, ...]
    """Of each pixel, by rows from the top: 0 to 2**bpp - 1."""

    def rows(self) -> list[str]:
        """The picture with ``#`` for what is dark: for people who look at a failed test."""
        return [
            "".join("#" if self.levels[y * self.width + x] else "." for x in range(self.width))
            for y in range(self.height)
        ]


def take_glyphs(push: object, font: Mapping[str, object] | None) -> dict[int, PushedGlyph]:
    """Return what is in *push* by code point. `ValueError` for what makes a device with *font* throw away all of it."""
    if font is None:
        raise ValueError("the device has not asked for glyphs")
    if not isinstance(push, dict) or push.get("v") != 1:
        raise ValueError("not version 1")
    for name in ("bundle", "size", "bpp"):
        if push.get(name) != font[name]:
            raise ValueError(f"{name} is {push.get(name)!r}, the device has {font[name]!r}")
    glyphs, bpp = push.get("glyphs"), font["bpp"]
    if not isinstance(glyphs, list) or not 0 < len(glyphs) <= _MOST or not isinstance(bpp, int):
        raise ValueError(f"not 1 to {_MOST} glyphs")
    taken = dict(_take(glyph, bpp) for glyph in glyphs)
    if sum(len(glyph.levels) * bpp for glyph in taken.values()) > _BYTES * 8:
        raise ValueError(f"more than {_BYTES} bytes")
    return taken


def _take(glyph: object, bpp: int) -> tuple[int, PushedGlyph]:
    if not isinstance(glyph, dict):
        raise ValueError("a glyph that is no object")
    names = ("codepoint", "adv_w", "box_w", "box_h", "ofs_x", "ofs_y")
    numbers = [value for name in names if type(value := glyph.get(name)) is int]
    if len(numbers) != len(names):
        raise ValueError("a number is missing")
    codepoint, advance, width, height, left, bottom = numbers
    if not 0 < codepoint <= 0x10FFFF or not 0 <= advance < 1 << 16:
        raise ValueError("impossible code point or advance")
    if width not in _BOX or height not in _BOX or left not in _OFFSET or bottom not in _OFFSET:
        raise ValueError(f"a box of {width}×{height} at {left}, {bottom}")
    try:
        bitmap = base64.b64decode(str(glyph.get("bitmap")), validate=True)
    except binascii.Error as error:
        raise ValueError("a bitmap that is not base64") from error
    if len(bitmap) != (width * height * bpp + 7) // 8:
        raise ValueError(f"{len(bitmap)} bytes for {width}×{height} pixels")
    bits, mask = int.from_bytes(bitmap, "big"), (1 << bpp) - 1
    levels = tuple(bits >> (len(bitmap) * 8 - (n + 1) * bpp) & mask for n in range(width * height))
    return codepoint, PushedGlyph(advance, width, height, left, bottom, levels)


__all__ = ["PushedGlyph", "take_glyphs"]
