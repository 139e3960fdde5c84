"""A hub that tells what it holds when it is sent SIGUSR1: for benchmarks that look for what stays (`hub_process.watched_hub`)."""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from xiaozhi_hub.cli import main


def _told(task: asyncio.Task[Any]) -> str:
    """Its name; a task that was given none is known by what it runs."""
    name = task.get_name()
    return getattr(task.get_coro(), "__qualname__", "?") if name.startswith("Task-") else name


def run(file: str) -> NoReturn:
    """Run the command line; on the signal write the names of tasks and the numbers of objects to *file*."""

    def tell(*_: object) -> None:  # runs between two steps of the main thread, where the loop is
        gc.collect()
        try:
            tasks = sorted(_told(task) for task in asyncio.all_tasks() if not task.done())
        except RuntimeError:  # the loop does not run yet, or no more
            tasks = []
        kinds = Counter(type(each).__qualname__ for each in gc.get_objects())
        part = Path(f"{file}.part")
        part.write_text(json.dumps({"tasks": tasks, "objects": kinds}), encoding="utf-8")
        part.replace(file)

    signal.signal(signal.SIGUSR1, tell)
    sys.exit(main())
