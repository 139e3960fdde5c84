"""File permissions that hold for root, too: a hub seldom is root, the tests often are."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_VERSION_3 = 0x20080522
_PASSES_PERMISSIONS = 1 << 1 | 1 << 2
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, from Linux's capability.h."""


@contextmanager
def permissions_hold() -> Iterator[None]:
    """Within this block, this thread and those that it starts may read and write only what permissions allow.

    The test is skipped where root cannot be told to do without.
    """
    if os.geteuid() != 0:
        yield
        return
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    held = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: twice 32 bits of each
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.capget(header, held) != 0:
            raise OSError(ctypes.get_errno(), "capget")
        fewer = type(held)(*held)
        fewer[0] &= ~_PASSES_PERMISSIONS
        if libc.capset(header, fewer) != 0:
            raise OSError(ctypes.get_errno(), "capset")
    except (OSError, AttributeError) as error:
        pytest.skip(f"root may read and write everywhere, and cannot give that up here: {error}")
    try:
        yield
    finally:
        libc.capset(header, held)
