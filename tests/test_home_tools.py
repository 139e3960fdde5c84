"""What people ask of the house, and what it answers."""

from __future__ import annotations

from typing import Any

import pytest
from house import CHINESE, ENGLISH, House, person_in

from xiaozhi_hub.entities.base import Domain, Entity
from xiaozhi_hub.errors import MissingSlot, ToolError


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(
    ("tool", "arguments", "said", "gesagt"),
    [
        ("turn_on", {"name": "Standing Light"}, "Turned on the Standing Light.", "已打开落地灯。"),
        ("turn_off", {"name": "Bed Light"}, "Turned off the Bed Light.", "已关闭床头灯。"),
        ("turn_off", {"area": "Kitchen", "domain": "light"}, "Turned off the Kitchen lights.", "已关闭厨房灯。"),
        ("open", {"name": "Sliding Door", "area": "Office"}, "Opened the Sliding Door.", "已打开推拉门。"),
        ("close", {"device_class": "window"}, "Closed the Kitchen windows.", "已关上厨房窗户。"),
        (
            "set_position",
            {"name": "Garage Door", "position": 30},
            "Set the Garage Door to 30 percent.",
            "车库门已调到百分之30。",
        ),
        ("lock", {"name": "Front Door"}, "Locked the Front Door.", "已锁上前门。"),
        ("unlock", {"name": "前门"}, "Unlocked the Front Door.", "已解锁前门。"),
        (
            "set_light",
            {"name": "Bed Light", "brightness": 50},
            "Set the Bed Light to 50 percent.",
            "床头灯的亮度已调到百分之50。",
        ),
        ("set_light", {"name": "Bed Light", "color": "orange"}, "Set the Bed Light to orange.", "床头灯已调成橙色。"),
        (
            "set_light",
            {"name": "Bed Light", "color_temperature": 2700},
            "Set the Bed Light to 2700 kelvin.",
            "床头灯的色温已调到2700开。",
        ),
        ("get_state", {"name": "Front Door", "state": "locked"}, "Yes, the Front Door is locked.", "是的，前门锁着。"),
        ("get_state", {"name": "Front Door", "state": "unlocked"}, "No, the Front Door is locked.", "不是，前门锁着。"),
        ("get_state", {"name": "Outdoor Humidity"}, "The Outdoor Humidity is 62 percent.", "室外湿度百分之62。"),
        ("get_state", {"name": "Kitchen windows"}, "The Kitchen windows are closed.", "厨房窗户关着。"),
        ("get_temperature", {}, "It is 21.5 degrees in the Living Room.", "客厅现在21.5度。"),
        ("get_temperature", {"name": "EcoBee"}, "The EcoBee is 21.5 degrees.", "恒温器21.5度。"),
        ("set_temperature", {"temperature": 20.5}, "Set the EcoBee to 20.5 degrees.", "恒温器已调到20.5度。"),
        ("pause", {}, "Paused the TV.", "已暂停电视。"),
        ("next", {}, "Skipped to the next one.", "已切到下一个。"),
        ("set_volume", {"volume_level": 30}, "Set the volume of the TV to 30 percent.", "电视的音量已调到百分之30。"),
        (
            "change_volume",
            {"volume_step": "up"},
            "Set the volume of the TV to 50 percent.",
            "电视的音量已调到百分之50。",
        ),
        (
            "change_volume",
            {"volume_step": "-100"},
            "Set the volume of the TV to 0 percent.",
            "电视的音量已调到百分之0。",
        ),
        ("mute", {}, "Muted the TV.", "已将电视静音。"),
        ("run", {"name": "Party Time"}, "Started the Party Time.", "已启动派对时间。"),
        ("list_add", {"item": "milk"}, "Added milk to the Shopping List.", "已把milk加到购物清单。"),
        ("list_show", {}, "The Shopping List is empty.", "购物清单是空的。"),
        ("get_weather", {}, "It is partly cloudy and 18 degrees.", "现在多云，18度。"),
    ],
)
async def test_the_house_answers_in_both_languages(
    tool: str, arguments: dict[str, Any], said: str, gesagt: str
) -> None:
    assert await House().call(f"home.{tool}", ENGLISH, **arguments) == said
    assert await House().call(f"home.{tool}", CHINESE, **arguments) == gesagt


