"""The check-in at the OTA address, as the firmware does it at its start."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from xiaozhi_hub.discovery import resolve_one_shot
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing.profile import FirmwareProfile

CHECK_IN_SECONDS = 30.0
CONNECT_SECONDS = 10.0


class NoLink(HubError):
    """The device cannot reach the hub, or is not let in."""

    code = "device-no-link"


@dataclass(frozen=True, slots=True)
class MqttAddress:
    """Where to connect by MQTT, and as whom."""

    host: str
    port: int
    client_id: str
    username: str
    password: str
    publish_topic: str
    keepalive: int = 240


@dataclass(frozen=True, slots=True)
class Address:
    """Where to connect, as the hub told."""

    url: str
    token: str = ""
    version: int = 1
    mqtt: MqttAddress | None = None
    """When there is one, the device uses it and nothing else until its next check-in."""


class Resolver(AbstractResolver):
    """Finds names as the firmware does: ``.local`` by asking everybody on the network, others by DNS."""

    def __init__(self) -> None:
        self._dns = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        if not host.endswith(".local"):
            return await self._dns.resolve(host, port, family)
        address = await resolve_one_shot(host)
        if address is None:
            raise OSError(f"nobody on this network is called {host}")
        flags = socket.AI_NUMERICHOST
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=flags)]

    async def close(self) -> None:
        await self._dns.close()


def open_http() -> aiohttp.ClientSession:
    """Return an HTTP client that sends no headers but those of the firmware."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True, limit=0, resolver=Resolver()),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


async def check_in(
    ota_url: str, device_id: str, client_id: str, language: str, profile: FirmwareProfile
) -> tuple[Address, dict[str, Any]]:
    """Tell the hub what the device is; return where to connect, and the whole answer."""
    headers = ota_headers(device_id, client_id, language, profile)
    body = system_report(device_id, client_id, language, profile)
    timeout = aiohttp.ClientTimeout(total=CHECK_IN_SECONDS, sock_connect=CONNECT_SECONDS)
    try:
        async with (
            open_http() as http,
            http.post(ota_url, json=body, headers=headers, timeout=timeout, allow_redirects=False) as reply,
        ):
            if reply.status != 200:
                raise NoLink(f"{ota_url} answers with status {reply.status}; a device takes only 200.")
            answer = await reply.json(content_type=None)
    except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
        raise NoLink(
            f"{ota_url} is no OTA address.", hint="Give the one that the hub shows: http://…/xiaozhi/ota/"
        ) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        why = str(error) or type(error).__name__
        raise NoLink(f"No check-in at {ota_url}: {why}.", hint="Is the hub running?") from error
    return read_address(answer, ota_url), answer


def ota_headers(device_id: str, client_id: str, language: str, profile: FirmwareProfile) -> dict[str, str]:
    """What stands above every request to the OTA address (firmware ota.cc)."""
    headers = {
        "Device-Id": device_id,
        "Client-Id": client_id,
        "Activation-Version": str(profile.activation_version),
        "User-Agent": f"{profile.board}/{profile.version}",
        "Accept-Language": language,
        "Connection": "close",
    }
    if profile.activation_version == 2:
        headers["Serial-Number"] = serial_number(device_id)
    return headers


def serial_number(device_id: str) -> str:
    """32 characters, as the maker of a board burns them into its fuses."""
    return hashlib.sha256(device_id.encode()).hexdigest()[:32].upper()


def read_address(answer: object, ota_url: str) -> Address:
    """Do with the answer what the firmware does with it."""
    if not isinstance(answer, dict):
        raise NoLink(f"{ota_url} answers with something other than a JSON object.")
    section = answer.get("websocket")
    url = section.get("url") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(url, str):
        raise NoLink("The answer to the check-in holds no websocket.url: the device would fall back to MQTT.")
    if urlsplit(url).port is None:
        raise NoLink(f"{url} has no port: the device may misread it.")
    version = section.get("version")
    mqtt = read_mqtt_address(answer["mqtt"]) if "mqtt" in answer else None
    return Address(url, str(section.get("token") or ""), version if version in (1, 2, 3) else 1, mqtt)


def read_mqtt_address(section: object) -> MqttAddress:
    """Do with the part ``mqtt`` what the firmware does with it."""
    endpoint = section.get("endpoint") if isinstance(section, dict) else None
    if not isinstance(section, dict) or not isinstance(endpoint, str) or not endpoint:
        raise NoLink(
            "The answer to the check-in holds mqtt without an endpoint: the device would ignore the WebSocket."
        )
    host, _, port = endpoint.partition(":")
    if not port.isdecimal() or int(port) == 8883:
        raise NoLink(f"The MQTT endpoint {endpoint} would make the device speak TLS, or crash.")
    texts = {name: str(section.get(name) or "") for name in ("client_id", "username", "password", "publish_topic")}
    keepalive = section.get("keepalive")
    return MqttAddress(host, int(port), **texts, keepalive=keepalive if isinstance(keepalive, int) else 240)


def system_report(device_id: str, client_id: str, language: str, profile: FirmwareProfile) -> dict[str, Any]:
    """The body of a check-in (firmware board.cc, wifi_board.cc)."""
    report: dict[str, Any] = {
        "version": 2,
        "language": language,
        "flash_size": 16777216,
        "minimum_free_heap_size": "8164512",
        "mac_address": device_id,
        "uuid": client_id,
        "chip_model_name": "esp32s3",
        "chip_info": {"model": 9, "cores": 2, "revision": 2, "features": 18},
        "application": {
            "name": "xiaozhi",
            "version": profile.version,
            "compile_time": "Jan  1 2026T00:00:00Z",
            "idf_version": "v5.5.2",
            "elf_sha256": "0" * 64,
        },
        "partition_table": [{"label": "nvs", "type": 1, "subtype": 2, "address": 36864, "size": 16384}],
        "ota": {"label": "ota_0"},
        "display": {"monochrome": False, "width": 240, "height": 320},
        "board": {
            "type": profile.board,
            "name": profile.board,
            "ssid": "home",
            "rssi": -52,
            "channel": 6,
            "ip": "127.0.0.1",
            "mac": device_id,
        },
    }
    if not profile.reports_display:
        del report["display"]
    return report
