"""What is remembered, for programs on this machine: list it with its receipts, and delete it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from xiaozhi_hub.dialog.memory.memories import Memories
from xiaozhi_hub.engines.memory import Fact, Memory
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.web.programs.local import answer, local_only
from xiaozhi_hub.web.requests.body import read_json, text_field
from xiaozhi_hub.web.requests.failures import Rejected

MOST = 500
"""Facts of one answer."""
_USUAL = 100
_LONGEST_ID = 64
_LONGEST_QUESTION = 500

WordsBehind = Callable[[Sequence[str]], Awaitable[Mapping[str, str]]]
"""What was heard in those turns that the history still has."""


class MemoryApi:
    """``GET /api/memory`` and ``POST /api/memory/forget``."""

    def __init__(self, memories: Callable[[], Awaitable[Memories]], words_behind: WordsBehind) -> None:
        self._memories = memories
        self._words_behind = words_behind

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/memory", local_only(self._list)),
            web.post("/api/memory/forget", local_only(self._forget)),
        ]

    async def _list(self, request: web.Request) -> web.Response:
        values = dict(request.query)
        about = text_field(values, "about", most=_LONGEST_QUESTION)
        before = text_field(values, "before", most=_LONGEST_ID)
        limit = _limit(values.get("limit"))
        memory = await self._memory()
        facts = await memory.recall(about, limit) if about else await memory.listed(limit, before)
        heard = await self._words_behind([fact.turn_id for fact in facts])
        return answer(
            {
                "success": True,
                "engine": memory.info.id,
                "count": await memory.count(),
                "facts": [_told(fact, heard.get(fact.turn_id)) for fact in facts],
            }
        )

    async def _forget(self, request: web.Request) -> web.Response:
        values = await read_json(request)
        ids, everything = values.get("ids", []), values.get("everything", False)
        if not isinstance(ids, list) or not all(isinstance(id, str) and len(id) <= _LONGEST_ID for id in ids):
            raise ProtocolError("'ids' must be a list of ids.", code="field-invalid")
        if not isinstance(everything, bool):
            raise ProtocolError("'everything' must be true or false.", code="field-invalid")
        if bool(ids) == everything:
            raise ProtocolError("Say either 'ids' or 'everything'.", code="field-missing")
        memory = await self._memory()
        return answer({"success": True, "forgotten": await (memory.clear() if everything else memory.forget(ids))})

    async def _memory(self) -> Memory:
        memory = (await self._memories()).engine
        if memory is None:
            hint = "See memory: enabled: and engine: in the configuration."
            raise Rejected(409, "This hub remembers nothing.", code="memory-off", hint=hint)
        return memory


def _limit(value: str | None) -> int:
    if value is None:
        return _USUAL
    if not value.isdecimal() or len(value) > 6 or not 1 <= int(value) <= MOST:
        raise ProtocolError(f"'limit' must be 1 to {MOST}.", code="field-invalid")
    return int(value)


def _told(fact: Fact, heard: str | None) -> dict[str, Any]:
    """A fact with its receipt. ``heard`` is null where the history does not have the turn any more."""
    return {
        "id": fact.id,
        "text": fact.text,
        "person": fact.person,
        "language": fact.language,
        "noted_at": fact.noted_at,
        "noted_by": fact.noted_by,
        "device": fact.device_id,
        "turn": {"id": fact.turn_id, "heard": heard},
    }


__all__ = ["MemoryApi"]
