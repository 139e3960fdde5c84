"""A hub in a process of its own, on a core of its own, in a folder that is thrown away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

HUB_CORE = 0
FLEET_CORE = 1
START_SECONDS = 90.0


def pin(core: int) -> None:
    """Keep this process on one core, where the machine has more than one and lets us."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > core:
        os.sched_setaffinity(0, {core})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Usage:
    """What the hub and its child processes use."""

    rss_mb: float
    pss_mb: float
    """Pages shared with other processes counted in part."""
    threads: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class HubProcess:
    """A hub that runs."""

    port: int
    pid: int
    ota_seconds: float
    """From the start of the process to its first OTA answer."""
    ready_seconds: float
    """… until it is healthy."""
    log: Path
    """What it writes, while it runs."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ota_url(self) -> str:
        return f"{self.url}/xiaozhi/ota/"

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)

    def usage(self) -> Usage:
        root = psutil.Process(self.pid)
        rss = pss = cpu = 0.0
        threads = 0
        for process in (root, *root.children(recursive=True)):
            memory, times = process.memory_full_info(), process.cpu_times()
            rss += memory.rss / 2**20
            pss += memory.pss / 2**20
            threads += process.num_threads()
            cpu += times.user + times.system
        return Usage(round(rss, 1), round(pss, 1), threads, cpu)


@asynccontextmanager
async def running_hub(
    configuration: str, *, core: int | None = HUB_CORE, program: Sequence[str] = ("-m", "xiaozhi_hub")
) -> AsyncIterator[HubProcess]:
    """Run ``xiaozhi-hub run`` with *configuration* while the block is entered; *program* is what Python is told to run."""
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        (Path(folder) / "configuration.yaml").write_text(configuration, encoding="utf-8")
        port = free_port()
        command = [sys.executable, *program, "run", "-c", folder, "--host", "127.0.0.1", "--port", str(port),
                   "--no-discovery", "--no-self-test"]  # fmt: skip
        began = time.perf_counter()
        with (Path(folder) / "hub.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            if core is not None and hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, {core})
                with contextlib.suppress(OSError):  # where it is allowed: what else runs here is not what is measured
                    os.setpriority(os.PRIO_PROCESS, process.pid, -12)
        try:
            ota = await _until(process, f"http://127.0.0.1:{port}/xiaozhi/ota/", began, lambda body: True)
            ready = await _until(
                process, f"http://127.0.0.1:{port}/health", began, lambda body: json.loads(body)["status"] != "starting"
            )
            yield HubProcess(port, process.pid, ota, ready, Path(folder) / "hub.log")
        except BaseException:
            print((Path(folder) / "hub.log").read_text()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            await asyncio.to_thread(process.wait, 20)


@asynccontextmanager
async def watched_hub(configuration: str) -> AsyncIterator[tuple[HubProcess, Callable[[], Awaitable[dict[str, Any]]]]]:
    """As `running_hub`, on no core of its own; what it also yields asks the hub for the names of its tasks and the numbers of
    its objects."""
    with tempfile.TemporaryDirectory(prefix="hub-held-") as folder:
        file = Path(folder) / "held.json"
        program = ("-c", _TELLING.format(folder=str(Path(__file__).parent), file=str(file)))
        async with running_hub(configuration, core=None, program=program) as hub:

            async def held() -> dict[str, Any]:
                file.unlink(missing_ok=True)
                os.kill(hub.pid, signal.SIGUSR1)
                async with asyncio.timeout(30):
                    while not file.exists():
                        await asyncio.sleep(0.02)
                result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                return result

            yield hub, held


_TELLING = "import sys; sys.path.insert(0, {folder!r}); from watched_hub import run; run({file!r})"


async def _until(process: subprocess.Popen[bytes], url: str, began: float, done: Any) -> float:
    """Ask *url* until its answer is *done*; return the seconds since *began*."""

    def ask() -> bytes | None:
        request = urllib.request.Request(url)
        if "/ota" in url:
            request = urllib.request.Request(url, data=b"{}", headers={"Device-Id": "02:00:00:00:00:01"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                body: bytes = answer.read()
                return body
        except OSError:
            return None

    while time.perf_counter() - began < START_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"the hub ended with {process.returncode}")
        body = await asyncio.to_thread(ask)
        if body is not None and done(body):
            return round(time.perf_counter() - began, 3)
        await asyncio.sleep(0.01)
    raise RuntimeError("the hub did not start")


def percentile(values: list[float], share: float) -> float:
    """The value below which *share* (0…1) of the values lie, interpolated."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    position = (len(ordered) - 1) * share
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
