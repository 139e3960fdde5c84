"""The devices that wait to be approved, and the codes they show meanwhile. Pure; time is passed in."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

MOST_WAITING = 64
MOST_PER_ADDRESS = 16
"""Whoever makes up devices gets no further; a household behind one address does."""
STILL_HERE_SECONDS = 180.0
"""A device that waits asks again every few seconds; one that has not for so long makes room when room is needed."""
FORGET_SECONDS = 3600.0
TRIES = 10
TRY_SECONDS = 6.0
"""So many codes may be tried at once, and another one after each such time: all of them take two months."""


@dataclass(slots=True)
class Waiting:
    """A device that waits."""

    device_id: str
    client: str
    """The fingerprint of its Client-Id, empty when it sent none."""
    code: str
    """Six digits, the same as long as nobody has approved it, even after a restart of the hub."""
    challenge: str
    address: str
    board: str
    firmware: str
    since: float
    seen_at: float


class WaitingRoom:
    """A bounded number of devices. *key* makes the codes unpredictable."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._waiting: dict[tuple[str, str], Waiting] = {}

    def all(self, now: float) -> tuple[Waiting, ...]:
        """Those who wait, the longest waiting first."""
        self._clean(now)
        return tuple(self._waiting.values())

    def enter(
        self, device_id: str, client: str, now: float, *, address: str, board: str = "", firmware: str = ""
    ) -> Waiting | None:
        """Let a device wait, or find it waiting; None when there is no more room."""
        waiting = self.seen(device_id, client, now)
        if waiting is not None:
            waiting.address = address
            return waiting
        self._clean(now)
        if sum(each.address == address for each in self._waiting.values()) >= MOST_PER_ADDRESS:
            return None
        if len(self._waiting) >= MOST_WAITING:
            gone = min(self._waiting.values(), key=lambda each: each.seen_at)
            if now - gone.seen_at < STILL_HERE_SECONDS:
                return None
            self.leave(gone)
        waiting = Waiting(
            device_id, client, self._new_code(device_id, client), self._derive("challenge", device_id, client).hex(),
            address, board, firmware, now, now
        )  # fmt: skip
        self._waiting[device_id, client] = waiting
        return waiting

    def seen(self, device_id: str, client: str, now: float) -> Waiting | None:
        """Note that a device is still there."""
        waiting = self._waiting.get((device_id, client))
        if waiting is not None:
            waiting.seen_at = now
        return waiting

    def find(self, code: str, now: float) -> Waiting | None:
        self._clean(now)
        shown = code.encode()
        return next((each for each in self._waiting.values() if hmac.compare_digest(each.code.encode(), shown)), None)

    def leave(self, waiting: Waiting) -> None:
        self.drop(waiting.device_id, waiting.client)

    def drop(self, device_id: str, client: str) -> None:
        """Forget that a device waits, if it does."""
        self._waiting.pop((device_id, client), None)

    def _clean(self, now: float) -> None:
        for each in [each for each in self._waiting.values() if now - each.seen_at > FORGET_SECONDS]:
            self.leave(each)

    def _new_code(self, device_id: str, client: str) -> str:
        taken = {each.code for each in self._waiting.values()}
        attempt = 0
        while True:
            number = int.from_bytes(self._derive(f"code {attempt}", device_id, client)[:8], "big")
            code = str(100_000 + number % 900_000)  # no zero in front, which people leave out
            if code not in taken:
                return code
            attempt += 1

    def _derive(self, purpose: str, device_id: str, client: str) -> bytes:
        return hmac.digest(self._key, "\n".join((purpose, device_id, client)).encode(), hashlib.sha256)[:16]


class Tries:
    """Keeps codes from being tried one after the other. Pure; time is passed in."""

    def __init__(self) -> None:
        self._left = float(TRIES)
        self._at: float | None = None

    def allows(self, now: float) -> bool:
        """Count one try; False when it is one too many."""
        if self._at is not None:
            self._left = min(float(TRIES), self._left + (now - self._at) / TRY_SECONDS)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


__all__ = ["Tries", "Waiting", "WaitingRoom"]
