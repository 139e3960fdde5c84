"""Keeps Python's garbage collector from stopping the event loop.

A full collection looks at every object there is, with the interpreter locked: 100 to 400 ms on a small machine once
some hundred thousand objects live. Speech that is being sent would stutter each time.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

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


__all__ = ["building_to_last"]
