"""What the hub holds of what peers send, until it is done with it: bounded for each of them, and for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Held:
    """Counts bytes by address: up to *each* for one, up to *together* for all."""

    def __init__(self, each: int, together: int) -> None:
        self._each, self._together = each, together
        self._by_address: Counter[str] = Counter()
        self.total = 0

    def takes(self, address: str, size: int) -> bool:
        """Is there room for *size* more bytes? Then they count until they are given back."""
        if self._by_address[address] + size > self._each or self.total + size > self._together:
            self._drop_if_empty(address)
            return False
        self._by_address[address] += size
        self.total += size
        return True

    def give_back(self, address: str, size: int) -> None:
        self._by_address[address] -= size
        self.total -= size
        self._drop_if_empty(address)

    @contextmanager
    def share(self, address: str) -> Iterator[Share]:
        """What one thing from *address* takes; given back when the block is left."""
        share = Share(self, address)
        try:
            yield share
        finally:
            share.shrink(0)

    def _drop_if_empty(self, address: str) -> None:
        if self._by_address[address] <= 0:
            del self._by_address[address]


class Share:
    """The bytes that count for one thing; see `Held.share`."""

    def __init__(self, held: Held, address: str) -> None:
        self._held, self._address = held, address
        self.size = 0

    def takes(self, size: int) -> bool:
        """Is there room for *size* bytes more? Then they count."""
        if not self._held.takes(self._address, size):
            return False
        self.size += size
        return True

    def shrink(self, size: int) -> None:
        """No more than *size* bytes are held of it from now on."""
        if size < self.size:
            self._held.give_back(self._address, self.size - size)
            self.size = size


__all__ = ["Held", "Share"]
