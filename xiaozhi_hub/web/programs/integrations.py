"""Integrations for programs on this machine: how they are, and to have one look again at its packages, models and files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.web.programs.local import answer, local_only
from xiaozhi_hub.web.requests.failures import Rejected


class IntegrationsApi:
    """``GET /api/integrations`` and ``POST /api/integrations/{domain}/reload``."""

    def __init__(
        self, entries: Callable[[], Sequence[Entry]], reload: Callable[[str], Awaitable[Entry | None]]
    ) -> None:
        """*reload* gives the entry as it is then, None when there is no such one."""
        self._entries = entries
        self._reload = reload

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/integrations", local_only(self._get)),
            web.post("/api/integrations/{domain}/reload", local_only(self._post)),
        ]

    async def _get(self, request: web.Request) -> web.Response:
        return answer({"success": True, "entries": [_told(entry) for entry in self._entries()]})

    async def _post(self, request: web.Request) -> web.Response:
        domain = request.match_info["domain"]
        entry = await self._reload(domain)
        if entry is None:
            raise Rejected(
                404,
                f"There is no integration {domain[:64]}.",
                code="integration-unknown",
                hint="Run: xiaozhi-hub integrations",
            )
        return answer({"success": True, "entry": _told(entry)})


def _told(entry: Entry) -> dict[str, Any]:
    return {"domain": entry.domain, "state": entry.state.value, "reason": entry.reason, "hint": entry.hint}


__all__ = ["IntegrationsApi"]
