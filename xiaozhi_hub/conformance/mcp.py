"""P-47 … P-53: the device's tools (§7)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from xiaozhi_hub.conformance.bench import Bench
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.talk import answers_since, ask, listen, mcp_requests, microphone
from xiaozhi_hub.conformance.timeline import Seen
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable, NotForFirmware
from xiaozhi_hub.conformance.wire import Socket
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.core.tasks import TaskScope

DISCOVER_SECONDS = 8.0
"""Servers may wait a little between `initialize` and `tools/list`: old devices are slow right after connecting."""
TIMEOUT_SECONDS = 30.0
MOST_LISTS = 12
VOLUME = "self.audio_speaker.set_volume"
REBOOT = "self.reboot"


def tool(name: str, description: str, properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A tool as the firmware lists it: ``required`` is left out where nothing is."""
    schema: dict[str, Any] = {"type": "object", "properties": properties or {}}
    if properties:
        schema["required"] = list(properties)
    return {"name": name, "description": description, "inputSchema": schema, **more}


TOOLS = (
    tool("self.get_device_status", "Report volume, screen and network."),
    tool(VOLUME, "Set the volume of the speaker.", {"volume": {"type": "integer", "minimum": 0, "maximum": 100}}),
    tool("self.camera.take_photo", "Take a photo and explain it.", {"question": {"type": "string"}}),
)
FOR_PEOPLE = tool(REBOOT, "Reboot the system.", annotations={"audience": ["user"]})

Answering = Callable[[str, Mapping[str, Any]], dict[str, Any] | str | None]
"""The result of a method, a whole payload as text, or None for no answer."""


