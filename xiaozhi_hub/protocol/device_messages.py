"""What devices say: the JSON messages that follow their hello, and the hello itself.

Devices are understood as far as possible: a field that is missing or of the wrong type has its usual value, because
firmware versions and other clients differ; only what cannot mean anything is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xiaozhi_hub.core.characters import whole
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.binary import framing_of
from xiaozhi_hub.protocol.glyphs import TextFont, text_font_of

ListenMode = Literal["auto", "manual", "realtime"]
UPLINK_RATE = 16000
UPLINK_FRAME_MS = 60
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_OPUS_FRAMES_MS = (5, 10, 20, 40, 60, 80, 100, 120)


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
    return " ".join(whole(value).split())[:2000] if isinstance(value, str) else ""


__all__ = [
    "Abort",
    "DeviceHello",
    "DeviceMessage",
    "Goodbye",
    "Iot",
    "ListenDetect",
    "ListenMode",
    "ListenStart",
    "ListenStop",
    "Mcp",
    "Ping",
    "Unknown",
    "parse_device_message",
]
