"""What Whisper costs on this machine, by size of the model and by the window of sound that it looks at.

    python bench/whisper.py --shapes tiny base --threads 1

The models have the shapes and number format of the real ones and made-up weights, so times and memory are theirs and the words are not.
Prints a Markdown table for a command of 2.2 s and a sentence of 6 s: the median processor time of several recognitions, which is the time
they take on a machine that does nothing else if there is one thread, and the quickest one on the clock.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from tiny_whisper import BASE, SMALL, TINY, Script, write_whisper

from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.models.shelf import InstalledModel
from xiaozhi_hub.plugins.loader import import_integration

SHAPES = {"tiny": TINY, "base": BASE, "small": SMALL}
WINDOWS = {"30 s": (30,), "fitted": (10, 15, 30), "partial": (6, 10, 15, 30)}
SAYS = "set a timer for ten minutes and then turn on the small lamp beside my bed"
RATE = 16000


def measure(model: Any, models: Any, seconds: float, windows: tuple[int, ...], beam: int, runs: int) -> tuple[str, int]:
    """What a recognition takes, in ms, and the window in s."""
    sound = np.random.default_rng(1).normal(0, 0.05, int(seconds * RATE)).astype(np.float32)
    task = models.Task(sound, ("en",), beam, windows)
    took, used = [], []
    for _ in range(runs):
        began, busy = time.perf_counter(), time.process_time()
        written = model.recognise(threading.Event(), task)
        took.append((time.perf_counter() - began) * 1000)
        used.append((time.process_time() - busy) * 1000)
    return f"{statistics.median(used):.0f} ({min(took):.0f})", written.window


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=sorted(SHAPES), default=["tiny", "base"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    integration = import_integration(builtin("integrations") / "faster_whisper")
    models, loading = (importlib.import_module(f"{integration.__name__}.{name}") for name in ("model", "loading"))
    print(
        f"| model | sound | window | beam 1 | beam 5 |   ms of processor time (quickest of {arguments.runs}), {arguments.threads} threads"
    )
    print("|---|---|---|---|---|")
    for name in arguments.shapes:
        with tempfile.TemporaryDirectory() as folder:
            path = write_whisper(Path(folder) / name, Script(SAYS), SHAPES[name])
            began = time.perf_counter()
            model = loading.load(InstalledModel("faster_whisper", name, path), "cpu", "int8", arguments.threads)
            loaded = time.perf_counter() - began
            for seconds in (2.2, 6.0):
                for kind, windows in WINDOWS.items():
                    (one, window), (five, _) = (
                        measure(model, models, seconds, windows, beam, arguments.runs) for beam in (1, 5)
                    )
                    print(f"| {name} | {seconds:g} s | {kind} ({window} s) | {one} | {five} |", flush=True)
            print(f"| {name} | | loading and first run | {loaded * 1000:.0f} | |", flush=True)
            model.close()


if __name__ == "__main__":
    main()
