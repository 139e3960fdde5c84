"""The names of the house, as sentences need them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.core.i18n import is_chinese
from xiaozhi_hub.entities.registry import EntityRegistry


@dataclass(frozen=True, slots=True)
class House:
    """Everything that has a name, at one moment."""

    names: tuple[tuple[str, str, Mapping[str, Any]], ...]
    """What people say, the name it stands for, and the context (domain, device class)."""
    areas: tuple[tuple[str, str], ...]
    """What people say, and the area it stands for."""
    assistants: tuple[tuple[str, str], ...] = ()
    """What people say, and the id of the assistant it stands for."""


def house_in(language: str, entities: EntityRegistry, assistants: Iterable[tuple[str, str]] = ()) -> House:
    """The names that people use in *language*."""
    names: list[tuple[str, str, Mapping[str, Any]]] = []
    for entity in entities.all():
        context = {"domain": entity.domain.value, "device_class": entity.device_class or ""}
        names += [(said, entity.name, context) for said in _in_script(language, entity.names)]
    areas = [(said, area) for area in entities.areas() for said in _in_script(language, entities.area_names(area))]
    called = tuple((said, id) for said, id in assistants if _in_script(language, (said,)))
    return House(tuple(names), tuple(areas), called)


def version_of(digests: Iterable[str], house: House, offered: Iterable[str]) -> str:
    """A text that changes when, and only when, the sentences or names do."""
    facts = (sorted(digests), house.names, house.areas, house.assistants, sorted(offered))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]


def _in_script(language: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Chinese speakers also use Latin names; nobody says a Chinese one in an English sentence."""
    if language.startswith("zh"):
        return names
    return tuple(name for name in names if not is_chinese(name))


__all__ = ["House", "house_in", "version_of"]
