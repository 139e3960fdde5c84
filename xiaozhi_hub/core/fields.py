"""What one value of the configuration may be: a port, a language, a time zone. Each check returns the value converted, or says
what was expected and, where that can be guessed, what to write instead."""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Hashable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import voluptuous as vol

from xiaozhi_hub.core.i18n import LANGUAGES, language_of
from xiaozhi_hub.core.secret import Secret

_HOST_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_DOMAIN = re.compile(r"[a-z][a-z0-9_]*")
_MAC = re.compile(r"[0-9a-f]{2}(?:[:-][0-9a-f]{2}){5}")
_WEBSOCKET_URL = re.compile(r"(wss?)://([A-Za-z0-9.-]{1,253}):(\d{1,5})(/[!-9;-~]{0,200})")
_PAIRING = ("open", "approve")
_LEVELS = ("debug", "info", "warning", "error")


class Wrong(vol.Invalid):
    """A wrong value: what was expected, and what to write instead when that can be guessed.

    ``of_key`` says that it is the key which is wrong, whatever its value is.
    """

    def __init__(
        self, expected: str, hint: str = "", path: list[Hashable] | None = None, *, of_key: bool = False
    ) -> None:
        super().__init__(f"expected {expected}", path)
        self.hint = hint
        self.of_key = of_key


def text(value: object) -> str:
    """Words. Whole numbers are taken as they are written, so that a name or key of digits needs no quotes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise Wrong("text", _quote_it(value))
    if not value.strip():
        raise Wrong("text, not an empty one")
    return value.strip()


def secret(value: object) -> Secret:
    """A password, token or key."""
    return Secret(text(value))


def switch(value: object) -> bool:
    """On or off."""
    known = {True: True, False: False, "on": True, "off": False, "yes": True, "no": False}
    key = value.lower() if isinstance(value, str) else value
    if isinstance(key, (bool, str)) and key in known:
        return known[key]
    raise Wrong("true or false")


def whole(unit: str, low: int, high: int) -> Callable[[object], int]:
    """A whole number of *unit*."""

    def whole_number(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()) else value
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise Wrong(f"{unit} from {low} to {high}")
        return number

    return whole_number


def amount(unit: str, low: float, high: float) -> Callable[[object], float]:
    """A number of *unit*, with or without a fraction."""

    def number(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise Wrong(f"{unit} from {low:g} to {high:g}")
        return float(value)

    return number


port = whole("a port number", 1, 65535)


def milliseconds(low: int, high: int) -> Callable[[object], int]:
    """A short time."""
    return whole("a number of milliseconds", low, high)


def listen_address(value: object) -> str:
    """An address of this machine to listen on."""
    if value == "localhost":
        raise Wrong("an IP address of this machine", "Did you mean 127.0.0.1?")
    try:
        return str(ipaddress.ip_address(value if isinstance(value, str) else ""))
    except ValueError:
        raise Wrong("an IP address of this machine, 0.0.0.0 for all of them") from None


def host_name(value: object) -> str:
    """The hub's own name on the network: one label, without ``.local``."""
    given = text(value).lower()
    if _HOST_LABEL.fullmatch(given):
        return given
    guess = re.sub(r"[^a-z0-9]+", "-", given.removesuffix(".local")).strip("-")[:63].strip("-")
    raise Wrong("a host name of the letters a to z, digits and hyphens", f"Did you mean {guess}?" if guess else "")


def public_host(value: object) -> str:
    """The name or address under which devices reach the hub, without scheme, port and path."""
    given = text(value).lower()
    try:
        return str(ipaddress.ip_address(given.strip("[]")))
    except ValueError:
        pass
    if not re.fullmatch(r"[0-9.]+", given) and all(_HOST_LABEL.fullmatch(label) for label in given.split(".")):
        return given
    guess = re.sub(r"^[a-z]+://", "", given).split("/")[0].split(":")[0]
    near = f"Did you mean {guess}?" if guess and guess != given and re.fullmatch(r"[a-z0-9.-]+", guess) else ""
    raise Wrong("a host name or an IP address", near)


