"""Every task has an owner.

`TaskScope` is the one place of the hub that makes tasks. Leaving a scope cancels what still runs in it and waits for it, so
nothing outlives its owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

log = logging.getLogger(__name__)
T = TypeVar("T")


class TaskScope:
    """A set of tasks that ends with its ``async with`` block.

    Unlike `asyncio.TaskGroup`, one task's failure does not end its siblings: it is logged, because the tasks of a scope
    serve different people.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def is_closed(self) -> bool:
        """It ends or has ended, and starts nothing any more."""
        return self._closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run *work* until it ends or the scope does."""
        if self._closed:
            work.close()
            raise RuntimeError(f"scope {self.name} is closed")
        task = asyncio.create_task(work, name=f"{self.name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task %s failed: %s", task.get_name(), error, exc_info=error)

    async def close(self) -> None:
        """Cancel everything that runs and wait for it."""
        self._closed = True
        while self._tasks:
            tasks = tuple(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)


async def cancel_and_wait(task: asyncio.Task[Any]) -> None:
    """Cancel *task* and wait until it has ended; its result or failure is left in it.

    `asyncio.wait` rather than ``await task``: our own cancellation must not be taken for the task's.
    """
    if not task.done():
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def prefetch(source: AsyncGenerator[T, None], ahead: int) -> AsyncIterator[AsyncIterator[T]]:
    """Run *source* up to *ahead* items before its reader; leaving the block stops it."""
    queue: asyncio.Queue[tuple[T | None, Exception | None, bool]] = asyncio.Queue(ahead)

    async def pump() -> None:
        try:
            async with aclosing(source):
                async for item in source:
                    await queue.put((item, None, False))
        except Exception as error:  # raised again by the reader, where it can be handled
            await queue.put((None, error, True))
        else:
            await queue.put((None, None, True))

    async def items() -> AsyncIterator[T]:
        while True:
            item, error, end = await queue.get()
            if error is not None:
                raise error
            if end:
                return
            yield item  # type: ignore[misc]  # not the end, so it is an item

    task = asyncio.create_task(pump(), name="prefetch")
    try:
        yield items()
    finally:
        await cancel_and_wait(task)
