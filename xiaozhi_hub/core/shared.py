"""What takes long to build and stays as it was built, shared by all who want the same."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

T = TypeVar("T")


class Shared:
    """Builds what equal keys stand for once, and holds it only as long as somebody else does. For any thread.

    What is built must be weakly referable, and nobody may change it.
    """

    def __init__(self) -> None:
        self._held: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
        self._recent: deque[object] = deque(maxlen=0)
        self._lock = threading.RLock()

    def of(self, key: Hashable, build: Callable[[], T]) -> T:
        """What was built for *key*, or what *build* builds now. Others who want to build wait for that."""
        with self._lock:
            found = self._held.get(key)
            if found is None:
                found = self._held[key] = build()
            self._recent.append(found)
            return cast(T, found)

    def keep(self, count: int) -> None:
        """Hold what was asked for the last *count* times, too: where hubs come and go in one process."""
        with self._lock:
            self._recent = deque(self._recent, maxlen=count)


__all__ = ["Shared"]
