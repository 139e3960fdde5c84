"""The ``device.*`` tools: what people ask of the voice devices themselves, whatever protocol each of them speaks.

Without a name or a room the device that asks is meant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Literal

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.devices.abilities.toolsets import ASK_FIRST, LEARN_SECONDS, DeviceTools
from xiaozhi_hub.entities.phrasing import Phrasing
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.entities.tools import VOLUME_STEP
from xiaozhi_hub.errors import ToolError
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool
from xiaozhi_hub.tools.device import (
    GET_STATUS,
    SET_BRIGHTNESS,
    SET_THEME,
    SET_VOLUME,
    TAKE_PHOTO,
    USUAL_LIMITS,
    DeviceStatus,
    parse_json_object,
)

Name = Annotated[str, "which voice device, by its name; leave out for the one the person is talking to"]
Area = Annotated[str, "the room the voice device stands in, when it is another one than the person's"]
Percent = Annotated[int, "0 to 100"]
Step = Annotated[str, "up, down, or percent to change by, such as 20 or -20"]

BRIGHTNESS_STEP = 20
"""Percent that "brighter" and "dim the screen" mean."""
DARKEST = 5
"""Percent; what is dimmed step by step stays readable."""
USUAL_VOLUME = 50
"""Percent; for what was silenced before anybody knew how loud it was."""
_MOST_MUTED = 1000
_CALL_SECONDS = 2 * USUAL_LIMITS.call_s + LEARN_SECONDS + 1
"""Look, then set."""
_PHOTO_SECONDS = USUAL_LIMITS.camera_s + LEARN_SECONDS + 1
_LONGEST_QUESTION = 500
"""Characters; devices without PSRAM should get no JSON above 4 KiB."""
_NO_VISION = ("Image explain URL", "Failed to connect to explain URL")
"""How the firmware's texts begin when a photo could not be taken anywhere (firmware esp32_camera.cc)."""


