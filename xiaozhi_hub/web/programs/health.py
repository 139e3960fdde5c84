"""How the hub is, for programs that watch over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from aiohttp import web

from xiaozhi_hub.web.pages.status import PartStatus
from xiaozhi_hub.web.programs.local import answer, local_only

Look = Callable[[], Sequence[PartStatus] | None]
"""Returns how each part is, at once; None while the hub starts."""


class Health:
    """Shows what *look* tells: to everybody in one word, to this machine with what is behind it."""

    def __init__(self, look: Look, version: str) -> None:
        self._look = look
        self._version = version

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/health", self._brief), web.get("/health/detailed", local_only(self._detailed))]

    async def _brief(self, _: web.Request) -> web.Response:
        return answer({"status": status_of(self._look()), "version": self._version})

    async def _detailed(self, _: web.Request) -> web.Response:
        parts = self._look()
        return answer(
            {
                "status": status_of(parts),
                "version": self._version,
                "timestamp": datetime.now(UTC).isoformat(),
                "services": {
                    part.name: {"status": "healthy" if part.healthy else "unhealthy", "detail": part.detail}
                    for part in parts or ()
                },
            }
        )


def status_of(parts: Sequence[PartStatus] | None) -> str:
    if parts is None:
        return "starting"
    return "healthy" if all(part.healthy for part in parts) else "degraded"


__all__ = ["Health", "status_of"]