def websocket_url(value: object) -> str:
    """Where a device may be sent to. What is allowed here is what firmware reads rightly: it crashes on other forms."""
    given = text(value)
    match = _WEBSOCKET_URL.fullmatch(given)
    if match is None:
        guess = re.sub(r"^http", "ws", given)
        near = f"Did you mean {guess}?" if guess != given and _WEBSOCKET_URL.fullmatch(guess) else ""
        raise Wrong("an address such as ws://192.168.1.20:8003/xiaozhi/v1/, with its port", near)
    public_host(match[2])
    port(int(match[3]))
    return given


def websocket_urls(value: object) -> tuple[str, ...]:
    """One address to send devices to, or several."""
    if value is None:
        return ()
    urls = tuple(websocket_url(each) for each in (value if isinstance(value, list) else [value]))
    if len(set(urls)) != len(urls):
        raise Wrong("each address once")
    return urls


def page_origins(value: object) -> tuple[str, ...]:
    """Where pages come from that may talk to the hub: ``https://home.example``, one or several."""
    if value is None:
        return ()
    origins = tuple(text(each).lower().rstrip("/") for each in (value if isinstance(value, list) else [value]))
    for origin in origins:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*://[a-z0-9._-]+(:[0-9]{1,5})?", origin):
            raise Wrong("the address of a page without its path, such as https://home.example")
    return origins


def model_source(value: object) -> str:
    """Where models come from: ``https://models.example``, or with the place of each part in it."""
    given = text(value).rstrip("/")
    match = re.fullmatch(r"https?://([^/?#\s]+)([^?#\s]*)", given)
    if match is None:
        near = f"Did you mean https://{given}?" if re.fullmatch(r"[a-z0-9.-]+(/[^\s?#]*)?", given) else ""
        raise Wrong("an address such as https://models.example", near)
    if "@" in match[1]:
        raise Wrong("an address without user and password")
    if not _is_reachable(given):
        raise Wrong("an address such as https://models.example, with a port up to 65535 if any")
    parts = re.findall(r"\{(.*?)\}", given)
    if set(parts) - {"repository", "revision", "path"} or (parts and "path" not in parts):
        raise Wrong("{repository}, {revision} and {path} for the parts of an address, {path} among them")
    return given


def proxy_address(value: object) -> Secret:
    """A proxy: ``http://proxy.example:3128``, with user and password where it wants them."""
    given = text(value).rstrip("/")
    if not re.fullmatch(r"https?://[^/?#\s]+", given) or not _is_reachable(given):
        raise Wrong("the address of a proxy, such as http://192.168.1.2:3128")
    return Secret(given)


def _is_reachable(url: str) -> bool:
    """Has it a host, and no port that there cannot be?"""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def hub_address(value: object) -> str:
    """The address of another hub: ``http://host:port``."""
    match = re.fullmatch(r"http://([^/:@?#\[\]]+)(?::([0-9]{1,5}))?/?", text(value).lower())
    if match is None or not 0 < int(match[2] or 8003) < 65536:
        raise Wrong("the address of a hub, such as http://192.168.1.20:8003")
    return f"http://{public_host(match[1])}:{int(match[2] or 8003)}"


def language(value: object) -> str:
    """One of our languages, under any of its names."""
    known = language_of(value, "") if isinstance(value, str) else ""
    if not known:
        raise Wrong(" or ".join(LANGUAGES), _quote_it(value))
    return known


def time_zone(value: object) -> str:
    """An IANA time zone."""
    given = text(value)
    try:
        return zoneinfo.ZoneInfo(given).key
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        known = sorted(zoneinfo.available_timezones())
    if not known:
        raise Wrong("no time zone, because this machine knows none", "Install the package tzdata.")
    by_word = {name.lower(): name for name in known} | {name.rpartition("/")[2].lower(): name for name in known}
    near = get_close_matches(given.replace(" ", "_").lower(), list(by_word), 1, 0.7)
    raise Wrong("a time zone such as Europe/Berlin", f"Did you mean {by_word[near[0]]}?" if near else "")


