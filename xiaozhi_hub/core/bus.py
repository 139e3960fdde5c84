"""Tells observers what happened."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from xiaozhi_hub.core.events import Event

log = logging.getLogger(__name__)
E = TypeVar("E", bound=Event)


class Bus:
    """Delivers each event, at once and in order, to everyone who asked for its type.

    Watchers are plain functions on the event loop and must be quick; a watcher that raises is logged and goes on being told.
    """

    def __init__(self) -> None:
        self._watchers: dict[type[Event], list[Callable[[Any], None]]] = {}

    def watch(self, kind: type[E], watcher: Callable[[E], None]) -> Callable[[], None]:
        """Call *watcher* with every event of *kind*; the returned function ends that."""
        watchers = self._watchers.setdefault(kind, [])
        watchers.append(watcher)

        def stop() -> None:
            if watcher in watchers:
                watchers.remove(watcher)

        return stop

    def tell(self, event: Event) -> None:
        for watcher in tuple(self._watchers.get(type(event), ())):
            try:
                watcher(event)
            except Exception:  # an observer must not disturb what it observes
                log.exception("a watcher of %s failed", type(event).__name__)
