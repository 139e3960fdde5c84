"""What may stand in the configuration, and how a mistake is told.

`CONFIGURATION` is the one schema of ``configuration.yaml``. It only checks and converts; the defaults are those of the
dataclasses in `config`. Integrations bring a schema of their own, which `check_options` applies with the same care.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import voluptuous as vol

from xiaozhi_hub.core.i18n import LANGUAGES, language_of
from xiaozhi_hub.core.secret import MASK, Secret
from xiaozhi_hub.core.yaml_files import UNREADABLE, KeyPath, shown
from xiaozhi_hub.errors import ConfigError, ConfigErrors, Place

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
    parts = re.findall(r"\{(.*?)\}", given)
    if set(parts) - {"repository", "revision", "path"} or (parts and "path" not in parts):
        raise Wrong("{repository}, {revision} and {path} for the parts of an address, {path} among them")
    return given


def proxy_address(value: object) -> Secret:
    """A proxy: ``http://proxy.example:3128``, with user and password where it wants them."""
    given = text(value).rstrip("/")
    if not re.fullmatch(r"https?://[^/?#\s]+", given):
        raise Wrong("the address of a proxy, such as http://192.168.1.2:3128")
    return Secret(given)


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


def group(keys: Mapping[Any, Any]) -> vol.All:
    """A group of known keys. A known key without a value, and a group without keys, count as not written."""

    def written(value: object) -> object:
        if isinstance(value, dict):
            return {key: each for key, each in value.items() if each is not None or key not in keys}
        return {} if value is None else value

    return vol.All(written, {key if callable(key) else vol.Optional(key): check for key, check in keys.items()})


def _devices_once(value: object) -> object:
    seen: dict[str, str] = {}
    for key in value if isinstance(value, dict) else ():
        try:
            known = device_id(key)
        except Wrong:
            continue  # told by the check that follows
        if known in seen:
            raise Wrong("each device once", f"{seen[known]} is the same one.", [key], of_key=True)
        seen[known] = key
    return value


CONFIGURATION = vol.Schema(
    group(
        {
            "hub": group({"name": host_name, "language": language, "time_zone": time_zone, "data_dir": folder}),
            "server": group({"ip": listen_address, "port": port, "http_port": port, "auth_key": secret}),
            "http": group(
                {
                    "public_host": public_host,
                    "websocket_urls": websocket_urls,
                    "moved_to": hub_address,
                    "origins": page_origins,
                }
            ),
            "discovery": group({"enabled": switch}),
            "voice": group(
                {
                    "vad": engine_ids,
                    "asr": engine_ids,
                    "tts": engine_ids,
                    "llm": engine_ids,
                    "vision": engine_ids,
                    "silence": group(
                        {
                            "complete_ms": milliseconds(60, 5000),
                            "extendable_ms": milliseconds(60, 5000),
                            "unfinished_ms": milliseconds(60, 5000),
                        }
                    ),
                    "speed": amount("a factor", 0.5, 2),
                    "lead_ms": milliseconds(60, 2000),
                    "phrase_cache_mb": whole("a number of megabytes", 0, 10_000),
                }
            ),
            "conversation": group(
                {"idle_s": amount("a number of seconds", 5, 109), "farewell": switch, "check_wake_words": switch}
            ),
            "assistants": group(
                {
                    assistant_id: group(
                        {
                            "name": text,
                            "persona": text,
                            "language": language,
                            "voice": text,
                            "speed": amount("a factor", 0.5, 2),
                            "volume": amount("a factor", 0, 2),
                            "asr": engine_ids,
                            "llm": engine_ids,
                            "tts": engine_ids,
                            "tools": tool_patterns,
                            "memory": switch,
                            "rooms": names,
                        }
                    )
                }
            ),
            "devices": vol.All(
                _devices_once,
                group(
                    {
                        "pairing": pairing,
                        device_id: group(
                            {
                                "name": text,
                                "area": text,
                                "language": language,
                                "firmware": firmware_pin,
                                "assistant": assistant_id,
                                "transport": transport,
                                "framing": whole("a version of the binary framing", 1, 3),
                            }
                        ),
                    }
                ),
            ),
            "display": group({"glyph_push": switch, "font": folder}),
            "history": group(
                {"enabled": switch, "audio": switch, "photos": switch, "keep_days": whole("a number of days", 1, 36500)}
            ),
            "memory": group({"enabled": switch, "engine": engine_ids}),
            "log": group({"level": log_level, "folder": folder, "json": switch}),
            "limits": group(
                {
                    "devices": whole("a number of devices", 1, 100_000),
                    "message_bytes": whole("a number of bytes", 1024, 1_048_576),
                    "frames_per_second": whole("a number of frames", 20, 1000),
                    "json_per_second": whole("a number of messages", 5, 1000),
                    "downloads": whole("a number of downloads", 1, 100),
                }
            ),
            "models": group({"mirror": model_source, "releases": model_source, "proxy": proxy_address}),
            "integrations": group({domain: integration_options}),
        }
    )
)


