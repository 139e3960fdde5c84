"""The tools of a device with firmware from 1.6.6 on: the device is an MCP server, the hub its client.

The messages are JSON-RPC 2.0 inside ``{"type": "mcp", "payload": …}`` (firmware mcp_server.cc). The firmware's habits that
matter: ids are numbers of 32 bits, ``params`` may be left out but not null, errors have no code, an error's text may break the
JSON, tools run one by one on the main task, and some calls are never answered.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.device_messages import Iot, Mcp
from xiaozhi_hub.protocol.hub_messages import McpRequest
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.tools.arguments import check_arguments
from xiaozhi_hub.tools.device import (
    GET_STATUS,
    MOST_TOOLS,
    SET_BRIGHTNESS,
    SET_THEME,
    SET_VOLUME,
    USUAL_LIMITS,
    CallLimits,
    DeviceCallError,
    DeviceGone,
    DeviceStatus,
    DeviceTool,
    DeviceToolset,
    NoAnswer,
    NoSuchTool,
    parse_json_object,
    read_status,
)

log = logging.getLogger(__name__)

PROTOCOL = "2024-11-05"
MOST_PAGES = 32
MOST_WAITING = 16
"""Calls that may wait for one device: it is busy with a single one of them."""
_HIGHEST_ID = 2**31 - 1
_NAME = re.compile(r"[A-Za-z0-9_.\-/]{1,128}")
_LONGEST_DESCRIPTION = 1000
_NEEDED = {"self.upgrade_firmware": ("url",)}
"""Arguments that the firmware lists as optional although it cannot do without: it takes their description for the default."""
_SETTINGS = {SET_VOLUME: ("volume",), SET_BRIGHTNESS: ("brightness",), SET_THEME: ("theme",)}
"""Tools after which a part of the status is known without asking."""
_USER_TOOLS_SINCE = (2, 0)
_BRISK_SINCE = (1, 8)


@dataclass(frozen=True, slots=True)
class VisionOffer:
    """Where a device's camera takes its photos to be looked at."""

    url: str
    """Absolute ``http`` URL that the device reaches."""
    token: str
    """Outlives the connection: it is sent with every photo."""


