"""Who may remember, and with what: the way from a turn to the memory engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from xiaozhi_hub.core.config import MemoryConfig
from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.dialog.assistants.assistants import Assistants
from xiaozhi_hub.engines.memory import Fact, Memory
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import HubError

log = logging.getLogger(__name__)

RECALL_SECONDS = 0.2
"""A model that is asked without what is remembered answers worse; a person who waits longer is not answered better."""


@dataclass(slots=True, eq=False)
class Memories:
    """Shared by all devices."""

    engines: EngineRegistry
    config: MemoryConfig
    """Replaced when the owner wants it otherwise."""
    assistants: Assistants

    @property
    def engine(self) -> Memory | None:
        """What remembers; None where the owner wants nothing remembered."""
        engines = self.engines.memories(self.config.engine) if self.config.enabled else ()
        return engines[0] if engines else None

    def lacking(self) -> dict[str, tuple[str, str]]:
        """The engines that the owner has written and that are not there: message and hint, by a code."""
        known = [engine.info.id for engine in self.engines.memories()]
        missing = [id for id in self.config.engine if id not in known] if self.config.enabled else []
        if not missing:
            return {}
        message = f"The memory is to be {', '.join(missing)}, which is not here."
        return {"lacking-memory": (message, f"There are: {', '.join(known)}.")}

    def of(self, turn: TurnInfo) -> Memory | None:
        """What remembers for the assistant of this turn; None when it may not."""
        return self.engine if self.assistants.of(turn.device_id, turn.area, turn.assistant).memory else None

    async def recall(self, turn: TurnInfo, text: str, limit: int = 5, *, guessed: bool = False) -> Sequence[Fact]:
        """What is remembered of *text*, for a language model's prompt: what people have said, so data and no instructions.

        Never fails and never takes long: then it is nothing. What is only *guessed* does not leave the house for it.
        """
        memory = self.of(turn)
        if memory is None or (guessed and (memory.info.remote or not memory.info.offline)):
            return ()
        try:
            async with asyncio.timeout(RECALL_SECONDS):
                return tuple(await memory.recall(text, limit))
        except TimeoutError:
            log.warning("the memory %s did not answer within %g s", memory.info.id, RECALL_SECONDS)
        except HubError as error:
            log.warning("the memory %s failed: %s", memory.info.id, error)
        return ()


__all__ = ["RECALL_SECONDS", "Memories"]
