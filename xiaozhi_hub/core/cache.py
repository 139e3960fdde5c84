"""A bounded cache of values that can be made again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """Keeps the most recently used values up to *limit* units, as *size* measures them."""

    def __init__(self, limit: int, size: Callable[[V], int]) -> None:
        self._limit = limit
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._used = 0
        self.hits = 0
        self.misses = 0

    def get(self, key: K) -> V | None:
        value = self._values.get(key)
        if value is None:
            self.misses += 1
            return None
        self.hits += 1
        self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep *value*; a value larger than a quarter of the cache is not kept, since it would drive out too much."""
        size = self._size(value)
        if size > self._limit // 4:
            return
        if (old := self._values.pop(key, None)) is not None:
            self._used -= self._size(old)
        self._values[key] = value
        self._used += size
        while self._used > self._limit:
            _, dropped = self._values.popitem(last=False)
            self._used -= self._size(dropped)

    def clear(self) -> None:
        self._values.clear()
        self._used = 0
