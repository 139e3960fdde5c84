"""What a device proves itself with: random tokens, of which the hub keeps only the hashes. Pure; time is passed in."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import replace

from xiaozhi_hub.store.grants import IssuedToken

TOKEN_BYTES = 32
GRACE_SECONDS = 600.0
"""How long earlier tokens go on being good after a later one was used: a device may have two connections for a moment."""
MOST_TOKENS = 4
"""That one device may hold: it gets a new one at each start, and answers get lost."""


def hash_of(token: str) -> str:
    """Return what is kept of *token*. It is too long to be guessed, so one round of hashing is enough."""
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


class TokenRing:
    """The tokens of one device. An earlier one is good until a later one has been used, and a little longer."""

    def __init__(self) -> None:
        self._tokens: list[IssuedToken] = []

    @property
    def tokens(self) -> tuple[IssuedToken, ...]:
        """The oldest first."""
        return tuple(self._tokens)

    @property
    def proven(self) -> bool:
        """The device has shown one of them, so it understands tokens."""
        return any(token.used_at is not None for token in self._tokens)

    def keep(self, token: IssuedToken) -> None:
        """Take back a token that was issued before, later than those that are here."""
        self._tokens.append(token)

    def issue(self, now: float) -> str:
        """Return a new token. What was issued before stays good until the new one is used."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._tokens = [each for each in self._tokens if each.expires_at is None or each.expires_at > now]
        while len(self._tokens) >= MOST_TOKENS:
            # The last one that was used is surely still in the device, whatever became of the answers since.
            used = [each for each in self._tokens if each.used_at is not None]
            self._tokens.remove(next(each for each in self._tokens if not used or each is not used[-1]))
        self._tokens.append(IssuedToken(hash_of(token), now))
        return token

    def use(self, token: str, now: float) -> bool | None:
        """Is *token* good at *now*? None when it is not; True when that was news to be stored, else False."""
        shown, found = hash_of(token), -1
        for place, each in enumerate(self._tokens):  # all of them, in constant time: where it stops would be a hint
            good = each.expires_at is None or each.expires_at > now
            if hmac.compare_digest(each.hash, shown) and good:
                found = place
        if found < 0:
            return None
        if self._tokens[found].used_at is not None:
            return False
        self._tokens[found] = replace(self._tokens[found], used_at=now)
        for place in range(found):
            until = min(self._tokens[place].expires_at or now + GRACE_SECONDS, now + GRACE_SECONDS)
            self._tokens[place] = replace(self._tokens[place], expires_at=until)
        return True


__all__ = ["GRACE_SECONDS", "MOST_TOKENS", "TokenRing", "hash_of"]
