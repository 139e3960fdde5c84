"""What the hub says to devices: the JSON messages that follow its hello, and the hello itself."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.core.flow import EMOTIONS
from xiaozhi_hub.protocol.glyphs import GlyphPush

_LONGEST_TEXT = 500
"""Characters; devices without PSRAM should get no JSON above 4 KiB."""


class HubMessage(ABC):
    """Something the hub says to a device. Values have the types that firmware expects: older versions check nothing."""

    __slots__ = ()

    @abstractmethod
    def _fields(self) -> dict[str, Any]: ...

    def json(self, session_id: str) -> str:
        """Return the text frame."""
        fields = self._fields()
        message = {"type": fields.pop("type"), "session_id": session_id, **fields}
        return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class HubHello(HubMessage):
    """The answer to the device's hello, sent once. Announces what the hub will send."""

    sample_rate: int = 24000
    frame_ms: int = 60
    udp: Mapping[str, Any] | None = None
    """Where the sound goes when it does not travel with the messages: ``server``, ``port``, ``key``, ``nonce``."""

    def _fields(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "transport": "websocket" if self.udp is None else "udp",  # without it the firmware crashes
            "audio_params": {
                "format": "opus",
                "sample_rate": self.sample_rate,
                "channels": 1,
                "frame_duration": self.frame_ms,
            },
            **({} if self.udp is None else {"udp": dict(self.udp)}),
        }


@dataclass(frozen=True, slots=True)
class Stt(HubMessage):
    """What the person said."""

    text: str
    glyph_push: GlyphPush | None = None

    def _fields(self) -> dict[str, Any]:
        return {"type": "stt", "text": display_text(self.text), **_pushed(self.glyph_push)}


@dataclass(frozen=True, slots=True)
class SttSoFar(HubMessage):
    """What has been heard while the person still speaks: each replaces the one before, and `Stt` the last. For clients that asked
    for it; devices would show each as something said."""

    text: str

    def _fields(self) -> dict[str, Any]:
        return {"type": "stt", "state": "partial", "text": display_text(self.text)}


@dataclass(frozen=True, slots=True)
class TtsStart(HubMessage):
    """The device turns to speaking and forgets all audio it has."""

    def _fields(self) -> dict[str, Any]:
        return {"type": "tts", "state": "start"}


@dataclass(frozen=True, slots=True)
class SentenceStart(HubMessage):
    """The subtitle of what follows."""

    text: str
    glyph_push: GlyphPush | None = None

    def _fields(self) -> dict[str, Any]:
        text = display_text(self.text)
        return {"type": "tts", "state": "sentence_start", "text": text, **_pushed(self.glyph_push)}


@dataclass(frozen=True, slots=True)
class TtsStop(HubMessage):
    """The device turns to listening, or to rest in manual mode."""

    def _fields(self) -> dict[str, Any]:
        return {"type": "tts", "state": "stop"}


@dataclass(frozen=True, slots=True)
class LlmEmotion(HubMessage):
    """The face to show. The device resets it whenever it begins to listen, so it is sent after ``tts start``."""

    emotion: str

    def _fields(self) -> dict[str, Any]:
        return {"type": "llm", "emotion": _known_emotion(self.emotion)}


@dataclass(frozen=True, slots=True)
class Alert(HubMessage):
    """A status line, a text, a face and a short sound."""

    status: str
    message: str
    emotion: str = "sad"

    def _fields(self) -> dict[str, Any]:
        return {
            "type": "alert",
            "status": display_text(self.status),
            "message": display_text(self.message),
            "emotion": _known_emotion(self.emotion),
        }


@dataclass(frozen=True, slots=True)
class Keepalive(HubMessage):
    """Something that every firmware ignores, so that the link counts as alive."""

    def _fields(self) -> dict[str, Any]:
        return {"type": "mcp", "payload": {"jsonrpc": "2.0", "method": "notifications/keepalive"}}


@dataclass(frozen=True, slots=True)
class HubGoodbye(HubMessage):
    """The conversation is over, where the connection stays: on a WebSocket, closing it says the same."""

    def _fields(self) -> dict[str, Any]:
        return {"type": "goodbye"}


@dataclass(frozen=True, slots=True)
class McpRequest(HubMessage):
    """A JSON-RPC request to the device's own tools. The firmware answers only numeric ids below 2**31 and no null ``params``."""

    id: int
    method: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def _fields(self) -> dict[str, Any]:
        payload: dict[str, Any] = {"jsonrpc": "2.0", "id": self.id, "method": self.method}
        if self.params:
            payload["params"] = dict(self.params)
        return {"type": "mcp", "payload": payload}


@dataclass(frozen=True, slots=True)
class IotCommand(HubMessage):
    """Tells a thing of firmware before 1.8 what to do. There is no answer; a parameter that is missing crashes the device."""

    thing: str
    method: str
    parameters: Mapping[str, bool | int | str] = field(default_factory=dict)

    def _fields(self) -> dict[str, Any]:
        command = {"name": self.thing, "method": self.method, "parameters": dict(self.parameters)}
        return {"type": "iot", "commands": [command]}


def _pushed(push: GlyphPush | None) -> dict[str, Any]:
    return {"glyph_push": push.fields()} if push is not None else {}


def _known_emotion(name: str) -> str:
    return name if name in EMOTIONS else "neutral"


_EMOJI = re.compile(
    "[\u200d\u20e3\u2194-\u2199\u21a9\u21aa\u231a-\u23ff\u25aa-\u25fe\u2600-\u27bf\u2934\u2935\u2b00-\u2bff\u3030\u303d"
    "\ufe00-\ufe0f\U0001f000-\U0001fbff\U000e0000-\U000e01ef]"
)
"""Symbols that devices have no glyph for, and the marks that join and colour them."""
_SPACE = re.compile(r"\s+")


def display_text(text: str) -> str:
    """Return *text* as a device can show it: one line, no emoji, no control characters, of bounded length."""
    shown = _SPACE.sub(" ", _EMOJI.sub("", text))
    shown = "".join(char for char in shown if char.isprintable()).strip()
    return shown if len(shown) <= _LONGEST_TEXT else shown[: _LONGEST_TEXT - 1] + "…"


__all__ = [
    "Alert",
    "HubGoodbye",
    "HubHello",
    "HubMessage",
    "IotCommand",
    "Keepalive",
    "LlmEmotion",
    "McpRequest",
    "SentenceStart",
    "Stt",
    "SttSoFar",
    "TtsStart",
    "TtsStop",
    "display_text",
]
