"""How the house is spoken about, in each language: names with their article, rooms, values with their unit, lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.entities.registry import EntityRegistry, name_in

THINGS = (
    *(domain.value for domain in Domain),
    *("awning", "blind", "curtain", "door", "garage", "gate", "shade", "shutter", "window"),
)
"""Domains and device classes that have a word of their own (``home.thing.<kind>.one`` and ``.many``)."""


class Phrasing:
    """Turns entities and states into words. Keys are those below ``home.`` in the translations."""

    def __init__(self, texts: Texts, entities: EntityRegistry) -> None:
        self._texts = texts
        self._entities = entities

    def text(self, key: str, turn: TurnInfo | str, /, **values: Any) -> str:
        """The text ``home.<key>`` in the language of the turn."""
        return self._texts.text(f"home.{key}", turn if isinstance(turn, str) else turn.language, **values)

    def sentence(self, key: str, turn: TurnInfo | str, /, **values: Any) -> str:
        """`text` with a capital at its beginning, for those that may begin with an article."""
        said = self.text(key, turn, **values)
        return said[:1].upper() + said[1:]

    def name(self, entity: Entity, language: str) -> str:
        """The name to say in *language*."""
        return name_in(language, entity.names)

    def the(self, entity: Entity, language: str) -> str:
        """The name with its article, where the language has one and the name does not bring its own."""
        name = self.name(entity, language)
        return self.with_article(name, language)

    def with_article(self, name: str, language: str) -> str:
        first = name.split(" ", 1)[0].casefold()
        if language.startswith("zh") or first in ("the", "my", "our") or first.endswith(("'s", "’s")):
            return name
        return self._texts.text("home.the", language, name=name)

    def be(self, entity: Entity, language: str) -> str:
        """The verb that agrees with the name: ``is`` or ``are``."""
        return self._texts.text("home.be.many" if _is_plural(self.name(entity, language)) else "home.be.one", language)

    def room(self, area: str, language: str) -> str:
        """A room with its article."""
        return self.with_article(self.room_name(area, language), language)

    def room_name(self, area: str, language: str) -> str:
        return name_in(language, self._entities.area_names(area))

    def thing(self, kind: str, number: str, language: str) -> str:
        """The word for a kind of thing; *number* is ``one`` or ``many``."""
        return self._texts.text(f"home.thing.{kind}.{number}", language)

    def several(self, names: Sequence[str], language: str) -> str:
        """``a, b and c``."""
        if len(names) < 2:
            return "".join(names)
        comma, last = self._texts.text("home.comma", language), self._texts.text("home.and", language)
        return f"{comma.join(names[:-1])}{last}{names[-1]}"

    def targets(self, entities: Sequence[Entity], language: str) -> str:
        """Name what was acted on: one by its name, two or three by their names, more by their kind and room."""
        if len(entities) <= 3:
            return self.several([self.the(entity, language) for entity in entities], language)
        kinds = {_kind(entity) for entity in entities}
        things = self.thing(kinds.pop() if len(kinds) == 1 else "device", "many", language)
        rooms = {entity.area for entity in entities}
        if len(rooms) == 1 and (room := rooms.pop()) is not None:
            return self._texts.text("home.things_in", language, things=things, room=self.room(room, language))
        return self._texts.text("home.all_things", language, things=things)

    def value(self, value: str, unit: str, language: str) -> str:
        """A state as people say it: ``62 percent``, ``locked``."""
        number = _plain_number(value)
        if number is None:
            key = f"home.state.{value}"
            return self._texts.text(key, language) if self._texts.has(key, language) else value
        key = f"home.unit.{unit}"
        if self._texts.has(key, language):
            return self._texts.text(key, language, value=number)
        return f"{number} {unit}".strip()


def _kind(entity: Entity) -> str:
    return entity.device_class if entity.device_class in THINGS else entity.domain.value


def _is_plural(name: str) -> bool:
    """English: ``Kitchen lights`` are, ``Front Door`` is."""
    last = name.rsplit(" ", 1)[-1].casefold()
    return len(last) > 3 and last.endswith("s") and not last.endswith(("ss", "us", "is"))


def _plain_number(value: str) -> str | None:
    """``21.0`` → ``21``; None when *value* is no number."""
    try:
        number = round(float(value), 1)
    except ValueError:
        return None
    return f"{number:g}"


def names_of(entities: Iterable[Entity]) -> list[str]:
    """Ids for programs that read a tool's answer."""
    return [entity.id for entity in entities]


__all__ = ["THINGS", "Phrasing", "names_of"]