def check(schema: vol.Schema, value: Any, place: Callable[[KeyPath], Place]) -> tuple[Any, list[ConfigError]]:
    """Return what *schema* makes of *value*, or None and everything that is wrong. *place* tells where a key stands."""
    try:
        return schema(value), []
    except vol.MultipleInvalid as invalid:
        found = [(error, *_split(error)) for error in invalid.errors]
    errors = []
    for error, path, missing in found:
        given = _at(value, path)
        if not _holds_unreadable(given):
            errors.append(_told(error, schema, path, missing, given, place(path)))
    return None, errors


def check_options(
    schema: vol.Schema, raw: Mapping[str, Any], place_lookup: Callable[[KeyPath], Place]
) -> Mapping[str, Any]:
    """Return the options *raw* of an integration, checked and completed by its *schema*; raises `ConfigErrors`.

    *place_lookup* tells where a key of the options stands:
    ``lambda path: config.place(("integrations", domain, *path))``.
    """
    values, errors = check(schema, dict(raw), place_lookup)
    if errors:
        raise ConfigErrors(errors)
    checked: Mapping[str, Any] = values
    return checked


_TYPES = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "boolean": "true or false",
    "list": "a list",
    "dict": "a group of keys",
    "a dictionary": "a group of keys",
}


def _split(error: vol.Invalid) -> tuple[KeyPath, str]:
    """The path of an error as plain keys, and the name of the key that is missing there."""
    path: KeyPath = tuple(part if isinstance(part, int) else str(part) for part in error.path)
    if isinstance(error, vol.RequiredFieldInvalid):
        return path[:-1], str(path[-1]) if path else ""
    return path, ""


def _told(
    error: vol.Invalid, schema: vol.Schema, path: KeyPath, missing: str, given: object, place: Place
) -> ConfigError:
    """Put one error of voluptuous in plain words."""
    key = next((part for part in reversed(path) if isinstance(part, str)), "")
    message, hint = error.error_message, error.hint if isinstance(error, Wrong) else ""
    if missing:
        return ConfigError(f'the key "{missing}" is missing.', place)
    if message == "extra keys not allowed":
        return ConfigError(f'there is no key "{key}" here.', place, hint=_nearest_key(schema, path))
    head, _, kind = message.partition(" ")
    choices = next((check for check in _checks(schema, path) if isinstance(check, vol.In)), None)
    if head == "expected":
        message = f"expected {_TYPES.get(kind, kind)}"
        if kind == "str" and isinstance(given, (int, float)):
            hint = "Put it in quotes."
    elif isinstance(error, vol.InInvalid) and choices is not None and isinstance(choices.container, Iterable):
        known = [str(choice) for choice in choices.container]
        near = get_close_matches(str(given), known, 1, 0.5)
        message = f"expected {known[0] if len(known) == 1 else 'one of ' + ', '.join(known)}"
        hint = f"Did you mean {near[0]}?" if near else ""
    elif message == "not a valid value":
        message = "this value is not possible here"
    elif head == "value":
        message = f"the {message}"
    written = f'"{key}"' if isinstance(error, Wrong) and error.of_key else place.written or shown(given, key)
    if written.startswith('"${') and not hint:
        hint = "It comes from an environment variable."
    if written == MASK:
        return ConfigError(f"{message}; what is written is secret and not shown.", place, hint=hint)
    return ConfigError(f"{message}, got {written}.", place, hint=hint)


def _nearest_key(schema: vol.Schema, path: KeyPath) -> str:
    """Which key may have been meant by the unknown one at the end of *path*."""
    key = str(path[-1]).lower()
    known = _known_keys(schema, path[:-1])
    if len(path) == 1 and (homes := [group for group in known if key in _known_keys(schema, (group,))]):
        return f"It belongs under {homes[0]}."
    if len(path) > 1 and key in _known_keys(schema, ()):
        return f"{key} is a group of its own: begin it in the first column."
    if near := get_close_matches(key, known, 1):
        return f"Did you mean {near[0]}?"
    return f"Known here: {', '.join(known)}." if known else ""


def _known_keys(schema: object, path: KeyPath) -> list[str]:
    return [
        str(key)
        for check in _checks(schema, path)
        if isinstance(check, dict)
        for key in check
        if isinstance(_bare(key), str)
    ]


def _checks(schema: object, path: KeyPath) -> Iterator[object]:
    """All checks that a value at *path* goes through, as far as the schema can be looked into."""
    if isinstance(schema, vol.Schema):
        yield from _checks(schema.schema, path)
    elif isinstance(schema, (vol.All, vol.Any)):
        for each in schema.validators:
            yield from _checks(each, path)
    elif not path:
        yield schema
    elif isinstance(schema, dict):
        named = [check for key, check in schema.items() if _bare(key) == path[0]]
        for check in named or [check for key, check in schema.items() if not isinstance(_bare(key), str)]:
            yield from _checks(check, path[1:])
    elif isinstance(schema, list):
        for check in schema:
            yield from _checks(check, path[1:])


def _bare(key: object) -> object:
    return key.schema if isinstance(key, vol.Marker) else key


def _holds_unreadable(value: object) -> bool:
    if isinstance(value, dict):
        return any(_holds_unreadable(each) for each in value.values())
    if isinstance(value, list):
        return any(_holds_unreadable(each) for each in value)
    return value is UNREADABLE


def _at(value: Any, path: KeyPath) -> Any:
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value
