"""Waiting for what must not happen, and for what is to have happened before anything else does."""

from __future__ import annotations

import asyncio
import math

_STEP = 0.01


async def while_the_loop_turns(seconds: float) -> None:
    """Wait in steps. After one long wait in which this machine stood still, nobody else has had a turn; here everybody has."""
    for _ in range(math.ceil(seconds / _STEP)):
        await asyncio.sleep(_STEP)
