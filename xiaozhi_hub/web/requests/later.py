"""Routes that are not there yet when the ports open: requests for them wait until they are. They are gone before the ports close:
then requests for them are refused at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from aiohttp import web

from xiaozhi_hub.web.requests.failures import Rejected


class LaterRoutes(web.AbstractResource, web.AbstractRouteDef):
    """Stands behind all other routes of an application: it is asked for what none of them serves."""

    def __init__(self) -> None:
        super().__init__()
        self._router = web.UrlDispatcher()
        self._there = asyncio.Event()

    def shut(self) -> None:
        """Serve nothing from now on. Who has waited until now has done so in vain. Safe to call more than once."""
        self._router = web.UrlDispatcher()
        self._router.add_route("*", "/{anything:.*}", _stopping)
        self._router.freeze()
        self._there.set()

    def add(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        """Serve *routes* from now on. To be called once."""
        self._router.add_routes(routes)
        self._router.freeze()
        self._there.set()

    def register(self, router: web.UrlDispatcher) -> list[web.AbstractRoute]:
        router.register_resource(self)
        return []

    @property
    def canonical(self) -> str:
        return "/"  # which every path is below

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        await self._there.wait()
        match = await self._router.resolve(request)
        if isinstance(match.http_exception, web.HTTPMethodNotAllowed):
            return None, match.http_exception.allowed_methods
        return (match if match.http_exception is None else None), set()

    def raw_match(self, path: str) -> bool:
        return False  # no more routes may be added to it

    def url_for(self, **_: str) -> NoReturn:
        raise TypeError("this is many addresses")

    def add_prefix(self, prefix: str) -> NoReturn:
        raise TypeError("this belongs into no application of another")

    def get_info(self) -> Any:
        return {"path": self.canonical}

    def __len__(self) -> int:
        return len(self._router.routes())

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(self._router.routes())


def stopping() -> Rejected:
    """What somebody is told who asks too late."""
    return Rejected(503, "The hub is stopping.", code="hub-stopping", hint="Ask again in a moment.")


async def _stopping(_: web.Request) -> NoReturn:
    raise stopping()


__all__ = ["LaterRoutes", "stopping"]
