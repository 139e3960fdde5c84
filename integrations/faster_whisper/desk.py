"""Who may use the model when. It does one thing at a time: what somebody waits for goes first, and partial recognitions live on
what is left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

from xiaozhi_hub.plugins.api import Worker

from .model import Abandoned

TOO_LONG = 0.5
"""A partial recognition that takes more seconds than this holds up who waits for a final one …"""
REST_SECONDS = 30.0
"""… and is not tried again for so long."""

T = TypeVar("T")
Job = Callable[[threading.Event], T]
"""Runs in the thread; raises `Abandoned` soon after its argument is set."""


class Desk:
    """*share* is the part of the time that partial recognitions of all devices together may take."""

    def __init__(self, worker: Worker, share: float) -> None:
        self._worker = worker
        self._share = share
        self.awaited = 0
        """How many recognitions somebody waits for now."""
        self._partial: threading.Event | None = None
        self._closed = threading.Event()
        self._rest_until = 0.0
        self.finals = 0
        """How many recognitions that somebody waited for were done."""
        self.partials = 0
        """How many partial ones were done."""
        self.abandoned = 0
        """How many were given up before their end."""
        self.partial_seconds = 0.0
        """What the partial ones took, those that were given up included."""

    @property
    def may_try(self) -> bool:
        """Is there time for a partial recognition now?"""
        return self.awaited == 0 and self._partial is None and asyncio.get_running_loop().time() >= self._rest_until

    async def final(self, job: Job[T]) -> T:
        """Do *job* after those that are awaited already; a partial recognition gives way. Cancelling stops it."""
        self.awaited += 1
        if self._partial is not None:
            self._partial.set()
        try:
            result = await self._do(job)
        finally:
            self.awaited -= 1
        self.finals += 1
        return result

    async def partial(self, job: Job[T]) -> T | None:
        """Do *job* if there is time for it and nobody else needs the model before it is done; None otherwise."""
        if not self.may_try:
            return None
        loop = asyncio.get_running_loop()
        stop = self._partial = threading.Event()
        began = loop.time()
        try:
            result = await self._do(job, stop)
        except Abandoned:
            return None
        finally:
            self._partial = None
            took = loop.time() - began
            self.partial_seconds += took
            rest = took * (1 / self._share - 1)
            self._rest_until = loop.time() + (rest if took <= TOO_LONG else max(rest, REST_SECONDS))
        self.partials += 1
        return result

    def close(self) -> None:
        """Give everything up that is being done."""
        self._closed.set()

    async def _do(self, job: Job[T], give_way: threading.Event | None = None) -> T:
        def once(left: threading.Event) -> Iterator[T]:
            stop = _AnyOf(left, self._closed, *(() if give_way is None else (give_way,)))
            try:
                yield job(stop)
            except Abandoned:
                self.abandoned += 1  # only this thread counts
                raise

        async with aclosing(self._worker.iterate(once)) as results:
            async for result in results:
                return result
        raise Abandoned("the job ended without a result")


class _AnyOf(threading.Event):
    """Set when one of several is."""

    def __init__(self, *events: threading.Event) -> None:
        super().__init__()
        self._events = events

    def is_set(self) -> bool:
        return any(event.is_set() for event in self._events)
