"""One server: whether it is there, what it has, and requests to it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from xiaozhi_hub.plugins.api import NeedsAttention, NotReady, StageError

from .events import Answer, Unreadable
from .roles import choose

CONNECT_S = 5.0
LIST_S = 10.0
ANSWER_S = 300.0
"""For a whole streamed answer, however alive the server is."""
_MOST_LINE = 1 << 20
_MOST_SAID = 64 * 1024
_MOST_JSON = 1 << 20
_SHOWN = 5


class Server:
    """One address with one key. Never follows a redirect: what is sent stays with whom it was meant for."""

    def __init__(self, http: aiohttp.ClientSession, options: Mapping[str, Any]) -> None:
        self.name: str = options["name"]
        self.url: str = options["url"]
        self.options = options
        self.models: dict[str, str] = {}
        """For each role that it takes the name of the model; empty where that is not known yet, or the server chooses."""
        self._http = http
        self._key: str = options["key"]
        self._headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._timeout_s: float = options["timeout_s"]
        self._asked = False
        self._contexts: dict[str, int] = {}

    async def get_to_know(self) -> None:
        """Ask for its models. Raises `NotReady` while it is not there, `NeedsAttention` when it refuses or has not what is wanted."""
        there = await self._list()
        self.models = choose(self.options, there)
        for role, model in self.models.items():
            self._check(role, model, there)
        if not self.models:
            raise NeedsAttention(
                f"{self.url} has no model that the hub can use.",
                code="model-missing",
                hint="Name what it is for: roles: …",
            )
        self._asked = True

    def expect(self) -> None:
        """It is not there yet: take it for what the options say, and ask when it is needed."""
        self.models = choose(self.options, None)

    async def model(self, role: str) -> str:
        """The name of the model for *role*. Raises `StageError`."""
        if not self._asked:
            try:
                there = await self._list()
            except (NotReady, NeedsAttention) as error:
                raise StageError(role, error.message, code=f"{role}-unreachable", hint=error.hint) from error
            self.models = {**self.models, **{r: m for r, m in choose(self.options, there).items() if r in self.models}}
            self._asked = True
        return self.models[role]

    def context_of(self, role: str) -> int | None:
        """How many tokens a request and its answer may come to; None where the server does not tell."""
        return self._contexts.get(self.models.get(role, ""))

    @property
    def local(self) -> bool:
        """Is it in this house, as far as its address tells?"""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_private
        except ValueError:
            return "." not in host or host.endswith((".local", ".lan", ".home.arpa", ".internal", ".localhost"))

    async def _list(self) -> list[str] | None:
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
                told = parsed(await _whole(reply))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotReady(
                f"{self.url} does not answer: {self._hidden(_plainly(error))}.", hint="Is the server running?"
            ) from error
        except ValueError as error:
            raise NeedsAttention(
                f"{self.url}/models answers with something else than JSON.",
                hint="Is the address right? It usually ends in /v1.",
            ) from error
        models = told.get("data") if isinstance(told, dict) else None
        if not isinstance(models, list):
            return None
        known = [model for model in models if isinstance(model, dict) and model.get("id")]
        self._contexts = {  # vLLM tells it, others do not
            str(model["id"]): most
            for model in known
            if isinstance(most := model.get("max_model_len"), int) and most > 1  # true is a number, too
        }
        return [str(model["id"]) for model in known]

    def _check(self, role: str, model: str, there: list[str] | None) -> None:
        """Is there such a model? Recognisers and voices are not asked about: servers load them by names that they do not list."""
        if role not in ("llm", "vision"):
            return
        if not model:
            raise NeedsAttention(
                f"{self.url} does not say which models it has.", code="model-missing", hint="Name one: model: …"
            )
        if (
            there and model not in there and f"{model}:latest" not in there
        ):  # as Ollama lists what is called without a tag
            known = ", ".join(there[:_SHOWN]) + (" …" if len(there) > _SHOWN else "")
            raise NeedsAttention(
                f"{self.url} has no model {model}.",
                code="model-unknown",
                hint=f"It has: {known}. Leave model out for the first.",
            )

    # -- requests -------------------------------------------------------------------------------------------------

    async def chat(self, stage: str, request: Mapping[str, Any]) -> AsyncGenerator[str | Answer, None]:
        """Yield the text of the answer to a chat request as it is written and, last, the whole answer.

        Raises `StageError` for *stage*, also when the answer breaks off.
        """
        answer, said = Answer(), 0
        body = {"model": await self.model(stage), "stream": True, **request}
        try:
            async with self.post(stage, "chat/completions", json=body) as reply:
                async for event in _events(reply):
                    if event is None:
                        answer.finished = True
                        break
                    for piece in answer.feed(event):
                        room, said = max(0, _MOST_SAID - said), said + len(piece)
                        yield piece[:room]
                    if said > _MOST_SAID:
                        break
            requests = answer.requests()
        except (Unreadable, ValueError) as error:
            why = self._hidden(str(error)) if isinstance(error, Unreadable) else "it sends no JSON"
            raise StageError(
                stage, f"{self.url} answers in a way that cannot be read: {why}", code=f"{stage}-failed"
            ) from error
        if not answer.finished and said <= _MOST_SAID:
            raise StageError(stage, f"{self.url} broke off in the middle", code=f"{stage}-failed")
        if not said and not requests:
            raise StageError(stage, f"{self.url} gave an empty answer", code=f"{stage}-failed")
        yield answer

    @asynccontextmanager
    async def post(self, stage: str, path: str, **content: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and enter its answer, which has status 200. Raises `StageError` for *stage*, from inside the block, too."""
        try:
            async with self._sent(path, content) as reply:
                if reply.status != 200:
                    raise await self._refused(stage, reply)
                yield reply
        except TimeoutError as error:
            raise StageError(stage, f"{self.url} takes too long", code=f"{stage}-slow") from error
        except (aiohttp.ClientError, OSError) as error:
            raise StageError(
                stage,
                f"{self.url} does not answer: {self._hidden(_plainly(error))}",
                code=f"{stage}-unreachable",
                hint="Is the server running?",
            ) from error

    @asynccontextmanager
    async def _sent(self, path: str, content: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a request. A connection that the server closed or lost while nobody used it is no failure: it is opened again."""
        form = content.pop("form", None)
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S, sock_read=self._timeout_s)
        for last in (False, True):
            if form is not None:
                content["data"] = form()
            try:
                reply = await self._http.post(
                    f"{self.url}/{path}", headers=self._headers, timeout=timeout, allow_redirects=False, **content
                )
            except (
                aiohttp.ServerDisconnectedError,
                aiohttp.ClientOSError,
                aiohttp.ClientConnectionResetError,
            ) as error:
                if last or isinstance(error, aiohttp.ClientConnectorError):  # nobody is there
                    raise
                continue
            async with reply:
                yield reply
            return

    async def _refused(self, stage: str, reply: aiohttp.ClientResponse) -> StageError:
        told = (await reply.content.read(2000)).decode("utf-8", "replace")
        try:
            error = parsed(told)["error"]
            told = str(error["message"] if isinstance(error, dict) else error)
        except (ValueError, KeyError, TypeError):
            pass
        hint = {
            401: "Write the right key into secrets.yaml.",
            403: "Write the right key into secrets.yaml.",
            404: "Is the name of the model right?",
            429: "The server has too much to do, or the account no credit.",
        }.get(reply.status, "")
        return StageError(
            stage,
            f"{self.url} refuses with status {reply.status}: {self._hidden(told)}",
            code=f"{stage}-refused",
            hint=hint,
            permanent=reply.status in (400, 401, 403, 404),
        )

    def _hidden(self, told: str) -> str:
        """What a server said, short and without the key."""
        told = " ".join(told.split())
        if self._key:
            told = told.replace(self._key, "••••")
        return told[:200]


@asynccontextmanager
async def connected(options: Mapping[str, Any]) -> AsyncIterator[tuple[Server, ...]]:
    """The servers of *options*. A single one must be there; of several, those that are not are asked again when they are needed.

    Raises `NotReady` when none is there, `NeedsAttention` when one refuses.
    """
    async with aiohttp.ClientSession(trust_env=False, cookie_jar=aiohttp.DummyCookieJar()) as http:
        servers = tuple(Server(http, each) for each in options["servers"])
        absent: list[NotReady] = []

        async def meet(server: Server) -> None:
            try:
                await server.get_to_know()
            except NotReady as error:
                absent.append(error)
                server.expect()

        try:
            async with asyncio.TaskGroup() as group:
                for server in servers:
                    group.create_task(meet(server))
        except ExceptionGroup as refused:  # the first one says enough
            raise refused.exceptions[0] from refused
        if len(absent) == len(servers):
            raise absent[0]
        yield servers


def parsed(data: bytes | str) -> Any:
    """JSON, of anybody. ValueError when it is none."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it goes too deep") from error


async def _whole(reply: aiohttp.ClientResponse) -> bytes:
    whole = bytearray()
    async for piece in reply.content.iter_any():
        whole += piece
        if len(whole) > _MOST_JSON:
            raise ValueError("too long")
    return bytes(whole)


async def _events(reply: aiohttp.ClientResponse) -> AsyncGenerator[Any, None]:
    """What the server sends, streamed (server-sent events) or, from a server that cannot stream, in one piece. None is its ``[DONE]``."""
    if reply.content_type == "application/json":
        yield parsed(await _whole(reply))
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
            yield None if value.strip() == b"[DONE]" else parsed(value)


def _plainly(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it takes too long"
    return str(error) or type(error).__name__
