"""Who a device says it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xiaozhi_hub.errors import ProtocolError

_LONGEST_ID = 64
_LONGEST_TEXT = 128


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """A name, not a proof. Texts are empty where the device says nothing."""

    id: str
    """Its MAC address in lower case; other clients may use anything printable."""
    client_id: str = ""
    """Made by the device at its first start; changes when its memory is erased."""
    user_agent: str = ""
    """``<board>/<firmware version>``"""
    address: str = ""
    """Where it calls from."""
    host: str = ""
    """By what name or address it calls the hub; devices leave the port out when they open a WebSocket."""


def identify(headers: Mapping[str, str], address: str = "") -> DeviceIdentity:
    """Read the identity from the headers of a request. Raises `ProtocolError` without a usable ``Device-Id``."""
    lower = {name.lower(): value for name, value in headers.items()}
    id_ = lower.get("device-id", "").strip().lower()
    if not id_:
        raise ProtocolError("The header Device-Id is missing.", code="device-id-missing", close=True)
    if len(id_) > _LONGEST_ID or not id_.isprintable():
        raise ProtocolError("The header Device-Id is not usable.", code="device-id-invalid", close=True)
    return DeviceIdentity(
        id_, plain(lower.get("client-id")), plain(lower.get("user-agent")), address, plain(lower.get("host"))
    )


def plain(value: object) -> str:
    """Return *value* when it is a text, on one line and of bounded length; else an empty text."""
    if not isinstance(value, str):
        return ""
    if not value.isprintable():
        value = "".join(char for char in value if char.isprintable())
    return value.strip()[:_LONGEST_TEXT]


__all__ = ["DeviceIdentity", "identify", "plain"]
