"""The hub from outside: what a device goes through at its start, one step after the other, on each way to the hub."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from xiaozhi_hub.discovery import resolve_one_shot
from xiaozhi_hub.discovery.interfaces import own_addresses
from xiaozhi_hub.doctor.finding import Finding, error, ok, warning
from xiaozhi_hub.protocol.ota import MOST_BYTES

OTA_PATH = "/xiaozhi/ota/"
DEVICE_ID = "self-test"
"""Nothing is remembered of a device that calls itself so."""
ASK_S = 5.0
NAME_S = 3.0
MOST_CLOCK_MS = 2000
_HEADERS = {"Device-Id": DEVICE_ID, "Client-Id": "doctor", "User-Agent": "doctor/0", "Accept-Language": "en-US"}


@dataclass(frozen=True, slots=True)
class Way:
    """How a device may come."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def ota_url(self) -> str:
        return f"http://{self}{OTA_PATH}"


async def look_at_ports(host: str, ports: Sequence[int]) -> AsyncIterator[Finding]:
    """Who answers on the hub's own ports, seen from its own machine?"""
    async with _http() as http:
        for port in dict.fromkeys(ports):
            way = Way(host, port)
            try:
                async with http.get(f"http://{way}/health", allow_redirects=False) as reply:
                    told = await reply.json(content_type=None)
                if not isinstance(told, dict) or "status" not in told or "version" not in told:
                    raise ValueError("not a hub")
            except aiohttp.ClientConnectorError:
                yield error("port_closed", port=port, host=host)
            except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
                yield error("port_taken", port=port)
            else:
                yield ok("port", port=port, version=told["version"])


async def look_at_way(way: Way, *, clock: bool = True) -> AsyncIterator[Finding]:
    """Check in and open the WebSocket, as a device does that was told this address."""
    async with _http() as http:
        try:
            async with http.post(way.ota_url, json={"version": 2}, headers=_HEADERS, allow_redirects=False) as reply:
                status, length = reply.status, reply.content_length
                raw = await reply.read() if status == 200 and length is not None and length <= MOST_BYTES else b""
        except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
            yield error("ota_unreachable", way=way, why=_plainly(trouble))
            return
        if status != 200:
            yield error("ota_status", url=way.ota_url, status=status)
            return
        told = _object(raw)
        if told is None:
            yield error("ota_unreadable", url=way.ota_url)
            return
        yield ok("ota", url=way.ota_url)
        if clock:
            for finding in _clock(told):
                yield finding
        async for finding in _websocket(http, way, told):
            yield finding


async def _websocket(http: aiohttp.ClientSession, way: Way, told: dict[str, Any]) -> AsyncIterator[Finding]:
    part = told.get("websocket")
    url = part.get("url") if isinstance(part, dict) else None
    if "mqtt" in told:
        yield ok("mqtt_offered", way=way)
        if not isinstance(url, str):
            return
    if not isinstance(part, dict) or not isinstance(url, str) or not _usable(url):
        yield error("websocket_missing", way=way)
        return
    if urlsplit(url).hostname != way.host:
        yield warning("websocket_elsewhere", way=way, url=url)
    headers = {**_HEADERS, "Protocol-Version": "1"}
    if token := part.get("token"):
        headers["Authorization"] = token if " " in str(token) else f"Bearer {token}"
    try:
        async with http.ws_connect(url, headers=headers, autoclose=False):
            yield ok("websocket", url=url)
    except aiohttp.WSServerHandshakeError as refused:
        if refused.status in (401, 403):
            yield ok("websocket_locked", url=url)
        else:
            yield error("websocket_refused", url=url, status=refused.status)
    except (aiohttp.ClientError, TimeoutError, OSError) as trouble:
        yield error("websocket_unreachable", url=url, why=_plainly(trouble))


def _clock(told: dict[str, Any]) -> list[Finding]:
    part = told.get("server_time")
    stamp = part.get("timestamp") if isinstance(part, dict) else None
    if not isinstance(stamp, (int, float)):
        return [warning("time_missing")]
    apart = abs(stamp - time.time() * 1000)
    return [warning("time_apart", seconds=round(apart / 1000))] if apart > MOST_CLOCK_MS else []


async def look_at_name(host: str, interfaces: Sequence[str], *, own: bool = True) -> AsyncIterator[Finding]:
    """Does the firmware's question for a ``.local`` name lead to this hub? Asked on every interface."""
    mine = own_addresses() if own else frozenset()

    async def ask(interface: str) -> tuple[str, str | None]:
        return interface, await resolve_one_shot(host, interface, NAME_S)

    for interface, address in await asyncio.gather(*(ask(each) for each in interfaces)):
        if address is None:
            yield warning("name_unanswered", host=host, interface=interface)
        elif own and address not in mine:
            yield error("name_taken", host=host, address=address)
        else:
            yield ok("name", host=host, address=address, interface=interface)


def _http() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=ASK_S),
        connector=aiohttp.TCPConnector(force_close=True),
        skip_auto_headers=("Accept-Encoding",),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


def _object(raw: bytes) -> dict[str, Any] | None:
    try:
        told = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else None


def _usable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "ws" and bool(parts.hostname) and parts.port is not None
    except ValueError:
        return False


def _plainly(trouble: BaseException) -> str:
    if isinstance(trouble, TimeoutError):
        return f"no answer within {ASK_S:g} s"
    cause = getattr(trouble, "os_error", None)
    return (cause.strerror if cause is not None else "") or str(trouble) or type(trouble).__name__


__all__ = ["Way", "look_at_name", "look_at_ports", "look_at_way"]
