"""Options of Wyoming: the services to use, and what is offered to others."""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import urlsplit

import voluptuous as vol

from xiaozhi_hub.plugins.api import LANGUAGES

ROLES = ("asr", "tts", "wake", "handle")
PRIVATE = (
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
)
"""Addresses of the own house: loopback (RFC 1122), private (RFC 1918, RFC 4193) and link-local (RFC 3927, RFC 4291)."""
PORT = 10300
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def address(value: object) -> str:
    """Where a service is: ``tcp://host:port`` or ``unix:///path``."""
    text = value.strip() if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        if parts.scheme == "unix":
            usable = not parts.netloc and parts.path.startswith("/") and not parts.query
        else:
            usable = parts.scheme == "tcp" and bool(parts.hostname and parts.port) and parts.path in ("", "/")
            (parts.hostname or "").encode("idna")  # as whoever looks the name up will: UnicodeError for 192.168.1..30
    except ValueError:
        usable = False
    if not usable or "@" in text:
        raise vol.Invalid("expected an address such as tcp://192.168.1.30:10300 or unix:///run/whisper.sock")
    return text


def name_of(uri: str) -> str:
    """What a service is called that the owner has given no name."""
    parts = urlsplit(uri)
    return parts.path.rsplit("/", 1)[-1] if parts.scheme == "unix" else f"{parts.hostname}:{parts.port}"


def service(value: object) -> dict[str, Any]:
    """A service: its address alone, or with more."""
    if not isinstance(value, (str, dict)):
        address(value)
    checked: dict[str, Any] = _SERVICE({"uri": value} if isinstance(value, str) else value)
    checked.setdefault("name", name_of(checked["uri"]))
    return checked


def services(value: object) -> list[dict[str, Any]]:
    given = [service(each) for each in (value if isinstance(value, list) else [value])]
    names = [each["name"] for each in given]
    if len(set(names)) < len(names):
        raise vol.Invalid("expected each service once, under a name of its own")
    return given


def network(value: object) -> str:
    """An address or a network, such as ``192.168.1.0/24``."""
    try:
        return str(ipaddress.ip_network(value if isinstance(value, str) else "", strict=False))
    except ValueError:
        raise vol.Invalid("expected an address or a network such as 192.168.1.0/24") from None


def port(value: object) -> int:
    """A port, or 0 for any free one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise vol.Invalid("expected a port number from 1 to 65535")
    return value


def amount(low: float, high: float) -> Any:
    return vol.All(vol.Any(int, float, msg=f"expected seconds, from {low:g} to {high:g}"), vol.Range(low, high))


_SERVICE = vol.Schema(
    {
        vol.Required("uri", description="Where it is"): address,
        vol.Optional("name", description="What it is called here; a part of the ids of its engines"): vol.All(
            str, vol.Match(_NAME, msg="expected a short name of letters and digits")
        ),
        vol.Optional(
            "guess", default=True, description="Ask for the transcript in each silence; false for slow services"
        ): bool,
        vol.Optional("voices", default=dict, description="The voice for each language: name or name#speaker"): {
            vol.In(LANGUAGES): str
        },
        vol.Optional("intents", default=dict, description="Tools of the hub for intents of other names"): {str: str},
    }
)


def satellites_need_a_name(value: dict[str, Any]) -> dict[str, Any]:
    """Whoever runs a satellite hears the room: the owner has to say who may."""
    if value["satellites"] and "allow" not in value:
        raise vol.Invalid(
            "expected allow: with the address of Home Assistant, because it will hear what is said to these devices",
            path=["satellites"],
        )
    return {"allow": list(PRIVATE), **value}


_SERVER = vol.Schema(
    {
        vol.Optional("port", default=PORT, description="TCP port of the hub's own engines"): port,
        vol.Optional("allow", description="Addresses and networks that may connect; private ones if left out"): [
            network
        ],
        vol.Optional(
            "offer",
            default=["asr", "tts", "wake"],
            description="What is offered; handle lets whoever connects command the house",
        ): [vol.In(ROLES)],
        vol.Optional("announce", description="Tell the network of it; as the hub itself when left out"): bool,
        vol.Optional("satellites", default=dict, description="Devices that others answer for, each with a TCP port"): {
            vol.All(str, vol.Lower): port
        },
    }
)
SERVER = vol.All(_SERVER, satellites_need_a_name)

SCHEMA = vol.Schema(
    {
        vol.Optional("services", default=list, description="Services to use"): services,
        vol.Optional("discover", default=False, description="Use what announces itself on the network, too"): bool,
        vol.Optional("timeout_s", default=15, description="Seconds after which an answer is not waited for"): amount(
            1, 120
        ),
        vol.Optional(
            "look_s", default=30, description="Seconds between two looks at whether services are there"
        ): amount(1, 3600),
        vol.Optional("server", description="Offers the hub's own engines to others"): vol.Any(
            SERVER, vol.All(None, lambda _: SERVER({}))
        ),
    }
)
