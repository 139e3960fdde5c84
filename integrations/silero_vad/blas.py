"""Keeps numpy's matrix products in the thread that asks for them.

The wheels of numpy bring OpenBLAS, which divides even a small product among all cores and lets its threads spin between two
of them. With the network's matrices that costs four to ten times the processor time and is no faster.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

_NAMES = tuple(
    f"{prefix}openblas_{{}}_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "", "_64")
)


def keep_to_one_thread() -> bool:
    """Use one thread for every product from now on, in the whole process.

    False when numpy does not bring OpenBLAS: then the environment variable ``OPENBLAS_NUM_THREADS`` is the way.
    """
    return _call("set", 1) is not None


def threads() -> int | None:
    """How many threads are used for a product; None when that cannot be known."""
    return _call("get")


def _call(verb: str, *arguments: int) -> int | None:
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):  # Linux and Windows; macOS
        for path in sorted(folder.glob("*openblas*")):
            try:
                library = ctypes.CDLL(str(path))  # the one that numpy has loaded, not another
            except OSError:
                continue
            for name in _NAMES:
                function = getattr(library, name.format(verb), None)
                if function is not None:
                    return int(function(*arguments))
    return None
