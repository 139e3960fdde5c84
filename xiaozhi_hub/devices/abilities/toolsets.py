"""The tools that connected devices bring: which device is meant, and one way to call what it can do.

A device that speaks MCP is asked as soon as it has said hello, an older one tells by itself. A device is only there
while its link is: nothing reaches one that sleeps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from xiaozhi_hub.core.config import DeviceConfig
from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.devices.abilities.iot import IotToolset
from xiaozhi_hub.devices.abilities.mcp import McpToolset, VisionOffer
from xiaozhi_hub.entities.registry import EntityRegistry, fold
from xiaozhi_hub.errors import MissingSlot, ToolError
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.tools.arguments import Misfit
from xiaozhi_hub.tools.base import Tool, ToolResult
from xiaozhi_hub.tools.device import (
    GET_STATUS,
    SET_BRIGHTNESS,
    SET_THEME,
    SET_VOLUME,
    TAKE_PHOTO,
    USUAL_LIMITS,
    CallLimits,
    DeviceCallError,
    DeviceStatus,
    DeviceTool,
    DeviceToolset,
    parse_json_object,
)

log = logging.getLogger(__name__)

LEARN_SECONDS = 5.0
"""A device that was asked for something before it has told its tools is given so long to do so."""
_COVERED = frozenset((SET_VOLUME, SET_BRIGHTNESS, SET_THEME, TAKE_PHOTO))
"""Tools that the hub offers under names of its own, for all devices alike."""
ASK_FIRST = frozenset(("self.system.reconfigure_wifi",))
"""Tools that end the conversation, and more."""

OfferVision = Callable[[Link], VisionOffer | None]


class DeviceTools:
    """Knows the tools of every connected device."""

    def __init__(self, devices: Mapping[str, DeviceConfig], entities: EntityRegistry, texts: Texts) -> None:
        self._configured = devices
        self._devices = dict(devices)
        self._by_command: dict[str, tuple[str, str]] = {}
        """Name and area that the owner has given by command."""
        self._entities = entities
        self._texts = texts
        self._toolsets: dict[str, DeviceToolset] = {}
        self.offer_vision: OfferVision = lambda link: None
        """Says where the camera of a device is to send its photos; None when nobody here looks at them."""
        self.limits: CallLimits = USUAL_LIMITS
        self.on_connected: Callable[[str, DeviceToolset], None] = lambda device_id, toolset: None
        self.on_gone: Callable[[str], None] = lambda device_id: None
        self.on_named: Callable[[str, DeviceConfig], None] = lambda device_id, device: None

    def name(self, device_id: str, name: str, area: str) -> None:
        """The owner calls the device *name* and says where it stands; what is written in the configuration goes before."""
        known_name, known_area = self._by_command.get(device_id, ("", ""))
        self._by_command[device_id] = name or known_name, area or known_area
        if self._configured.get(device_id, DeviceConfig(device_id)).name == device_id:
            self._settle(device_id)

    def configure(self, devices: Mapping[str, DeviceConfig]) -> None:
        """The owner has written something else."""
        before, self._configured = self._configured, devices
        for device_id in {*before, *devices}:
            if before.get(device_id) != devices.get(device_id):
                self._settle(device_id)

    def _settle(self, device_id: str) -> None:
        device = self._configured.get(device_id, DeviceConfig(device_id))
        if device.name == device_id:
            name, area = self._by_command.get(device_id, ("", ""))
            device = replace(device, name=name or device_id, area=device.area or area or None)
        self._devices[device_id] = device
        self.on_named(device_id, device)

    # -- links ----------------------------------------------------------------------------------------------------

    def open(self, link: Link) -> DeviceToolset:
        """Return the toolset of a new link; it has to be started, fed, and given back with `close`."""
        toolset: DeviceToolset
        if "mcp" in link.hello.features:
            toolset = McpToolset(link, vision=self.offer_vision(link), limits=self.limits)
        else:
            toolset = IotToolset(link)
        self._toolsets[link.device.id] = toolset
        self.on_connected(link.device.id, toolset)
        return toolset

    def close(self, device_id: str, toolset: DeviceToolset) -> None:
        """The link of *toolset* has ended."""
        toolset.close()
        if self._toolsets.get(device_id) is toolset:
            del self._toolsets[device_id]
            self.on_gone(device_id)

    # -- for pages and automations --------------------------------------------------------------------------------

    @property
    def connected(self) -> Mapping[str, DeviceToolset]:
        """The toolsets of the devices that are connected now, by device id."""
        return self._toolsets

    def name_of(self, device_id: str) -> str:
        """What the owner calls the device; its id when it has no name."""
        written = self._devices.get(device_id)
        return written.name if written is not None else device_id

    async def call(self, device_id: str, tool: str, arguments: Mapping[str, Any], language: str = "en") -> str:
        """Call any tool of a connected device, those for people too; return its text.

        Raises `ToolError` in *language*; its hint holds what the device itself said.
        """
        toolset = self._toolsets.get(device_id)
        if toolset is None:
            raise self._asleep(device_id, language)
        try:
            return await toolset.call(tool, arguments)
        except Misfit as misfit:
            message = self._texts.text(f"spoken.{misfit.key}", language, **misfit.values)
            raise ToolError(message, code="tool-arguments") from None
        except DeviceCallError as error:
            log.info("%s did not do %s: %s", device_id, tool, error)
            raise self._told(error, language) from error

    async def status(self, device_id: str, language: str = "en") -> DeviceStatus:
        """Return how things are on a connected device. Raises `ToolError` in *language*."""
        toolset = self._toolsets.get(device_id)
        if toolset is None:
            raise self._asleep(device_id, language)
        try:
            return await toolset.status()
        except DeviceCallError as error:
            raise self._told(error, language) from error

    def _told(self, error: DeviceCallError, language: str) -> ToolError:
        reason = "" if error.code in ("device-silent", "device-gone") else error.message
        return ToolError(self._texts.text(f"device.{error.code}", language), code=error.code, hint=reason)

    def _asleep(self, device_id: str, language: str) -> ToolError:
        message = self._texts.text("device.asleep", language, name=self.name_of(device_id))
        return ToolError(message, code="device-asleep")

    # -- which device ---------------------------------------------------------------------------------------------

    async def find(self, turn: TurnInfo, tool: str, name: str | None, area: str | None) -> list[str]:
        """Return the ids of the connected devices that are meant and have *tool*, at least one.

        Without name and area it is the device that asks, or the only one that is connected. Raises `ToolError`.
        """
        if name:
            found = [self._called(name, turn)]
        elif area:
            found = self._standing_in(area, turn)
        else:
            found = [self._asking(turn)]
        await self.learned(found)
        able = [device_id for device_id in found if self.has(device_id, tool)]
        if not able:
            raise ToolError(self._texts.text(_cannot(tool), turn.language), code="device-cannot")
        return able

    def has(self, device_id: str, tool: str) -> bool:
        """Is the device connected, and does it have the tool?"""
        toolset = self._toolsets.get(device_id)
        return toolset is not None and tool in toolset.tools

    async def learned(self, device_ids: list[str]) -> None:
        """Return when the devices have told their tools, or take too long."""
        try:
            async with asyncio.timeout(LEARN_SECONDS):
                for device_id in device_ids:
                    if (toolset := self._toolsets.get(device_id)) is not None:
                        await toolset.learned()
        except TimeoutError:
            log.info("a device takes long to tell its tools")

    def _called(self, name: str, turn: TurnInfo) -> str:
        wanted = fold(name)
        known = {*self._devices, *self._toolsets}
        called = [id_ for id_ in known if wanted in (fold(id_), fold(self.name_of(id_)))]
        if not called:
            raise ToolError(self._texts.text("home.no_name", turn.language, name=name), code="device-unknown")
        for device_id in called:
            if device_id in self._toolsets:
                return device_id
        raise self._asleep(called[0], turn.language)

    def _standing_in(self, area: str, turn: TurnInfo) -> list[str]:
        room = fold(self._entities.area(area) or area)
        here = [id_ for id_, device in self._devices.items() if device.area is not None and fold(device.area) == room]
        if not here:
            raise ToolError(self._texts.text("device.none_in", turn.language, area=area), code="device-unknown")
        awake = [device_id for device_id in here if device_id in self._toolsets]
        if not awake:
            raise self._asleep(here[0], turn.language)
        return awake

    def _asking(self, turn: TurnInfo) -> str:
        if turn.device_id in self._toolsets:
            return turn.device_id
        if not self._toolsets:
            raise ToolError(self._texts.text("device.none", turn.language), code="device-unknown")
        if len(self._toolsets) > 1:
            raise MissingSlot("name", self._texts.text("device.ask_name", turn.language))
        return next(iter(self._toolsets))

    # -- for one turn ---------------------------------------------------------------------------------------------

    def for_turn(self, turn: TurnInfo) -> tuple[Tool, ...]:
        """The asking device's own tools under their own names, but those that the hub offers for all devices.

        What the device keeps for people is ``owner_only``: no language model gets to see it.
        """
        toolset = self._toolsets.get(turn.device_id)
        if toolset is None:
            return ()
        return tuple(self._offered(tool) for tool in toolset.tools.values() if tool.name not in _COVERED)

    def _offered(self, tool: DeviceTool) -> Tool:
        async def handler(turn: TurnInfo, **arguments: Any) -> ToolResult:
            text = await self.call(turn.device_id, tool.name, arguments, turn.language)
            return ToolResult(text, parse_json_object(text))

        return Tool(
            tool.name,
            tool.description,
            tool.parameters,
            handler,
            effect=tool.name != GET_STATUS,
            confirm=tool.name in ASK_FIRST,
            owner_only=tool.user_only,
            seconds=self.limits.seconds_for(tool.name) + LEARN_SECONDS,
            foreign=True,
        )


def _cannot(tool: str) -> str:
    """The text that says what the device lacks."""
    return {
        SET_VOLUME: "device.no_volume",
        SET_BRIGHTNESS: "device.no_screen",
        SET_THEME: "device.no_theme",
        TAKE_PHOTO: "device.no_camera",
    }.get(tool, "device.device-cannot")


__all__ = ["DeviceTools"]
