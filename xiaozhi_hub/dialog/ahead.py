"""While it is not certain yet what was said, a language model reads what it will probably be asked.

Between the last word and the end of a turn lie 120 to 1,000 ms of silence, and the words are usually known after the first 100: time in
which a model on this machine evaluates the end of its prompt. When the words turn out to be these, it begins to write at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from xiaozhi_hub.core.flow import Transcript
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)

Prepare = Callable[[Transcript], Awaitable[Callable[[], Awaitable[None]] | None]]
"""What can be done ahead for a guess; None when that is nothing. Without effects, as is what it returns."""


class Ahead:
    """The work ahead of one turn. To be closed with it."""

    def __init__(self, prepare: Prepare, scope: TaskScope) -> None:
        self._prepare = prepare
        self._scope = scope
        self._guess: Transcript | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        """What was for other guesses, and has not let go of the engine yet."""
        self._handed_over = False
        """The engine has it: when it is really asked, it knows what to do with what it is reading."""

    def guessed(self, guess: Transcript | None) -> None:
        """That has probably been said; None: that was not all."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._stopping.add(self._task)
            self._task.add_done_callback(self._stopping.discard)
        self._guess, self._task, self._handed_over = guess, None, False
        if guess is not None and guess.text and not self._scope.is_closed():
            self._task = self._scope.start(self._work(guess), name="ahead")

    async def settle(self, heard: Transcript | None) -> None:
        """*heard* is what was said: go on with what serves it, stop anything else."""
        if not self._handed_over or self._guess is None or heard is None or not _same(self._guess, heard):
            await self.close()

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            await cancel_and_wait(self._task)

    async def _work(self, guess: Transcript) -> None:
        while self._stopping:
            await asyncio.wait(tuple(self._stopping))
        try:
            read = await self._prepare(guess)
        except HubError as error:  # whoever really answers will meet it again
            log.debug("nothing is done ahead: %s", error)
            return
        if read is not None:
            self._handed_over = True
            await read()


def _same(guess: Transcript, heard: Transcript) -> bool:
    return (guess.text, guess.language) == (heard.text, heard.language)


__all__ = ["Ahead"]
