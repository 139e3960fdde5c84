"""The tools that a simple device offers over MCP, with the habits of the firmware's JSON-RPC."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TOOLS: tuple[dict[str, Any], ...] = (
    {
        "name": "self.get_device_status",
        "description": "Report volume, screen and network.",
        "inputSchema": {"type": "object", "properties": {}},
    },
    {
        "name": "self.audio_speaker.set_volume",
        "description": "Set the volume of the speaker.",
        "inputSchema": {
            "type": "object",
            "properties": {"volume": {"type": "integer", "minimum": 0, "maximum": 100}},
            "required": ["volume"],
        },
    },
)


class DeviceTools:
    """A device with a speaker whose volume can be set."""

    def __init__(self, board: str, version: str) -> None:
        self._board = board
        self._version = version
        self.volume = 70
        self.requests: list[str] = []
        """The methods that were asked for, in order."""

    def answer(self, request: object) -> dict[str, Any] | None:
        """Return the reply to a JSON-RPC request; None where the firmware stays silent."""
        if not isinstance(request, Mapping) or request.get("jsonrpc") != "2.0":
            return None
        method, id_ = request.get("method"), request.get("id")
        if not isinstance(method, str) or method.startswith("notifications"):
            return None
        if not isinstance(id_, int) or not isinstance(request.get("params", {}), Mapping):
            return None
        self.requests.append(method)
        try:
            return {"jsonrpc": "2.0", "id": id_, "result": self._result(method, request.get("params", {}))}
        except ValueError as error:
            return {"jsonrpc": "2.0", "id": id_, "error": {"message": str(error)}}  # the firmware sends no code

    def _result(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        if method == "initialize":
            return {
                "protocolVersion": "2024-11-05",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self._board, "version": self._version},
            }
        if method == "tools/list":
            return {"tools": list(TOOLS)}
        if method == "tools/call":
            text = self._call(params.get("name"), params.get("arguments", {}))
            return {"content": [{"type": "text", "text": text}], "isError": False}
        raise ValueError(f"Method not implemented: {method}")

    def _call(self, name: object, arguments: Mapping[str, Any]) -> str:
        if name == "self.get_device_status":
            return json.dumps({"audio_speaker": {"volume": self.volume}, "network": {"type": "wifi"}})
        if name == "self.audio_speaker.set_volume":
            volume = arguments.get("volume")
            if not isinstance(volume, int) or isinstance(volume, bool):
                raise ValueError("Missing valid argument: volume")
            if not 0 <= volume <= 100:
                raise ValueError("Value exceeds maximum allowed: 100")
            self.volume = volume
            return "true"
        raise ValueError(f"Unknown tool: {name}")
