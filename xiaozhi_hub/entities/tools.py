"""The tools of the house: everything a person can ask of entities, whoever asks.

A tool finds the entities that are meant and calls their services. The services it looks for, by domain:

    light, switch, fan, media_player, climate   turn_on(), turn_off()
    light          set_brightness(brightness: percent), set_color(color: English name), set_color_temperature(kelvin)
    cover          open(), close(), set_position(position: percent)
    lock           lock(), unlock()
    media_player   pause(), resume(), next(), previous(), set_volume(volume: percent), mute(muted: bool)
    climate        set_temperature(temperature)
    scene, script  run()
    todo           add_item(item), complete_item(item)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Protocol

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.entities.phrasing import Phrasing, names_of
from xiaozhi_hub.entities.queries import HouseQueries
from xiaozhi_hub.entities.registry import EntityRegistry, fold
from xiaozhi_hub.entities.targets import Targets, Wanted
from xiaozhi_hub.errors import MissingSlot, ToolError
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool

Name = Annotated[str, "what the thing is called, as the person said it"]
Area = Annotated[str, "the room; leave out for the room the person is in"]
Kind = Annotated[str, "kind of thing: light, switch, cover, lock, media_player, climate, fan, scene, script"]
DeviceClass = Annotated[str, "kind within cover and sensor: window, curtain, blind, door, garage, humidity"]
Everywhere = Annotated[bool, "every room of the house"]
Percent = Annotated[int, "0 to 100"]
Color = Annotated[str, "English name: red, orange, yellow, green, blue, purple, pink, white, turquoise"]
Kelvin = Annotated[int, "2700 is warm white, 4000 cold white, 6500 daylight"]
Item = Annotated[str, "what is on the list"]

VOLUME_STEP = 10
"""Percent that "louder" and "quieter" mean."""
_DEVICE_SECONDS = 70.0
"""For tools that may turn out to mean a voice device: it has time limits of its own, and is asked twice."""
_MAY_MEAN_DEVICES = frozenset(("set_volume", "change_volume", "mute", "unmute"))


class VoiceDevices(Protocol):
    """The loudspeakers that people talk to: "louder" means the one that is asked unless something else plays there."""

    async def has_volume(self, turn: TurnInfo) -> bool:
        """Can the asking device set its own volume?"""
        ...

    async def set_volume(self, turn: TurnInfo, volume: int, name: str | None = None) -> ToolResult: ...

    async def change_volume(self, turn: TurnInfo, step: str, name: str | None = None) -> ToolResult: ...

    async def mute(self, turn: TurnInfo, name: str | None = None) -> ToolResult: ...

    async def unmute(self, turn: TurnInfo, name: str | None = None) -> ToolResult: ...


class HomeTools:
    """The handlers of the ``home.*`` tools that change something."""

    def __init__(
        self, entities: EntityRegistry, phrasing: Phrasing, targets: Targets, devices: VoiceDevices | None = None
    ) -> None:
        self._entities = entities
        self._phrasing = phrasing
        self._targets = targets
        self._devices = devices

    # -- on, off, open, closed, locked ----------------------------------------------------------------------------

    async def turn_on(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None,
        device_class: DeviceClass | None = None, everywhere: Everywhere = False,
    ) -> ToolResult:  # fmt: skip
        """Turn on lights, switches, fans, media players or heating: by name, by room, by kind of thing in a room."""
        return await self._act("turn_on", turn, Wanted(name, area, domain, device_class, everywhere))

    async def turn_off(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None,
        device_class: DeviceClass | None = None, everywhere: Everywhere = False,
    ) -> ToolResult:  # fmt: skip
        """Turn off lights, switches, fans, media players or heating: by name, by room, by kind of thing in a room."""
        return await self._act("turn_off", turn, Wanted(name, area, domain, device_class, everywhere))

    async def toggle(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None
    ) -> ToolResult:
        """Turn on what is off and off what is on."""
        found = self._targets.resolve(Wanted(name, area, domain), turn, _can("turn_on", "turn_off"))
        verb = "turn_off" if any(_is_on(entity) for entity in found) else "turn_on"
        return await self._do(verb, found, turn)

    async def open(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None,
        device_class: DeviceClass | None = None, everywhere: Everywhere = False,
    ) -> ToolResult:  # fmt: skip
        """Open doors, windows, curtains, blinds, gates or garage doors."""
        wanted = Wanted(name, area, domain or (None if name else Domain.COVER.value), device_class, everywhere)
        return await self._act("open", turn, wanted)

    async def close(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None,
        device_class: DeviceClass | None = None, everywhere: Everywhere = False,
    ) -> ToolResult:  # fmt: skip
        """Close doors, windows, curtains, blinds, gates or garage doors."""
        wanted = Wanted(name, area, domain or (None if name else Domain.COVER.value), device_class, everywhere)
        return await self._act("close", turn, wanted)

    async def set_position(
        self, turn: TurnInfo, position: Percent, name: Name | None = None, area: Area | None = None,
        domain: Kind | None = None, device_class: DeviceClass | None = None,
    ) -> ToolResult:  # fmt: skip
        """Open curtains, blinds or other covers part of the way: 0 is closed, 100 is open."""
        wanted = Wanted(name, area, domain or (None if name else Domain.COVER.value), device_class)
        position = self._percent(position, turn)
        return await self._act("set_position", turn, wanted, position=position)

    async def lock(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None
    ) -> ToolResult:
        """Lock a door."""
        return await self._act("lock", turn, Wanted(name, area, domain or (None if name else Domain.LOCK.value)))

    async def unlock(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None
    ) -> ToolResult:
        """Unlock a door."""
        return await self._act("unlock", turn, Wanted(name, area, domain or (None if name else Domain.LOCK.value)))

    # -- light ----------------------------------------------------------------------------------------------------

    async def set_light(
        self, turn: TurnInfo, name: Name | None = None, area: Area | None = None, domain: Kind | None = None,
        brightness: Percent | None = None,
        color: Color | None = None, color_temperature: Kelvin | None = None, everywhere: Everywhere = False,
    ) -> ToolResult:  # fmt: skip
        """Set how bright a light is, its colour, or how warm its white is."""
        wanted = Wanted(name, area, domain or (None if name else Domain.LIGHT.value), None, everywhere)
        steps: dict[str, dict[str, Any]] = {}
        said: dict[str, Any] = {}
        if brightness is not None:
            steps["set_brightness"] = said = {"brightness": self._percent(brightness, turn)}
        if color_temperature is not None:
            steps["set_color_temperature"] = said = {"kelvin": color_temperature}
        if color is not None:
            said = {"color": self._color(color, turn)}
            steps["set_color"] = {"color": fold(color)}
        if not steps:
            raise MissingSlot("brightness", self._phrasing.text("ask_brightness", turn))
        found = self._targets.resolve(wanted, turn, _can(*steps))
        for service, values in steps.items():
            await _serve(found, service, values)
        return self._done(f"done.{service}", found, turn, **said)

    # -- media ----------------------------------------------------------------------------------------------------

    async def pause(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Pause what is playing on a TV or speaker."""
        return await self._media("pause", turn, name, area)

    async def resume(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Go on playing what was paused on a TV or speaker."""
        return await self._media("resume", turn, name, area)

    async def next_track(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Skip to the next song, track or item."""
        return await self._media("next", turn, name, area)

    async def previous_track(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Go back to the previous song, track or item."""
        return await self._media("previous", turn, name, area)

    async def set_volume(
        self, turn: TurnInfo, volume_level: Percent, name: Name | None = None, area: Area | None = None
    ) -> ToolResult:
        """Set the volume of a TV or speaker."""
        volume = self._percent(volume_level, turn)
        if (meant := await self._device(turn, name, area)) is not None:
            return await meant[0].set_volume(turn, volume, meant[1])
        return await self._media("set_volume", turn, name, area, volume=volume)

    async def change_volume(
        self, turn: TurnInfo, volume_step: Annotated[str, "up, down, or percent to change by, such as 20 or -20"],
        name: Name | None = None, area: Area | None = None,
    ) -> ToolResult:  # fmt: skip
        """Make a TV or speaker louder or quieter."""
        if (meant := await self._device(turn, name, area)) is not None:
            return await meant[0].change_volume(turn, volume_step, meant[1])
        steps = {"up": VOLUME_STEP, "down": -VOLUME_STEP}
        try:
            step = steps.get(volume_step.strip().casefold()) or round(float(volume_step))
        except ValueError:
            raise ToolError(self._phrasing.text("no_step", turn), code="tool-arguments") from None
        found = self._players("set_volume", turn, name, area)
        before = int(found[0].state.attributes.get("volume", 50))
        volume = min(100, max(0, before + step))
        await _serve(found, "set_volume", {"volume": volume})
        return self._done("done.set_volume", found, turn, volume=volume)

    async def mute(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Silence a TV or speaker without stopping it."""
        if (meant := await self._device(turn, name, area)) is not None:
            return await meant[0].mute(turn, meant[1])
        found = self._players("mute", turn, name, area)
        await _serve(found, "mute", {"muted": True})
        return self._done("done.mute", found, turn)

    async def unmute(self, turn: TurnInfo, name: Name | None = None, area: Area | None = None) -> ToolResult:
        """Give a silenced TV or speaker its sound back."""
        if (meant := await self._device(turn, name, area)) is not None:
            return await meant[0].unmute(turn, meant[1])
        found = self._players("mute", turn, name, area)
        await _serve(found, "mute", {"muted": False})
        return self._done("done.unmute", found, turn)

    # -- heating, scenes, lists -----------------------------------------------------------------------------------

    async def set_temperature(
        self, turn: TurnInfo, temperature: Annotated[float, "degrees"], name: Name | None = None,
        area: Area | None = None, domain: Kind | None = None,
    ) -> ToolResult:  # fmt: skip
        """Set the temperature that heating or air conditioning shall reach."""
        wanted = Wanted(name, area, domain or (None if name else Domain.CLIMATE.value))
        return await self._act("set_temperature", turn, wanted, temperature=temperature)

    async def run(self, turn: TurnInfo, name: Name, area: Area | None = None, domain: Kind | None = None) -> ToolResult:
        """Activate a scene or run a script."""
        return await self._act("run", turn, Wanted(name, area, domain))

    async def list_add(self, turn: TurnInfo, item: Item, name: Name | None = None) -> ToolResult:
        """Add something to the shopping list or another list."""
        return await self._list("add_item", item, name, turn)

    async def list_complete(self, turn: TurnInfo, item: Item, name: Name | None = None) -> ToolResult:
        """Tick something off the shopping list or another list."""
        return await self._list("complete_item", item, name, turn)

    # -- how ------------------------------------------------------------------------------------------------------

    async def _act(self, verb: str, turn: TurnInfo, wanted: Wanted, **values: Any) -> ToolResult:
        return await self._do(verb, self._targets.resolve(wanted, turn, _can(verb)), turn, **values)

    async def _do(self, verb: str, found: Sequence[Entity], turn: TurnInfo, **values: Any) -> ToolResult:
        await _serve(found, verb, values)
        said = {key: f"{value:g}" if isinstance(value, float) else value for key, value in values.items()}
        return self._done(f"done.{verb}", found, turn, **said)

    def _done(self, key: str, found: Sequence[Entity], turn: TurnInfo, **values: Any) -> ToolResult:
        names = self._phrasing.targets(found, turn.language)
        text = self._phrasing.sentence(key, turn, name=names, **values)
        return ToolResult(text, {"entities": names_of(found)})

    def _percent(self, value: int, turn: TurnInfo) -> int:
        if not 0 <= value <= 100:
            raise ToolError(self._phrasing.text("no_percent", turn), code="tool-arguments")
        return value

    def _color(self, color: str, turn: TurnInfo) -> str:
        said = self._phrasing.text(f"color.{fold(color)}", turn)
        if said == f"home.color.{fold(color)}":
            raise ToolError(self._phrasing.text("no_color", turn, color=color), code="tool-arguments")
        return said

    async def _media(self, verb: str, turn: TurnInfo, name: str | None, area: str | None, **values: Any) -> ToolResult:
        return await self._do(verb, self._players(verb, turn, name, area), turn, **values)

    def _players(self, service: str, turn: TurnInfo, name: str | None, area: str | None) -> list[Entity]:
        """Nobody says which player when only one plays: prefer the room, then what plays, then the only one."""
        able = _can(service)
        if name or area:
            found = self._targets.resolve(Wanted(name, area, Domain.MEDIA_PLAYER.value), turn, able)
            awake = [player for player in found if not (player.device_id and player.state.value == "unknown")]
            return found if name else awake or found
        players = [player for player in self._others() if able(player)]
        if not players:
            things = self._phrasing.thing(Domain.MEDIA_PLAYER.value, "many", turn.language)
            raise ToolError(self._phrasing.text("none", turn, things=things), code="entity-unknown")
        home = self._targets.home_area(turn)
        here = [player for player in players if home is not None and player.area == home]
        for group in (here, [player for player in players if player.state.value == "playing"], players):
            if len(group) == 1:
                return group
        if here:
            return here
        raise MissingSlot("area", self._phrasing.text("ask_area", turn))

    def _others(self) -> list[Entity]:
        """The players that are no voice devices."""
        return [player for player in self._entities.find(domain=Domain.MEDIA_PLAYER.value) if not player.device_id]

    async def _device(
        self, turn: TurnInfo, name: str | None, area: str | None
    ) -> tuple[VoiceDevices, str | None] | None:
        """Is a voice device meant: the one that asks, or the only player of that name or in that room (named then)?"""
        if self._devices is None:
            return None
        if name or area:
            called = self._entities.find(
                name=name or None, area=None if name else area, domain=Domain.MEDIA_PLAYER.value
            )
            return (self._devices, called[0].name) if len(called) == 1 and called[0].device_id else None
        home = self._targets.home_area(turn)
        plays_here = any(
            home is not None and player.area == home and player.state.value == "playing" for player in self._others()
        )
        return None if plays_here or not await self._devices.has_volume(turn) else (self._devices, None)

    async def _list(self, service: str, item: str, name: str | None, turn: TurnInfo) -> ToolResult:
        found = self._targets.todo_list(name, turn)
        await _serve([found], service, {"item": item.strip()})
        the = self._phrasing.the(found, turn.language)
        text = self._phrasing.sentence(f"done.{service}", turn, item=item.strip(), name=the)
        return ToolResult(text, {"entities": [found.id]})


async def _serve(found: Sequence[Entity], service: str, values: dict[str, Any]) -> None:
    """Call a service of each; one that refuses does not keep the others from being served."""
    refusals: list[ToolError] = []
    for entity in found:
        try:
            await entity.services[service](**values)
        except ToolError as error:
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _can(*services: str) -> Callable[[Entity], bool]:
    return lambda entity: all(service in entity.services for service in services)


def _is_on(entity: Entity) -> bool:
    return entity.state.value not in ("off", "unknown")


def home_tools(entities: EntityRegistry, texts: Texts, devices: VoiceDevices | None = None) -> tuple[Tool, ...]:
    """All tools of the house; *devices* are the loudspeakers that people talk to."""
    phrasing = Phrasing(texts, entities)
    targets = Targets(entities, phrasing)
    do = HomeTools(entities, phrasing, targets, devices)
    ask = HouseQueries(entities, phrasing, targets)
    acting: dict[str, Callable[..., Any]] = {
        "turn_on": do.turn_on,
        "turn_off": do.turn_off,
        "toggle": do.toggle,
        "open": do.open,
        "close": do.close,
        "set_position": do.set_position,
        "lock": do.lock,
        "unlock": do.unlock,
        "set_light": do.set_light,
        "pause": do.pause,
        "resume": do.resume,
        "next": do.next_track,
        "previous": do.previous_track,
        "set_volume": do.set_volume,
        "change_volume": do.change_volume,
        "mute": do.mute,
        "unmute": do.unmute,
        "set_temperature": do.set_temperature,
        "run": do.run,
        "list_add": do.list_add,
        "list_complete": do.list_complete,
    }
    asking: dict[str, Callable[..., Any]] = {
        "get_state": ask.get_state,
        "get_temperature": ask.get_temperature,
        "get_weather": ask.get_weather,
        "list_show": ask.list_show,
    }
    return (
        *(
            make_tool(f"home.{verb}", handler, seconds=_DEVICE_SECONDS if verb in _MAY_MEAN_DEVICES else None)
            for verb, handler in acting.items()
        ),
        *(make_tool(f"home.{verb}", handler, effect=False) for verb, handler in asking.items()),
    )


__all__ = ["HomeTools", "VoiceDevices", "home_tools"]
