"""The tools of the house that only look: states, temperatures, the weather, lists."""

from __future__ import annotations

from typing import Annotated, Literal

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.entities.phrasing import Phrasing, names_of
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.entities.targets import Targets, Wanted
from xiaozhi_hub.errors import ToolError
from xiaozhi_hub.tools.base import ToolResult

Question = Literal["one", "one_yesno", "any", "all", "which", "how_many"]
"""How a state was asked for; the words of the official intents."""

_SHOWN = 10
"""Items of a list that are read out; more is a lecture."""


class HouseQueries:
    """The handlers of the ``home.*`` tools that change nothing."""

    def __init__(self, entities: EntityRegistry, phrasing: Phrasing, targets: Targets) -> None:
        self._entities = entities
        self._phrasing = phrasing
        self._targets = targets

    async def get_state(
        self,
        turn: TurnInfo,
        name: Annotated[str, "what the thing is called, as the person said it"] | None = None,
        area: Annotated[str, "the room; leave out for the room the person is in"] | None = None,
        domain: Annotated[str, "kind of thing: light, switch, cover, lock, sensor, media_player"] | None = None,
        device_class: Annotated[str, "kind within cover and sensor: window, curtain, door, humidity"] | None = None,
        state: Annotated[str, "the state asked about: on, off, open, closed, locked, unlocked"] | None = None,
        question: Question | None = None,
        everywhere: Annotated[bool, "every room of the house"] = False,
    ) -> ToolResult:
        """Say what state something in the house is in: a sensor's value, if a door is locked, which lights are on."""
        wanted = Wanted(name, area, domain, device_class, everywhere)
        found = self._targets.resolve(wanted, turn, _has_state)
        if name is not None and state is not None:
            return self._yes_or_no(found[0], state, turn)
        if state is not None:
            return self._of_several(found, wanted, state, question or "any", turn)
        if len(found) == 1:
            return ToolResult(self._is(found[0], turn), {"entities": names_of(found), "state": found[0].state.value})
        return ToolResult(" ".join(self._is(entity, turn) for entity in found[:_SHOWN]), {"entities": names_of(found)})

    async def get_temperature(
        self,
        turn: TurnInfo,
        name: Annotated[str, "thermostat or thermometer"] | None = None,
        area: Annotated[str, "the room; leave out for the room the person is in"] | None = None,
        domain: Annotated[str, "climate or sensor"] | None = None,
    ) -> ToolResult:
        """Say how warm it is in a room or at a thermostat."""
        if name:
            found = self._targets.resolve(Wanted(name, area, domain), turn, _is_thermometer)
        else:
            found = self._thermometers(area, turn)
        entity = found[0]
        value = self._phrasing.value(_temperature(entity), _unit(entity), turn.language)
        data = {"entities": names_of(found), "temperature": _temperature(entity)}
        if name or entity.area is None:
            return ToolResult(self._is_value(entity, value, turn), data)
        room = self._phrasing.room(entity.area, turn.language)
        return ToolResult(self._phrasing.sentence("temperature_in", turn, value=value, room=room), data)

    async def get_weather(
        self, turn: TurnInfo, name: Annotated[str, "the place, when it was named"] | None = None
    ) -> ToolResult:
        """Say what the weather is like outside."""
        stations = self._entities.find(name=name, domain=Domain.WEATHER.value)
        if not stations:
            if name:
                raise ToolError(self._phrasing.text("no_name", turn, name=name), code="entity-unknown")
            raise ToolError(self._phrasing.text("no_weather", turn), code="entity-unknown")
        state = stations[0].state
        words = {"weather": self._phrasing.text(f"weather.{state.value}", turn)}
        data = {"entities": [stations[0].id], "weather": state.value}
        if "temperature" not in state.attributes:
            return ToolResult(self._phrasing.sentence("weather_only", turn, **words), data)
        value = self._phrasing.value(str(state.attributes["temperature"]), _unit(stations[0]), turn.language)
        return ToolResult(self._phrasing.sentence("weather_and_temperature", turn, value=value, **words), data)

    async def list_show(
        self, turn: TurnInfo, name: Annotated[str, "which list, when it was named"] | None = None
    ) -> ToolResult:
        """Read out what is on the shopping list or another list."""
        found = self._targets.todo_list(name, turn)
        items = [str(item) for item in found.state.attributes.get("items", ())]
        the = self._phrasing.the(found, turn.language)
        data = {"entities": [found.id], "items": items}
        if not items:
            return ToolResult(self._phrasing.sentence("list_empty", turn, name=the), data)
        shown = self._phrasing.several(items[:_SHOWN], turn.language)
        key = "list_items" if len(items) <= _SHOWN else "list_begins"
        return ToolResult(self._phrasing.sentence(key, turn, name=the, items=shown, count=len(items)), data)

    # -- how ------------------------------------------------------------------------------------------------------

    def _is(self, entity: Entity, turn: TurnInfo) -> str:
        if entity.state.value == "unknown":
            return self._phrasing.sentence("unknown", turn, name=self._phrasing.the(entity, turn.language))
        if entity.domain is Domain.CLIMATE:
            value = self._phrasing.value(_temperature(entity), _unit(entity), turn.language)
        elif entity.domain is Domain.BINARY_SENSOR:
            value = self._sensed(entity, turn)
        else:
            unit = str(entity.state.attributes.get("unit", ""))
            value = self._phrasing.value(entity.state.value, unit, turn.language)
        return self._is_value(entity, value, turn)

    def _sensed(self, entity: Entity, turn: TurnInfo) -> str:
        state = entity.state.value
        if entity.device_class in ("door", "window", "garage", "opening"):
            state = "open" if state == "on" else "closed"
        return self._phrasing.value(state, "", turn.language)

    def _is_value(self, entity: Entity, value: str, turn: TurnInfo) -> str:
        words = self._phrasing
        name, be = words.the(entity, turn.language), words.be(entity, turn.language)
        return words.sentence("is", turn, name=name, be=be, value=value)

    def _yes_or_no(self, entity: Entity, state: str, turn: TurnInfo) -> ToolResult:
        words = self._phrasing
        if entity.state.value == "unknown":
            return ToolResult(self._is(entity, turn), {"entities": [entity.id], "state": "unknown"})
        key = "yes" if _is_in(entity, state) else "no"
        if entity.domain is Domain.BINARY_SENSOR:
            value = self._sensed(entity, turn)
        else:
            value = words.value(entity.state.value, "", turn.language)
        name, be = words.the(entity, turn.language), words.be(entity, turn.language)
        text = words.text(key, turn, sentence=words.text("is", turn, name=name, be=be, value=value))
        return ToolResult(text, {"entities": [entity.id], "state": entity.state.value, "yes": key == "yes"})

    def _of_several(self, found: list[Entity], wanted: Wanted, state: str, question: str, turn: TurnInfo) -> ToolResult:
        words = self._phrasing
        inside = [entity for entity in found if _is_in(entity, state)]
        value = words.value(state, "", turn.language)
        kind = wanted.device_class or wanted.domain or found[0].domain.value
        things = words.thing(kind, "many", turn.language)
        if question == "how_many":
            number = words.thing(kind, "one" if len(inside) == 1 else "many", turn.language)
            be = words.text("be.one" if len(inside) == 1 else "be.many", turn)
            text = words.text("count", turn, count=len(inside), things=number, be=be, value=value)
        elif question == "all":
            outside = [words.the(entity, turn.language) for entity in found if entity not in inside]
            if outside:
                text = words.text("not_all", turn, names=words.several(outside, turn.language))
            else:
                text = words.text("all", turn, things=things, value=value)
        elif not inside:
            text = words.text("none_is" if question == "which" else "no_none_is", turn, things=things, value=value)
        else:
            names = words.several([words.the(entity, turn.language) for entity in inside], turn.language)
            be = words.text("be.many", turn) if len(inside) > 1 else words.be(inside[0], turn.language)
            said = words.text("is", turn, name=names, be=be, value=value)
            text = words.text("yes", turn, sentence=said) if question == "any" else said[:1].upper() + said[1:]
        return ToolResult(text, {"entities": names_of(inside), "count": len(inside)})

    def _thermometers(self, area: str | None, turn: TurnInfo) -> list[Entity]:
        known = [entity for entity in self._entities.all() if _is_thermometer(entity)]
        if not known:
            raise ToolError(self._phrasing.text("no_temperature", turn), code="entity-unknown")
        asked = self._targets.area(area, turn) if area else None
        room = asked or self._targets.home_area(turn)
        here = [entity for entity in known if room is not None and entity.area == room]
        if here:
            return here[:1]
        if asked is not None:
            raise ToolError(
                self._phrasing.text("no_temperature_in", turn, room=self._phrasing.room(asked, turn.language)),
                code="entity-unknown",
            )
        return known[:1]  # a house has one thermometer more often than one in each room


def _has_state(entity: Entity) -> bool:
    return entity.domain not in (Domain.SCENE, Domain.SCRIPT, Domain.TODO)


def _is_thermometer(entity: Entity) -> bool:
    if entity.domain is Domain.CLIMATE:
        return "current_temperature" in entity.state.attributes
    return entity.domain is Domain.SENSOR and entity.device_class == "temperature"


def _temperature(entity: Entity) -> str:
    if entity.domain is Domain.CLIMATE:
        return str(entity.state.attributes.get("current_temperature", "unknown"))
    return entity.state.value


def _unit(entity: Entity) -> str:
    return str(entity.state.attributes.get("unit", "°C"))


def _is_in(entity: Entity, state: str) -> bool:
    actual = entity.state.value
    if state == "on" and entity.domain is Domain.MEDIA_PLAYER:
        return actual in ("on", "playing", "paused", "idle")
    if entity.domain is Domain.BINARY_SENSOR:
        state = {"open": "on", "closed": "off"}.get(state, state)
    return actual == state


__all__ = ["HouseQueries", "Question"]
