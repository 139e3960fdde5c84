"""The demo home: which things there are, and where."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from xiaozhi_hub.plugins.api import Domain, Entity

from .things import cover, light, lock, player, scene, sensor, shopping_list, thermostat, weather

AREAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Kitchen": ("厨房",),
        "Office": ("书房", "办公室"),
        "Living Room": ("客厅", "lounge"),
        "Bedroom": ("卧室", "睡房"),
    }
)
"""Rooms and their other names."""


def build_home() -> tuple[Entity, ...]:
    """Make all things anew, in the state in which somebody left the house this morning."""
    bed_light = light("Bed Light", "Bedroom", "床头灯", brightness=60)
    standing_light = light("Standing Light", "Office", "落地灯")
    kitchen_lights = light("Kitchen lights", "Kitchen", "厨房灯", "厨房的灯")
    lights = (bed_light, standing_light, kitchen_lights)
    television = player("TV", "Living Room", "电视", "电视机", "television")

    async def mood() -> None:
        wanted = ((bed_light, 30, "orange"), (standing_light, 20, "orange"), (kitchen_lights, 40, "white"))
        for each, brightness, color in wanted:
            await each.services["set_color"](color=color)
            await each.services["set_brightness"](brightness=brightness)

    async def party() -> None:
        for each, color in zip(lights, ("purple", "blue", "pink"), strict=True):
            await each.services["set_color"](color=color)
            await each.services["set_brightness"](brightness=100)
        await television.services["turn_on"]()

    return (
        *lights,
        lock("Front Door", None, "前门", "大门"),
        cover("Garage Door", None, "garage", "车库门", "garage"),
        cover("Sliding Door", "Office", "door", "推拉门", "滑动门"),
        cover("Office curtains", "Office", "curtain", "书房窗帘", "办公室窗帘", "office blinds", "curtains", "blinds"),
        cover("Kitchen windows", "Kitchen", "window", "厨房窗户", "厨房的窗户"),
        television,
        thermostat("EcoBee", "Living Room", "恒温器", "温控器", "thermostat"),
        sensor("Outdoor Humidity", "humidity", 62, "%", "室外湿度", "外面的湿度"),
        weather("Weather", "partlycloudy", 18, "天气"),
        scene("Mood Lighting", Domain.SCENE, mood, "氛围灯光", "氛围"),
        scene("Party Time", Domain.SCENE, party, "派对时间", "派对"),
        shopping_list("Shopping List", "购物清单", "购物单"),
    )
