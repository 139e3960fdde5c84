"""Which entities a person means: by name, by room, by kind, and by the room the person is in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.entities.phrasing import THINGS, Phrasing
from xiaozhi_hub.entities.registry import EntityRegistry, fold
from xiaozhi_hub.errors import MissingSlot, ToolError


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for, as far as it was said."""

    name: str | None = None
    area: str | None = None
    domain: str | None = None
    device_class: str | None = None
    everywhere: bool = False

    @property
    def says_nothing(self) -> bool:
        return not (self.name or self.area or self.domain or self.device_class or self.everywhere)


class Targets:
    """Finds entities for tools; what cannot be found is a `ToolError` or a question, in the language of the turn."""

    def __init__(self, entities: EntityRegistry, phrasing: Phrasing) -> None:
        self._entities = entities
        self._phrasing = phrasing

    def resolve(self, wanted: Wanted, turn: TurnInfo, able: Callable[[Entity], bool]) -> list[Entity]:
        """Return the entities to act on, at least one, all of them *able*.

        A name in another room than the one asked for is refused. A kind of thing without a room means the room of the
        asking device; where that has none, the only one in the house; `MissingSlot` asks when neither is clear.
        """
        wanted = self._understood(wanted, turn)
        area = self.area(wanted.area, turn) if wanted.area else None
        if wanted.name:
            return self._named(wanted, area, turn, able)
        if wanted.says_nothing:
            raise MissingSlot("name", self._phrasing.text("ask_name", turn))
        return self._group(wanted, area, turn, able)

    def area(self, name: str, turn: TurnInfo) -> str:
        """Return the area that is called *name*; a `ToolError` names it when there is none."""
        area = self._entities.area(name)
        if area is None:
            raise ToolError(self._phrasing.text("no_area", turn, area=name), code="area-unknown")
        return area

    def home_area(self, turn: TurnInfo) -> str | None:
        """The room the person is in, when it is one that the house knows."""
        return self._entities.area(turn.area) if turn.area else None

    def todo_list(self, name: str | None, turn: TurnInfo) -> Entity:
        """Return the list that is meant: the first one where none was named."""
        if name:
            return self.resolve(Wanted(name), turn, lambda entity: entity.domain is Domain.TODO)[0]
        lists = self._entities.find(domain=Domain.TODO.value)
        if not lists:
            raise self._none(Wanted(domain=Domain.TODO.value), None, turn)
        return lists[0]

    def _understood(self, wanted: Wanted, turn: TurnInfo) -> Wanted:
        """A model may give a kind of thing as a name ("lights"): take it as that unless something is called so."""
        if not wanted.name or wanted.domain or wanted.device_class or self._entities.find(name=wanted.name):
            return wanted
        said = fold(wanted.name)
        for kind in THINGS:
            if said in (fold(self._phrasing.thing(kind, number, turn.language)) for number in ("one", "many")):
                is_domain = kind in DOMAINS
                return Wanted(
                    area=wanted.area,
                    domain=kind if is_domain else Domain.COVER.value,
                    device_class=None if is_domain else kind,
                    everywhere=wanted.everywhere,
                )
        return wanted

    def _named(self, wanted: Wanted, area: str | None, turn: TurnInfo, able: Callable[[Entity], bool]) -> list[Entity]:
        called = self._entities.find(name=wanted.name, domain=wanted.domain) or self._entities.find(name=wanted.name)
        if not called:
            raise ToolError(self._phrasing.text("no_name", turn, name=wanted.name), code="entity-unknown")
        fit = [entity for entity in called if able(entity)]
        if area is not None:
            here = [entity for entity in fit or called if entity.area is None or fold(entity.area) == fold(area)]
            if not here:
                raise self._elsewhere(called[0], area, turn)
            fit = [entity for entity in here if able(entity)]
        if not fit:
            name = self._phrasing.the(called[0], turn.language)
            raise ToolError(self._phrasing.sentence("cannot", turn, name=name), code="entity-cannot")
        rooms = _rooms(fit)
        if area is None and len(rooms) > 1:
            home = self.home_area(turn)
            here = _within(fit, home) if home is not None else []
            if here:
                return here
            raise MissingSlot("area", self._phrasing.text("ask_area", turn))
        return fit

    def _elsewhere(self, entity: Entity, area: str, turn: TurnInfo) -> ToolError:
        words = self._phrasing
        message = words.sentence(
            "elsewhere",
            turn,
            name=words.the(entity, turn.language),
            be=words.be(entity, turn.language),
            room=words.room(entity.area or "", turn.language),
            asked=words.room(area, turn.language),
        )
        return ToolError(message, code="entity-elsewhere")

    def _group(self, wanted: Wanted, area: str | None, turn: TurnInfo, able: Callable[[Entity], bool]) -> list[Entity]:
        everywhere = [
            entity
            for entity in self._entities.find(domain=wanted.domain, device_class=wanted.device_class)
            if able(entity)
        ]
        if wanted.everywhere and area is None:
            found = everywhere
        elif area is not None:
            found = _within(everywhere, area)
        else:
            home = self.home_area(turn)
            found = _within(everywhere, home) if home is not None else []
            if not found and (home is None or wanted.device_class or wanted.domain not in _ROOM_BOUND):
                if len(_rooms(everywhere)) > 1:
                    raise MissingSlot("area", self._phrasing.text("ask_area", turn))
                found = everywhere
            area = home
        if not found:
            raise self._none(wanted, area, turn)
        return found

    def _none(self, wanted: Wanted, area: str | None, turn: TurnInfo) -> ToolError:
        words = self._phrasing
        kind = wanted.device_class or wanted.domain or ""
        things = words.thing(kind if kind in THINGS else "device", "many", turn.language)
        if area is None:
            return ToolError(words.text("none", turn, things=things), code="entity-unknown")
        room = words.room(area, turn.language)
        return ToolError(words.text("none_in", turn, things=things, room=room), code="entity-unknown")


DOMAINS = frozenset(domain.value for domain in Domain)
_ROOM_BOUND = frozenset((Domain.LIGHT.value, Domain.SWITCH.value, Domain.FAN.value))
"""Kinds that a person in a room never means another room's of: no light goes on two rooms away by mistake."""


def _within(entities: Iterable[Entity], area: str) -> list[Entity]:
    return [entity for entity in entities if entity.area is not None and fold(entity.area) == fold(area)]


def _rooms(entities: Iterable[Entity]) -> set[str]:
    return {fold(entity.area or "") for entity in entities}


__all__ = ["Targets", "Wanted"]
