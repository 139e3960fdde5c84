"""The demo home behaves like a home, and is made of nothing but the public interface."""

from __future__ import annotations

import json

import pytest
from house import CHINESE, ENGLISH, House, integration, person_in

from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.plugins.api import Domain
from xiaozhi_hub.plugins.manifest import read_manifest


@pytest.fixture
def house() -> House:
    return House()


def test_the_rooms_and_things_are_there(house: House) -> None:
    assert house.entities.areas() == ("Kitchen", "Office", "Living Room", "Bedroom")
    names = {entity.name: entity.area for entity in house.entities.all()}
    assert names["Bed Light"] == "Bedroom"
    assert names["Standing Light"] == "Office"
    assert {"Front Door", "Garage Door", "Sliding Door", "TV", "EcoBee", "Outdoor Humidity", "Shopping List"} <= set(
        names
    )


def test_everything_has_a_chinese_name(house: House) -> None:
    for entity in house.entities.all():
        assert any("一" <= char <= "鿿" for name in entity.aliases for char in name), entity.name
    for area in house.entities.areas():
        assert len(house.entities.area_names(area)) > 1, area


def test_no_name_is_used_twice(house: House) -> None:
    seen: dict[str, str] = {}
    for entity in house.entities.all():
        for name in entity.names:
            assert seen.setdefault(name.casefold(), entity.id) == entity.id, name


def test_it_is_off_unless_it_is_asked_for() -> None:
    manifest = read_manifest(builtin("integrations") / "demo")
    assert not manifest.default
    assert not manifest.online


async def test_every_service_can_be_used(house: House) -> None:
    values = {
        "set_brightness": {"brightness": 10},
        "set_color": {"color": "red"},
        "set_color_temperature": {"kelvin": 4000},
        "set_position": {"position": 40},
        "set_volume": {"volume": 20},
        "mute": {"muted": True},
        "set_temperature": {"temperature": 19.5},
        "add_item": {"item": "milk"},
        "complete_item": {"item": "milk"},
    }
    for entity in house.entities.all():
        for name, service in entity.services.items():
            await service(**values.get(name, {}))


async def test_a_cover_that_is_half_open_is_open(house: House) -> None:
    await house.call("home.set_position", name="Garage Door", position=50)
    assert house.state("cover.garage_door") == "open"
    await house.call("home.set_position", name="Garage Door", position=0)
    assert house.state("cover.garage_door") == "closed"


async def test_a_light_that_is_dimmed_to_nothing_remembers_how_bright_it_was(house: House) -> None:
    await house.call("home.set_light", name="Bed Light", brightness=0)
    assert house.state("light.bed_light") == "off"
    assert house.attribute("light.bed_light", "brightness") == 60


async def test_the_television_remembers_what_it_plays(house: House) -> None:
    await house.call("home.next")
    await house.call("home.next")
    await house.call("home.previous")
    assert house.attribute("media_player.tv", "track") == 2
    await house.call("home.pause")
    assert house.state("media_player.tv") == "paused"
    await house.call("home.resume")
    assert house.state("media_player.tv") == "playing"


async def test_a_scene_sets_the_lights(house: House) -> None:
    await house.call("home.run", name="Mood Lighting")
    assert house.attribute("light.standing_light", "brightness") == 20
    assert house.attribute("light.kitchen_lights", "color") == "white"


async def test_the_same_thing_is_not_bought_twice(house: House) -> None:
    await house.call("home.list_add", item="milk")
    await house.call("home.list_add", item="Milk")
    assert house.attribute("todo.shopping_list", "items") == ("milk",)


async def test_two_homes_do_not_share_their_state() -> None:
    one, other = House(), House()
    await one.call("home.unlock", name="Front Door")
    assert (one.state("lock.front_door"), other.state("lock.front_door")) == ("unlocked", "locked")


def test_rooms_are_understood_in_chinese_too(house: House) -> None:
    assert [entity.name for entity in house.entities.find(area="书房", domain=Domain.LIGHT)] == ["Standing Light"]


async def test_a_person_in_a_room_gets_that_rooms_light(house: House) -> None:
    assert await house.call("home.turn_on", person_in("Bedroom", "zh-Hans"), domain="light") == "已打开床头灯。"


def test_states_are_json(house: House) -> None:
    for entity in house.entities.all():
        json.dumps(dict(entity.state.attributes))


def test_building_the_home_twice_makes_new_things() -> None:
    home = integration("demo", "home")
    assert home.build_home()[0] is not home.build_home()[0]


async def test_answers_are_in_the_language_of_the_turn(house: House) -> None:
    assert await house.call("home.get_state", ENGLISH, name="Front Door") == "The Front Door is locked."
    assert await house.call("home.get_state", CHINESE, name="Front Door") == "前门锁着。"
