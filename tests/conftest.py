"""Rules that hold for every test: nothing is left running, and nothing leaves this machine."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import ipaddress
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web_app
from hypothesis import HealthCheck, settings

from xiaozhi_hub.dialog.intents.sentence_files import SHARED

# How long something takes says nothing on a machine that does other things, too.
settings.register_profile(
    "same for all", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
settings.register_profile("exploring", settings.get_profile("same for all"), derandomize=False, max_examples=2000)
settings.load_profile("same for all")
os.environ["LC_ALL"] = "C.UTF-8"  # whoever runs the tests may have a terminal in Chinese; commands would speak it
SHARED.keep(400)  # hubs whose sentences are the same follow one another

# -- nothing leaves this machine ----------------------------------------------------------------------------------


class WentOut(BaseException):
    """A test reached beyond this machine. Not an `Exception`, so that no code under test can swallow it."""


_outside: list[str] = []


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket
    host = address[0]
    if isinstance(host, bytes):
        host = host.decode()
    if host in ("", "localhost"):
        return True
    try:
        ip = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    return ip.is_loopback or ip.is_unspecified


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
    elif event == "socket.getaddrinfo":
        address = (arguments[0] or "",)
    else:
        return
    if address is not None and not _is_local(address):
        _outside.append(f"{event} {address}")
        raise WentOut(f"{event} {address}")


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def stays_on_this_machine() -> Iterator[None]:
    """Fail a test that tried to reach beyond loopback, even if its code hid the refusal."""
    _outside.clear()
    yield
    went, _outside[:] = list(_outside), []
    assert not went, f"it reached beyond this machine: {went}"


@pytest.fixture(autouse=True)
def stays_out_of_the_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What programs keep for their user is kept in a folder of the test run."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


UNHURRIED = {
    "archive.FORGET_SECONDS": 20.0,
    "cli.done.ANSWER_SECONDS": 20.0,
    "cli.done.TRIES": 200,
    "devices.pairing.memory.CLOSE_SECONDS": 20.0,
    "devices.pairing.pairing.DOOR_SECONDS": 20.0,
    "devices.pairing.pairing.LOAD_SECONDS": 20.0,
    "devices.pairing.pairing.SAVE_SECONDS": 20.0,
    "devices.waking.check.LIMIT_SECONDS": 20.0,
    "dialog.agent.waiting.PATIENCE_SECONDS": 20.0,
    "dialog.memory.memories.RECALL_SECONDS": 5.0,
    "display.lettering.PATIENCE_S": 20.0,
    "hub.REMEMBER_SECONDS": 20.0,
    "readiness.RELOAD_SECONDS": 60.0,
    "reloading.ENTRY_SECONDS": 60.0,
    "web.devices.moved.ASK_S": 15.0,
    "web.devices.ota.CONTRIBUTION_SECONDS": 20.0,
    "web.devices.transports.STARTING_SECONDS": 5.0,
}
"""What a hub waits for before it goes on without, in seconds; in a test all of it comes."""


@pytest.fixture(autouse=True)
def nobody_is_in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hub leaves out where it would come late is not left out because this machine does much else just now. The tests
    of these limits set their own."""
    for limit, seconds in UNHURRIED.items():
        monkeypatch.setattr(f"xiaozhi_hub.{limit}", seconds)


@pytest.fixture
def speech_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers begin with silence, in which even a busy machine makes the sound that follows, and which does not end before that
    is there: gaps in what a device plays are then the fault of what a test does, and not of what else goes on here."""
    monkeypatch.setattr("xiaozhi_hub.dialog.speaking.mouth.LEAD_IN_MS", 1500)
    monkeypatch.setattr("xiaozhi_hub.dialog.speaking.mouth.LEAD_IN_SPARE_MS", 700)


def pytest_unconfigure() -> None:
    """llama-cpp-python opens /dev/null twice when it is imported and leaves it open, of which Python tells at its end. The hub has
    it in a child only, which ends otherwise; tests have it in their own process."""
    module = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        if (file := getattr(module, name, None)) is not None:
            file.close()


_since_collected = 0


@pytest.fixture(autouse=True)
def lets_go_of_stopped_hubs() -> Iterator[None]:
    """A hub tells the collector to leave alone what it has built (`xiaozhi_hub.core.collector`), which is right where there
    is one for the life of the process. Here there are hundreds, at 30 MB each. aiohttp remembers the last 1024 handlers of all
    applications of a process, and with them whose they are; nothing else holds a stopped hub."""
    global _since_collected
    yield
    _since_collected += 1
    if _since_collected >= 10 and gc.get_freeze_count():
        _since_collected = 0
        if (handlers := getattr(web_app, "_cached_build_middleware", None)) is not None:
            handlers.cache_clear()
        gc.unfreeze()
        gc.collect()


TEST_SECONDS = float(os.environ.get("XIAOZHI_TEST_SECONDS", "600"))
"""No test takes so long anywhere. What waits in vain shall say where, not hold the whole run."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        test = getattr(item, "obj", None)
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(test):
            item.obj = _limited(test)


def _limited(test: Any) -> Any:
    @functools.wraps(test)
    async def limited(*arguments: Any, **named: Any) -> None:
        try:
            async with asyncio.timeout(TEST_SECONDS) as limit:
                await test(*arguments, **named)
        except TimeoutError as error:
            if limit.expired():
                raise AssertionError(f"it waited for ever: {TEST_SECONDS:g} s have passed") from error
            raise

    return limited


PATIENCE_SECONDS = float(os.environ.get("XIAOZHI_TEST_PATIENCE", "20"))
"""What ends by itself may take that long on a machine that does much else."""

# -- nothing is left running --------------------------------------------------------------------------------------


def _children() -> set[int]:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return set()
    found: set[int] = set()
    for task in tasks.iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except OSError:
            continue
    return found


def _threads() -> set[threading.Thread]:
    # The loop's default executor belongs to the loop, which pytest-asyncio closes after the fixture.
    return {
        t for t in threading.enumerate() if t.is_alive() and not t.name.startswith(("asyncio_", "ThreadPoolExecutor"))
    }


@pytest.fixture(autouse=True)
def leaves_nothing_running() -> Iterator[None]:
    """Fail a test that leaves a thread or a child process behind."""
    threads, children = _threads(), _children()
    yield
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        left_threads = [t.name for t in _threads() - threads]
        left_children = _children() - children
        if not left_threads and not left_children:
            return
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    raise AssertionError(f"left running: threads {left_threads}, processes {left_children}")


def _timers() -> set[asyncio.TimerHandle]:
    """What is to happen later on this loop. uvloop, which does not tell, has none."""
    scheduled: list[asyncio.TimerHandle] = getattr(asyncio.get_running_loop(), "_scheduled", [])
    return {handle for handle in scheduled if not handle.cancelled()}


@pytest.fixture(autouse=True)
async def leaves_no_task(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """Fail a test that leaves a task or a timer on the loop."""
    before, timers = asyncio.all_tasks(), _timers()
    yield
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        left = {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}
        pending = _timers() - timers
        if not left and not pending:
            return
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.01)
    raise AssertionError(f"left running: {[task.get_name() for task in left]}, timers {sorted(map(repr, pending))}")
