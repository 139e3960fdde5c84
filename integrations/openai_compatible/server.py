"""The server: whether it is there, what it has, and its streamed answers."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from xiaozhi_hub.plugins.api import NeedsAttention, NotReady, StageError

CONNECT_S = 5.0
LIST_S = 10.0
_MOST_LINE = 1 << 20
_MOST_SAID = 64 * 1024
_SHOWN = 5


class Server:
    """One address with one key and one model. Never follows a redirect: what is sent stays with whom it was meant for."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str, timeout_s: float) -> None:
        self.url = url
        self.model = ""
        self._http = http
        self._key = key
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_S)

    @classmethod
    @asynccontextmanager
    async def connected(cls, options: Mapping[str, Any]) -> AsyncIterator[Server]:
        """Ask the server for its models. Raises `NotReady` while it is not there, `NeedsAttention` when it refuses."""
        async with aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as http:
            server = cls(http, options["url"], options["key"], options["timeout_s"])
            server.model = server._choose(options["model"], await server._models())
            yield server

    @property
    def local(self) -> bool:
        """Is it in this house, as far as its address tells?"""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_private
        except ValueError:
            return "." not in host or host.endswith((".local", ".lan", ".home.arpa", ".internal", ".localhost"))

    async def _models(self) -> list[str] | None:
        """The names of its models; None when it does not tell."""
        timeout = aiohttp.ClientTimeout(total=LIST_S, sock_connect=CONNECT_S)
        try:
            async with self._http.get(
                f"{self.url}/models", headers=self._headers, timeout=timeout, allow_redirects=False
            ) as reply:
                if reply.status in (401, 403):
                    raise NeedsAttention(
                        f"{self.url} refuses the key.",
                        code="key-refused",
                        hint="Write the right key into secrets.yaml.",
                    )
                if reply.status >= 500 or reply.status == 429:
                    raise NotReady(f"{self.url} answers with status {reply.status}.")
                if reply.status in (404, 405, 501):
                    return None
                if reply.status != 200:
                    raise NeedsAttention(
                        f"{self.url}/models answers with status {reply.status}.",
                        hint="Is the address right? It usually ends in /v1.",
                    )
                told = json.loads(await reply.content.read(_MOST_LINE))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotReady(f"{self.url} does not answer: {_plainly(error)}.", hint="Is the server running?") from error
        except ValueError as error:
            raise NeedsAttention(
                f"{self.url}/models answers with something else than JSON.",
                hint="Is the address right? It usually ends in /v1.",
            ) from error
        models = told.get("data") if isinstance(told, dict) else None
        if not isinstance(models, list):
            return None
        return [str(model["id"]) for model in models if isinstance(model, dict) and model.get("id")]

    def _choose(self, wanted: str, there: list[str] | None) -> str:
        if wanted and (not there or wanted in there):
            return wanted
        if wanted and there:
            known = ", ".join(there[:_SHOWN]) + (" …" if len(there) > _SHOWN else "")
            raise NeedsAttention(
                f"{self.url} has no model {wanted}.",
                code="model-unknown",
                hint=f"It has: {known}. Leave model out for the first.",
            )
        if not there:
            raise NeedsAttention(
                f"{self.url} does not say which models it has.", code="model-missing", hint="Name one: model: …"
            )
        return there[0]

    async def chat(self, stage: str, request: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        """Yield the answer to a chat request piece by piece. Raises `StageError` for *stage*."""
        body = {"model": self.model, "stream": True, **request}
        said = 0
        try:
            async with self._http.post(
                f"{self.url}/chat/completions",
                json=body,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as reply:
                if reply.status != 200:
                    raise await self._refused(stage, reply)
                async for event in _events(reply):
                    for piece in _texts(event):
                        said += len(piece)
                        yield piece
                        if said > _MOST_SAID:
                            return
        except TimeoutError as error:
            raise StageError(stage, f"{self.url} takes too long", code=f"{stage}-slow") from error
        except (aiohttp.ClientError, OSError) as error:
            raise StageError(
                stage,
                f"{self.url} does not answer: {_plainly(error)}",
                code=f"{stage}-unreachable",
                hint="Is the server running?",
            ) from error
        except ValueError as error:
            raise StageError(
                stage, f"{self.url} answers in a way that cannot be read", code=f"{stage}-failed"
            ) from error
        if not said:
            raise StageError(stage, f"{self.url} gave an empty answer", code=f"{stage}-failed")

    async def _refused(self, stage: str, reply: aiohttp.ClientResponse) -> StageError:
        told = (await reply.content.read(2000)).decode("utf-8", "replace")
        try:
            error = json.loads(told)["error"]
            told = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError):
            pass
        told = " ".join(told.split())[:200]
        if self._key:
            told = told.replace(self._key, "••••")
        hint = {
            401: "Write the right key into secrets.yaml.",
            403: "Write the right key into secrets.yaml.",
            404: "Is the name of the model right?",
            429: "The server has too much to do, or the account no credit.",
        }.get(reply.status, "")
        return StageError(
            stage,
            f"{self.url} refuses with status {reply.status}: {told}",
            code=f"{stage}-refused",
            hint=hint,
            permanent=reply.status in (400, 401, 403, 404),
        )


async def _events(reply: aiohttp.ClientResponse) -> AsyncGenerator[Any, None]:
    """What the server sends, streamed (server-sent events) or, from a server that cannot stream, in one piece."""
    if reply.content_type == "application/json":
        whole = bytearray()
        async for piece in reply.content.iter_any():
            whole += piece
            if len(whole) > _MOST_LINE:
                raise ValueError("too long")
        yield json.loads(whole)
        return
    rest = b""
    async for piece in reply.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > _MOST_LINE:
            raise ValueError("too long a line")
        for line in lines:
            field, _, value = line.strip().partition(b":")
            if field != b"data":
                continue
            if value.strip() == b"[DONE]":
                return
            yield json.loads(value)


def _texts(event: Any) -> list[str]:
    if not isinstance(event, dict):
        raise ValueError("no object")
    if event.get("error"):
        raise ValueError("an error in the stream")
    choices = event.get("choices")
    if not isinstance(choices, list):
        return []
    parts = [choice.get("delta") or choice.get("message") or {} for choice in choices if isinstance(choice, dict)]
    contents = [part.get("content") for part in parts if isinstance(part, dict)]
    return [content for content in contents if isinstance(content, str) and content]


def _plainly(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return str(error) or type(error).__name__
