"""What of the house a question is about: the things and rooms that it names, and the state they are in. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from xiaozhi_hub.core.i18n import LANGUAGES, Texts
from xiaozhi_hub.dialog.agent.prompt import Known, line
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.entities.phrasing import THINGS
from xiaozhi_hub.entities.registry import EntityRegistry, fold, name_in

MOST = 5
"""States that are told with one question."""
_TOLD = ("brightness", "color", "position", "volume", "temperature", "current_temperature", "hvac_mode")
_STATELESS = (Domain.SCENE, Domain.SCRIPT, Domain.TODO)


def words_for_kinds(texts: Texts) -> dict[str, str]:
    """What people call the kinds of things, in every language, and the kinds."""
    said = {kind.replace("_", " "): kind for kind in THINGS}
    for kind in THINGS:
        for language in LANGUAGES:
            for number in ("one", "many"):
                said.setdefault(texts.text(f"home.thing.{kind}.{number}", language), kind)
    return said


def meant(text: str, entities: EntityRegistry, area: str | None, kinds: Mapping[str, str]) -> list[Entity]:
    """The entities that *text* names; those of a room that it names where it names a kind of thing as well, or in *area*.

    *kinds* is what `words_for_kinds` gives.
    """
    said = f" {fold(_MARKS.sub(' ', text))} "
    named = [entity for entity in entities.all() if any(_said_in(name, said) for name in entity.names)]
    if named:
        return named[:MOST]
    rooms = [room for room in entities.areas() if any(_said_in(name, said) for name in entities.area_names(room))]
    wanted = {kind for word, kind in kinds.items() if _said_in(word, said)}
    if not wanted or not (rooms or area):
        return []
    places = {fold(room) for room in (rooms or [area or ""])}
    here = (entity for entity in entities.all() if entity.area is not None and fold(entity.area) in places)
    return [entity for entity in here if entity.domain.value in wanted or entity.device_class in wanted][:MOST]


_MARKS = re.compile(r"[^\w\s']|_")


def _said_in(name: str, said: str) -> bool:
    """Does *said* (folded, spaces around it) hold *name*, as words where the script has spaces?"""
    name = fold(name)
    if not name:
        return False
    if name.isascii():
        return f" {name} " in said or f" {name}s " in said or f" {name}'s " in said
    return name in said


def words_for(entities: Iterable[Entity]) -> str:
    """Words that tools for these entities are described with: their kind, and their names in every language."""
    return " ".join(
        " ".join((entity.domain, entity.device_class or "", *entity.names)).replace("_", " ") for entity in entities
    )


def states(entities: Iterable[Entity], language: str) -> list[Known]:
    """The states of *entities*, as a model is told."""
    told = []
    for entity in entities:
        if entity.domain in _STATELESS or entity.state.value == "unknown":
            continue
        known = entity.state.attributes if entity.state.value != "off" else {}
        shown = {key: known[key] for key in _TOLD if key in known}
        value = line(
            ", ".join([entity.state.value, *(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())])
        )
        told.append(Known(f"state:{entity.id}", value, f"{line(name_in(language, entity.names))}: {value}"))
    return told
