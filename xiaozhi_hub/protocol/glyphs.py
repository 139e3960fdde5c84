"""Pictures of characters that a device's font lacks, sent along with the text that needs them (firmware docs/glyph-push.md)."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BUNDLE = "noto-v1"
"""The one font bundle whose layout is known. Another name means that metrics or bitmaps have changed."""
SIZES = range(8, 49)
DEPTHS = (1, 4)
MOST_GLYPHS = 64
LARGEST_BOX = 64
_VERSION = 1


@dataclass(frozen=True, slots=True)
class TextFont:
    """The font a device draws texts with, as its hello tells. Glyphs count only with exactly this bundle, size and depth."""

    bundle: str
    charset: str
    """``basic`` (ASCII, Latin-1 and the device's own texts) or ``common`` (also everyday Chinese)."""
    size: int
    bpp: int


@dataclass(frozen=True, slots=True)
class Glyph:
    """One character as LVGL draws it."""

    codepoint: int
    advance: int
    """To the next character, in sixteenths of a pixel."""
    width: int
    height: int
    left: int
    """From the pen to the first column."""
    bottom: int
    """From the baseline up to the lowest row; negative below it."""
    bitmap: bytes
    """Rows from the top, the first pixel in the highest bits, nothing between rows: ceil(width · height · bpp / 8) bytes."""

    def fields(self) -> dict[str, Any]:
        return {
            "codepoint": self.codepoint,
            "adv_w": self.advance,
            "box_w": self.width,
            "box_h": self.height,
            "ofs_x": self.left,
            "ofs_y": self.bottom,
            "bitmap": base64.b64encode(self.bitmap).decode(),
        }


@dataclass(frozen=True, slots=True)
class GlyphPush:
    """What goes along with one text. A device that finds one thing wrong in it takes none of it."""

    font: TextFont
    glyphs: Sequence[Glyph]

    def fields(self) -> dict[str, Any]:
        return {
            "v": _VERSION,
            "bundle": self.font.bundle,
            "size": self.font.size,
            "bpp": self.font.bpp,
            "glyphs": [glyph.fields() for glyph in self.glyphs],
        }


def text_font_of(hello: Mapping[str, Any]) -> TextFont | None:
    """The font of a device that takes glyphs; None when it does not, or when its font is not one that we know."""
    features, font = hello.get("features"), hello.get("text_font")
    if not (isinstance(features, dict) and features.get("glyph_push") is True and isinstance(font, dict)):
        return None
    bundle, charset, size, bpp = (font.get(name) for name in ("bundle", "charset", "size", "bpp"))
    if bundle != BUNDLE or charset not in ("basic", "common"):
        return None
    if type(size) is not int or size not in SIZES or type(bpp) is not int or bpp not in DEPTHS:
        return None
    return TextFont(bundle, charset, size, bpp)


def lacking(text: str, font: TextFont) -> list[str]:
    """The characters of *text* that the device may have no picture of, each once, in order.

    The exact content of the charsets is the firmware's own affair. What is sent without need is ignored by the device, which
    looks into its own font first; so only what is certain to be there is left out: ASCII and Latin-1, and with ``common`` the
    punctuation and the 3755 most frequent characters of GB 2312.
    """
    return [
        char for char in dict.fromkeys(text) if ord(char) > 0xFF and char.isprintable() and not _is_there(char, font)
    ]


def _is_there(char: str, font: TextFont) -> bool:
    if font.charset != "common":
        return False
    try:
        row = char.encode("gb2312")[0]
    except UnicodeEncodeError:
        return False
    return row in (0xA1, 0xA3) or 0xB0 <= row <= 0xD7  # punctuation, full-width ASCII, level 1


__all__ = ["BUNDLE", "LARGEST_BOX", "MOST_GLYPHS", "Glyph", "GlyphPush", "TextFont", "lacking", "text_font_of"]
