"""Which font of this machine has the characters that devices lack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

from xiaozhi_hub.core.config import DisplayConfig

_NOTO_SC = "Noto Sans CJK SC"
_KNOWN = (
    "usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",  # fonts-noto-cjk: what the firmware's own font is made of
    "usr/share/fonts/truetype/noto/NotoSansCJK-Regular.ttc",
    "usr/share/fonts/noto-cjk/NotoSansCJK-Regular.ttc",
    "usr/share/fonts/truetype/wqy/wqy-microhei.ttc",  # fonts-wqy-microhei
    "usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",  # fonts-wqy-zenhei
    "usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",  # fonts-droid-fallback
    "usr/share/fonts/opentype/unifont/unifont.otf",  # fonts-unifont
)
_MOST_FACES = 16


@dataclass(frozen=True, slots=True)
class Face:
    """One font in a file; a collection holds several."""

    path: Path
    index: int = 0

    def load(self, size: int) -> ImageFont.FreeTypeFont:
        """Blocking. Raises `OSError` when the file is no font."""
        # Not ImageFont.truetype: what that cannot read, it replaces by a font of the same name from elsewhere.
        return ImageFont.FreeTypeFont(str(self.path), size, self.index, "", ImageFont.Layout.BASIC)


def find_face(config: DisplayConfig, root: Path = Path("/")) -> Face | None:
    """The owner's font, or else the first known one that is installed below *root*; None when there is none. Blocking.

    Raises `OSError` when the font that the owner named cannot be read.
    """
    if config.font is not None:
        return _face_in(config.font)
    for name in _KNOWN:
        try:
            if (path := root / name).is_file():
                return _face_in(path)
        except OSError:
            continue  # broken: the next one
    return None


def _face_in(path: Path) -> Face:
    faces = {str(font.getname()[0]): index for index, font in _faces(path)}
    return Face(path, faces.get(_NOTO_SC, 0))


def _faces(path: Path) -> Iterator[tuple[int, ImageFont.FreeTypeFont]]:
    for index in range(_MOST_FACES if path.suffix == ".ttc" else 1):
        try:
            yield index, Face(path, index).load(16)
        except OSError:
            if index == 0:
                raise
            return


__all__ = ["Face", "find_face"]
