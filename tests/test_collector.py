"""Building many objects must not stop the event loop."""

from __future__ import annotations

import gc

import pytest

from xiaozhi_hub.core.collector import building_to_last


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