class McpToolset(DeviceToolset):
    """Speaks MCP with one device over its link."""

    def __init__(self, link: Link, *, vision: VisionOffer | None = None, limits: CallLimits = USUAL_LIMITS) -> None:
        super().__init__()
        self._link = link
        self._vision = vision
        self._limits = limits
        self._tools: dict[str, DeviceTool] = {}
        self._waiting: dict[int, asyncio.Future[Mapping[str, Any]]] = {}
        self._next_id = 1
        self._learned = asyncio.Event()
        self._closed = False

    @property
    def tools(self) -> Mapping[str, DeviceTool]:
        return self._tools

    async def start(self) -> None:
        try:
            version = await self._initialize()
            if version is not None and version < _BRISK_SINCE:
                await asyncio.sleep(self._limits.settle_s)
            await self._list(user_tools=version is not None and version >= _USER_TOOLS_SINCE)
            log.debug("%s has %d tools", self._link.device.id, len(self._tools))
        except HubError as error:
            log.info("%s does not tell its tools: %s", self._link.device.id, error)
        finally:
            self._learned.set()
        if self.on_status is not None and GET_STATUS in self._tools:
            try:
                await self.status()
            except HubError as error:
                log.info("%s does not tell its status: %s", self._link.device.id, error)

    async def learned(self) -> None:
        await self._learned.wait()

    def receive(self, message: Mcp | Iot) -> None:
        if not isinstance(message, Mcp):
            return
        id_ = message.payload.get("id")
        waiting = self._waiting.get(id_) if isinstance(id_, int) else None
        if waiting is None or waiting.done():  # too late, or a notification: no stock firmware sends one
            log.debug("%s sent an mcp message that nobody waits for", self._link.device.id)
        else:
            waiting.set_result(message.payload)

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        tool = self._tools.get(name)
        if tool is None:
            raise NoSuchTool(f"The device has no {name}.")
        checked = check_arguments(tool.parameters, arguments)
        params = {"name": name, "arguments": checked}
        result = await self._request("tools/call", params, self._limits.seconds_for(name))
        text = _text_of(result)
        if result.get("isError") is True:
            raise DeviceCallError(text or "The device does not say why.")
        if name in _SETTINGS and self.on_status is not None:
            self.on_status(DeviceStatus(**{key: checked[key] for key in _SETTINGS[name] if key in checked}))
        return text

    async def status(self) -> DeviceStatus:
        status = read_status(parse_json_object(await self.call(GET_STATUS, {})))
        if self.on_status is not None:
            self.on_status(status)
        return status

    def close(self) -> None:
        self._closed = True
        self._learned.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(DeviceGone("The link has ended."))

    # -- how ------------------------------------------------------------------------------------------------------

    async def _initialize(self) -> tuple[int, ...] | None:
        """Say hello; return the version of the firmware, None when it is not one of the usual kind."""
        capabilities: dict[str, Any] = {}
        if self._vision is not None:
            capabilities["vision"] = {"url": self._vision.url, "token": self._vision.token}
        params = {
            "protocolVersion": PROTOCOL,
            "capabilities": capabilities,
            "clientInfo": {"name": "xiaozhi-hub", "version": "1"},
        }
        try:
            result = await self._request("initialize", params, self._limits.call_s)
        except (NoAnswer, DeviceGone):
            raise
        except DeviceCallError as error:  # it may tell its tools all the same
            log.info("%s refuses to be greeted: %s", self._link.device.id, error)
            return None
        server = result.get("serverInfo")
        return _version_of(server.get("version")) if isinstance(server, Mapping) else None

    async def _list(self, *, user_tools: bool) -> None:
        """Read the list page by page; a cursor that comes twice ends it, because it would lead round in a circle."""
        cursor, seen = "", {""}
        for _ in range(MOST_PAGES):
            params: dict[str, Any] = {"cursor": cursor}
            if user_tools:
                params["withUserTools"] = True
            result = await self._request("tools/list", params, self._limits.call_s)
            listed = result.get("tools")
            for raw in listed if isinstance(listed, list) else ():
                tool = _read_tool(raw)
                if tool is not None and len(self._tools) < MOST_TOOLS:
                    self._tools.setdefault(tool.name, tool)
            following = result.get("nextCursor")
            if not isinstance(following, str) or following in seen:
                return
            cursor = following
            seen.add(cursor)
        log.info("%s lists tools without end", self._link.device.id)

    async def _request(self, method: str, params: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        if self._closed:
            raise DeviceGone("The link has ended.")
        if len(self._waiting) >= MOST_WAITING:
            raise NoAnswer("The device has not answered many earlier calls.")
        id_ = self._take_id()
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[id_] = answer
        try:
            async with asyncio.timeout(seconds):
                await self._link.send(McpRequest(id_, method, params))
                payload = await answer
        except TimeoutError as error:
            raise NoAnswer(f"No answer to {method} within {seconds:g} s.") from error
        finally:
            del self._waiting[id_]
        if "error" in payload:
            raise DeviceCallError(_reason_of(payload["error"]))
        result = payload.get("result")
        if not isinstance(result, Mapping):
            raise DeviceCallError(f"An answer to {method} without a result.")
        return result

    def _take_id(self) -> int:
        while self._next_id in self._waiting:
            self._next_id = self._next_id % _HIGHEST_ID + 1
        taken, self._next_id = self._next_id, self._next_id % _HIGHEST_ID + 1
        return taken


def _reason_of(error: object) -> str:
    message = error.get("message") if isinstance(error, Mapping) else None
    return " ".join(message.split())[:500] if isinstance(message, str) and message else "The device does not say why."


def _text_of(result: Mapping[str, Any]) -> str:
    content = result.get("content")
    items = [item for item in content if isinstance(item, Mapping)] if isinstance(content, list) else []
    return "\n".join(item["text"] for item in items if isinstance(item.get("text"), str))


def _version_of(value: object) -> tuple[int, ...] | None:
    found = re.match(r"\d{1,4}(\.\d{1,4})*", value) if isinstance(value, str) else None
    return tuple(int(part) for part in found.group().split(".")) if found is not None else None


# -- descriptions -----------------------------------------------------------------------------------------------------


def _read_tool(raw: object) -> DeviceTool | None:
    """Understand one entry of the list; None when it is none that could be called."""
    if not isinstance(raw, Mapping):
        return None
    name, description = raw.get("name"), raw.get("description")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return None
    annotations = raw.get("annotations")
    audience = annotations.get("audience") if isinstance(annotations, Mapping) else None
    return DeviceTool(
        name,
        description[:_LONGEST_DESCRIPTION] if isinstance(description, str) else "",
        _read_schema(name, raw.get("inputSchema")),
        user_only=isinstance(audience, list) and "user" in audience and "assistant" not in audience,
    )


def _read_schema(tool: str, raw: object) -> dict[str, Any]:
    schema = raw if isinstance(raw, Mapping) else {}
    listed = schema.get("properties")
    properties = {
        name: _read_property(described)
        for name, described in (listed.items() if isinstance(listed, Mapping) else ())
        if isinstance(described, Mapping)
    }
    wanted = schema.get("required")
    needed = [*(wanted if isinstance(wanted, list) else ()), *_NEEDED.get(tool, ())]
    required = [name for name in dict.fromkeys(n for n in needed if isinstance(n, str)) if name in properties]
    return {"type": "object", "properties": properties, "required": required}


def _read_property(raw: Mapping[str, Any], *, deep: bool = True) -> dict[str, Any]:
    kind = raw.get("type")
    schema: dict[str, Any] = {"type": kind if isinstance(kind, str) else "string"}
    if isinstance(raw.get("description"), str):
        schema["description"] = raw["description"][:_LONGEST_DESCRIPTION]
    if isinstance(raw.get("enum"), list):
        schema["enum"] = raw["enum"]
    if schema["type"] in ("integer", "number"):
        limits = {name: raw.get(name) for name in ("minimum", "maximum")}
        schema.update((name, limit) for name, limit in limits.items() if _is_number(limit))
    if isinstance(raw.get("items"), Mapping) and deep:
        schema["items"] = _read_property(raw["items"], deep=False)
    if isinstance(raw.get("default"), str | int | float | bool):
        schema["default"] = raw["default"]
    return schema


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


__all__ = ["McpToolset", "VisionOffer"]
