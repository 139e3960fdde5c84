"""All entities of the house, the areas they stand in, and how to find them by what people say."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.events import NamesChanged, StateChanged
from xiaozhi_hub.core.i18n import is_chinese
from xiaozhi_hub.entities.base import Entity, State
from xiaozhi_hub.errors import HubError

COVERINGS = frozenset(("blind", "curtain", "shade", "shutter"))
"""What hangs at a window: people do not keep these words apart."""


class EntityRegistry:
    """Knows every entity and area; tells `StateChanged` and `NamesChanged` on the bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._entities: dict[str, tuple[Entity, str]] = {}
        self._areas: dict[str, tuple[str, tuple[str, ...], str]] = {}  # by folded name: name, aliases, source
        self.version = 0
        """Grows whenever entities, areas or their names change."""

    def add(self, entity: Entity, source: str) -> None:
        """Take in an entity; its area comes into being. An id that is taken already is a `HubError`."""
        if entity.id in self._entities:
            owner = self._entities[entity.id][1]
            raise HubError(f"the entity {entity.id} exists already, from {owner}", code="entity-twice")
        self._entities[entity.id] = (entity, source)
        entity._watcher = self._changed
        self._renamed()

    def add_area(self, name: str, source: str, aliases: Iterable[str] = ()) -> None:
        """Take in an area that has other names too, or no entity yet."""
        self._areas[fold(name)] = (name, tuple(aliases), source)
        self._renamed()

    def remove_source(self, source: str) -> None:
        """Forget every entity and area of *source*."""
        leaving = [entity for entity, owner in self._entities.values() if owner == source]
        areas = {key: held for key, held in self._areas.items() if held[2] != source}
        if not leaving and len(areas) == len(self._areas):
            return
        for entity in leaving:
            entity._watcher = None
            del self._entities[entity.id]
        self._areas = areas
        self._renamed()

    def get(self, entity_id: str) -> Entity | None:
        held = self._entities.get(entity_id)
        return held[0] if held is not None else None

    def all(self) -> tuple[Entity, ...]:
        return tuple(entity for entity, _ in self._entities.values())

    def areas(self) -> tuple[str, ...]:
        """Names of all areas, in the order in which they came into being."""
        names = {key: held[0] for key, held in self._areas.items()}
        for entity, _ in self._entities.values():
            if entity.area:
                names.setdefault(fold(entity.area), entity.area)
        return tuple(names.values())

    def area_names(self, area: str) -> tuple[str, ...]:
        """The name of an area and its aliases."""
        held = self._areas.get(fold(area))
        return (held[0], *held[1]) if held is not None else (area,)

    def area(self, name: str) -> str | None:
        """Return the area that is called *name*, by its name or an alias; None when there is none."""
        wanted = fold(name)
        for area in self.areas():
            if any(fold(known) == wanted for known in self.area_names(area)):
                return area
        return None

    def find(
        self,
        name: str | None = None,
        area: str | None = None,
        domain: str | Collection[str] | None = None,
        device_class: str | Collection[str] | None = None,
    ) -> list[Entity]:
        """Return the entities that fit everything given, in the order in which they were added.

        Names and areas are compared as people say them: case, articles, spaces and a plural *s* do not matter, aliases
        count. An exact name goes before a similar one.
        """
        found = self.all()
        if domain is not None:
            domains = _several(domain)
            found = tuple(entity for entity in found if entity.domain.value in domains)
        if device_class is not None:
            found = _of_class(found, _several(device_class))
        if area is not None:
            wanted = fold(self.area(area) or area)
            found = tuple(entity for entity in found if entity.area is not None and fold(entity.area) == wanted)
        if name is not None:
            found = _called(found, name)
        return list(found)

    def _changed(self, entity: Entity, old: State, new: State) -> None:
        self._bus.tell(StateChanged(entity.id, old.value, new.value))

    def _renamed(self) -> None:
        self.version += 1
        self._bus.tell(NamesChanged())


def fold(name: str) -> str:
    """Reduce a name to what is compared: width, case and spaces do not matter."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().replace("-", " ").replace("_", " ").split())


def _loose(name: str) -> str:
    """Reduce a name further: articles and the English plural do not matter either."""
    words = [word for word in fold(name).split() if word not in ("the", "my", "our", "a", "an")]
    return " ".join(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in words)


def _called(entities: Iterable[Entity], name: str) -> tuple[Entity, ...]:
    for form in (fold, _loose):
        wanted = form(name)
        if wanted and (found := tuple(e for e in entities if any(form(known) == wanted for known in e.names))):
            return found
    return ()


def _of_class(entities: tuple[Entity, ...], classes: frozenset[str]) -> tuple[Entity, ...]:
    exact = tuple(entity for entity in entities if entity.device_class in classes)
    if exact or not classes & COVERINGS:
        return exact
    return tuple(entity for entity in entities if entity.device_class in COVERINGS)


def _several(value: str | Collection[str]) -> frozenset[str]:
    return frozenset((value,)) if isinstance(value, str) else frozenset(value)


def name_in(language: str, names: Iterable[str]) -> str:
    """Choose the name to say in *language*: the first in its script, otherwise the first of all."""
    known = tuple(names)
    chinese = language.startswith("zh")
    return next((name for name in known if is_chinese(name) == chinese), known[0])


__all__ = ["EntityRegistry", "fold", "name_in"]