def folder(value: object) -> Path:
    """A folder; a relative one counts from the configuration folder."""
    return Path(text(value)).expanduser()


def log_level(value: object) -> str:
    """How much is logged."""
    given = value.lower() if isinstance(value, str) else ""
    if given in _LEVELS:
        return given
    near = get_close_matches(given, _LEVELS, 1)
    raise Wrong(f"one of {', '.join(_LEVELS)}", f"Did you mean {near[0]}?" if near else "")


def pairing(value: object) -> str:
    """Whether new devices have to be approved."""
    given = value.lower() if isinstance(value, str) else ""
    if given in _PAIRING:
        return given
    near = get_close_matches(given, _PAIRING, 1)
    raise Wrong(" or ".join(_PAIRING), f"Did you mean {near[0]}?" if near else "")


def engine_ids(value: object) -> tuple[str, ...]:
    """One engine or several, the preferred one first."""
    if value is None:
        return ()
    given = value if isinstance(value, list) else [value]
    ids = tuple(each.strip() for each in given if isinstance(each, str) and each.strip())
    if len(ids) != len(given):
        raise Wrong("the id of an engine, or a list of them")
    return ids


def assistant_id(value: object) -> str:
    """The key of an assistant."""
    given = str(value).strip()
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", given):
        return given
    guess = re.sub(r"[^A-Za-z0-9]+", "_", given).strip("_").lower()
    raise Wrong("a short name of letters and digits", f"Did you mean {guess}?" if guess else "", of_key=True)


def names(value: object) -> tuple[str, ...]:
    """One name or several."""
    return tuple(text(each) for each in (value if isinstance(value, list) else [value]))


def tool_patterns(value: object) -> tuple[str, ...]:
    """Tools by name, with * for any letters."""
    patterns = () if value is None or value == [] else names(value)
    for pattern in patterns:
        if not re.fullmatch(r"[A-Za-z0-9_.*-]+", pattern):
            raise Wrong("names of tools such as home.turn_on, or home.* for all of home")
    return patterns


def device_id(value: object) -> str:
    """A device: its MAC address as it sends it, lower case with colons."""
    given = str(value).strip().lower()
    if _MAC.fullmatch(given):
        return given.replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{12}", given):
        raise Wrong("a MAC address", f"Did you mean {':'.join(re.findall('..', given))}?", of_key=True)
    if re.fullmatch(r"[\w.:-]{1,64}", given) and not re.fullmatch(r"[0-9a-f:-]{12,}", given):
        return given
    raise Wrong("a MAC address such as 24:6f:28:aa:bb:cc", of_key=True)


def firmware_pin(value: object) -> str:
    """A firmware version, or ``hold``."""
    given = text(value)
    if given.lower() == "hold":
        return "hold"
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9}){0,7}", given):
        return given
    guess = given.lower().removeprefix("v")
    near = f"Did you mean {guess}?" if re.fullmatch(r"[0-9]+(\.[0-9]+)*", guess) else ""
    raise Wrong("a version of whole numbers and dots, or hold", near)


def transport(value: object) -> str:
    """A way for devices to reach the hub, by name."""
    given = text(value).lower()
    if _DOMAIN.fullmatch(given):
        return given
    raise Wrong("websocket, or the name of a way that an integration brings, such as mqtt")


def domain(value: object) -> str:
    """The domain of an integration."""
    given = str(value)
    if _DOMAIN.fullmatch(given):
        return given
    guess = re.sub(r"[^a-z0-9]+", "_", given.lower()).strip("_")
    raise Wrong("the name of an integration", f"Did you mean {guess}?" if _DOMAIN.fullmatch(guess) else "", of_key=True)


def integration_options(value: object) -> Mapping[str, Any] | bool | None:
    """An integration's options as written; nothing or ``true`` for its defaults, ``false`` to switch it off."""
    if value is None or isinstance(value, Mapping):
        return value
    try:
        return None if switch(value) else False
    except Wrong:
        raise Wrong("its options, nothing to use its defaults, or false to switch it off") from None


def _quote_it(value: object) -> str:
    if isinstance(value, (bool, float)):
        return "Put it in quotes."
    return ""
