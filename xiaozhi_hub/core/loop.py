"""An event loop that looks at the clock often, however many arrive.

asyncio runs everything that is ready before it looks at the clock again, and it asks the system for all that is ready. When a
thousand devices come back at once, after a power cut or when the access point has restarted, a thousand handshakes are ready
together: more than half a second in which no packet of speech goes out, and a device has less than that in store
(`xiaozhi_hub.audio.pacer.LEAD_MS`). So the loop here takes few sockets at a time, and `ACCEPTED_AT_ONCE` new connections;
what is due goes out in between. The others wait in the system, which hands them out in turn. That takes nobody longer: the
work is the same.
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import sys

READY_AT_ONCE = 8
"""Sockets in one pass of the loop: each is half a millisecond of work at the most, several on a small board, and the first
word of an answer leaves 20 ms before it is needed (`xiaozhi_hub.dialog.speaking.mouth.LEAD_IN_SPARE_MS`)."""
ACCEPTED_AT_ONCE = 2
"""New connections in one pass. Each becomes ready some five times until its device is at home: more would come in than are
served, and stand before those who are here already."""

if sys.platform == "linux":

    class FewAtOnce(selectors.EpollSelector):
        """`select` returns at most `READY_AT_ONCE` of those that are ready, and the others the next times: epoll goes round
        all of them (epoll_wait(2), notes)."""

        def __init__(self) -> None:
            super().__init__()
            self._epoll = select.epoll.fromfd(os.dup(self.fileno()))

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            keys = self.get_map()
            ready = []
            for fd, happened in self._epoll.poll(None if timeout is None else max(0.0, timeout), READY_AT_ONCE):
                if (key := keys.get(fd)) is None:
                    continue
                # What is neither, such as a connection that has broken, is for whoever waits for either.
                events = selectors.EVENT_READ if happened & ~select.EPOLLOUT else 0
                events |= selectors.EVENT_WRITE if happened & ~select.EPOLLIN else 0
                ready.append((key, events & key.events))
            return ready

        def close(self) -> None:
            self._epoll.close()
            super().close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return the loop that a hub should run on: such a one on Linux, asyncio's own elsewhere."""
    if sys.platform == "linux":
        return asyncio.SelectorEventLoop(FewAtOnce())
    else:  # noqa: RET505 (mypy understands platforms by branches)
        return asyncio.new_event_loop()


__all__ = ["ACCEPTED_AT_ONCE", "READY_AT_ONCE", "new_event_loop"]
