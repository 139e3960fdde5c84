"""Drawing characters for a device's font. Blocking, and for one thread."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xiaozhi_hub.display.fonts import Face
from xiaozhi_hub.protocol.glyphs import LARGEST_BOX, Glyph, TextFont

_NOBODY_HAS = "\U0010fffd"
"""For private use: what a font draws for it, it draws for everything it does not have."""


class Raster:
    """Draws with one face."""

    def __init__(self, face: Face) -> None:
        self._face = face
        self._fonts: dict[int, ImageFont.FreeTypeFont] = {}

    def draw(self, char: str, font: TextFont) -> Glyph | None:
        """The glyph of *char*; None when the face does not have it, or it is too large for devices."""
        drawn, missing = self._ink(char, font), self._ink(_NOBODY_HAS, font)
        if drawn is None or (missing is not None and drawn == missing):
            return None
        picture, left, bottom = drawn
        width, height = picture.size
        if width > LARGEST_BOX or height > LARGEST_BOX:
            return None
        advance = round(self._font(font.size).getlength(char) * 16)
        return Glyph(ord(char), advance, width, height, left, bottom, _packed(picture, font.bpp))

    def _font(self, size: int) -> ImageFont.FreeTypeFont:
        if size not in self._fonts:
            self._fonts[size] = self._face.load(size)
        return self._fonts[size]

    def _ink(self, char: str, font: TextFont) -> tuple[Image.Image, int, int] | None:
        """What is black, with its place to the right of the pen and above the baseline; None when there is nothing."""
        size = font.size
        canvas = Image.new("L", (size * 4, size * 4))
        draw = ImageDraw.Draw(canvas)
        draw.fontmode = "1" if font.bpp == 1 else "L"
        draw.text((size, size * 2), char, fill=255, font=self._font(size), anchor="ls")
        if font.bpp == 4:
            canvas = canvas.point([level & 0xF0 for level in range(256)])  # what fades to nothing needs no room
        box = canvas.getbbox()
        if box is None:
            return None
        return canvas.crop(box), box[0] - size, size * 2 - box[3]


def _packed(picture: Image.Image, bpp: int) -> bytes:
    levels = np.asarray(picture, dtype=np.uint8).reshape(-1)
    if bpp == 1:
        return np.packbits(levels >= 128).tobytes()
    nibbles = levels >> 4
    if nibbles.size % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    return bytes((nibbles[0::2] << 4) | nibbles[1::2])


__all__ = ["Raster"]
