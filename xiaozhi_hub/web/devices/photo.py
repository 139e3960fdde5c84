"""Photos from devices: checked, made smaller, and stripped of everything but their pixels. Blocking: for a thread."""

from __future__ import annotations

import io
from dataclasses import dataclass

from xiaozhi_hub.errors import HubError

MOST_BYTES = 4 * 2**20
MOST_PIXELS = 24_000_000
LONGEST_SIDE = 1280
"""Models look at no more than this, and cameras of devices have less."""
_FORMATS = ("JPEG", "PNG", "WEBP")
_QUALITY = 85


class BadPhoto(HubError):
    """What came is no usable photo."""

    code = "photo-invalid"


@dataclass(frozen=True, slots=True)
class Photo:
    """A JPEG that holds pixels and nothing else: no place, no time, no preview, nothing behind its end."""

    jpeg: bytes
    width: int
    height: int


def read_photo(data: bytes) -> Photo:
    """Make a `Photo` of *data*; raises `BadPhoto` for anything that is none, or too large."""
    # Imported here and in a thread: it takes a tenth of a second, and most homes have no camera.
    from PIL import Image, ImageOps

    if not data:
        raise BadPhoto("the photo is empty")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            # Known from the header, before a byte is unpacked: a small file may claim to be an enormous picture.
            if opened.width * opened.height > MOST_PIXELS or min(opened.size) < 1:
                raise BadPhoto(f"the photo has {opened.width} × {opened.height} pixels")
            opened.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            upright = ImageOps.exif_transpose(opened)
            upright.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            pixels = Image.frombytes("RGB", upright.size, upright.convert("RGB").tobytes())
        out = io.BytesIO()
        pixels.save(out, "JPEG", quality=_QUALITY)
    except BadPhoto:
        raise
    except Exception as error:  # a decoder raises whatever it likes at what strangers send
        raise BadPhoto(f"the photo cannot be read ({type(error).__name__})") from error
    return Photo(out.getvalue(), pixels.width, pixels.height)


__all__ = ["LONGEST_SIDE", "MOST_BYTES", "BadPhoto", "Photo", "read_photo"]