def usual(method: str, params: Mapping[str, Any]) -> dict[str, Any] | str | None:
    """What a simple device answers."""
    if method == "initialize":
        server = {"name": "conformance", "version": "1"}
        return {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": server}
    if method == "tools/list":
        return {"tools": [*TOOLS, *([FOR_PEOPLE] if params.get("withUserTools") else [])]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": "true"}], "isError": False}
    return None


@asynccontextmanager
async def tooled(bench: Bench, answering: Answering = usual) -> AsyncIterator[Socket]:
    """A device that offers tools and answers requests as told, the newest answers last."""
    if not bench.profile.speaks_mcp:
        raise NotForFirmware(f"Firmware {bench.profile.version} of this profile has no MCP.")
    async with TaskScope("conformance-mcp") as scope, bench.greeted() as socket:

        async def answer() -> None:
            done = 0
            while socket.alive:
                requests = mcp_requests(socket.timeline)
                for _, request in requests[done:]:
                    reply = answering(str(request.get("method")), _params(request))
                    if isinstance(reply, str):
                        await socket.send(f'{{"session_id":"","type":"mcp","payload":{reply}}}')
                    elif reply is not None:
                        payload = {"jsonrpc": "2.0", "id": request.get("id"), **_as_payload(reply)}
                        await socket.send({"session_id": socket.session_id, "type": "mcp", "payload": payload})
                done = len(requests)
                await asyncio.sleep(0.02)

        scope.start(answer(), name="answer")
        yield socket


def _params(request: Mapping[str, Any]) -> Mapping[str, Any]:
    params = request.get("params")
    return params if isinstance(params, dict) else {}


def _as_payload(reply: dict[str, Any]) -> dict[str, Any]:
    return reply if "error" in reply else {"result": reply}


async def _listed(socket: Socket, count: int = 1) -> list[tuple[Seen, dict[str, Any]]]:
    """Wait until the tools have been asked for."""

    def lists() -> list[tuple[Seen, dict[str, Any]]]:
        return [each for each in mcp_requests(socket.timeline) if each[1].get("method") == "tools/list"]

    await socket.timeline.until("tools/list", lambda: len(lists()) >= count or None, DISCOVER_SECONDS)
    return mcp_requests(socket.timeline)


def _calls(socket: Socket, name: str) -> list[dict[str, Any]]:
    return [
        request
        for _, request in mcp_requests(socket.timeline)
        if request.get("method") == "tools/call" and _params(request).get("name") == name
    ]


def _right_form(request: Mapping[str, Any]) -> None:
    """`Broken` where the firmware would not answer."""
    number, method = request.get("id"), request.get("method")
    expect(request.get("jsonrpc") == "2.0", f"{method}: jsonrpc is {request.get('jsonrpc')!r}")
    whole = isinstance(number, int) and not isinstance(number, bool)
    expect(whole, f"{method}: the id is {number!r}; a device answers only numbers")
    expect(0 <= int(number or 0) < 2**31, f"{method}: the id {number} does not fit into 31 bits")
    expect("params" not in request or isinstance(request["params"], dict), f"{method}: params is no object")


@check(
    "P-47", "With features.mcp: initialize, then tools/list; numeric ids below 2³¹, no null params, after the hello."
)
async def discovery(bench: Bench) -> str:
    async with tooled(bench) as socket:
        requests = await _listed(socket)
        hello = socket.timeline.heard("hello")[0]
        for seen, request in requests:
            _right_form(request)
            expect(seen.at >= hello.at, "MCP before the hub hello")
        methods = [str(request["method"]) for _, request in requests]
        expect(methods[0] == "initialize", f"the first request is {methods[0]}, not initialize")
        ids = [request["id"] for _, request in requests]
        expect(len(set(ids)) == len(ids), f"ids are used twice: {ids}")
        return ", ".join(methods)


def _looping(method: str, params: Mapping[str, Any]) -> dict[str, Any] | str | None:
    """A device whose list of tools never ends: two cursors point at each other."""
    if method != "tools/list":
        return usual(method, params)
    return {"tools": [TOOLS[0]], "nextCursor": "self.b" if params.get("cursor") == "self.a" else "self.a"}


@check("P-48", "nextCursor is followed to the end; repeated cursors stop.")
async def paging(bench: Bench) -> str:
    def three(method: str, params: Mapping[str, Any]) -> dict[str, Any] | str | None:
        if method != "tools/list":
            return usual(method, params)
        at = [tool["name"] for tool in TOOLS].index(params["cursor"]) if params.get("cursor") else 0
        page: dict[str, Any] = {"tools": [TOOLS[at]]}
        return {**page, "nextCursor": TOOLS[at + 1]["name"]} if at + 1 < len(TOOLS) else page

    async with tooled(bench, three) as socket:
        requests = await _listed(socket, len(TOOLS))
        cursors = [_params(request).get("cursor") or "" for _, request in requests if request["method"] == "tools/list"]
        wanted = ["", *(tool["name"] for tool in TOOLS[1:])]
        expect(cursors[: len(wanted)] == wanted, f"the cursors {cursors} were asked for, not {wanted}")
    async with tooled(bench, _looping) as socket:
        await _listed(socket)
        await socket.timeline.quiet(3)
        count = sum(request.get("method") == "tools/list" for _, request in mcp_requests(socket.timeline))
        expect(count <= MOST_LISTS, f"a list that never ends was asked for {count} times in 3 s")
        expect(socket.alive, "the server hangs up on a list that never ends")
    return f"{len(TOOLS)} pages, {count} of a loop"


def _wish(sound: PcmChunk | None, what: str) -> PcmChunk:
    if sound is None:
        raise NotApplicable(f"Nothing is known to say that {what}.")
    return sound


async def _called(bench: Bench, socket: Socket, sound: PcmChunk, name: str) -> list[dict[str, Any]]:
    """Say something that calls a tool; return the calls. `NotApplicable` where the server does not understand."""
    await _listed(socket)
    await asyncio.sleep(0.5)  # a server may still be taking the tools in
    began = socket.timeline.now
    await ask(socket, bench.voice.utterance(sound), bench)
    calls = _calls(socket, name)
    if not calls:
        heard = [str(seen.message.get("text")) for seen in socket.timeline.heard("stt", since=began)]
        raise NotApplicable(f'The server heard "{"; ".join(heard)}" and did not call {name}.')
    return calls


@check("P-49", "Arguments of tools/call have the types and the range of the schema.")
async def arguments(bench: Bench) -> str:
    given = []
    async with tooled(bench) as socket:
        calls = await _called(bench, socket, _wish(bench.voice.volume, "sets the volume"), VOLUME)
        if bench.voice.loud is not None:  # which need not be granted
            await ask(socket, bench.voice.utterance(bench.voice.loud), bench)
            calls = _calls(socket, VOLUME)
        for call in calls:
            _right_form(call)
            volume = _params(call).get("arguments", {}).get("volume")
            if isinstance(volume, bool) or not isinstance(volume, int):
                raise Broken(f"volume is {volume!r}; the device wants a whole number")
            expect(0 <= volume <= 100, f"volume is {volume}; the device takes 0 to 100")
            given.append(str(volume))
    return f"volume {', '.join(given)}"


@check("P-50", "A call without reply times out (30 s; 60 s for the camera), and the turn ends with speech.", slow=True)
async def no_reply(bench: Bench) -> str:
    def silent(method: str, params: Mapping[str, Any]) -> dict[str, Any] | str | None:
        return None if method == "tools/call" else usual(method, params)

    async with tooled(bench, silent) as socket:
        timeline = socket.timeline
        wish = _wish(bench.voice.volume, "sets the volume")
        await _listed(socket)
        await asyncio.sleep(0.5)
        began = timeline.now
        await listen(socket)
        async with microphone(socket, bench.voice.utterance(wish)):
            await timeline.until("answer", lambda: answers_since(timeline, began) or None, TIMEOUT_SECONDS + 40)
        await timeline.until_message("tts", "stop", since=began, within=TIMEOUT_SECONDS + 40)
        called = [seen for seen, request in mcp_requests(timeline) if request.get("method") == "tools/call"]
        if not called:
            raise NotApplicable(f"The server did not call {VOLUME}.")
        spoken = [packet for answer in answers_since(timeline, began) for packet in answer.packets]
        expect(bool(spoken), "the turn ends without a word")
        took = max(0.0, spoken[-1][0] - called[0].at)
        expect(took <= TIMEOUT_SECONDS + 20, f"the server waits {took:.0f} s for the tool")
        return f"has spoken {took:.0f} s after the call"


@check("P-51", "Errors without code and MCP frames that are no JSON are handled.")
async def bad_replies(bench: Bench) -> None:
    def failing(method: str, params: Mapping[str, Any]) -> dict[str, Any] | str | None:
        return {"error": {"message": "Failed to set"}} if method == "tools/call" else usual(method, params)

    async with tooled(bench, failing) as socket:
        await _listed(socket)
        for odd in (
            '{"session_id":"","type":"mcp","payload":{"jsonrpc":"2.0","id":1,"error":{"message":"bad "quotes" in it"}}}',
            '{"type":"mcp"}',
            '{"type":"mcp","payload":[]}',
            '{"type":"mcp","payload":{"jsonrpc":"2.0","id":"x","result":null}}',
            '{"type":"mcp","payload":{"jsonrpc":"2.0","id":4711,"result":{"tools":7}}}',
            '{"type":"mcp","payload":{"jsonrpc":"2.0","method":"notifications/from_device","params":[]}}',
        ):
            await socket.send(odd)
        await socket.timeline.quiet(0.5)
        expect(socket.alive, "the server hangs up on a bad MCP frame")
        wish = bench.voice.volume or bench.voice.short
        answer = await ask(socket, bench.voice.utterance(wish), bench)
        expect(bool(answer.packets), "the turn ends without a word")


@check("P-52", "Tools with annotations.audience = user are never offered to the model.")
async def not_for_models(bench: Bench) -> str:
    async with tooled(bench) as socket:
        await _listed(socket)
        await asyncio.sleep(0.5)
        wish = bench.voice.reboot or bench.voice.short
        await ask(socket, bench.voice.utterance(wish), bench)
        expect(not _calls(socket, REBOOT), f"{REBOOT} was called for a spoken wish")
        if bench.known.offered_tools is None:
            raise NotApplicable("What the model is offered cannot be seen from outside; it was not called.")
        offered = list(bench.known.offered_tools())
        told = [name for name in offered if "reboot" in name]
        expect(not told, f"the model is offered {told}")
        expect(any("volume" in name for name in offered), f"the model is offered none of the device's tools: {offered}")
        return f"{len(offered)} tools offered"


async def vision_address(bench: Bench) -> tuple[str, str]:
    """URL and token of the vision endpoint, as told in `initialize`; `NotApplicable` where there is none."""
    async with tooled(bench) as socket:
        try:
            requests = await _listed(socket)
        except Broken as error:  # P-47's business
            if bench.known.vision:
                raise
            raise NotApplicable(f"The server tells no vision endpoint: {error}.") from error
        return _vision(bench, requests)


def _vision(bench: Bench, requests: list[tuple[Seen, dict[str, Any]]]) -> tuple[str, str]:
    first = next((request for _, request in requests if request.get("method") == "initialize"), {})
    capability = (_params(first).get("capabilities") or {}).get("vision")
    if capability is None:
        if bench.known.vision:
            raise Broken("vision is on, but initialize does not tell where")
        raise NotApplicable("The server tells no vision endpoint.")
    expect(bench.known.vision is not False, "vision is off, but initialize tells an address")
    url, token = capability.get("url"), capability.get("token", "")
    expect(isinstance(url, str), f"vision.url is {url!r}")
    expect(isinstance(token, str), f"vision.token is {token!r}")
    return str(url), str(token)


@check("P-53", "Capability vision only when the endpoint is on, with an absolute http URL that the device can reach.")
async def vision_capability(bench: Bench) -> str:
    async with tooled(bench) as socket:
        requests = await _listed(socket)
        try:
            url, _ = _vision(bench, requests)
        except NotApplicable:
            return "no vision"
    parts = urlsplit(url)
    expect(parts.scheme == "http" and bool(parts.hostname), f"{url} is no absolute http URL")
    own = urlsplit((await bench.address()).url).hostname
    wanted = bench.known.host or own
    expect(parts.hostname == wanted, f"the photo goes to {parts.hostname}, the device reaches the server as {wanted}")
    return json.dumps(url)
