"""The configuration for programs on this machine: have its files read again, or see what in them is not in force."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from xiaozhi_hub.core.changes import Change
from xiaozhi_hub.errors import ConfigErrors
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.web.programs.local import answer, local_only
from xiaozhi_hub.web.requests.failures import Rejected


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of reading the files again."""

    changes: tuple[Change, ...]
    """Those that are in force now, and all that wait for a restart."""
    entries: tuple[Entry, ...] = ()
    """The integrations that were started or restarted, as they are now."""
    trouble: str = ""
    """Which parts of the hub have not taken their new values, for people."""


class ConfigurationApi:
    """``POST /api/configuration/reload`` and ``GET /api/configuration/changes``; no answer holds a secret."""

    def __init__(
        self, reload: Callable[[], Awaitable[Reloaded]], outstanding: Callable[[], Awaitable[tuple[Change, ...]]]
    ) -> None:
        self._reload = reload
        self._outstanding = outstanding

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/configuration/reload", local_only(self._post)),
            web.get("/api/configuration/changes", local_only(self._get)),
        ]

    async def _post(self, _: web.Request) -> web.Response:
        try:
            done = await self._reload()
        except ConfigErrors as wrong:
            raise _refused(wrong) from wrong
        entries = [
            {"domain": entry.domain, "state": entry.state.value, "reason": entry.reason, "hint": entry.hint}
            for entry in done.entries
        ]
        return answer({"success": True, "changes": _plain(done.changes), "entries": entries, "trouble": done.trouble})

    async def _get(self, _: web.Request) -> web.Response:
        try:
            changes = await self._outstanding()
        except ConfigErrors as wrong:
            raise _refused(wrong) from wrong
        return answer({"success": True, "changes": _plain(changes)})


def _plain(changes: Iterable[Change]) -> list[dict[str, Any]]:
    return [
        {
            "key": change.key,
            "before": change.before,
            "after": change.after,
            "what": change.what,
            "needs_restart": change.restart,
        }
        for change in changes
    ]


def _refused(wrong: ConfigErrors) -> Rejected:
    return Rejected(422, str(wrong), code=wrong.code, hint="The hub goes on with the configuration that it had.")


__all__ = ["ConfigurationApi", "Reloaded"]
