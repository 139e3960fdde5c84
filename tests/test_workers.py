"""Blocking code beside the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from xiaozhi_hub.core import workers
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait, prefetch
from xiaozhi_hub.core.workers import STREAM_AHEAD, ProcessWorker, Worker, WorkerBusy, WorkerLost

CHILD = """
import os, time
class Counter:
    def __init__(self): self.n = 0
    def add(self, k):
        self.n += k
        return self.n
    def pid(self): return os.getpid()
    def finds(self, name):
        import importlib.util
        return importlib.util.find_spec(name) is not None
    def fail(self): raise ValueError("no such luck")
    def sleep(self, s): time.sleep(s); return "slept"
    def shout(self): print("native code prints"); os.write(1, b"to the old stdout"); return "ok"
def create(): return Counter()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "counter.py"
    path.write_text(CHILD)
    return path


async def test_a_worker_returns_results_and_raises_errors() -> None:
    worker = Worker("t")
    assert await worker.run(lambda a, b: a + b, 2, 3) == 5
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 / 0)
    await worker.close()


async def test_a_worker_streams_and_stops_when_the_reader_leaves() -> None:
    worker = Worker("t")
    closed = threading.Event()

    def count(stop: threading.Event) -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    async with aclosing(worker.iterate(count)) as numbers:
        async for number in numbers:
            if number == 3:
                break
    assert await worker.run(lambda: closed.wait(2))
    await worker.close()


async def test_a_streaming_job_waits_for_its_reader() -> None:
    worker = Worker("t")
    made: list[int] = []

    def count(stop: threading.Event) -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    async with aclosing(worker.iterate(count)) as numbers:
        assert await anext(numbers) == 0
        async with asyncio.timeout(20):
            while len(made) < STREAM_AHEAD:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)  # time to go on, if it did
        assert len(made) <= STREAM_AHEAD + 2
        assert [n async for n in numbers] == list(range(1, 100))
    await worker.close()


async def test_a_cancelled_job_that_has_not_begun_never_runs() -> None:
    worker = Worker("t")
    gate, ran = threading.Event(), threading.Event()
    async with TaskScope("t") as scope:
        first = scope.start(worker.run(gate.wait), name="first")
        second = scope.start(worker.run(ran.set), name="second")
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0)
        gate.set()
        await first
    await worker.run(lambda: None)
    assert not ran.is_set()
    await worker.close()


async def test_what_a_cancelled_job_was_to_work_on_is_let_go_of_while_the_worker_is_busy() -> None:
    class Photo:
        def look(self) -> None: ...

    worker, busy = Worker("t"), threading.Event()
    first = asyncio.create_task(worker.run(busy.wait, 20))
    photo = Photo()
    gone = weakref.ref(photo)
    second = asyncio.create_task(worker.run(photo.look))
    del photo
    await asyncio.sleep(0)
    assert gone() is not None
    await cancel_and_wait(second)
    del second
    gc.collect()
    assert gone() is None and not first.done()
    busy.set()
    assert await first
    await worker.close()


async def test_closing_does_what_waits() -> None:
    worker, begun, may_end = Worker("test"), threading.Event(), threading.Event()
    async with TaskScope("jobs") as scope:
        first = scope.start(worker.run(lambda: (begun.set(), may_end.wait(20))[1]), name="first")
        await asyncio.to_thread(begun.wait, 20)
        second = scope.start(worker.run(lambda: "done"), name="second")
        await asyncio.sleep(0)
        may_end.set()
        await worker.close()
        assert (await first, await second) == (True, "done")


async def test_a_closed_worker_refuses() -> None:
    worker = Worker("t")
    await worker.run(lambda: None)
    await worker.close()
    with pytest.raises(WorkerLost):
        await worker.run(lambda: None)
    assert not [t for t in threading.enumerate() if t.name == "worker-t"]


