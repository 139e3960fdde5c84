"""Endpoints for programs, most of them for those on this very machine, and what they are told when something goes wrong."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.web.requests.failures import Rejected, failure_of
from xiaozhi_hub.web.requests.hosts import is_loopback, local_address

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def local_only(handler: Handler) -> Handler:
    """Let only programs on this machine reach *handler*, and give its failures the envelope of `enveloped`."""

    async def guarded(request: web.Request) -> web.StreamResponse:
        _check_caller(request)
        return await handler(request)

    return enveloped(guarded)


def enveloped(handler: Handler) -> Handler:
    """Give the failures of *handler* the envelope ``success, error, error_code``."""

    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:  # the border of the HTTP request
            status, failure = failure_of(request, error)
            return answer(envelope(failure), status=status)

    return told


def envelope(failure: HubError) -> dict[str, Any]:
    """A failure as these endpoints tell it."""
    code = "INTERNAL_ERROR" if failure.code == HubError.code else failure.code.upper().replace("-", "_")
    return {"success": False, "error": failure.message, "error_code": code, "hint": failure.hint}


def answer(values: Mapping[str, Any], *, status: int = 200) -> web.Response:
    return web.Response(status=status, body=encode(values), content_type="application/json", headers=HEADERS)


def encode(values: Mapping[str, Any]) -> bytes:
    """Return *values* as one line of JSON. What JSON does not know is written as its text; half a character, which an engine may
    have said, becomes the escape sequence of JSON."""
    return json.dumps(values, ensure_ascii=False, default=_plain).encode(errors="backslashreplace")


def _plain(value: object) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _check_caller(request: web.Request) -> None:
    if not is_loopback(request):
        raise Rejected(
            403,
            "Only programs on the hub's own machine may do this.",
            code="forbidden",
            hint="Ask from there, for example: curl http://127.0.0.1:8003/health/detailed",
        )
    # A browser on this machine may be showing anybody's page. The page can make it send requests here, which then carry the
    # page's address, or can give this machine a name of its own, which then stands in Host.
    origin = request.headers.get("Origin")
    here = local_address(request).host
    if (
        not _is_this_machine(f"//{request.headers.get('Host', '')}", here)
        or (origin is not None and not _is_this_machine(origin, here))
        or request.headers.get("Sec-Fetch-Site") == "cross-site"
    ):
        raise Rejected(
            403,
            "A web page from elsewhere may not do this.",
            code="cross-site",
            hint="Use http://127.0.0.1 or http://localhost as the hub's address.",
        )


def _is_this_machine(url: str, here: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    if host in ("localhost", here) or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["HEADERS", "answer", "encode", "envelope", "enveloped", "local_only"]
