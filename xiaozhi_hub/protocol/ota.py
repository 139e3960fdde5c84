"""The check-in: once per start a device says what it is and asks where the hub is.

The answer is written into the device's memory by code that crashes or hangs on much that looks harmless (long keys,
null, non-numeric versions, long bodies), so it is checked before it leaves, whoever made it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.identity import DeviceIdentity, identify, plain

WEBSOCKET_PATH = "/xiaozhi/v1/"
MOST_BYTES = 6143
"""The firmware's HTTP reader hangs on bodies beyond about 6 KiB."""
LONGEST_KEY = 15
"""Of the device's storage; a longer one makes it crash at every start."""
MOST_VALUE_BYTES = 3999
_VERSION = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")


class BadAnswer(HubError):
    """An answer that would harm the device."""

    code = "ota-answer-invalid"


@dataclass(frozen=True, slots=True)
class CheckIn:
    """What a device says at its start. Texts are empty where it says nothing."""

    device: DeviceIdentity
    language: str = ""
    """The locale of its firmware: ``en-US``, ``zh-CN`` …"""
    board: str = ""
    """The board's name, such as ``bread-compact-wifi``."""
    firmware: str = ""
    chip: str = ""
    mac: str = ""
    ip: str = ""
    """Its own idea of its address."""
    ssid: str = ""
    project: str = ""
    """Of its firmware: ``xiaozhi``."""


def read_check_in(headers: Mapping[str, str], body: bytes, address: str = "") -> CheckIn:
    """Understand a check-in. The body may be anything: firmware writes network names into it without escaping them.

    Raises `ProtocolError` without a usable ``Device-Id``.
    """
    device = identify(headers, address)
    said = _object(body)
    application, board = _part(said, "application"), _part(said, "board")
    agent_board, _, agent_version = device.user_agent.partition("/")
    accepted = next((value for name, value in headers.items() if name.lower() == "accept-language"), "")
    return CheckIn(
        device,
        language=plain(said.get("language")) or plain(re.split("[,;]", accepted)[0]),
        board=plain(board.get("name")) or plain(board.get("type")) or plain(agent_board),
        firmware=plain(application.get("version")) or plain(agent_version),
        chip=plain(said.get("chip_model_name")),
        mac=(plain(said.get("mac_address")) or plain(board.get("mac"))).lower(),
        ip=plain(board.get("ip")),
        ssid=plain(board.get("ssid")),
        project=plain(application.get("name")),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _part(said: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = said.get(name)
    return part if isinstance(part, dict) else {}


def host_of(header: str) -> str | None:
    """Return the host of a ``Host`` header, without its port; None when a device could not use it (such as IPv6)."""
    host = header.strip().partition(":")[0]
    return host if _HOST.fullmatch(host) else None


def websocket_url(host: str, port: int) -> str:
    """Where devices open their WebSocket. The port is always written: the firmware misreads addresses without one."""
    return f"ws://{host}:{port}{WEBSOCKET_PATH}"


def build_answer(
    check_in: CheckIn, *, host: str, port: int, now: datetime, token: str = "", version: int = 1
) -> dict[str, Any]:
    """Return the answer to *check_in*.

    *host* is how the device reached the hub, *now* has the time zone of the house, *version* is the binary framing.
    """
    offset = now.utcoffset()
    if offset is None:
        raise ValueError("the time has no time zone")
    answer: dict[str, Any] = {
        "server_time": {
            "timestamp": int(now.timestamp() * 1000),
            "timezone_offset": round(offset.total_seconds() / 60),
        },
        # All three, always: what is left out keeps the value that an earlier server wrote.
        "websocket": {"url": websocket_url(host, port), "token": token, "version": version},
    }
    if _VERSION.fullmatch(check_in.firmware):
        answer["firmware"] = {"version": check_in.firmware, "url": ""}
    return answer


def encode_answer(answer: Mapping[str, Any]) -> bytes:
    """Return the body of an answer that no firmware stumbles over. Raises `BadAnswer`."""
    if any(value is None for value in answer.values()):
        raise BadAnswer("An answer to a check-in must not hold null.")
    if not isinstance(answer.get("websocket"), Mapping):
        raise BadAnswer("An answer to a check-in needs the part websocket.")
    for name in ("websocket", "mqtt"):
        for key, value in (answer.get(name) or {}).items():
            if len(key) > LONGEST_KEY:
                raise BadAnswer(f"The key {name}.{key} is longer than {LONGEST_KEY} characters.")
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise BadAnswer(f"{name}.{key} must be a text or a number.")
            if isinstance(value, str) and len(value.encode()) > MOST_VALUE_BYTES:
                raise BadAnswer(f"{name}.{key} is longer than {MOST_VALUE_BYTES} bytes.")
    firmware = answer.get("firmware")
    if firmware is not None and not _VERSION.fullmatch(str(firmware.get("version", "0"))):
        raise BadAnswer(f"The firmware version {firmware['version']} is not made of numbers.")
    body = json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode()
    if len(body) > MOST_BYTES:
        raise BadAnswer(f"An answer to a check-in of {len(body)} bytes is too long.")
    return body


__all__ = [
    "WEBSOCKET_PATH",
    "BadAnswer",
    "CheckIn",
    "build_answer",
    "encode_answer",
    "host_of",
    "read_check_in",
    "websocket_url",
]
