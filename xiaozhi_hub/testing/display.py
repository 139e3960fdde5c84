"""The device's display: what the person said, what the hub says, faces, alerts, and characters that its font lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xiaozhi_hub.core.flow import EMOTIONS
from xiaozhi_hub.testing.device_log import DeviceLog
from xiaozhi_hub.testing.glyphs import PushedGlyph, take_glyphs
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.turn import AlertShown, TurnLog


class Display:
    """Shows messages of the hub; what belongs to a turn is noted in it."""

    def __init__(self, profile: FirmwareProfile, log: DeviceLog) -> None:
        self.glyphs: dict[int, PushedGlyph] = {}
        """The pictures of characters that the hub has sent, by code point."""
        self.alerts: list[AlertShown] = []
        """All that were shown."""
        self._profile = profile
        self._log = log

    def show_heard(self, message: Mapping[str, Any], turn: TurnLog | None, now: float) -> None:
        """``stt``: what the hub understood."""
        self._take_glyphs(message)
        text = self.text_of(message, "text")
        if turn is not None and text:
            turn.heard = text
            turn.answered("stt", now)

    def show_sentence(self, message: Mapping[str, Any], turn: TurnLog | None) -> None:
        """``tts sentence_start``: what the hub says next."""
        self._take_glyphs(message)
        text = self.text_of(message, "text")
        if turn is not None and text:
            turn.sentences.append(text)

    def show_face(self, message: Mapping[str, Any], turn: TurnLog | None, *, speaking: bool) -> None:
        """``llm``: a face, which only a speaking device keeps."""
        emotion = self.text_of(message, "emotion")
        if emotion not in EMOTIONS:
            self._log.complain(f"unknown face {emotion!r}")
        if not speaking:
            self._log.complain("a face outside of speaking: it is reset at once")
        if turn is not None:
            turn.emotion = emotion

    def show_alert(self, message: Mapping[str, Any], turn: TurnLog | None) -> None:
        """``alert``: it stays until something else is shown."""
        alert = AlertShown(*(self.text_of(message, name) for name in ("status", "message", "emotion")))
        self.alerts.append(alert)
        if turn is not None:
            turn.alerts.append(alert)

    def text_of(self, message: Mapping[str, Any], name: str) -> str:
        """The text of a message under *name*; empty, and complained about, when there is none."""
        value = message.get(name)
        if isinstance(value, str):
            return value
        self._log.complain(f"{message['type']}.{name} is no text: old firmware crashes")
        return ""

    def _take_glyphs(self, message: Mapping[str, Any]) -> None:
        if (push := message.get("glyph_push")) is None:
            return
        try:
            self.glyphs.update(take_glyphs(push, self._profile.text_font))
        except ValueError as error:
            self._log.complain(f"all glyphs of a text are thrown away: {error}")


__all__ = ["Display"]
