"""What plain clients say, phones and pages that talk to the hub without being devices: their hello, texts, sound and pictures.

They may say everything that devices say, too (`parse_device_message`). A mistake is told to them; it never ends more than their
own connection.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.device_messages import DeviceMessage, Unknown, parse_device_message
from xiaozhi_hub.protocol.hub_messages import HubMessage
from xiaozhi_hub.protocol.identity import plain

SoundFormat = Literal["none", "opus", "pcm"]
PCM_RATES = (8000, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
LONGEST_TEXT = 2000
_LONGEST_TOKEN = 256


class ClientMistake(ProtocolError):
    """Told to the client in its language: ``client.<key>`` of the translations."""

    def __init__(self, key: str, *, close: bool = False, **values: object) -> None:
        super().__init__(f"{key} {values or ''}".strip(), code=key.replace("_", "-"), close=close)
        self.key = key
        self.values = values


@dataclass(frozen=True, slots=True)
class ClientSound:
    """How sound travels between a client and the hub, both ways."""

    format: SoundFormat = "none"
    """``none``: the client sends and wants no sound. ``pcm``: 16-bit little-endian samples, in pieces of any length."""
    rate: int = 24000
    """Of the PCM samples. Opus packets need none: they fit every rate."""
    channels: int = 1
    """Of what the client sends; it always gets one."""
    frame_ms: int = 60
    """Of the Opus packets that the client sends."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The first message."""

    token: str = ""
    """Empty when it was shown before."""
    language: str = ""
    sound: ClientSound = field(default_factory=ClientSound)
    wake: bool = False
    """It streams all the time; the hub is to wait for a wake word."""
    captions: bool = False
    """It wants to be told what has been heard so far."""


@dataclass(frozen=True, slots=True)
class WrittenText:
    """A question in writing."""

    text: str


@dataclass(frozen=True, slots=True)
class SentSound:
    """A whole recording, or a piece of one while the client listens: PCM, or Opus packets."""

    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SentPicture:
    """A question about a picture. When ``data`` is empty, ``size`` bytes follow in binary messages."""

    question: str
    data: bytes
    size: int


ClientMessage = ClientHello | WrittenText | SentSound | SentPicture | DeviceMessage


def parse_client_message(text: str) -> ClientMessage:
    """Understand a text message. Raises `ClientMistake`."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClientMistake("message_invalid") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ClientMistake("message_invalid")
    match message["type"]:
        case "hello":
            return _hello(message)
        case "text":
            return WrittenText(_text(message.get("text"), "text"))
        case "audio":
            return _sound(message.get("data"))
        case "image":
            return _picture(message)
        case _:
            try:
                understood = parse_device_message(text)
            except ProtocolError as error:
                raise ClientMistake("message_invalid") from error
            if isinstance(understood, Unknown):
                raise ClientMistake("unknown_type", type=plain(understood.type))
            return understood


def _hello(message: Mapping[str, Any]) -> ClientHello:
    token = message.get("token", "")
    if not isinstance(token, str) or len(token) > _LONGEST_TOKEN:
        raise ClientMistake("token_wrong", close=True)
    sound = _sound_params(message.get("audio_params"))
    wake, captions = _switch(message, "wake"), _switch(message, "captions")
    if wake and sound.format == "none":
        raise ClientMistake("no_sound")
    return ClientHello(token, plain(message.get("language")), sound, wake, captions)


def _switch(message: Mapping[str, Any], name: str) -> bool:
    value = message.get(name, False)
    if not isinstance(value, bool):
        raise ClientMistake("hello_invalid", name=name, allowed="true, false")
    return value


def _sound_params(said: object) -> ClientSound:
    if said is None:
        return ClientSound()
    if not isinstance(said, dict):
        raise ClientMistake("hello_invalid", name="audio_params", allowed="{…}")
    format: SoundFormat
    match said.get("format", "opus"):
        case "opus":
            format = "opus"
        case "pcm":
            format = "pcm"
        case _:
            raise ClientMistake("hello_invalid", name="format", allowed="opus, pcm")
    rates = PCM_RATES if format == "pcm" else (8000, 12000, 16000, 24000, 48000)
    return ClientSound(
        format,
        _one_of(said, "sample_rate", 16000, rates),
        _one_of(said, "channels", 1, (1, 2)),
        _one_of(said, "frame_duration", 60, (5, 10, 20, 40, 60, 80, 100, 120)),
    )


def _one_of(said: Mapping[str, Any], name: str, usual: int, allowed: tuple[int, ...]) -> int:
    value = said.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or value not in allowed:
        raise ClientMistake("hello_invalid", name=name, allowed=", ".join(map(str, allowed)))
    return value


def _text(value: object, name: str, *, required: bool = True) -> str:
    if value is None and not required:
        return ""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    text = text.encode("utf-8", "ignore").decode()  # JSON can name halves of characters, which nobody can write down
    if not text and required:
        raise ClientMistake("field_missing", name=name)
    if len(text) > LONGEST_TEXT:
        raise ClientMistake("text_too_long", most=LONGEST_TEXT)
    return text


def _sound(data: object) -> SentSound:
    pieces = data if isinstance(data, list) else [data]
    if not pieces:
        raise ClientMistake("field_missing", name="data")
    return SentSound(tuple(_bytes(piece) for piece in pieces))


def _picture(message: Mapping[str, Any]) -> SentPicture:
    question = _text(message.get("question"), "question", required=False)
    if (size := message.get("size")) is None:
        return SentPicture(question, data := _bytes(message.get("data")), len(data))
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ClientMistake("field_missing", name="size")
    return SentPicture(question, b"", size)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str) or not value:
        raise ClientMistake("field_missing", name="data")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ClientMistake("base64_invalid") from error


# -- hub → client -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientGreeting(HubMessage):
    """The answer to a client's hello."""

    device_id: str
    """The name under which the hub knows the client."""
    sound: ClientSound

    def _fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = {"type": "hello", "transport": "websocket", "device_id": self.device_id}
        if self.sound.format != "none":
            fields["audio_params"] = {
                "format": self.sound.format,
                "sample_rate": self.sound.rate if self.sound.format == "pcm" else 24000,
                "channels": 1,
                "frame_duration": 60,
            }
        return fields


@dataclass(frozen=True, slots=True)
class WakeWaiting(HubMessage):
    """To a client that streams all the time: from now on nothing is answered until one of ``words`` is said."""

    words: tuple[str, ...]

    def _fields(self) -> dict[str, Any]:
        return {"type": "wake", "state": "waiting", "words": list(self.words)}


@dataclass(frozen=True, slots=True)
class WakeHeard(HubMessage):
    """To a client that streams all the time: ``word`` was said, and the hub listens."""

    word: str

    def _fields(self) -> dict[str, Any]:
        return {"type": "wake", "state": "heard", "word": self.word}


@dataclass(frozen=True, slots=True)
class ClientError(HubMessage):
    """Something that the client sent cannot be used; ``code`` is for programs, ``message`` for people."""

    code: str
    message: str

    def _fields(self) -> dict[str, Any]:
        return {"type": "error", "code": self.code, "message": self.message}


__all__ = [
    "ClientError",
    "ClientGreeting",
    "ClientHello",
    "ClientMessage",
    "ClientMistake",
    "ClientSound",
    "SentPicture",
    "SentSound",
    "WakeHeard",
    "WakeWaiting",
    "WrittenText",
    "parse_client_message",
]
