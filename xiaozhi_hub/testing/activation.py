"""The activation loop, as the firmware runs it until the hub lets it in (firmware application.cc, ota.cc)."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from xiaozhi_hub.testing.check_in import CHECK_IN_SECONDS, NoLink, open_http, ota_headers, serial_number
from xiaozhi_hub.testing.profile import FirmwareProfile

ROUNDS = 10
"""Questions after one check-in."""


@dataclass(frozen=True, slots=True)
class Activation:
    """What the device shows and speaks while it waits. Texts are empty where the hub said nothing."""

    code: str = ""
    message: str = ""
    challenge: str = ""


def read_activation(answer: dict[str, Any]) -> Activation | None:
    """Return what the answer to a check-in asks for; None when the device may go on."""
    section = answer.get("activation")
    if not isinstance(section, dict):
        return None
    texts = {name: section.get(name) for name in ("code", "message", "challenge")}
    found = Activation(**{name: text if isinstance(text, str) else "" for name, text in texts.items()})
    return found if found.code or found.challenge else None


def activation_body(challenge: str, device_id: str, profile: FirmwareProfile) -> dict[str, str]:
    """What the device proves with, by the version of activation that it knows."""
    if profile.activation_version != 2:
        return {}
    key = hashlib.sha256(b"fuse key " + device_id.encode()).digest()
    return {
        "algorithm": "hmac-sha256",
        "serial_number": serial_number(device_id),
        "challenge": challenge,
        "hmac": hmac.digest(key, challenge.encode(), hashlib.sha256).hex(),
    }


async def ask_activation(
    ota_url: str, device_id: str, client_id: str, language: str, profile: FirmwareProfile, challenge: str
) -> int:
    """Ask once whether the device may go on; return the status: 200 yes, 202 not yet."""
    url = f"{ota_url.rstrip('/')}/activate"
    try:
        async with (
            open_http() as http,
            http.post(
                url,
                json=activation_body(challenge, device_id, profile),
                headers=ota_headers(device_id, client_id, language, profile),
                timeout=aiohttp.ClientTimeout(total=CHECK_IN_SECONDS),
                allow_redirects=False,
            ) as reply,
        ):
            await reply.read()
            return reply.status
    except (aiohttp.ClientError, OSError) as error:
        raise NoLink(f"No activation at {url}: {error or type(error).__name__}.") from error


async def wait_for_activation(
    activation: Activation, ask: Callable[[str], Awaitable[int]], profile: FirmwareProfile
) -> None:
    """Ask until the hub says yes, or ten times; either way the device then checks in again."""
    for _ in range(ROUNDS):
        status = await ask(activation.challenge) if activation.challenge else 0
        if status == 200:
            return
        await asyncio.sleep(profile.pending_seconds if status == 202 else profile.unclear_seconds)


__all__ = ["Activation", "ask_activation", "read_activation", "wait_for_activation"]
