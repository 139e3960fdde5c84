"""What a client is told when something goes wrong: one shape for programs, one page for people, never a traceback."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from xiaozhi_hub.errors import (
    BadAudio,
    ConfigError,
    HubError,
    NotReady,
    ProtocolError,
    StageError,
    StoreError,
    ToolError,
    UnknownTool,
)

log = logging.getLogger(__name__)
_CLIENT_GONE = 499
"""Nobody sees it; the number is nginx's."""
FailurePage = Callable[[web.Request, int, HubError], Awaitable[web.Response]]

_STATUS: tuple[tuple[type[HubError], int], ...] = (
    (UnknownTool, 404),
    (ToolError, 422),
    (ProtocolError, 400),
    (ConfigError, 400),
    (NotReady, 503),
    (StoreError, 503),
    (StageError, 502),
    (BadAudio, 400),
)
_FOR_PROGRAMS = ("/api/", "/v1/", "/xiaozhi/", "/mcp/", "/health", "/static/")


class Rejected(HubError):
    """A request that is refused with a certain HTTP *status*."""

    def __init__(self, status: int, message: str, *, code: str, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint, permanent=True)
        self.status = status


def failure_json(status: int, error: HubError) -> web.Response:
    """The one shape of failures on the wire."""
    body = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
    # Half a character, as a message may quote one, becomes the escape sequence of JSON.
    data = json.dumps(body, ensure_ascii=False).encode(errors="backslashreplace")
    return web.Response(status=status, body=data, content_type="application/json")


def failure_middleware(page: FailurePage) -> Middleware:
    """Turn what handlers raise into answers; *page* makes those for people."""

    @web.middleware
    async def answer_failures(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except Exception as error:  # the border of the HTTP request
            if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
                log.debug("%s %s: the client has gone", request.method, request.path)
                return web.Response(status=_CLIENT_GONE)
            if isinstance(error, web.HTTPException) and error.status < 400:
                raise
            status, failure = failure_of(request, error)
            allowed = error.headers.get("Allow") if isinstance(error, web.HTTPException) else None
        if request.path.startswith(_FOR_PROGRAMS) or "text/html" not in request.headers.get("Accept", ""):
            response = failure_json(status, failure)
        else:
            response = await page(request, status, failure)
        if allowed is not None:
            response.headers["Allow"] = allowed
        return response

    return answer_failures


def failure_of(request: web.Request, error: Exception) -> tuple[int, HubError]:
    """Return the HTTP status and what to tell for what a handler raised; the log learns of it."""
    if isinstance(error, web.HTTPException):
        return error.status, HubError(error.text or error.reason, code=_code(error))
    if isinstance(error, HubError):
        log.info("%s %s: %s", request.method, request.path, error)
        return _status(error), error
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return 500, HubError("The hub could not do this.", hint="Its log tells why.")


def _status(error: HubError) -> int:
    if isinstance(error, Rejected):
        return error.status
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def _code(error: web.HTTPException) -> str:
    return error.reason.lower().replace(" ", "-") if error.reason else f"http-{error.status}"