@pytest.mark.parametrize(
    ("name", "tool", "arguments", "said", "gesagt"),
    [
        ("an unknown name", "turn_on", {"name": "Lava Lamp"}, "I could not find Lava Lamp.", "没有找到Lava Lamp。"),
        (
            "an unknown room",
            "turn_on",
            {"domain": "light", "area": "Attic"},
            "I don't know a room called Attic.",
            "没有叫Attic的房间。",
        ),
        (
            "a name in another room",
            "turn_on",
            {"name": "TV", "area": "Kitchen"},
            "The TV is in the Living Room, not in the Kitchen.",
            "电视在客厅，不在厨房。",
        ),
        (
            "several in another room",
            "close",
            {"name": "Kitchen windows", "area": "Office"},
            "The Kitchen windows are in the Kitchen, not in the Office.",
            "厨房窗户在厨房，不在书房。",
        ),
        (
            "nothing of that kind in the room",
            "close",
            {"device_class": "window", "area": "Office"},
            "I could not find any windows in the Office.",
            "书房没有窗户。",
        ),
        (
            "something that cannot do it",
            "lock",
            {"name": "Bed Light"},
            "The Bed Light cannot do that.",
            "床头灯做不到。",
        ),
        (
            "no such colour",
            "set_light",
            {"name": "Bed Light", "color": "octarine"},
            "I don't know the color octarine.",
            "我不认识octarine这种颜色。",
        ),
        (
            "too bright",
            "set_light",
            {"name": "Bed Light", "brightness": 150},
            "That has to be between 0 and 100 percent.",
            "要在百分之0到100之间。",
        ),
    ],
)
async def test_a_refusal_says_what_was_looked_for(
    name: str, tool: str, arguments: dict[str, Any], said: str, gesagt: str
) -> None:
    for turn, expected in ((ENGLISH, said), (CHINESE, gesagt)):
        house = House()
        before = {entity.id: entity.state for entity in house.entities.all()}
        call, answer = await house.attempt(f"home.{tool}", arguments, turn)
        assert isinstance(answer, ToolError)
        assert answer.message == call.result == expected
        assert {entity.id: entity.state for entity in house.entities.all()} == before, "a refusal must change nothing"


async def test_lights_without_a_room_are_those_of_the_room_the_person_is_in(house: House) -> None:
    assert await house.call("home.turn_on", person_in("Office"), domain="light") == "Turned on the Standing Light."
    assert house.state("light.standing_light") == "on"
    assert house.state("light.bed_light") == "off"


async def test_lights_of_a_room_without_lights_do_not_light_another_room(house: House) -> None:
    answer = await house.call("home.turn_on", person_in("Living Room"), domain="light")
    assert answer == "I could not find any lights in the Living Room."


async def test_it_is_asked_in_which_room_when_that_is_not_known(house: House) -> None:
    _, answer = await house.attempt("home.turn_on", {"domain": "light"}, person_in(None))
    assert isinstance(answer, MissingSlot)
    assert (answer.slot, answer.message) == ("area", "In which room?")
    _, answer = await house.attempt("home.turn_on", {"domain": "light"}, person_in("Garden", "zh-Hans"))
    assert isinstance(answer, MissingSlot)
    assert answer.message == "哪个房间？"


async def test_the_only_one_in_the_house_is_meant_wherever_the_person_is(house: House) -> None:
    assert await house.call("home.open", person_in("Bedroom"), device_class="garage") == "Opened the Garage Door."
    assert await house.call("home.pause", person_in("Kitchen")) == "Paused the TV."
    assert await house.call("home.lock", person_in("Kitchen"), domain="lock") == "Locked the Front Door."


async def test_everywhere_means_every_room(house: House) -> None:
    await house.call("home.turn_on", domain="light", everywhere=True)
    assert await house.call("home.turn_off", person_in("Office"), domain="light", everywhere=True) == (
        "Turned off the Bed Light, the Standing Light and the Kitchen lights."
    )
    assert {house.state(f"light.{name}") for name in ("bed_light", "standing_light", "kitchen_lights")} == {"off"}


async def test_many_things_are_named_by_their_kind(house: House) -> None:
    for number in range(3):
        house.entities.add(_lamp(f"Lamp {number}", "Kitchen"), "test")
    assert await house.call("home.turn_on", area="Kitchen", domain="light") == "Turned on the lights in the Kitchen."
    assert await house.call("home.turn_on", CHINESE, area="厨房", domain="light") == "已打开厨房的灯。"
    assert await house.call("home.turn_off", domain="light", everywhere=True) == "Turned off all lights."


async def test_one_name_in_two_rooms_means_the_one_here(house: House) -> None:
    house.entities.add(_lamp("Lamp", "Kitchen", "light.lamp_1"), "test")
    house.entities.add(_lamp("Lamp", "Bedroom", "light.lamp_2"), "test")
    await house.call("home.turn_on", person_in("Bedroom"), name="Lamp")
    assert (house.state("light.lamp_1"), house.state("light.lamp_2")) == ("off", "on")
    _, answer = await house.attempt("home.turn_on", {"name": "Lamp"}, person_in("Office"))
    assert isinstance(answer, MissingSlot)
    assert answer.slot == "area"


