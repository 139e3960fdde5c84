"""What runs inside the hub, as it tells this machine, and what its memory tells of the devices."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from statistics import median
from typing import Any

import aiohttp
import ifaddr

from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.flow import TurnRecord
from xiaozhi_hub.doctor.finding import Finding, error, ok, warning
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.devices import Device, Devices
from xiaozhi_hub.store.moves import Moves
from xiaozhi_hub.store.records import read_turns
from xiaozhi_hub.store.rollouts import ReleaseState, Rollouts

ASK_S = 5.0
SLOW_ANSWER_MS = 4000.0
LOOKED_AT_TURNS = 50
ENOUGH_TURNS = 3
_ROLES = ("vad", "asr", "tts")


async def look_at_parts(host: str, port: int) -> AsyncIterator[Finding]:
    """Ask the running hub how its parts are."""
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=False) as http,
            http.get(f"http://{host}:{port}/health/detailed") as reply,
        ):
            told = await reply.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return  # the look at the ports has said so
    services = told.get("services") if isinstance(told, dict) else None
    if not isinstance(services, Mapping):
        return
    if told.get("status") == "starting":
        yield warning("starting")
        return
    for finding in _services(services):
        yield finding


def _services(services: Mapping[str, Any]) -> Iterator[Finding]:
    for name, told in services.items():
        detail = str(told.get("detail", "")) if isinstance(told, Mapping) else ""
        healthy = isinstance(told, Mapping) and told.get("status") == "healthy"
        if name == "voice_loop" and not healthy:
            missing = [role for role in _ROLES if role in detail]
            yield error("deaf" if {"asr", "vad"} & set(missing) else "mute", missing=", ".join(missing) or detail)
        elif name == "models" and healthy:
            yield ok("engines", engines=detail)
        elif name == "plugins":
            yield ok("integrations") if healthy else error("integrations_failed", detail=detail)
        elif name == "discovery" and not healthy:
            yield warning("discovery_trouble", detail=detail)
        elif name == "database" and not healthy:
            yield error("store_trouble", detail=detail)


async def look_at_devices(config: Config) -> AsyncIterator[Finding]:
    """What the database tells of the devices: who came, who never talked, who has moved, which firmware was stopped."""
    path = config.data_dir / "hub.db"
    if not path.exists():
        yield warning("no_device_yet")
        return
    database = Database(path, read_only=True)
    try:
        await database.open()
        devices = await Devices(database).all()
        turns = await database.read(lambda db: read_turns(db, "ORDER BY started_at DESC LIMIT ?", (LOOKED_AT_TURNS,)))
        stopped = [each for each in await Rollouts(database).releases() if each.state is ReleaseState.STOPPED]
        told = await Moves(database).who(config.http.moved_to) if config.http.moved_to else {}
    except StoreError as trouble:
        yield warning("memory_unreadable", why=trouble.message)
        return
    finally:
        await database.close()
    for finding in _symptoms(devices, turns):
        yield finding
    for release in stopped:
        yield warning("firmware_stopped", board=release.board, version=release.version, why=release.reason)
    if config.http.moved_to:
        yield _moved(config, devices, told)


def _symptoms(devices: Sequence[Device], turns: Sequence[TurnRecord]) -> Iterator[Finding]:
    if not devices:
        yield warning("no_device_yet")
    else:
        newest = max(device.last_seen_at for device in devices)
        yield ok("devices", count=len(devices), days=max(0, int((time.time() - newest) // 86400)))
        talked = {turn.device_id for turn in turns}
        silent = [device.id for device in devices if device.board and device.id not in talked]
        if silent and not talked & {device.id for device in devices}:
            yield warning("never_talked", devices=", ".join(silent[:5]))
        elsewhere = [f"{device.id} ({device.address})" for device in devices if not _near(device.address)]
        if elsewhere:
            yield warning("other_network", devices=", ".join(elsewhere[:5]))
    waits = [
        turn.stamps["reply"] - turn.stamps["transcript"]
        for turn in turns
        if "reply" in turn.stamps and "transcript" in turn.stamps
    ]
    if len(waits) >= ENOUGH_TURNS and median(waits) > SLOW_ANSWER_MS:
        yield warning("answers_slow", seconds=f"{median(waits) / 1000:.1f}")


def _near(address: str) -> bool:
    """Is it on one of this machine's own networks? Unknown addresses are taken to be."""
    try:
        wanted = ip_address(address)
    except ValueError:
        return True
    networks = [
        ip_network(f"{each.ip}/{each.network_prefix}", strict=False)
        for adapter in ifaddr.get_adapters()
        for each in adapter.ips
        if isinstance(each.ip, str)
    ]
    return wanted.version != 4 or any(wanted in network for network in networks)


def _moved(config: Config, devices: Sequence[Device], told: Mapping[str, float]) -> Finding:
    def name(device_id: str) -> str:
        return config.devices[device_id].name if device_id in config.devices else device_id

    waiting = [name(device.id) for device in devices if device.id not in told]
    know = ", ".join(name(device_id) for device_id in sorted(told)) or "—"
    if waiting:
        return warning("moved_waiting", to=config.http.moved_to, know=know, waiting=", ".join(waiting))
    return ok("moved_all", to=config.http.moved_to, know=know)


__all__ = ["look_at_devices", "look_at_parts"]
