"""Keeps intents and recognisers up to date with the names and sentences that there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from xiaozhi_hub.core.i18n import LANGUAGES
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.intents.intents import Intents
from xiaozhi_hub.engines.asr import Asr
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)

DELAY_SECONDS = 0.1
"""Names change in bursts, when an integration starts: recognisers learn once for all of them."""
LEARN_SECONDS = 30.0
"""A recogniser that has not learned by then goes on with what it knew."""


class Learning:
    """*problem* shows what cannot be learned (code, message, hint), *solved* takes that back (code)."""

    def __init__(
        self,
        intents: Intents,
        engines: EngineRegistry,
        scope: TaskScope,
        problem: Callable[[str, str, str], None],
        solved: Callable[[str], object],
    ) -> None:
        self._intents = intents
        self._engines = engines
        self._scope = scope
        self._problem = problem
        self._solved = solved
        self._soon: asyncio.Task[None] | None = None

    def soon(self) -> None:
        """Something has changed: learn in a moment, once for all that changes until then."""
        if self._soon is None or self._soon.done():
            self._soon = self._scope.start(self._after_a_moment(), name="learn")

    async def _after_a_moment(self) -> None:
        await asyncio.sleep(DELAY_SECONDS)
        self._soon = None  # a change from here on is learned in another round
        await self.learn()

    async def learn(self) -> None:
        """Make intents and recognisers know the names and sentences of now."""
        heard = {language: self._engines.asrs((), language) for language in LANGUAGES}
        await self._intents.rebuild([language for language in LANGUAGES if heard[language]])
        if problems := self._intents.problems:
            told = "\n".join(f"{problem.place}: {problem.message}" for problem in problems)
            self._problem("sentences", f"Sentences are missing: {told}", problems[0].hint)
        else:
            self._solved("sentences")
        for language, recognisers in heard.items():
            for recogniser in recognisers:
                await self._teach(recogniser, language)

    async def _teach(self, recogniser: Asr, language: str) -> None:
        code, name = f"learn-{recogniser.info.id}-{language}", recogniser.info.name
        try:
            async with asyncio.timeout(LEARN_SECONDS):
                await recogniser.learn(self._intents.book(language))
        except HubError as error:
            self._problem(code, f"{name}: {error.message}", error.hint)
        except Exception as error:  # an engine's own: the others learn, and the hub becomes ready
            log.exception("%s could not learn", name)
            self._problem(code, f"{name} could not learn the names: {type(error).__name__}: {error}", "")
        else:
            self._solved(code)


__all__ = ["Learning"]
