"""The kinds of things in the demo home. Each does at once what it is told, and remembers it until the hub stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from xiaozhi_hub.plugins.api import Domain, Entity


def _new(
    domain: Domain, name: str, area: str | None, aliases: tuple[str, ...], device_class: str | None = None
) -> Entity:
    slug = name.lower().replace(" ", "_")
    return Entity(f"{domain.value}.{slug}", domain, name, area, aliases, device_class)


def light(name: str, area: str, *aliases: str, brightness: int = 100) -> Entity:
    """A light of any colour."""
    entity = _new(Domain.LIGHT, name, area, aliases)
    entity.set_state("off", brightness=brightness, color="white", kelvin=2700)

    async def turn_on() -> None:
        entity.set_state("on")

    async def turn_off() -> None:
        entity.set_state("off")

    async def set_brightness(brightness: int) -> None:
        if brightness == 0:  # dark, but as bright as before when it is turned on again
            entity.set_state("off")
        else:
            entity.set_state("on", brightness=brightness)

    async def set_color(color: str) -> None:
        entity.set_state("on", color=color)

    async def set_color_temperature(kelvin: int) -> None:
        entity.set_state("on", color="white", kelvin=kelvin)

    entity.services = {
        "turn_on": turn_on,
        "turn_off": turn_off,
        "set_brightness": set_brightness,
        "set_color": set_color,
        "set_color_temperature": set_color_temperature,
    }
    return entity


def lock(name: str, area: str | None, *aliases: str) -> Entity:
    """A door lock."""
    entity = _new(Domain.LOCK, name, area, aliases)
    entity.set_state("locked")

    async def do_lock() -> None:
        entity.set_state("locked")

    async def do_unlock() -> None:
        entity.set_state("unlocked")

    entity.services = {"lock": do_lock, "unlock": do_unlock}
    return entity


def cover(name: str, area: str | None, device_class: str, *aliases: str) -> Entity:
    """A door, window or curtain that moves by itself, and instantly."""
    entity = _new(Domain.COVER, name, area, aliases, device_class)
    entity.set_state("closed", position=0, device_class=device_class)

    async def set_position(position: int) -> None:
        entity.set_state("open" if position else "closed", position=position)

    async def do_open() -> None:
        await set_position(100)

    async def do_close() -> None:
        await set_position(0)

    entity.services = {"open": do_open, "close": do_close, "set_position": set_position}
    return entity


def player(name: str, area: str, *aliases: str) -> Entity:
    """A television that plays something as soon as it is on."""
    entity = _new(Domain.MEDIA_PLAYER, name, area, aliases)
    entity.set_state("playing", volume=40, muted=False, track=1)

    async def turn_on() -> None:
        entity.set_state("playing")

    async def turn_off() -> None:
        entity.set_state("off")

    async def pause() -> None:
        entity.set_state("paused")

    async def skip(tracks: int) -> None:
        entity.set_state("playing", track=max(1, entity.state.attributes["track"] + tracks))

    async def following() -> None:
        await skip(1)

    async def previous() -> None:
        await skip(-1)

    async def set_volume(volume: int) -> None:
        entity.set_state(entity.state.value, volume=volume, muted=False)

    async def mute(muted: bool) -> None:
        entity.set_state(entity.state.value, muted=muted)

    entity.services = {
        "turn_on": turn_on,
        "turn_off": turn_off,
        "pause": pause,
        "resume": turn_on,
        "next": following,
        "previous": previous,
        "set_volume": set_volume,
        "mute": mute,
    }
    return entity


def thermostat(name: str, area: str, *aliases: str) -> Entity:
    """A thermostat that measures and heats."""
    entity = _new(Domain.CLIMATE, name, area, aliases)
    entity.set_state("heat", current_temperature=21.5, temperature=21, unit="°C")

    async def turn_on() -> None:
        entity.set_state("heat")

    async def turn_off() -> None:
        entity.set_state("off")

    async def set_temperature(temperature: float) -> None:
        entity.set_state("heat", temperature=temperature)

    entity.services = {"turn_on": turn_on, "turn_off": turn_off, "set_temperature": set_temperature}
    return entity


def sensor(name: str, device_class: str, value: float, unit: str, *aliases: str) -> Entity:
    """Something that is measured."""
    entity = _new(Domain.SENSOR, name, None, aliases, device_class)
    entity.set_state(f"{value:g}", unit=unit)
    return entity


def weather(name: str, condition: str, temperature: float, *aliases: str) -> Entity:
    """What it is like outside."""
    entity = _new(Domain.WEATHER, name, None, aliases)
    entity.set_state(condition, temperature=temperature, unit="°C")
    return entity


def scene(name: str, domain: Domain, run: Callable[[], Awaitable[None]], *aliases: str) -> Entity:
    """Something that sets several things at once."""
    entity = _new(domain, name, None, aliases)
    entity.set_state("unknown")
    entity.services = {"run": run}
    return entity


def shopping_list(name: str, *aliases: str) -> Entity:
    """A list of things to buy."""
    entity = _new(Domain.TODO, name, None, aliases)
    entity.set_state("0", items=())

    def keep(items: tuple[str, ...]) -> None:
        entity.set_state(str(len(items)), items=items)

    async def add_item(item: str) -> None:
        items = entity.state.attributes["items"]
        if item.casefold() not in (known.casefold() for known in items):
            keep((*items, item))

    async def complete_item(item: str) -> None:
        items = entity.state.attributes["items"]
        keep(tuple(known for known in items if known.casefold() != item.casefold()))

    entity.services = {"add_item": add_item, "complete_item": complete_item}
    return entity
