"""What the hub holds for peers that have begun to send something and have not ended: bounded for each of them, and for all."""

from __future__ import annotations

from collections import Counter


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

    def _drop_if_empty(self, address: str) -> None:
        if self._by_address[address] <= 0:
            del self._by_address[address]


__all__ = ["Held"]
