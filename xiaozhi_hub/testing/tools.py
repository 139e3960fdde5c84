"""The tools that a device offers over MCP, with the habits of the firmware's JSON-RPC (firmware mcp_server.cc)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.testing.camera import Camera
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.settings import Settings

PAGE_BYTES = 8000
"""A page of the list stops before it is longer than this."""
Run = Callable[..., Awaitable[str | None]]
"""Called with the arguments; returns the text of the result, or None to never answer. A ValueError is told as an error."""


@dataclass(frozen=True, slots=True)
class FirmwareTool:
    """One tool of the device."""

    name: str
    run: Run
    description: str = "What it does."
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``type`` is integer, boolean or string; ``default`` makes an argument optional; ``minimum``, ``maximum``."""
    user_only: bool = False

    def listed(self) -> dict[str, Any]:
        """The entry in the list."""
        schema: dict[str, Any] = {"type": "object", "properties": {k: dict(v) for k, v in self.properties.items()}}
        required = [name for name, described in self.properties.items() if "default" not in described]
        if required:
            schema["required"] = required
        entry: dict[str, Any] = {"name": self.name, "description": self.description, "inputSchema": schema}
        if self.user_only:
            entry["annotations"] = {"audience": ["user"]}
        return entry


class DeviceTools:
    """The MCP server of a device."""

    def __init__(self, profile: FirmwareProfile, settings: Settings, camera: Camera) -> None:
        self._profile = profile
        self._settings = settings
        self._camera = camera
        self._tools: dict[str, FirmwareTool] = {}
        self.requests: list[str] = []
        """The methods that were asked for, in order."""
        self.calls: list[tuple[str, dict[str, Any]]] = []
        """The tools that were called, with the arguments as they came."""
        self.initialized: Mapping[str, Any] = {}
        """What the hub said of itself."""
        self.page_bytes = PAGE_BYTES
        self.rebooted = False
        for tool in self._usual():
            self.add(tool)

    @property
    def volume(self) -> int:
        return self._settings.volume

    def add(self, tool: FirmwareTool) -> None:
        """Let the device have another tool, as boards do."""
        self._tools[tool.name] = tool

    def remove(self, name: str) -> None:
        """Let the device lack a tool."""
        del self._tools[name]

    async def answer(self, request: object) -> str | None:
        """Return the JSON text of the reply to a JSON-RPC request; None where the firmware stays silent."""
        if not isinstance(request, Mapping) or request.get("jsonrpc") != "2.0":
            return None
        method, id_ = request.get("method"), request.get("id")
        if not isinstance(method, str) or method.startswith("notifications"):
            return None
        if isinstance(id_, bool) or not isinstance(id_, int) or not isinstance(request.get("params", {}), Mapping):
            return None
        self.requests.append(method)
        try:
            result = await self._result(method, request.get("params", {}))
        except ValueError as error:  # without code, and without escaping what stands between the quotes
            return f'{{"jsonrpc":"2.0","id":{id_},"error":{{"message":"{error}"}}}}'
        return None if result is None else json.dumps({"jsonrpc": "2.0", "id": id_, "result": result})

    async def _result(self, method: str, params: Mapping[str, Any]) -> dict[str, Any] | None:
        match method:
            case "initialize":
                self.initialized = params
                self._camera.offer(params.get("capabilities"))
                return {
                    "protocolVersion": "2024-11-05",
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": self._profile.board, "version": self._profile.version},
                }
            case "tools/list":
                return self._list(params)
            case "tools/call":
                text = await self._call(params.get("name"), params.get("arguments"))
                return None if text is None else {"content": [{"type": "text", "text": text}], "isError": False}
        raise ValueError(f"Method not implemented: {method}")

    def _list(self, params: Mapping[str, Any]) -> dict[str, Any]:
        cursor = params.get("cursor")
        with_user = params.get("withUserTools") is True and self._profile.number >= (2, 0)
        begun = not cursor
        page: list[dict[str, Any]] = []
        size = 0
        following = ""
        for tool in self._tools.values():
            begun = begun or tool.name == cursor
            if not begun or (tool.user_only and not with_user):
                continue
            entry = tool.listed()
            size += len(json.dumps(entry))
            if size > self.page_bytes:
                following = tool.name
                break
            page.append(entry)
        if not page:
            raise ValueError(f"Failed to add tool {following or cursor} because of payload size limit")
        return {"tools": page, **({"nextCursor": following} if following else {})}

    async def _call(self, name: object, arguments: object) -> str | None:
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None:
            raise ValueError(f"Unknown tool: {name}")
        given = dict(arguments) if isinstance(arguments, Mapping) else {}
        self.calls.append((tool.name, given))
        return await tool.run(**{key: _fit(key, given, described) for key, described in tool.properties.items()})

    # -- what boards have -----------------------------------------------------------------------------------------

    def _usual(self) -> list[FirmwareTool]:
        percent = {"type": "integer", "minimum": 0, "maximum": 100}
        parts = self._profile.parts
        tools = [
            FirmwareTool("self.get_device_status", self._status, "The real-time information of the device."),
            FirmwareTool(
                "self.audio_speaker.set_volume", self._set_volume, "Set the volume of the speaker.", {"volume": percent}
            ),
        ]
        if "screen" in parts:
            tools += [
                FirmwareTool(
                    "self.screen.set_brightness", self._set_brightness, "Set the brightness.", {"brightness": percent}
                ),
                FirmwareTool("self.screen.set_theme", self._set_theme, "Set the theme.", {"theme": {"type": "string"}}),
            ]
        if "camera" in parts:
            question = {"question": {"type": "string"}}
            tools.append(FirmwareTool("self.camera.take_photo", self._photo, "Take a photo and explain it.", question))
        if self._profile.number >= (2, 0):
            url = {"url": {"type": "string", "default": "The URL of the firmware binary file."}}
            tools += [
                FirmwareTool("self.get_system_info", self._info, "Get the system information.", user_only=True),
                FirmwareTool("self.reboot", self._reboot, "Reboot the system.", user_only=True),
                FirmwareTool("self.upgrade_firmware", self._upgrade, "Upgrade.", url, user_only=True),
            ]
        return tools

    async def _status(self) -> str:
        return json.dumps(self._settings.report(self._profile.parts))

    async def _set_volume(self, volume: int) -> str:
        self._settings.volume = volume
        return "true"

    async def _set_brightness(self, brightness: int) -> str:
        self._settings.brightness = brightness
        return "true"

    async def _set_theme(self, theme: str) -> str:
        if theme not in ("light", "dark"):
            return "false"
        self._settings.theme = theme
        return "true"

    async def _photo(self, question: str) -> str:
        try:
            return await self._camera.explain(question)
        except ValueError as error:
            if self._profile.number >= (2, 0):
                raise
            return json.dumps({"success": False, "message": str(error)})

    async def _info(self) -> str:
        return json.dumps({"application": {"version": self._profile.version}})

    async def _reboot(self) -> str:
        self.rebooted = True
        return "true"

    async def _upgrade(self, url: str) -> str:
        return "true"


_TYPES = {"integer": int, "boolean": bool, "string": str}


def _fit(name: str, given: Mapping[str, Any], described: Mapping[str, Any]) -> Any:
    value = given.get(name, described.get("default"))
    kind = _TYPES[described["type"]]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"Missing valid argument: {name}")
    if "minimum" in described and value < described["minimum"]:
        raise ValueError(f"Value is below minimum allowed: {described['minimum']}")
    if "maximum" in described and value > described["maximum"]:
        raise ValueError(f"Value exceeds maximum allowed: {described['maximum']}")
    return value
