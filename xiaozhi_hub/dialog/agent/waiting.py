"""A word for those who wait: said when an answer takes long to begin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.errors import StageError

T = TypeVar("T")

PATIENCE_SECONDS = 2.5
"""After that people believe that they were not heard, and begin again."""


async def with_a_word(
    pieces: AsyncGenerator[T, None], word: Callable[[], T | None], scope: TaskScope, seconds: float | None = None
) -> AsyncGenerator[T, None]:
    """Yield *pieces*, and before them what *word* gives when the first does not come within *seconds* (`PATIENCE_SECONDS`)."""
    queue: asyncio.Queue[tuple[T | None, Exception | None]] = asyncio.Queue(1)

    async def pump() -> None:
        try:
            async with aclosing(pieces):
                async for piece in pieces:
                    await queue.put((piece, None))
        except asyncio.CancelledError:  # by the scope, while somebody still reads
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait((None, StageError("llm", "the hub is stopping", code="stopping")))
            raise
        except Exception as error:  # the reader raises it where it is handled
            await queue.put((None, error))
        else:
            await queue.put((None, None))

    task = scope.start(pump(), name="answer")
    try:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS if seconds is None else seconds):
                piece, error = await queue.get()
        except TimeoutError:
            if (said := word()) is not None:
                yield said
            piece, error = await queue.get()
        while piece is not None:
            yield piece
            piece, error = await queue.get()
        if error is not None:
            raise error
    finally:
        await cancel_and_wait(task)
