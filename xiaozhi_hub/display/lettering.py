"""Texts for devices whose font lacks characters: the pictures of those go along.

Devices that do not ask for it in their hello are served by the link itself and pay nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING

from xiaozhi_hub.core.config import DisplayConfig
from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.core.workers import Worker, WorkerBusy
from xiaozhi_hub.protocol.device_messages import DeviceMessage
from xiaozhi_hub.protocol.glyphs import MOST_GLYPHS, Glyph, GlyphPush, TextFont, lacking
from xiaozhi_hub.protocol.hub_messages import HubMessage, SentenceStart, Stt, display_text
from xiaozhi_hub.protocol.link import Link

if TYPE_CHECKING:
    from xiaozhi_hub.display.raster import Raster

log = logging.getLogger(__name__)

PATIENCE_S = 0.15
"""A text does not wait longer for its pictures: speech goes on. What is drawn later is there for the next text."""
KEPT_GLYPHS = 4096
MESSAGE_BYTES = {1: 4 * 1024, 4: 16 * 1024}
"""What the pictures of one text may take. Devices with black-and-white displays have little memory; the others read long
messages, but a link must not be busy with one while speech is due."""
_GLYPH_BYTES = 100
"""One glyph as JSON, without its bitmap."""

_Key = tuple[int, int, str]


class Lettering:
    """Draws and keeps glyphs, for all devices. Nothing is loaded before the first device needs it."""

    def __init__(self, config: DisplayConfig) -> None:
        self._config = config
        self._worker = Worker("glyphs")
        self._kept: OrderedDict[_Key, Glyph | None] = OrderedDict()
        self._raster: Raster | None = None
        self._looked = False

    def configure(self, config: DisplayConfig) -> None:
        """The owner wants it otherwise: devices that connect from now on get it so."""
        if config != self._config:
            self._config = config
            self._worker.post(self._look_again)

    def letter(self, link: Link) -> Link:
        """*link* itself, or for a device that takes glyphs one that sends them along."""
        font = link.hello.text_font
        if font is None or not self._config.glyph_push:
            return link
        if not self._looked:
            self._worker.post(self._look)  # before the first text wants it
        return LetteredLink(link, font, self)

    async def push(self, text: str, font: TextFont) -> GlyphPush | None:
        """What a device with *font* needs to show *text*; None when that is nothing, or when it is not to be had in time."""
        wanted = lacking(text, font)[:MOST_GLYPHS]
        if unknown := [char for char in wanted if (font.size, font.bpp, char) not in self._kept]:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await self._worker.run(self._draw, unknown, font)
            except (TimeoutError, WorkerBusy):
                log.debug("%d glyphs are not drawn in time", len(unknown))
        glyphs, room = [], MESSAGE_BYTES[font.bpp]
        for char in wanted:
            key = (font.size, font.bpp, char)
            if (glyph := self._kept.get(key)) is None:
                continue
            self._kept.move_to_end(key)
            room -= _GLYPH_BYTES + (len(glyph.bitmap) + 2) // 3 * 4
            if room < 0:
                break
            glyphs.append(glyph)
        while len(self._kept) > KEPT_GLYPHS:
            self._kept.popitem(last=False)
        return GlyphPush(font, glyphs) if glyphs else None

    async def close(self) -> None:
        await self._worker.close()

    # -- in the worker's thread -----------------------------------------------------------------------------------

    # `_kept` gets its values here and loses them on the loop; each step is a single one, and no step relies on another.

    def _draw(self, chars: list[str], font: TextFont) -> None:
        self._look()
        for char in chars:
            try:
                self._kept[font.size, font.bpp, char] = self._raster.draw(char, font) if self._raster else None
            except (OSError, ValueError) as error:  # a damaged font: the text goes without
                log.debug("U+%04X cannot be drawn: %s", ord(char), error)
                self._kept[font.size, font.bpp, char] = None

    def _look(self) -> None:
        if not self._looked:
            self._looked = True
            self._raster = self._find()

    def _look_again(self) -> None:
        self._looked = False
        self._raster = None
        self._kept.clear()

    def _find(self) -> Raster | None:
        # Pillow comes with them: 5 MB and a tenth of a second, for the few devices that want pictures of characters.
        from xiaozhi_hub.display.fonts import find_face
        from xiaozhi_hub.display.raster import Raster

        try:
            face = find_face(self._config)
        except OSError as error:
            log.warning("display: font: %s cannot be read (%s); devices show gaps", self._config.font, error)
            return None
        if face is None:
            log.warning("A device lacks characters and no font here has them. Install one, such as fonts-noto-cjk.")
            return None
        log.info("Characters that devices lack are drawn with %s", face.path)
        return Raster(face)


class LetteredLink(Link):
    """A link whose texts bring along what the device's font lacks. In everything else it is the link it was made of."""

    def __init__(self, link: Link, font: TextFont, lettering: Lettering) -> None:
        self.device, self.hello, self.session_id = link.device, link.hello, link.session_id
        self._link = link
        self._font = font
        self._lettering = lettering

    @property
    def sent_at(self) -> float:  # type: ignore[override]
        return self._link.sent_at

    @property
    def close_reason(self) -> str:  # type: ignore[override]
        return self._link.close_reason

    @property
    def closed(self) -> bool:
        return self._link.closed

    def receive(self) -> AsyncIterator[DeviceMessage | Packet]:
        return self._link.receive()

    async def send(self, message: HubMessage) -> None:
        # The firmware reads glyphs in these two messages and in no other.
        if isinstance(message, (Stt, SentenceStart)):
            push = await self._lettering.push(display_text(message.text), self._font)
            if push is not None:
                message = replace(message, glyph_push=push)
        await self._link.send(message)

    async def send_audio(self, packet: Packet) -> None:
        await self._link.send_audio(packet)

    async def close(self, reason: str) -> None:
        await self._link.close(reason)


__all__ = ["LetteredLink", "Lettering"]
