"""Entities, areas, and finding them by what people say."""

from __future__ import annotations

import pytest

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.events import NamesChanged, StateChanged
from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.entities.registry import EntityRegistry, name_in
from xiaozhi_hub.errors import HubError


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def house(bus: Bus) -> EntityRegistry:
    registry = EntityRegistry(bus)
    registry.add_area("Kitchen", "test", ("厨房",))
    registry.add(Entity("light.lamp", Domain.LIGHT, "Reading Lamp", "Living-Room", ("阅读灯",)), "test")
    registry.add(Entity("light.kitchen", Domain.LIGHT, "Kitchen lights", "Kitchen"), "test")
    registry.add(Entity("cover.curtain", Domain.COVER, "Curtain", "Kitchen", (), "curtain"), "test")
    registry.add(Entity("cover.garage", Domain.COVER, "Garage Door", None, (), "garage"), "other")
    return registry


def ids(entities: list[Entity]) -> list[str]:
    return [entity.id for entity in entities]


@pytest.mark.parametrize(
    ("name", "wanted", "found"),
    [
        ("as written", {"name": "Reading Lamp"}, ["light.lamp"]),
        ("another case", {"name": "reading lamp"}, ["light.lamp"]),
        ("with an article", {"name": "the reading lamp"}, ["light.lamp"]),
        ("with a hyphen", {"name": "reading-lamp"}, ["light.lamp"]),
        ("an alias in Chinese", {"name": "阅读灯"}, ["light.lamp"]),
        ("one of several", {"name": "kitchen light"}, ["light.kitchen"]),
        ("nobody is called that", {"name": "lamp"}, []),
        ("an empty name", {"name": ""}, []),
        ("all of a room", {"area": "kitchen"}, ["light.kitchen", "cover.curtain"]),
        ("a room by its other name", {"area": "厨房"}, ["light.kitchen", "cover.curtain"]),
        ("a room that is spelt otherwise", {"area": "living room"}, ["light.lamp"]),
        ("a kind", {"domain": "light"}, ["light.lamp", "light.kitchen"]),
        (
            "several kinds",
            {"domain": ("light", "cover")},
            ["light.lamp", "light.kitchen", "cover.curtain", "cover.garage"],
        ),
        ("a kind in a room", {"domain": "light", "area": "Kitchen"}, ["light.kitchen"]),
        ("a class", {"device_class": "garage"}, ["cover.garage"]),
        ("blinds are curtains", {"device_class": "blind"}, ["cover.curtain"]),
        ("windows are not", {"device_class": "window"}, []),
    ],
)
def test_things_are_found_as_people_say_them(
    house: EntityRegistry, name: str, wanted: dict[str, str], found: list[str]
) -> None:
    assert ids(house.find(**wanted)) == found


def test_areas_come_with_their_entities_and_stay_in_order(house: EntityRegistry) -> None:
    assert house.areas() == ("Kitchen", "Living-Room")
    assert house.area("厨房") == "Kitchen"
    assert house.area("attic") is None
    assert house.area_names("kitchen") == ("Kitchen", "厨房")


def test_a_changed_state_is_told_once(bus: Bus, house: EntityRegistry) -> None:
    told: list[StateChanged] = []
    bus.watch(StateChanged, told.append)
    lamp = house.get("light.lamp")
    assert lamp is not None
    lamp.set_state("on", brightness=50)
    lamp.set_state("on", brightness=50)
    lamp.set_state("on", brightness=60)
    assert told == [StateChanged("light.lamp", "unknown", "on"), StateChanged("light.lamp", "on", "on")]
    assert lamp.state.attributes == {"brightness": 60}


def test_names_are_told_when_things_come_and_go(bus: Bus, house: EntityRegistry) -> None:
    told: list[NamesChanged] = []
    bus.watch(NamesChanged, told.append)
    version = house.version
    house.add(Entity("light.new", Domain.LIGHT, "New"), "test")
    house.remove_source("other")
    house.remove_source("nobody")
    assert len(told) == 2
    assert house.version == version + 2
    assert house.get("cover.garage") is None


def test_what_has_left_tells_nothing_more(bus: Bus, house: EntityRegistry) -> None:
    lamp = house.get("light.lamp")
    assert lamp is not None
    house.remove_source("test")
    told: list[StateChanged] = []
    bus.watch(StateChanged, told.append)
    lamp.set_state("on")
    assert told == []
    assert house.areas() == ()


def test_an_id_is_given_once(house: EntityRegistry) -> None:
    with pytest.raises(HubError, match="exists already, from test"):
        house.add(Entity("light.lamp", Domain.LIGHT, "Another"), "other")


def test_the_name_that_is_said_fits_the_language() -> None:
    names = ("Bed Light", "night light", "床头灯")
    assert name_in("en", names) == "Bed Light"
    assert name_in("zh-Hans", names) == "床头灯"
    assert name_in("zh-Hans", ("TV",)) == "TV"
