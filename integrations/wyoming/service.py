"""A Wyoming service elsewhere: what it can do, and conversations with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.info import Describe, Info, SelectProgram

from xiaozhi_hub.plugins.api import ProtocolError, StageError

from .wire import NOT_AN_EVENT, Connection

CONNECT_S = 3.0
DESCRIBE_S = 5.0
MOST_BYTES = 4 * 2**20
"""Of one part of an event: some services list hundreds of voices."""
MOST_CONVERSATIONS = 16
"""At the same time, with one service. Whether it is there can be asked beside them: who is busy is not gone."""
_LOOK = "wyoming"
_MOST_TOLD = 200
T = TypeVar("T")


class Service:
    """One address. Each question has a connection of its own, as all Wyoming servers expect: ending it ends their work."""

    def __init__(self, name: str, uri: str, answer_s: float) -> None:
        """*answer_s*: for how long an answer is waited for."""
        self.name = name
        self.uri = uri
        self.answer_s = answer_s
        self.suspect = asyncio.Event()
        """Set when it let somebody down."""
        self._open = 0

    async def describe(self) -> Info:
        """Ask what it can do. Raises `StageError`, soon."""
        async with self.talk(_LOOK) as talk:
            await talk.say(Describe())
            async with asyncio.timeout(DESCRIBE_S):
                while True:
                    event = await talk.hear()
                    if Info.is_type(event.type):
                        try:
                            return Info.from_event(event)
                        except NOT_AN_EVENT as error:
                            raise ProtocolError("it does not say what it can do", close=True) from error

    @asynccontextmanager
    async def talk(self, stage: str, program: str | None = None) -> AsyncIterator[Talk]:
        """Hold a conversation on a new connection; leaving the block ends it, on the other side too.

        *program* is named where it is not the service's first. Whatever goes wrong with the service is a `StageError` of
        *stage*.
        """
        if stage != _LOOK and self._open >= MOST_CONVERSATIONS:
            raise StageError(stage, f"{self.name} is asked too much at once", code=f"{stage}-busy")
        self._open += 1
        connection: Connection | None = None
        done = False
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = await Connection.to(self.uri, MOST_BYTES)
            if program is not None:
                await connection.write(SelectProgram(program).event())
            yield Talk(connection, stage, self.name)
            done = True
        except TimeoutError as error:
            raise self._failure(stage, "takes too long", "slow") from error
        except OSError as error:
            raise self._failure(stage, f"is not there: {error.strerror or error}", "unreachable") from error
        except ProtocolError as error:
            raise self._failure(stage, f"cannot be understood: {error.message}", "failed") from error
        except StageError:
            self.suspect.set()
            raise
        finally:
            self._open -= 1
            if connection is not None:
                if done:
                    await connection.close()
                else:
                    connection.abort()

    def _failure(self, stage: str, what: str, code: str) -> StageError:
        self.suspect.set()
        return StageError(
            stage, f"{self.name} ({self.uri}) {what}", code=f"{stage}-{code}", hint="Is the service running?"
        )


class Talk:
    """One conversation. Raises `StageError` when the service gives up; other failures are for `Service.talk` to name."""

    def __init__(self, connection: Connection, stage: str, name: str) -> None:
        self._connection = connection
        self._stage = stage
        self._name = name

    async def say(self, event: Eventable) -> None:
        await self._connection.write(event.event())

    async def hear(self) -> Event:
        """The next event."""
        event = await self._connection.read()
        if event is None:
            raise StageError(self._stage, f"{self._name} has hung up", code=f"{self._stage}-lost")
        if Error.is_type(event.type):
            told = " ".join(str(event.data.get("text", "")).split())[:_MOST_TOLD]
            raise StageError(self._stage, f"{self._name} refuses: {told}", code=f"{self._stage}-refused")
        return event

    async def hear_of(self, seconds: float, matters: Callable[[Event], bool]) -> Event:
        """The next event that *matters*. TimeoutError when none has come within *seconds*, however many others have."""
        async with asyncio.timeout(seconds):
            while True:
                event = await self.hear()
                if matters(event):
                    return event


async def heard_while(saying: Coroutine[Any, Any, None], hearing: Coroutine[Any, Any, T], answer_s: float) -> T:
    """Say and hear at the same time. What is heard ends it, at the latest *answer_s* after all was said; a failure ends both.

    Raises that failure, or TimeoutError.
    """
    try:
        async with asyncio.TaskGroup() as group:
            heard, said = group.create_task(hearing), group.create_task(saying)
            await asyncio.wait([heard, said], return_when=asyncio.FIRST_COMPLETED)
            if not heard.done():
                async with asyncio.timeout(answer_s):
                    await asyncio.wait([heard])
            said.cancel()
    except ExceptionGroup as errors:  # what failed first ended the other
        raise errors.exceptions[0] from errors
    return heard.result()


def text_of(event: Event) -> str:
    """The text of an event; empty where it has none. Raises `ProtocolError`."""
    text = event.data.get("text")
    if text is None:
        return ""
    if not isinstance(text, str):
        raise ProtocolError(f"the text of {event.type} is no text", close=True)
    return text.encode("utf-8", "replace").decode()  # JSON can carry halves of characters, which nothing else can
