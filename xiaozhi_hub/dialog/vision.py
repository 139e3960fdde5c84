"""Looking at pictures: asking the engines, and turns whose question is about a picture that came with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from xiaozhi_hub.core.characters import whole
from xiaozhi_hub.core.flow import Channel, TextDelta, TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.engines.relay import Limits, itself, relay
from xiaozhi_hub.engines.vision import Vision, VisionRequest
from xiaozhi_hub.errors import HubError, StageError

log = logging.getLogger(__name__)
LOOK_S = 25.0
LOOKS = Limits(unknown_ms=8000.0, least_ms=2000.0, most_ms=12_000.0, stall_ms=5000.0)
"""Pictures take their time; after the last of these limits the next engine can still answer within `LOOK_S`."""
_MOST_SAID = 4000
"""Characters of an answer; nobody wants to hear more."""


class NothingSeen(HubError):
    """No engine could say anything about the picture."""

    code = "vision-failed"


async def describe(engines: Sequence[Vision], request: VisionRequest) -> str:
    """Ask the engines until one has answered; the next one when one fails or, on another machine, takes unusually long.
    `NothingSeen` when none does."""

    async def look(engine: Vision) -> AsyncGenerator[TextDelta, None]:
        empty = True
        async with aclosing(engine.describe(request)) as pieces:
            async for piece in pieces:
                empty = empty and not piece.text.strip()
                yield piece
        if empty:
            raise StageError("vision", "it has said nothing")

    said, speaker = "", None
    try:
        async with aclosing(relay(engines, look, LOOKS, itself)) as pieces:
            async for engine, piece in pieces:
                if engine is not speaker:  # half a description is worth nothing
                    said, speaker = "", engine
                said += piece.text
                if len(said) > _MOST_SAID:
                    break
    except Exception as error:  # an engine is anybody's code; the log knows
        raise NothingSeen("no engine could look at the picture") from error
    return whole(" ".join(said.split()))


Keep = Callable[[TurnInfo, bytes, str, str], Awaitable[None]]
"""Keeps a picture (JPEG), its question and the answer with the turn, where the owner wishes so."""


class Eyes:
    """Holds the picture that the next written question of a session is about, and answers that question."""

    def __init__(self, texts: Texts, engines: Callable[[], Sequence[Vision]], keep: Keep) -> None:
        self._texts = texts
        self._engines = engines
        self._keep = keep
        self._shown: dict[str, bytes] = {}

    def show(self, session_id: str, jpeg: bytes) -> None:
        """The next written question of this session is about *jpeg*. Whoever calls this also calls `forget`."""
        self._shown[session_id] = jpeg

    def forget(self, session_id: str) -> None:
        """The next question is about no picture, or the session has ended."""
        self._shown.pop(session_id, None)

    def shown(self, turn: TurnInfo) -> bool:
        """Is the turn about a picture?"""
        return turn.channel is Channel.TEXT and turn.session_id in self._shown

    def take(self, turn: TurnInfo) -> bytes | None:
        """The picture that the turn is about, if any."""
        return self._shown.pop(turn.session_id, None) if turn.channel is Channel.TEXT else None

    async def answer(self, turn: TurnInfo, question: str, jpeg: bytes) -> str:
        """Return what is to be said; where nothing could be seen, why."""
        engines = self._engines()
        if not engines:
            return self._texts.text("vision.no_engine", turn.language)
        try:
            async with asyncio.timeout(LOOK_S):
                said = await describe(engines, VisionRequest(jpeg, question, turn.language))
        except TimeoutError:
            log.warning("a picture of %s was not answered in time", turn.device_id)
            return self._texts.text("vision.slow", turn.language)
        except NothingSeen:
            return self._texts.text("vision.failed", turn.language)
        try:
            await self._keep(turn, jpeg, question, said)
        except HubError as error:
            log.warning("a picture of %s is not kept: %s", turn.device_id, error)
        return said


__all__ = ["Eyes", "NothingSeen", "describe"]
