"""Building many objects must not stop the event loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from xiaozhi_hub.core import collector
from xiaozhi_hub.core.collector import building_to_last, collect_at_leisure


def test_nothing_is_collected_while_building_and_what_was_built_is_left_alone() -> None:
    collections = sum(generation["collections"] for generation in gc.get_stats())
    with building_to_last():
        built = [[number] for number in range(50_000)]
        inside = sum(generation["collections"] for generation in gc.get_stats())
        assert not gc.isenabled()
    assert gc.isenabled()
    assert inside - collections <= 1  # the one before the building
    assert gc.get_freeze_count() >= len(built)


def test_two_builders_do_not_disturb_each_other() -> None:
    with building_to_last():
        with building_to_last():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_failed_building_leaves_the_collector_on() -> None:
    with pytest.raises(ValueError), building_to_last():
        raise ValueError
    assert gc.isenabled()


async def test_everything_is_looked_at_only_while_nobody_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(collector, "DUE", -1)
    before, speaking, asked = gc.get_threshold(), True, 0

    def quiet() -> bool:
        nonlocal asked
        asked += 1
        return not speaking

    def full() -> int:
        return int(gc.get_stats()[2]["collections"])

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.001)

    began = full()
    looking = asyncio.create_task(collect_at_leisure(quiet))
    await until(lambda: asked >= 3)
    kept = [[number] for number in range(60_000)]  # for which Python would begin by itself
    assert full() == began
    assert kept
    speaking = False
    await until(lambda: full() > began)
    looking.cancel()
    await asyncio.wait([looking])
    assert gc.get_threshold() == before
