"""Keeps Python's garbage collector from stopping the event loop.

A full collection looks at every object there is, with the interpreter locked: 100 to 400 ms on a small machine once
some hundred thousand objects live. Speech that is being sent would stutter each time. Python begins one whenever a quarter
more has come: several times while a thousand devices connect, which are a few hundred objects each.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_SECONDS = 5.0
DUE = 10
"""Collections of what is young since the last full one, after which Python takes another to be due."""
OVERDUE = 150
"""… after which one takes place whoever speaks: about a million more objects, some 100 MB if all of them were garbage."""

_lock = threading.Lock()
_builders = 0
_was_on = True


@contextmanager
def building_to_last() -> Iterator[None]:
    """For code that makes very many objects which stay: none is collected meanwhile, and none is looked at again after.

    Such objects must be free of reference cycles, or they stay for ever: counting references still frees them,
    collecting does not. Safe in any thread.
    """
    global _builders, _was_on
    with _lock:
        if _builders == 0:
            _was_on = gc.isenabled()
            gc.collect(1)  # what is garbage now must not be kept with the rest
            gc.disable()
        _builders += 1
    try:
        yield
    finally:
        with _lock:
            _builders -= 1
            if _builders == 0:
                gc.freeze()
                if _was_on:
                    gc.enable()
                _give_back()


def _give_back() -> None:
    """Have the C library return to the system what building has left over, 6 MB at the start; glibc keeps it otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(ctypes.c_size_t(0))


async def collect_at_leisure(quiet: Callable[[], bool]) -> None:
    """Look at everything only while *quiet* says that nobody would notice, as long as that can wait; runs until cancelled.

    What is young is collected as ever: that takes few milliseconds, and finds most. To be run once in a process.
    """
    before = gc.get_threshold()
    gc.set_threshold(before[0], before[1], OVERDUE)
    try:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if gc.get_count()[2] > DUE and quiet():
                gc.collect()
    finally:
        gc.set_threshold(*before)


__all__ = ["building_to_last", "collect_at_leisure"]