class DeviceCommands:
    """The handlers of the ``device.*`` tools."""

    def __init__(self, devices: DeviceTools, entities: EntityRegistry, texts: Texts) -> None:
        self._devices = devices
        self._phrasing = Phrasing(texts, entities)
        self._texts = texts
        self._muted: dict[str, int] = {}
        """How loud it was before, by device."""

    # -- loudspeaker ----------------------------------------------------------------------------------------------

    async def has_volume(self, turn: TurnInfo) -> bool:
        """Can the asking device set its own volume?"""
        await self._devices.learned([turn.device_id])
        return self._devices.has(turn.device_id, SET_VOLUME)

    async def set_volume(
        self, turn: TurnInfo, volume: Percent, name: Name | None = None, area: Area | None = None
    ) -> ToolResult:
        """Set how loud the voice device that the person is talking to speaks, or another one."""
        volume = self._percent(volume, turn)
        found = await self._devices.find(turn, SET_VOLUME, name, area)
        return await self._set(found, SET_VOLUME, "volume", dict.fromkeys(found, volume), turn)

    async def change_volume(
        self, turn: TurnInfo, step: Step, name: Name | None = None, area: Area | None = None
    ) -> ToolResult:
        """Make the voice device that the person is talking to louder or quieter, or another one."""
        change = self._step(step, VOLUME_STEP, turn)
        found = await self._devices.find(turn, SET_VOLUME, name, area)
        values: dict[str, int] = {}
        for device_id in found:
            before = self._known((await self._devices.status(device_id, turn.language)).volume, turn)
            values[device_id] = min(100, max(0, before + change))
        return await self._set(found, SET_VOLUME, "volume", values, turn)

    async def mute(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Silence the voice device that the person is talking to, or another one."""
        found = await self._devices.find(turn, SET_VOLUME, name, area)
        for device_id in found:
            before = (await self._devices.status(device_id, turn.language)).volume
            if before:
                self._muted.pop(device_id, None)
                self._muted[device_id] = before
        while len(self._muted) > _MOST_MUTED:
            del self._muted[next(iter(self._muted))]
        return await self._set(found, SET_VOLUME, "volume", dict.fromkeys(found, 0), turn, "muted")

    async def unmute(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Give a silenced voice device its sound back."""
        found = await self._devices.find(turn, SET_VOLUME, name, area)
        values = {device_id: self._muted.pop(device_id, USUAL_VOLUME) for device_id in found}
        return await self._set(found, SET_VOLUME, "volume", values, turn)

    # -- screen ---------------------------------------------------------------------------------------------------

    async def set_brightness(
        self, turn: TurnInfo, brightness: Percent, name: Name | None = None, area: Area | None = None
    ) -> ToolResult:
        """Set how bright the screen of the voice device is; for lamps use home.set_light."""
        brightness = self._percent(brightness, turn)
        found = await self._devices.find(turn, SET_BRIGHTNESS, name, area)
        return await self._set(found, SET_BRIGHTNESS, "brightness", dict.fromkeys(found, brightness), turn)

    async def change_brightness(
        self, turn: TurnInfo, step: Step, name: Name | None = None, area: Area | None = None
    ) -> ToolResult:
        """Make the screen of the voice device brighter or darker."""
        change = self._step(step, BRIGHTNESS_STEP, turn)
        found = await self._devices.find(turn, SET_BRIGHTNESS, name, area)
        values: dict[str, int] = {}
        for device_id in found:
            before = self._known((await self._devices.status(device_id, turn.language)).brightness, turn)
            values[device_id] = min(100, max(min(DARKEST, before), before + change))
        return await self._set(found, SET_BRIGHTNESS, "brightness", values, turn)

    async def set_theme(
        self, turn: TurnInfo, theme: Literal["light", "dark"], name: Name | None = None, area: Area | None = None
    ) -> ToolResult:
        """Make the screen of the voice device light or dark: its colours, not its brightness."""
        found = await self._devices.find(turn, SET_THEME, name, area)
        for device_id in found:
            await self._devices.call(device_id, SET_THEME, {"theme": theme}, turn.language)
        return self._done(found, f"theme_{theme}", turn, theme=theme)

    # -- camera and battery ---------------------------------------------------------------------------------------

    async def take_photo(
        self,
        turn: TurnInfo,
        question: Annotated[str, "what the person wants to know about what is seen"] | None = None,
        name: Name | None = None,
        area: Area | None = None,
    ) -> ToolResult:
        """Take a photo with the camera of the voice device and answer a question about what is seen."""
        found = await self._devices.find(turn, TAKE_PHOTO, name, area)
        asked = (question or self._texts.text("device.photo_question", turn.language))[:_LONGEST_QUESTION]
        try:
            text = await self._devices.call(found[0], TAKE_PHOTO, {"question": asked}, turn.language)
        except ToolError as error:
            if error.code == "device-refused":
                raise self._no_photo(error.hint, turn, "") from error
            raise
        seen = parse_json_object(text)
        if seen.get("success") is False:  # also how firmware before 2.0 says that the camera failed
            message = seen.get("message")
            reason = message if isinstance(message, str) else ""
            raise self._no_photo(reason, turn, "" if reason.startswith("Failed to") else reason)
        answer = next((seen[key] for key in ("response", "text", "message") if isinstance(seen.get(key), str)), "")
        answer = answer or ("" if seen else text)
        if not answer.strip():
            raise self._no_photo("", turn, "")
        return ToolResult(answer, {"device": found[0], "question": asked})

    def _no_photo(self, reason: str, turn: TurnInfo, said: str) -> ToolError:
        """*said* is for people: whoever looked at the photo says why nothing was seen. The firmware's own reasons are not."""
        if reason.startswith(_NO_VISION):
            return ToolError(self._texts.text("device.no_vision", turn.language), code="device-no-vision", hint=reason)
        if said:
            return ToolError(said, code="device-refused")
        return ToolError(self._texts.text("device.no_photo", turn.language), code="device-refused", hint=reason)

    async def get_battery(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Say how full the battery of the voice device is."""
        found = await self._devices.find(turn, GET_STATUS, name, area)
        status: DeviceStatus = await self._devices.status(found[0], turn.language)
        if status.battery is None:
            raise ToolError(self._texts.text("device.no_battery", turn.language), code="device-cannot")
        key = "battery_charging" if status.charging else "battery"
        data = {"device": found[0], "battery": status.battery, "charging": status.charging}
        return ToolResult(self._texts.text(f"device.{key}", turn.language, value=status.battery), data)

    # -- any device, any tool -------------------------------------------------------------------------------------

    async def list_devices(self, turn: TurnInfo) -> ToolResult:
        """Say which voice devices are connected now; the answer's data hold the tools of each."""
        connected = self._devices.connected
        if not connected:
            raise ToolError(self._texts.text("device.none", turn.language), code="device-unknown")
        names = [self._devices.name_of(device_id) for device_id in connected]
        data = {
            device_id: {
                "name": self._devices.name_of(device_id),
                "tools": [tool.name for tool in toolset.tools.values() if not tool.user_only],
            }
            for device_id, toolset in connected.items()
        }
        said = self._phrasing.several(names, turn.language)
        return ToolResult(self._texts.text("device.connected", turn.language, names=said), {"devices": data})

    async def use(
        self,
        turn: TurnInfo,
        tool: str,
        arguments: dict[str, Any] | None = None,
        name: str | None = None,
        area: str | None = None,
    ) -> ToolResult:
        """Use a tool that another voice device brings, by the name that device.list gives."""
        found = await self._devices.find(turn, tool, name, area)
        if tool in ASK_FIRST or self._devices.connected[found[0]].tools[tool].user_only:
            raise ToolError(self._texts.text("device.people_only", turn.language), code="device-people-only")
        text = await self._devices.call(found[0], tool, arguments or {}, turn.language)
        return ToolResult(text, parse_json_object(text))

    # -- how ------------------------------------------------------------------------------------------------------

    async def _set(
        self, found: list[str], tool: str, argument: str, values: dict[str, int], turn: TurnInfo, said: str = ""
    ) -> ToolResult:
        for device_id in found:
            await self._devices.call(device_id, tool, {argument: values[device_id]}, turn.language)
        return self._done(found, said or argument, turn, **{argument: values[found[-1]]})

    def _done(self, found: list[str], key: str, turn: TurnInfo, **values: Any) -> ToolResult:
        if found == [turn.device_id]:
            text = self._texts.text(f"device.done.{key}", turn.language, **values)
        else:
            the = self._phrasing.several([self._the(device_id, turn) for device_id in found], turn.language)
            text = self._texts.text(f"device.done_on.{key}", turn.language, name=the, **values)
            text = text[:1].upper() + text[1:]
        return ToolResult(text, {"devices": found, **values})

    def _the(self, device_id: str, turn: TurnInfo) -> str:
        name = self._devices.name_of(device_id)
        return name if name == device_id else self._phrasing.with_article(name, turn.language)

    def _percent(self, value: int, turn: TurnInfo) -> int:
        if not 0 <= value <= 100:
            raise ToolError(self._texts.text("home.no_percent", turn.language), code="tool-arguments")
        return value

    def _step(self, step: str, usual: int, turn: TurnInfo) -> int:
        steps = {"up": usual, "down": -usual}
        try:
            return steps.get(step.strip().casefold()) or round(float(step))
        except (ValueError, OverflowError):
            raise ToolError(self._texts.text("home.no_step", turn.language), code="tool-arguments") from None

    def _known(self, value: int | None, turn: TurnInfo) -> int:
        if value is None:
            raise ToolError(self._texts.text("device.no_status", turn.language), code="device-cannot")
        return value


_USE_PARAMETERS = {
    "type": "object",
    "properties": {
        "tool": {"type": "string", "description": "the tool's name, as device.list gives it"},
        "arguments": {"type": "object", "description": "what the tool wants"},
        "name": {"type": "string", "description": "which voice device, by its name"},
        "area": {"type": "string", "description": "the room the voice device stands in"},
    },
    "required": ["tool"],
    "additionalProperties": False,
}


def device_tools(commands: DeviceCommands) -> tuple[Tool, ...]:
    """All tools for the voice devices themselves."""
    acting: dict[str, Callable[..., Any]] = {
        "set_volume": commands.set_volume,
        "change_volume": commands.change_volume,
        "mute": commands.mute,
        "unmute": commands.unmute,
        "set_brightness": commands.set_brightness,
        "change_brightness": commands.change_brightness,
        "set_theme": commands.set_theme,
    }
    use = Tool(
        "device.use", commands.use.__doc__ or "", _USE_PARAMETERS, commands.use, seconds=_PHOTO_SECONDS, foreign=True
    )  # its arguments are another tool's: no annotation says what they are
    return (
        *(make_tool(f"device.{verb}", handler, seconds=_CALL_SECONDS) for verb, handler in acting.items()),
        replace(make_tool("device.take_photo", commands.take_photo, seconds=_PHOTO_SECONDS), foreign=True),
        make_tool("device.get_battery", commands.get_battery, effect=False, seconds=_CALL_SECONDS),
        make_tool("device.list", commands.list_devices, effect=False),
        use,
    )


__all__ = ["DeviceCommands", "device_tools"]
