"""Tokens that several hubs can check, because they share a key: for homes where one hub sends devices to another."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets

from xiaozhi_hub.core.secret import Secret

TICKET_SECONDS = 90 * 24 * 3600.0
"""A device gets a new one at each start; one that has run for so long has to be restarted."""
SKEW_SECONDS = 24 * 3600.0
"""By how much the clocks of two hubs may differ."""
_FORM = re.compile(r"t1\.([0-9a-f]{1,12})\.([0-9a-f]{16})\.([A-Za-z0-9_-]{43})")


class Tickets:
    """Signs with *key* and knows what was signed with it. Pure; time is passed in."""

    def __init__(self, key: Secret) -> None:
        self._key = key

    def issue(self, device_id: str, now: float) -> str:
        """Return a ticket for a device."""
        at, nonce = f"{int(now):x}", secrets.token_hex(8)
        return f"t1.{at}.{nonce}.{self._sign(device_id, at, nonce)}"

    def issued_at(self, ticket: str, device_id: str, now: float) -> float | None:
        """Return when *ticket* was issued to this device; None when it is none of ours, too old, or another's."""
        match = _FORM.fullmatch(ticket)
        if match is None or not hmac.compare_digest(match[3], self._sign(device_id, match[1], match[2])):
            return None
        at = float(int(match[1], 16))
        return at if now - TICKET_SECONDS < at < now + SKEW_SECONDS else None

    def _sign(self, device_id: str, at: str, nonce: str) -> str:
        key = hashlib.sha256(b"device ticket\n" + self._key.reveal().encode()).digest()
        mac = hmac.digest(key, "\n".join((device_id, at, nonce)).encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")


__all__ = ["TICKET_SECONDS", "Tickets"]
