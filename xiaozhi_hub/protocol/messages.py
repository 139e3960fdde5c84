"""The JSON messages that follow the hello, and the hellos themselves.

Devices are understood as far as possible: a field that is missing or of the wrong type has its usual value, because
firmware versions and other clients differ; only what cannot mean anything is an error.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xiaozhi_hub.core.flow import EMOTIONS
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.binary import framing_of
from xiaozhi_hub.protocol.glyphs import GlyphPush, TextFont, text_font_of

ListenMode = Literal["auto", "manual", "realtime"]
UPLINK_RATE = 16000
UPLINK_FRAME_MS = 60
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_OPUS_FRAMES_MS = (5, 10, 20, 40, 60, 80, 100, 120)
_LONGEST_TEXT = 500
"""Characters; devices without PSRAM should get no JSON above 4 KiB."""


# -- device → hub -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceHello:
    """The first message of a connection."""

    version: int = 1
    """Binary framing in use, as the ``Protocol-Version`` header says."""
    features: frozenset[str] = frozenset()
    """What it says it can do: ``mcp``, ``aec`` … Empty before firmware 1.6.6."""
    transport: str = "websocket"
    sample_rate: int = UPLINK_RATE
    """Of its microphone. The firmware always sends 16000."""
    frame_ms: int = UPLINK_FRAME_MS
    """Length of its packets. The firmware always sends 60, a desktop client 20, 40 or 60."""
    text_font: TextFont | None = None
    """What it draws texts with, where it takes pictures of what that lacks (from 2.4.0 on)."""


@dataclass(frozen=True, slots=True)
class ListenStart:
    """The microphone streams from now on."""

    mode: ListenMode = "auto"


@dataclass(frozen=True, slots=True)
class ListenStop:
    """Push-to-talk was released: the utterance is complete."""


@dataclass(frozen=True, slots=True)
class ListenDetect:
    """A wake word was heard, or a board has something to say as text. May be empty."""

    text: str = ""


@dataclass(frozen=True, slots=True)
class Abort:
    """The person interrupts."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Mcp:
    """A JSON-RPC message of the device's tools."""

    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Iot:
    """Descriptors or states of the device's things, as firmware before 1.8 sends them."""

    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ping:
    """Some clients ask whether the hub is alive. No answer is due."""


@dataclass(frozen=True, slots=True)
class Goodbye:
    """The device ends the conversation."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Well formed, but nothing we know of: later firmware may say more."""

    type: str


DeviceMessage = DeviceHello | ListenStart | ListenStop | ListenDetect | Abort | Mcp | Iot | Ping | Goodbye | Unknown


def parse_device_message(text: str) -> DeviceMessage:
    """Understand a text frame. Raises `ProtocolError` for what is no message; its ``close`` says how bad that is."""
    message = _parse_object(text)
    kind = message.get("type")
    if not isinstance(kind, str):
        raise ProtocolError("a message without a type", code="message-invalid")
    match kind:
        case "hello":
            return _parse_hello(message)
        case "listen":
            return _parse_listen(message)
        case "abort":
            return Abort(_text(message.get("reason")))
        case "mcp":
            payload = message.get("payload")
            if not isinstance(payload, dict):
                raise ProtocolError("an mcp message without payload", code="message-invalid")
            return Mcp(payload)
        case "iot":
            return Iot({key: value for key, value in message.items() if key not in ("type", "session_id")})
        case "ping":
            return Ping()
        case "goodbye":
            return Goodbye()
        case _:
            return Unknown(kind[:64])


def _parse_object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        if (understood := _unescaped_detect(text) or _unescaped_refusal(text)) is not None:
            return understood
        raise ProtocolError("a message that is not JSON", code="message-invalid") from error
    if not isinstance(message, dict):
        raise ProtocolError("a message that is not a JSON object", code="message-invalid")
    return message


_DETECT = re.compile(r'"type"\s*:\s*"listen".*"state"\s*:\s*"detect".*?"text"\s*:\s*"(.*)"\s*\}\s*\Z', re.DOTALL)


def _unescaped_detect(text: str) -> dict[str, Any] | None:
    # The firmware puts the text of `listen detect` between quotes without escaping those inside it.
    if len(text) > 4096 or (found := _DETECT.search(text)) is None:
        return None
    return {"type": "listen", "state": "detect", "text": found.group(1)}


_REFUSAL = re.compile(r'"jsonrpc".*?"id"\s*:\s*(\d{1,10}).*?"error"\s*:\s*\{\s*"message"\s*:\s*"(.*)"\s*\}', re.DOTALL)


def _unescaped_refusal(text: str) -> dict[str, Any] | None:
    # Nor does it escape the message of an MCP error (firmware mcp_server.cc): better the reason than a wait for nothing.
    if len(text) > 4096 or '"mcp"' not in text[:200] or (found := _REFUSAL.search(text)) is None:
        return None
    payload = {"jsonrpc": "2.0", "id": int(found.group(1)), "error": {"message": found.group(2)}}
    return {"type": "mcp", "payload": payload}


def _parse_hello(message: Mapping[str, Any]) -> DeviceHello:
    features = message.get("features")
    audio = message.get("audio_params")
    audio = audio if isinstance(audio, dict) else {}
    if audio.get("format", "opus") != "opus":
        raise ProtocolError("a device that does not speak Opus", code="hello-invalid", close=True)
    version = message.get("version")
    rate, frame = audio.get("sample_rate"), audio.get("frame_duration")
    return DeviceHello(
        version=framing_of(version) if isinstance(version, int) else 1,
        features=frozenset(name for name, on in features.items() if on) if isinstance(features, dict) else frozenset(),
        transport=_text(message.get("transport")) or "websocket",
        sample_rate=rate if rate in _OPUS_RATES else UPLINK_RATE,
        frame_ms=frame if frame in _OPUS_FRAMES_MS else UPLINK_FRAME_MS,
        text_font=text_font_of(message),
    )


def _parse_listen(message: Mapping[str, Any]) -> DeviceMessage:
    match message.get("state"):
        case "start":
            match message.get("mode"):
                case "manual":
                    return ListenStart("manual")
                case "realtime":
                    return ListenStart("realtime")
                case _:
                    return ListenStart("auto")
        case "stop":
            return ListenStop()
        case "detect":
            return ListenDetect(_text(message.get("text")))
        case _:
            return Unknown("listen")


def _text(value: object) -> str:
    """One line of text, whatever came."""
    return " ".join(value.split())[:2000] if isinstance(value, str) else ""


# -- hub → device -------------------------------------------------------------------------------------------------


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
    "Abort",
    "Alert",
    "DeviceHello",
    "DeviceMessage",
    "Goodbye",
    "HubGoodbye",
    "HubHello",
    "HubMessage",
    "Iot",
    "IotCommand",
    "Keepalive",
    "ListenDetect",
    "ListenMode",
    "ListenStart",
    "ListenStop",
    "LlmEmotion",
    "Mcp",
    "McpRequest",
    "Ping",
    "SentenceStart",
    "Stt",
    "SttSoFar",
    "TtsStart",
    "TtsStop",
    "Unknown",
    "display_text",
    "parse_device_message",
]
