"""Where blocking code runs, so that the event loop never waits for a CPU.

`Worker` is one thread: for native code that releases the GIL (ONNX, Opus, eSpeak). `ProcessWorker` is one child process: for
code that holds the GIL or may crash (pocketsphinx). Both take one job at a time and have a bounded queue.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import queue
import struct
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)
T = TypeVar("T")

QUEUE_JOBS = 512
"""Jobs waiting for one worker. Reached only when the machine is hopelessly behind: then new jobs fail at once."""
STREAM_AHEAD = 8
"""Items a streaming job may be ahead of its reader."""


class WorkerBusy(HubError):
    """Too many jobs wait for this worker."""

    code = "worker-busy"


class WorkerLost(HubError):
    """The worker's process ended in the middle of a job."""

    code = "worker-lost"


class Worker:
    """One thread that runs blocking functions in order. Start it with the first job, stop it with `close`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Run *function* in the thread and return its result. A job whose caller was cancelled before its turn is skipped, and
        what it was to work on is let go of at once."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        work = [partial(function, *args)]

        def job() -> None:
            try:
                do = work.pop()
            except IndexError:
                return
            if future.cancelled():
                return
            try:
                result = do()
            except BaseException as error:  # carried to the caller, whatever it is
                _tell(loop, future, None, error)
            else:
                _tell(loop, future, result, None)

        self._submit(job)
        try:
            return await future
        finally:
            work.clear()

    async def iterate(self, function: Callable[..., Iterator[T]], *args: Any) -> AsyncGenerator[T, None]:
        """Run the generator function ``function(stop, *args)`` in the thread and yield what it yields.

        The thread waits when it is `STREAM_AHEAD` items ahead of the reader. When the reader leaves, *stop* (a
        `threading.Event`) is set and the generator is closed at its next ``yield``.
        """
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        room = threading.Semaphore(STREAM_AHEAD)
        items: asyncio.Queue[tuple[T | None, BaseException | None, bool]] = asyncio.Queue()  # bounded by `room`

        def put(item: T | None, error: BaseException | None, end: bool) -> None:
            try:
                loop.call_soon_threadsafe(items.put_nowait, (item, error, end))
            except RuntimeError:  # the loop has closed: nobody reads any more
                stop.set()

        def job() -> None:
            if stop.is_set():
                return
            try:
                source = function(stop, *args)
                for item in source:
                    room.acquire()
                    if stop.is_set():
                        source.close()  # type: ignore[attr-defined]  # a generator, as promised above
                        return
                    put(item, None, False)
            except BaseException as error:  # carried to the reader, whatever it is
                put(None, error, True)
            else:
                put(None, None, True)

        self._submit(job)
        try:
            while True:
                item, error, end = await items.get()
                if error is not None:
                    raise error
                if end:
                    return
                room.release()
                yield item  # type: ignore[misc]  # not the end, so it is an item
        finally:
            stop.set()
            room.release()

    def post(self, function: Callable[[], object]) -> None:
        """Run *function* in the thread after the jobs that wait; nobody learns of its end. For letting go of things that
        a job may still be using."""

        def job() -> None:
            try:
                function()
            except Exception:  # nobody waits for it
                log.exception("a job of worker %s failed", self.name)

        if self._thread is None or self._closed:
            job()
        else:
            self._jobs.put(job)

    def _submit(self, job: Callable[[], None]) -> None:
        if self._closed:
            raise WorkerLost(f"worker {self.name} has stopped")
        if self._jobs.qsize() >= QUEUE_JOBS:
            raise WorkerBusy(f"worker {self.name} is {QUEUE_JOBS} jobs behind")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"worker-{self.name}", daemon=True)
            self._thread.start()
        self._jobs.put(job)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # or the last job's audio would be kept until the next one comes

    async def close(self, seconds: float = 5.0) -> None:
        """Do the jobs that wait and end the thread. What takes longer than *seconds* is left to itself."""
        if self._closed:
            return
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            self._jobs.put(None)
            await asyncio.get_running_loop().run_in_executor(None, thread.join, seconds)


def _tell(
    loop: asyncio.AbstractEventLoop, future: asyncio.Future[T], result: T | None, error: BaseException | None
) -> None:
    def settle() -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # T, as the job returned it

    try:
        loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has closed: nobody waits any more
        log.debug("a result came after the loop had closed")


_HEADER = struct.Struct(">I")
_LIMIT = 256 * 2**20


class ProcessWorker:
    """A child process that runs one object's methods.

    *script* is a Python file, or the folder of a package, that defines ``create() -> object`` and is imported by the child;
    `call` names a method of that object. Arguments and results are pickled. A child that dies is started again with the next
    call; the call in flight fails with `WorkerLost`. The child sees nothing of this process: no sockets, no files, no locks.
    """

    def __init__(self, name: str, script: Path, *, call_seconds: float = 30.0) -> None:
        self.name = name
        self._script = script
        self._call_seconds = call_seconds
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._closed = False
        self.starts = 0
        """How often a child was started; more than one means that it died in between."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def call(self, method: str, *args: Any) -> Any:
        """Run a method in the child and return its result.

        A caller that is cancelled while it waits for its place costs nothing; once the child works on the call, its answer
        is still read, so that the next call does not get it.
        """
        if self._waiting >= QUEUE_JOBS:
            raise WorkerBusy(f"worker {self.name} is {QUEUE_JOBS} jobs behind")
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        exchange = asyncio.create_task(self._exchange(method, args), name=f"worker-{self.name}/{method}")
        exchange.add_done_callback(self._finished)
        ok, value = await asyncio.shield(exchange)
        if ok:
            return value
        raise value

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._turn.release()
        if not task.cancelled():
            task.exception()  # the caller may have left; do not let the loop complain about it

    async def _exchange(self, method: str, args: tuple[Any, ...]) -> tuple[bool, Any]:
        process = await self._running()
        assert process.stdin is not None and process.stdout is not None
        try:
            async with asyncio.timeout(self._call_seconds):
                body = pickle.dumps((method, args), protocol=pickle.HIGHEST_PROTOCOL)
                process.stdin.write(_HEADER.pack(len(body)) + body)
                await process.stdin.drain()
                (size,) = _HEADER.unpack(await process.stdout.readexactly(_HEADER.size))
                answer: tuple[bool, Any] = pickle.loads(await process.stdout.readexactly(size))
                return answer
        except TimeoutError as error:  # before OSError, which it is a kind of
            await self._end()
            raise WorkerLost(f"the process of {self.name} gave no answer for {self._call_seconds:g} s") from error
        except (OSError, asyncio.IncompleteReadError) as error:
            await self._end()
            raise WorkerLost(f"the process of {self.name} ended unexpectedly") from error
        except asyncio.CancelledError:
            await self._end()
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        self._refuse_when_closed()
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                str(Path(__file__).with_name("child.py")),
                str(self._script),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LIMIT,
            )
            self.starts += 1
            try:
                self._refuse_when_closed()  # since it was being started
            except WorkerLost:
                await self._end()
                raise
        return self._process

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise WorkerLost(f"worker {self.name} has stopped")

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()
        # The transport keeps its pipes until the loop has run once more; close them now so that nothing is left.
        process._transport.close()  # type: ignore[attr-defined]  # asyncio offers no public way

    async def close(self) -> None:
        """End the child. Who waits for it gets `WorkerLost`, now."""
        self._closed = True
        await self._end()
        async with self._turn:  # a child that was just being started has ended, too
            pass


__all__ = ["ProcessWorker", "Worker", "WorkerBusy", "WorkerLost"]
