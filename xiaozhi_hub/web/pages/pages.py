"""Pages for people, made on the server: without scripts, in two languages, for phones, by day and by night."""

from __future__ import annotations

import html
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from xiaozhi_hub.core.characters import whole
from xiaozhi_hub.core.i18n import LANGUAGES, Texts, language_of
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.web.pages.status import HubStatus
from xiaozhi_hub.web.pages.waterfall import bars
from xiaozhi_hub.web.requests.hosts import is_loopback

if TYPE_CHECKING:
    import jinja2

log = logging.getLogger(__name__)
HERE = Path(__file__).parent
ROLES = ("vad", "wake", "asr", "llm", "tts", "vision", "memory")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "Accept-Language",
}


class Pages:
    """Shows what *status* tells."""

    def __init__(
        self, texts: Texts, status: Callable[[], Awaitable[HubStatus]], version: str, *, default_language: str = "en"
    ) -> None:
        self._texts = texts
        self._status = status
        self._version = version
        self._default_language = language_of(default_language)
        self._worker = Worker("pages")
        self._templates: jinja2.Environment | None = None

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/", self.home),
            web.get("/favicon.ico", self.icon),
            web.static("/static", HERE / "static"),
        ]

    async def home(self, request: web.Request) -> web.Response:
        """How the hub is, what to type into a device, who is connected, what was said last."""
        status = await self._status()
        see_turns = is_loopback(request)
        if not see_turns:  # what was said at home is personal, and nobody has an account yet; codes are for the owner
            status = replace(status, turns=(), waiting=tuple(replace(each, code="") for each in status.waiting))
        engines = [(role, [e for e in status.engines if e.role == role]) for role in ROLES]
        return await self._page(
            request,
            "home.html",
            status=status,
            see_turns=see_turns,
            engines=[(role, found) for role, found in engines if found or role in ("vad", "asr", "tts", "llm")],
            turns=[(turn, bars(turn.stamps)) for turn in status.turns],
        )

    async def ota(self, request: web.Request) -> web.Response:
        """What a person sees who opens the devices' address in a browser."""
        return await self._page(request, "ota.html", status=await self._status())

    async def device(self, request: web.Request) -> web.Response:
        """What a person sees who opens the devices' WebSocket address in a browser."""
        return await self._page(request, "device.html", status=await self._status(), code=426)

    async def icon(self, request: web.Request) -> web.StreamResponse:
        return web.FileResponse(HERE / "static" / "icon.svg", headers={"Content-Type": "image/svg+xml"})

    async def failure(self, request: web.Request, status: int, error: HubError) -> web.Response:
        """A failure, with what to do about it."""
        try:
            return await self._page(request, "failure.html", code=status, error=error)
        except Exception:  # the border of the HTTP request: a page about a failure must not fail
            log.exception("the page about a failure failed")
            text = f"<!doctype html><title>{status}</title><p>{html.escape(str(error))}"
            return web.Response(status=status, text=text, content_type="text/html")

    async def close(self) -> None:
        await self._worker.close()

    def language(self, request: web.Request) -> str:
        """The language of the reader: what the link says, then the browser, then the hub."""
        asked = request.query.get("lang", "")
        if asked in LANGUAGES:
            return asked
        return preferred_language(request.headers.get("Accept-Language", ""), self._default_language)

    async def _page(self, request: web.Request, template: str, *, code: int = 200, **values: Any) -> web.Response:
        if self._templates is None:
            # The template engine takes a tenth of a second to import: not while devices are waiting to check in.
            self._templates = await self._worker.run(_load_templates)
        language = self.language(request)

        def text(key: str, **parts: object) -> str:
            return self._texts.text(f"page.{key}", language, **parts)

        def known(key: str, fallback: str) -> str:
            return text(key) if self._texts.has(f"page.{key}", "en") else fallback

        def ago(moment: float) -> str:
            seconds = max(0.0, time.time() - moment)
            for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
                if seconds >= size:
                    return text(f"ago.{unit}", count=int(seconds // size))
            return text("ago.now")

        def left(moment: float) -> str:
            minutes = max(1, round((moment - time.time()) / 60))
            return (
                text("left.hours", count=round(minutes / 60)) if minutes > 90 else text("left.minutes", count=minutes)
            )

        values |= {"t": text, "known": known, "ago": ago, "left": left, "language": language, "languages": LANGUAGES}
        values |= {"version": self._version, "path": request.path, "code": code}
        body = whole(self._templates.get_template(template).render(values))  # engines of other machines have any names
        return web.Response(status=code, text=body, content_type="text/html", headers=_HEADERS)


def preferred_language(header: str, default: str) -> str:
    """Choose one of our languages by an ``Accept-Language`` header."""
    wishes: list[tuple[float, int, str]] = []
    for place, item in enumerate(header[:500].split(",")):
        tag, _, quality = item.strip().partition(";q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        if (language := language_of(tag, "")) and weight > 0:
            wishes.append((-weight, place, language))
    return min(wishes)[2] if wishes else default


def _load_templates() -> jinja2.Environment:
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    for name in templates.list_templates(["html"]):
        templates.get_template(name)  # read and compiled here, so that the event loop never waits for the disk
    return templates
