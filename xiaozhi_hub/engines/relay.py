"""One piece of work, given to several engines: the next one helps out when one fails, dies in the middle, or keeps people waiting."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Generic, TypeVar

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.engines.base import Engine
from xiaozhi_hub.engines.failures import note_failure
from xiaozhi_hub.errors import StageError

log = logging.getLogger(__name__)
W = TypeVar("W")
"""Whom to ask: an engine, or an engine and how to ask it."""
E = TypeVar("E", bound=Engine)
T = TypeVar("T")

AHEAD = 16
"""Results that an engine may be ahead of who takes them."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long an engine on another machine is waited for before the next one is asked as well. Engines on this machine are
    waited for until they fail: a second one would only take the processor from the first."""

    unknown_ms: float
    """While nobody knows how long it usually takes."""
    least_ms: float = 150.0
    most_ms: float = 5000.0
    stall_ms: float = 3000.0
    """Silence in the middle after which it counts as dead, while there is somebody else."""


class _Ended:
    """An engine has given all it has."""


class _Runner(Generic[W, T]):
    """One engine at work, in a task of its own."""

    def __init__(
        self, whom: W, engine: Engine, source: AsyncGenerator[T, None], scope: TaskScope, news: asyncio.Event
    ) -> None:
        self.whom = whom
        self.engine = engine
        self._news = news
        self._results: asyncio.Queue[T | _Ended | Exception] = asyncio.Queue(AHEAD)
        self.began_at = asyncio.get_running_loop().time()
        self._task = scope.start(self._work(source), name=f"run-{engine.info.id}")

    async def _work(self, source: AsyncGenerator[T, None]) -> None:
        end: _Ended | Exception = _Ended()
        try:
            async with aclosing(source):
                async for result in source:
                    await self._results.put(result)
                    self._news.set()
        except Exception as error:  # an engine is anybody's code; raised again where another engine can help out
            end = error
        await self._results.put(end)
        self._news.set()

    @property
    def has_begun(self) -> bool:
        """There is a first result, or the end."""
        return not self._results.empty()

    @property
    def waited_ms(self) -> float:
        return (asyncio.get_running_loop().time() - self.began_at) * 1000

    def late_ms(self, limits: Limits) -> float | None:
        """When it is late; None for an engine that is waited for."""
        if not self.engine.info.remote:
            return None
        return self.engine.health.begins.late_ms(limits.unknown_ms, limits.least_ms, limits.most_ms)

    async def take(self, stall_ms: float | None = None) -> T | _Ended:
        """The next result. Raises what the engine raised, and `StageError` when it is silent for so long."""
        if not self._results.empty() or stall_ms is None or not self.engine.info.remote:
            result = await self._results.get()
        else:
            try:
                async with asyncio.timeout(stall_ms / 1000):
                    result = await self._results.get()
            except TimeoutError as error:
                if self._results.empty():
                    raise StageError(self.engine.info.role.value, "it has fallen silent") from error
                result = self._results.get_nowait()  # it was this process that stood still
        if isinstance(result, Exception):
            raise result
        return result

    def drop(self) -> None:
        """Its results are not wanted; who owns the scope waits for its end."""
        self._task.cancel()


def itself(engine: E) -> E:
    """For a `relay` whose targets are engines."""
    return engine


async def relay(
    targets: Sequence[W],
    start: Callable[[W], AsyncGenerator[T, None]],
    limits: Limits,
    engine_of: Callable[[W], Engine],
) -> AsyncGenerator[tuple[W, T], None]:
    """Yield the results of the first of *targets* that begins, each with the target that it comes from.

    When that one fails, however much it has given, *start* is called for another one, which yields what is still missing.
    Raises what the last one raised.
    """
    waiting = deque(targets)
    problem: Exception = StageError("turn", "there is no engine")
    async with TaskScope("relay") as scope:
        while waiting:
            begun = await _first_to_begin(waiting, start, limits, engine_of, scope)
            if isinstance(begun, Exception):
                problem = begun
                break
            runner, result, overtaken = begun
            waiting.extend(overtaken)  # better late than never
            try:
                while not isinstance(result, _Ended):
                    yield runner.whom, result
                    result = await runner.take(limits.stall_ms if waiting else None)
            except Exception as error:  # an engine is anybody's code
                note_failure(runner.engine, error)
                _to_the_end(waiting, runner.engine, engine_of)
                problem = error
                runner.drop()
            else:
                runner.engine.health.succeeded()
                return
    raise problem


async def _first_to_begin(
    waiting: deque[W],
    start: Callable[[W], AsyncGenerator[T, None]],
    limits: Limits,
    engine_of: Callable[[W], Engine],
    scope: TaskScope,
) -> tuple[_Runner[W, T], T | _Ended, list[W]] | Exception:
    """Start engines from *waiting*, the next one when all before it have failed or are late, until one begins.

    Returns that one, its first result, and those that it has overtaken; or what the last one raised, when all have failed.
    """
    news = asyncio.Event()
    racing: list[_Runner[W, T]] = []
    problem: Exception = StageError("turn", "there is no engine")
    while waiting or racing:
        if waiting and (not racing or _all_late(racing, limits)):
            whom = waiting.popleft()
            engine = engine_of(whom)
            engine.health.asked()
            racing.append(_Runner(whom, engine, start(whom), scope, news))
        ready = [runner for runner in racing if runner.has_begun]
        if not ready:
            news.clear()
            await _wait(news, racing, limits if waiting else None)
            continue
        for runner in ready:
            racing.remove(runner)
            try:
                first = await runner.take()
            except Exception as error:  # an engine is anybody's code
                if note_failure(runner.engine, error):
                    _to_the_end(waiting, runner.engine, engine_of)
                problem = error
                continue
            runner.engine.health.began(runner.waited_ms)
            for loser in racing:
                loser.drop()
                if _all_late([loser], limits):
                    loser.engine.health.overtaken()
                    log.warning("%s %s takes too long", loser.engine.info.role, loser.engine.info.id)
            return runner, first, [loser.whom for loser in racing]
    return problem


def _to_the_end(waiting: deque[W], failed: Engine, engine_of: Callable[[W], Engine]) -> None:
    """What else there is for an engine that has just failed is tried after everything else."""
    ordered = sorted(waiting, key=lambda whom: engine_of(whom) is failed)
    waiting.clear()
    waiting.extend(ordered)


def _all_late(racing: Sequence[_Runner[W, T]], limits: Limits) -> bool:
    return all((late := runner.late_ms(limits)) is not None and runner.waited_ms >= late for runner in racing)


async def _wait(news: asyncio.Event, racing: Sequence[_Runner[W, T]], limits: Limits | None) -> None:
    """Wait for a first result, or until the last of *racing* is late: with *limits*, somebody else can be asked then."""
    left = [late - runner.waited_ms for runner in racing if limits and (late := runner.late_ms(limits)) is not None]
    if len(left) < len(racing):
        await news.wait()
        return
    try:
        async with asyncio.timeout(max(0.0, *left) / 1000 + 0.001):
            await news.wait()
    except TimeoutError:
        pass


__all__ = ["Limits", "itself", "relay"]
