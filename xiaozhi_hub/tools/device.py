"""What a connected device can do by itself, whatever protocol tells of it: the contract of `xiaozhi_hub.devices.abilities`.

The tools have the names that today's firmware uses, so that those who call them need not know which protocol it is.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.device_messages import Iot, Mcp

GET_STATUS = "self.get_device_status"
SET_VOLUME = "self.audio_speaker.set_volume"
SET_BRIGHTNESS = "self.screen.set_brightness"
SET_THEME = "self.screen.set_theme"
TAKE_PHOTO = "self.camera.take_photo"
"""The tools that many boards have in common (firmware mcp_server.cc); everything else is known from the device's list only."""
USUAL_TOOLS = frozenset({GET_STATUS, SET_VOLUME, SET_BRIGHTNESS, SET_THEME, TAKE_PHOTO})
"""Those for which the hub has tools of its own, for any device by its name."""

MOST_TOOLS = 128
"""A device that lists more is not listened to any further."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long a device may take. It works off calls one by one on its main task, and does not always answer."""

    call_s: float = 30.0
    camera_s: float = 60.0
    """To take a photo, send it, and wait for what is said about it."""
    settle_s: float = 1.0
    """Firmware before 1.8 is slow right after it has connected: its tools are asked for so much later."""

    def seconds_for(self, tool: str) -> float:
        return self.camera_s if tool.startswith("self.camera.") else self.call_s


USUAL_LIMITS = CallLimits()


@dataclass(frozen=True, slots=True)
class DeviceTool:
    """One tool as the device describes it."""

    name: str
    """``self.audio_speaker.set_volume``"""
    description: str
    """In the firmware's language, often Chinese."""
    parameters: Mapping[str, Any]
    """JSON Schema of type object, reduced to what `xiaozhi_hub.tools.arguments` understands."""
    user_only: bool = False
    """For people on pages and for automations; never for a language model."""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """What a device says of itself; None where it has no such part or has not said."""

    volume: int | None = None
    brightness: int | None = None
    theme: str | None = None
    battery: int | None = None
    charging: bool | None = None
    report: Mapping[str, Any] = field(default_factory=dict)
    """All of it, in the words of `GET_STATUS`."""


class DeviceCallError(HubError):
    """A device did not do what it was told. ``code`` says why; the message of ``device-refused`` is the device's own."""

    code = "device-refused"


class NoAnswer(DeviceCallError):
    """It did not answer in time; it may have done it all the same."""

    code = "device-silent"


class DeviceGone(DeviceCallError):
    """Its link has ended."""

    code = "device-gone"


class NoSuchTool(DeviceCallError):
    """The device has no such tool."""

    code = "device-cannot"


class DeviceToolset(ABC):
    """The tools of one connected device. One for each link, fed with what the link receives."""

    def __init__(self) -> None:
        self.on_status: Callable[[DeviceStatus], None] | None = None
        """Is told when something of the status has changed."""

    @property
    @abstractmethod
    def tools(self) -> Mapping[str, DeviceTool]:
        """By name; grows while the device tells of itself."""

    @abstractmethod
    async def start(self) -> None:
        """Ask what the device can do; returns when that is known, or when it does not say."""

    @abstractmethod
    async def learned(self) -> None:
        """Return when the device has said what it can do, or never will."""

    @abstractmethod
    def receive(self, message: Mcp | Iot) -> None:
        """Take a message of the device."""

    @abstractmethod
    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool and return its text. Raises `DeviceCallError`, or `Misfit` when the arguments cannot be made to fit."""

    @abstractmethod
    async def status(self) -> DeviceStatus:
        """Return how things are now. Raises `DeviceCallError` when the device does not say."""

    @abstractmethod
    def close(self) -> None:
        """The link has ended: whoever waits for an answer gets `DeviceGone`."""


def read_status(report: Mapping[str, Any]) -> DeviceStatus:
    """Understand a report in the words of `GET_STATUS`; what is missing or of another type is None."""
    speaker, screen, battery = (_mapping(report.get(part)) for part in ("audio_speaker", "screen", "battery"))
    theme, charging = screen.get("theme"), battery.get("charging")
    return DeviceStatus(
        volume=_percent(speaker.get("volume")),
        brightness=_percent(screen.get("brightness")),
        theme=theme if isinstance(theme, str) else None,
        battery=_percent(battery.get("level")),
        charging=charging if isinstance(charging, bool) else None,
        report=report,
    )


def parse_json_object(text: str) -> dict[str, Any]:
    """Return the object that a tool's text holds; empty when it holds none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _percent(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        return None
    return round(value)


__all__ = [
    "GET_STATUS",
    "MOST_TOOLS",
    "SET_BRIGHTNESS",
    "SET_THEME",
    "SET_VOLUME",
    "TAKE_PHOTO",
    "USUAL_LIMITS",
    "USUAL_TOOLS",
    "CallLimits",
    "DeviceCallError",
    "DeviceGone",
    "DeviceStatus",
    "DeviceTool",
    "DeviceToolset",
    "NoAnswer",
    "NoSuchTool",
    "parse_json_object",
    "read_status",
]
