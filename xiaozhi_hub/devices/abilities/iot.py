"""The things of a device with firmware before 1.8 that does not speak MCP (firmware 1.6.2 iot/thing_manager.cc).

The device describes its things by itself, one message for each, and tells their states before it listens. Commands get no
answer. What today's firmware has too goes by today's name: ``Speaker.SetVolume`` is ``self.audio_speaker.set_volume``.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.protocol.device_messages import Iot, Mcp
from xiaozhi_hub.protocol.hub_messages import IotCommand
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.tools.arguments import check_arguments
from xiaozhi_hub.tools.device import (
    GET_STATUS,
    MOST_TOOLS,
    SET_BRIGHTNESS,
    SET_THEME,
    SET_VOLUME,
    DeviceGone,
    DeviceStatus,
    DeviceTool,
    DeviceToolset,
    NoSuchTool,
    read_status,
)

log = logging.getLogger(__name__)

MOST_THINGS = 32
_JSON_TYPES = {"boolean": "boolean", "number": "integer", "string": "string"}
"""What the firmware calls number is an int."""
_NAME = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
_LONGEST_DESCRIPTION = 1000
_PERCENT = {"minimum": 0, "maximum": 100}


@dataclass(frozen=True, slots=True)
class _Modern:
    """A method that has a successor."""

    tool: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Today's names of parameters, by the old ones."""
    limits: Mapping[str, int] = field(default_factory=dict)
    """The range, which a descriptor does not tell."""


_MODERN = {
    ("Speaker", "SetVolume"): _Modern(SET_VOLUME, limits=_PERCENT),
    ("Screen", "SetBrightness"): _Modern(SET_BRIGHTNESS, limits=_PERCENT),
    ("Screen", "SetTheme"): _Modern(SET_THEME, {"theme_name": "theme"}),
}
_REPORT = {"Speaker": "audio_speaker", "Screen": "screen", "Battery": "battery"}
"""Where the states of a thing stand in today's status report; others go by their own name."""


@dataclass(frozen=True, slots=True)
class _Method:
    thing: str
    name: str
    parameters: Mapping[str, str]
    """The names that the command uses, by those of the tool."""


class IotToolset(DeviceToolset):
    """Speaks the old protocol with one device over its link."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self._tools: dict[str, DeviceTool] = {}
        self._methods: dict[str, _Method] = {}
        self._states: dict[str, dict[str, Any]] = {}
        self._closed = False

    @property
    def tools(self) -> Mapping[str, DeviceTool]:
        return self._tools

    async def start(self) -> None:
        """Nothing to ask: the device tells by itself."""

    async def learned(self) -> None:
        """Descriptors come before anything that a person could say, so what is there is all."""

    def receive(self, message: Mcp | Iot) -> None:
        if not isinstance(message, Iot):
            return
        for descriptor in _mappings(message.payload.get("descriptors")):
            self._describe(descriptor)
        changed = False
        for told in _mappings(message.payload.get("states")):
            changed |= self._note(told)
        if changed:
            self._tell_status()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        tool = self._tools.get(name)
        if tool is None:
            raise NoSuchTool(f"The device has no {name}.")
        checked = check_arguments(tool.parameters, arguments)
        if name == GET_STATUS:
            return json.dumps(self._report(), ensure_ascii=False)
        if self._closed or self._link.closed:
            raise DeviceGone("The link has ended.")
        method = self._methods[name]
        parameters = {method.parameters[key]: value for key, value in checked.items()}
        await self._link.send(IotCommand(method.thing, method.name, parameters))
        if self._remember(method, parameters):
            self._tell_status()
        return "true"

    async def status(self) -> DeviceStatus:
        return read_status(self._report())

    def close(self) -> None:
        self._closed = True

    # -- how ------------------------------------------------------------------------------------------------------

    def _describe(self, descriptor: Mapping[str, Any]) -> None:
        thing, methods = descriptor.get("name"), descriptor.get("methods")
        if not isinstance(thing, str) or not _NAME.fullmatch(thing):
            return
        if GET_STATUS not in self._tools:
            description = "The current state of the device and its parts."
            self._tools[GET_STATUS] = DeviceTool(GET_STATUS, description, _schema({}))
        for name, described in methods.items() if isinstance(methods, Mapping) else ():
            if isinstance(name, str) and _NAME.fullmatch(name) and isinstance(described, Mapping):
                self._take(thing, name, described)

    def _take(self, thing: str, name: str, described: Mapping[str, Any]) -> None:
        modern = _MODERN.get((thing, name)) or _Modern(f"self.{_words(thing)}.{_words(name)}")
        if modern.tool not in self._tools and len(self._tools) >= MOST_TOOLS:
            return
        properties: dict[str, Any] = {}
        names: dict[str, str] = {}
        declared = described.get("parameters")
        for old, parameter in declared.items() if isinstance(declared, Mapping) else ():
            kind = _JSON_TYPES.get(str(parameter.get("type"))) if isinstance(parameter, Mapping) else None
            if kind is None:
                log.info("%s: %s.%s has a parameter of an unknown type", self._link.device.id, thing, name)
                return  # a call without it, or with the wrong type, would crash the device
            new = modern.parameters.get(old, old)
            names[new] = old
            properties[new] = {"type": kind, "description": _text(parameter.get("description"))}
            if kind == "integer":
                properties[new].update(modern.limits)
        self._tools[modern.tool] = DeviceTool(modern.tool, _text(described.get("description")), _schema(properties))
        self._methods[modern.tool] = _Method(thing, name, names)

    def _note(self, told: Mapping[str, Any]) -> bool:
        thing, state = told.get("name"), told.get("state")
        if not isinstance(thing, str) or not _NAME.fullmatch(thing) or not isinstance(state, Mapping):
            return False
        if thing not in self._states and len(self._states) >= MOST_THINGS:
            return False
        plain = {key: value for key, value in state.items() if isinstance(value, bool | int | float | str)}
        self._states.setdefault(thing, {}).update(list(plain.items())[:MOST_THINGS])
        return bool(plain)

    def _remember(self, method: _Method, parameters: Mapping[str, Any]) -> bool:
        """The device tells the new state only before it listens again: until then, it is what it was told to be."""
        state = self._states.get(method.thing, {})
        known = {key: value for key, value in parameters.items() if key in state}
        state.update(known)
        return bool(known)

    def _report(self) -> dict[str, Any]:
        return {_REPORT.get(thing, _words(thing)): dict(state) for thing, state in self._states.items()}

    def _tell_status(self) -> None:
        if self.on_status is not None:
            self.on_status(read_status(self._report()))


def _schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    listed = value if isinstance(value, list) else ()
    return [item for item in listed[:MOST_THINGS] if isinstance(item, Mapping)]


def _words(name: str) -> str:
    """``TurnOn`` → ``turn_on``"""
    return _WORD.sub("_", name).strip("_").lower()


def _text(value: object) -> str:
    return value[:_LONGEST_DESCRIPTION] if isinstance(value, str) else ""


__all__ = ["IotToolset"]