async def test_a_kind_given_as_a_name_is_taken_as_a_kind(house: House) -> None:
    assert await house.call("home.turn_on", name="lights", area="Kitchen") == "Turned on the Kitchen lights."
    assert await house.call("home.open", CHINESE, name="窗帘", area="书房") == "已打开书房窗帘。"


async def test_toggling_is_the_opposite(house: House) -> None:
    assert await house.call("home.toggle", name="Bed Light") == "Turned on the Bed Light."
    assert await house.call("home.toggle", name="Bed Light") == "Turned off the Bed Light."


async def test_light_settings_reach_the_light(house: House) -> None:
    await house.call("home.set_light", name="Kitchen lights", color="Blue", brightness=40)
    assert house.state("light.kitchen_lights") == "on"
    assert house.attribute("light.kitchen_lights", "color") == "blue"
    assert house.attribute("light.kitchen_lights", "brightness") == 40


async def test_how_bright_is_asked_when_nothing_was_said(house: House) -> None:
    _, answer = await house.attempt("home.set_light", {"name": "Bed Light"})
    assert isinstance(answer, MissingSlot)
    assert answer.slot == "brightness"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"domain": "light", "state": "on", "question": "any", "everywhere": True}, "Yes, the Standing Light is on."),
        ({"domain": "light", "state": "on", "question": "which", "everywhere": True}, "The Standing Light is on."),
        ({"domain": "light", "state": "on", "question": "how_many", "everywhere": True}, "1 light is on."),
        ({"domain": "light", "state": "off", "question": "how_many", "everywhere": True}, "2 lights are off."),
        ({"domain": "light", "state": "off", "question": "all", "everywhere": True}, "No, not the Standing Light."),
        ({"domain": "cover", "state": "closed", "question": "all", "everywhere": True}, "Yes, all covers are closed."),
        (
            {"domain": "cover", "device_class": "window", "state": "open", "question": "any", "everywhere": True},
            "No, no windows are open.",
        ),
        ({"domain": "light", "state": "on", "question": "which", "area": "Kitchen"}, "No lights are on."),
    ],
)
async def test_questions_about_several_things(house: House, arguments: dict[str, Any], said: str) -> None:
    await house.call("home.turn_on", name="Standing Light")
    assert await house.call("home.get_state", **arguments) == said


async def test_a_shopping_list_is_kept(house: House) -> None:
    for item in ("milk", "bread", "eggs"):
        await house.call("home.list_add", item=item)
    assert await house.call("home.list_complete", item="Milk") == "Ticked Milk off the Shopping List."
    assert await house.call("home.list_show", name="shopping list") == "On the Shopping List: bread and eggs."


async def test_an_empty_house_says_so() -> None:
    empty = House(furnished=False)
    assert await empty.call("home.pause") == "I could not find any media players."
    assert await empty.call("home.list_show") == "I could not find any lists."
    assert await empty.call("home.get_temperature") == "There is no thermometer in this house."
    assert "weather station" in await empty.call("home.get_weather")
    assert await empty.call("home.turn_on", domain="light") == "I could not find any lights."


async def test_one_that_refuses_does_not_keep_the_others_from_acting(house: House) -> None:
    broken = _lamp("Broken Lamp", "Kitchen")

    async def refuse() -> None:
        raise ToolError("The Broken Lamp does not answer.")

    broken.services = {"turn_on": refuse, "turn_off": refuse}
    house.entities.add(broken, "test")
    house.entities.add(_lamp("Last Lamp", "Kitchen"), "test")
    assert await house.call("home.turn_on", area="Kitchen", domain="light") == "The Broken Lamp does not answer."
    assert house.state("light.last_lamp") == "on"


def test_every_tool_of_the_house_explains_its_arguments_to_a_model() -> None:
    for tool in House(furnished=False).tools.all():
        if not tool.name.startswith("home."):
            continue
        for name, schema in tool.parameters["properties"].items():
            assert "description" in schema or "enum" in schema, f"{tool.name}: {name}"


def _lamp(name: str, area: str, entity_id: str = "") -> Entity:
    entity = Entity(entity_id or f"light.{name.lower().replace(' ', '_')}", Domain.LIGHT, name, area)
    entity.set_state("off")

    async def turn_on() -> None:
        entity.set_state("on")

    async def turn_off() -> None:
        entity.set_state("off")

    entity.services = {"turn_on": turn_on, "turn_off": turn_off}
    return entity
