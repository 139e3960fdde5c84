"""What a device has been understood to say, and what was done about it, for this device while the conversation goes on.

The id of the conversation is the proof: it is random, the hub tells it to the device in its hello and to nobody else, and it is
good until the link ends. So a device learns nothing here but what it took part in, from whatever machine it asks.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from xiaozhi_hub.core.flow import TurnRecord
from xiaozhi_hub.web.programs.chat_json import told_time
from xiaozhi_hub.web.programs.local import answer, enveloped
from xiaozhi_hub.web.requests.failures import Rejected

TURNS_TOLD = 20
SESSION_ID = "Session-Id"
"""The header that holds the id: addresses end up in logs."""


class OwnTurns:
    """*session_of* gives the id of the conversation that a device is in, None when it is in none; *turns_of* the newest turns of a
    device, newest first."""

    def __init__(
        self,
        session_of: Callable[[str], str | None],
        turns_of: Callable[[str, int], Awaitable[Sequence[TurnRecord]]],
    ) -> None:
        self._session_of = session_of
        self._turns_of = turns_of

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/api/v2/conversations/{device_id}", enveloped(self._tell))]

    async def _tell(self, request: web.Request) -> web.Response:
        device_id, shown = request.match_info["device_id"], request.headers.get(SESSION_ID, "")
        session_id = self._session_of(device_id)
        if session_id is None or not hmac.compare_digest(session_id.encode(), shown.encode(errors="surrogateescape")):
            raise Rejected(
                403,
                "Only a device itself may ask this, while it talks with the hub.",
                code="forbidden",
                hint=f"Send the session_id of the hub's hello in the header {SESSION_ID}, while the connection lasts.",
            )
        turns = [turn for turn in await self._turns_of(device_id, TURNS_TOLD) if turn.session_id == session_id]
        return answer({"success": True, "device_id": device_id, "turns": [_told(turn) for turn in reversed(turns)]})


def _told(turn: TurnRecord) -> dict[str, object]:
    """A turn without what its tools returned: that may hold more than was said."""
    return {
        "started_at": told_time(turn.started_at),
        "message": turn.heard,
        "response": turn.said,
        "outcome": turn.outcome.value,
        "tool_calls": [
            {"name": call.name, "arguments": call.arguments, "error": call.error} for call in turn.tool_calls
        ],
    }


__all__ = ["SESSION_ID", "OwnTurns"]