async def test_a_child_process_keeps_its_object(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    assert [await worker.call("add", k) for k in (1, 2, 3)] == [1, 3, 6]
    assert await worker.call("pid") == worker.pid != os.getpid()
    await worker.close()


async def test_what_a_child_prints_does_not_disturb_the_answers(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    assert await worker.call("shout") == "ok"
    assert await worker.call("add", 1) == 1
    await worker.close()


async def test_a_childs_error_reaches_the_caller_and_leaves_the_child_alive(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    with pytest.raises(RuntimeError, match="ValueError: no such luck"):
        await worker.call("fail")
    assert await worker.call("add", 1) == 1
    assert worker.starts == 1
    await worker.close()


async def test_a_killed_child_costs_one_call_and_is_started_again(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    await worker.call("add", 1)
    async with TaskScope("t") as scope:
        call = scope.start(worker.call("sleep", 30), name="call")
        await asyncio.sleep(0.1)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await asyncio.wait([call])
        assert isinstance(call.exception(), WorkerLost)
    assert await worker.call("add", 5) == 5
    assert worker.starts == 2
    await worker.close()


async def test_a_child_that_hangs_is_ended(script: Path) -> None:
    worker = ProcessWorker("counter", script, call_seconds=3)
    with pytest.raises(WorkerLost, match=r"no answer for 3 s"):
        await worker.call("sleep", 30)
    worker._call_seconds = 60.0  # another child has to start
    assert await worker.call("add", 1) == 1
    await worker.close()


async def test_the_answer_to_a_cancelled_call_is_not_given_to_the_next(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    async with TaskScope("t") as scope:
        call = scope.start(worker.call("sleep", 0.2), name="call")
        await asyncio.sleep(0.1)
        call.cancel()
        assert await worker.call("add", 7) == 7
        assert worker.starts == 1
    await worker.close()


async def test_a_child_lets_the_hub_end_it(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    await worker.call("add", 1)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)  # Ctrl-C reaches it, too
    assert await worker.call("add", 1) == 2
    await worker.close()


async def test_a_child_finds_no_modules_of_the_hub_under_their_bare_names(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    assert (Path(workers.__file__).parent / "i18n.py").exists()
    assert not await worker.call("finds", "i18n")
    await worker.close()


async def test_too_many_jobs_for_a_child_are_refused_at_once(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "QUEUE_JOBS", 3)
    worker = ProcessWorker("counter", script)
    await worker.call("add", 1)
    async with TaskScope("t") as scope:
        calls = [scope.start(worker.call("add", 1), name=f"{number}") for number in range(5)]
        await asyncio.wait(calls)
        assert [call.exception() is None for call in calls] == [True] * 4 + [False], "one at work, three that wait"
        assert isinstance(calls[-1].exception(), WorkerBusy)
    await worker.close()


async def test_a_child_that_is_just_being_started_ends_with_its_worker(script: Path) -> None:
    worker = ProcessWorker("counter", script)
    async with TaskScope("t") as scope:
        call = scope.start(worker.call("add", 1), name="call")
        waits = scope.start(worker.call("add", 1), name="waits")
        for _ in range(3):
            await asyncio.sleep(0)
        assert (worker.pid, worker.starts) == (None, 0), "it is there already: this tests nothing"
        await worker.close()
        assert worker.pid is None
        assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("worker-counter")]
        await asyncio.wait([call, waits])
        assert isinstance(call.exception(), WorkerLost) and isinstance(waits.exception(), WorkerLost)


async def test_prefetch_runs_ahead_within_its_bound_and_stops_with_its_block() -> None:
    made: list[int] = []
    stopped = asyncio.Event()

    async def source():  # type: ignore[no-untyped-def]
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            stopped.set()

    async with prefetch(source(), 3) as items:
        assert await anext(items) == 0
        async with asyncio.timeout(20):
            while len(made) < 4:
                await asyncio.sleep(0)
        for _ in range(20):  # time to go on, if it did
            await asyncio.sleep(0)
        assert len(made) <= 6
    assert stopped.is_set()


async def test_prefetch_hands_on_an_error_where_it_happened() -> None:
    async def source():  # type: ignore[no-untyped-def]
        yield 1
        raise LookupError("gone")

    seen = []
    with pytest.raises(LookupError):
        async with prefetch(source(), 3) as items:
            async for item in items:
                seen.append(item)
    assert seen == [1]


async def test_leaving_a_scope_ends_its_tasks() -> None:
    async with TaskScope("t") as scope:
        task = scope.start(asyncio.sleep(100), name="long")
    assert task.cancelled()
