"""One utterance and the recognisers that may hear it.

The best one hears it. Where that one is *closed*, it knows the hub's own sentences and nothing else: then the first open one hears
along, and whatever the closed one does not understand is taken from there, without a moment lost. A recogniser that fails is
tried once more with the whole utterance at the end, and then the ones after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from xiaozhi_hub.core.flow import PcmChunk, Transcript
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.errors import HubError, StageError

log = logging.getLogger(__name__)

Question = Callable[[AsrStream], Coroutine[Any, Any, Transcript]]


class Recognition:
    """Feed it, ask for guesses in the silence, let it finish, close it."""

    def __init__(self, recognisers: Sequence[Asr], request: AsrRequest, scope: TaskScope) -> None:
        self._recognisers = recognisers
        self._request = request
        self._scope = scope
        self._utterance: list[PcmChunk] = []
        self._streams: dict[Asr, AsrStream] = {}
        for asr in first_and_along(recognisers):
            try:
                self._streams[asr] = asr.open(request)
            except Exception as error:  # an engine is anybody's code; it is asked once more at the end
                _noted(asr, error)

    async def feed(self, chunk: PcmChunk) -> None:
        """Take the next piece of the utterance."""
        self._utterance.append(chunk)
        for asr, stream in tuple(self._streams.items()):
            try:
                await stream.feed(chunk)
            except Exception as error:  # an engine is anybody's code
                _noted(asr, error)
                await self._drop(asr)

    @property
    def hears(self) -> bool:
        """Is there a recogniser left that could guess?"""
        return bool(self._streams)

    @property
    def so_far(self) -> str:
        """What a recogniser that works while the person speaks has heard up to now; empty where none does."""
        partials = (stream.partial for stream in self._streams.values())
        return next((partial.text for partial in partials if partial is not None and partial.text), "")

    async def guess(self, *, early: bool = False) -> Transcript:
        """Say what has been said, as if the person had stopped now; *early* where the last sound may still be fading away. May
        be cancelled."""
        return await self._ask(tuple(self._streams), lambda stream: stream.guess_early() if early else stream.guess())

    async def finish(self) -> Transcript:
        """Say what was said. Raises `StageError` when no recogniser could hear it at all."""
        return await self._ask(self._recognisers, lambda stream: stream.finish())

    async def aclose(self) -> None:
        for asr in tuple(self._streams):
            await self._drop(asr)

    # -- asking ---------------------------------------------------------------------------------------------------

    async def _ask(self, recognisers: Sequence[Asr], question: Question) -> Transcript:
        """The answer of the first that understands; those that hear along think at the same time, and stop when it is not needed."""
        along = {
            asr: self._scope.start(_caught(question, self._streams[asr]), name=f"ask-{asr.info.id}")
            for asr in recognisers[1:]
            if asr in self._streams
        }
        nothing: Transcript | None = None
        problem: HubError | None = None
        try:
            for asr in recognisers:
                try:
                    transcript = await (_told(along[asr]) if asr in along else self._ask_one(asr, question))
                except Exception as error:  # an engine is anybody's code
                    problem = _noted(asr, error)
                    await self._drop(asr)
                    continue
                if transcript.text or not asr.info.closed:
                    return transcript
                nothing = transcript
        finally:
            for task in along.values():
                await cancel_and_wait(task)
        if nothing is not None:
            return nothing
        if isinstance(problem, StageError):
            raise problem
        raise StageError("asr", f"no recogniser could hear this: {problem}") from problem

    async def _ask_one(self, asr: Asr, question: Question) -> Transcript:
        stream = self._streams.get(asr)
        if stream is None:
            stream = self._streams[asr] = asr.open(self._request)
            for chunk in self._utterance:
                await stream.feed(chunk)
        return await question(stream)

    async def _drop(self, asr: Asr) -> None:
        stream = self._streams.pop(asr, None)
        if stream is None:
            return
        try:
            await stream.aclose()
        except Exception as error:  # an engine is anybody's code
            _noted(asr, error)


def first_and_along(recognisers: Iterable[Asr]) -> tuple[Asr, ...]:
    """The recognisers that hear an utterance from its beginning: the first, and where it is closed the ones up to the first
    open one."""
    chosen: list[Asr] = []
    for asr in recognisers:
        chosen.append(asr)
        if not asr.info.closed:
            break
    return tuple(chosen)


def _noted(asr: Asr, error: Exception) -> HubError:
    """Log what went wrong with *asr*; return it as a failure that a person can be told about."""
    if isinstance(error, HubError):
        log.warning("recogniser %s failed: %s", asr.info.id, error)
        return error
    log.error("recogniser %s failed", asr.info.id, exc_info=error)
    return StageError("asr", f"{asr.info.id} has failed: {type(error).__name__}")


Answer = tuple[Transcript | None, Exception | None]


async def _caught(question: Question, stream: AsrStream) -> Answer:
    """A failure is a result: nobody may ask for it."""
    try:
        return await question(stream), None
    except Exception as error:  # an engine is anybody's code
        return None, error


async def _told(task: asyncio.Task[Answer]) -> Transcript:
    await asyncio.wait([task])  # not the task itself: our own cancellation must not be taken for the task's
    transcript, error = task.result()
    if error is not None:
        raise error
    assert transcript is not None
    return transcript


__all__ = ["Recognition", "first_and_along"]
