"""How quick this machine is, measured for under a second: a matrix product and a copy, in a process of their own.

The process is kept to one thread, so that the figures are those of one core and can be compared between machines, and the hub's
own numpy is not asked to change its ways.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)

FILE = "board.json"
SIDE = 256
"""Of the matrices: what a layer of a small model works on, and in the cache of every core that is meant."""
PRODUCT_SECONDS = 0.25
COPY_BYTES = 32 * 2**20
"""Far more than caches hold."""
COPIES = 4
LIMIT_SECONDS = 60.0
_ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1")


@dataclass(frozen=True, slots=True)
class Board:
    """A machine, as far as models care."""

    cores: int
    memory_mib: int
    """All of it."""
    free_mib: int
    """What programs could have now."""
    gflops: float
    """Matrix products in single precision, on one core: 10⁹ multiplications and additions per second."""
    gbps: float
    """Memory read and written by one core: 10⁹ bytes per second."""


def measure() -> Board:
    """Measure this machine; blocks for about a second. `HubError` when the measuring process does not work."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "xiaozhi_hub.models.board"],
            capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True, stdin=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )  # fmt: skip
        figures = json.loads(done.stdout)
        total, free = memory_mib()
        return Board(os.cpu_count() or 1, total, free, float(figures["gflops"]), float(figures["gbps"]))
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        said = getattr(error, "stderr", "") or ""
        raise HubError(
            f"This machine could not be measured: {error} {said[-300:]}".strip(), code="measure-failed"
        ) from error


def memory_mib(meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int]:
    """All memory, and what programs could have, in MiB; zeros where the system does not tell."""
    found = {"MemTotal": 0, "MemAvailable": 0}
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            key, _, rest = line.partition(":")
            if key in found:
                found[key] = int(rest.split()[0]) // 1024
    except (OSError, ValueError, IndexError):
        pass
    return found["MemTotal"], found["MemAvailable"]


def keep(folder: Path, board: Board, timed: Mapping[str, float]) -> None:
    """Remember in *folder*, with the models, what was measured; where that cannot be written it is measured again some day."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"board": asdict(board), "timed": dict(timed)}, indent=1)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        log.info("%s cannot be written: %s", folder / FILE, error.strerror)


def kept(folder: Path) -> tuple[Board, Mapping[str, float]]:
    """This machine, and what was timed on it, as it was measured before; measured now if it never was, or is another machine.

    Blocks, for about a second the first time; `HubError` as `measure`.
    """
    board: Board | None
    try:
        facts = json.loads((folder / FILE).read_text(encoding="utf-8"))
        board = Board(**facts["board"])
        timed = {str(name): float(seconds) for name, seconds in facts["timed"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        board, timed = None, dict[str, float]()
    total, _ = memory_mib()
    if board is not None and board.cores == (os.cpu_count() or 1) and abs(board.memory_mib - total) <= total // 50:
        return board, timed
    fresh = measure()
    keep(folder, fresh, {})
    return fresh, {}


@dataclass(frozen=True, slots=True)
class _Figures:
    gflops: float
    gbps: float


def _figures(now: Callable[[], float] = time.perf_counter) -> _Figures:
    """Do the work. The best of several rounds counts: others may be using the machine too."""
    import numpy as np

    one = np.full((SIDE, SIDE), 1.5, dtype=np.float32)
    two, out = one.copy(), one.copy()
    quickest, until = float("inf"), now() + PRODUCT_SECONDS
    while now() < until:
        began = now()
        for _ in range(4):
            np.matmul(one, two, out=out)
        quickest = min(quickest, (now() - began) / 4)
    source = np.ones(COPY_BYTES, dtype=np.uint8)
    target = np.empty_like(source)
    shortest = float("inf")
    for _ in range(COPIES + 1):  # in the first one the system hands out the memory
        began = now()
        np.copyto(target, source)
        shortest = min(shortest, now() - began)
    return _Figures(2 * SIDE**3 / quickest / 1e9, 2 * COPY_BYTES / shortest / 1e9)


if __name__ == "__main__":
    print(json.dumps(asdict(_figures())))

__all__ = ["FILE", "Board", "keep", "kept", "measure", "memory_mib"]
