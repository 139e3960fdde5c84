"""The rules of the door, of tokens and of codes, with time passed in."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from xiaozhi_hub.core.rate import RateLimits
from xiaozhi_hub.devices.pairing.door import CLOCK_IS_SET, FIRST_DAY_SECONDS, Door
from xiaozhi_hub.devices.pairing.tokens import GRACE_SECONDS, MOST_TOKENS, TokenRing
from xiaozhi_hub.devices.pairing.waiting import (
    FORGET_SECONDS,
    MOST_PER_ADDRESS,
    MOST_WAITING,
    STILL_HERE_SECONDS,
    WaitingRoom,
)
from xiaozhi_hub.store.grants import PairingState

START = 1_800_000_000.0
DAY = FIRST_DAY_SECONDS


# -- the door -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "first_start", "closed", "now", "uptime", "kind"),
    [
        pytest.param(None, START, None, START, 0, "first-day", id="a new hub"),
        pytest.param(None, START, None, START + DAY - 1, DAY - 1, "first-day", id="just before the day is over"),
        pytest.param(None, START, None, START + DAY, DAY, None, id="the day is over"),
        pytest.param(None, START, None, START + DAY, 5, None, id="the day is over and the hub restarted"),
        pytest.param(None, START, START + 60, START + 120, 120, None, id="closed early"),
        pytest.param(None, START, None, START - 60, 10, None, id="the clock was put back"),
        pytest.param(None, 100.0, None, 130.0, 30, "first-day", id="no clock yet"),
        pytest.param(None, 100.0, None, START, 30, "first-day", id="the clock was set meanwhile"),
        pytest.param(None, 100.0, None, 100 + DAY, DAY, None, id="never a clock"),
        pytest.param("approve", START, None, START, 0, None, id="approve from the first moment"),
        pytest.param("open", START, START, START + 9 * DAY, 9 * DAY, "open", id="open for ever"),
    ],
)
def test_the_door_is_open_for_a_reason(
    mode: str | None, first_start: float, closed: float | None, now: float, uptime: float, kind: str | None
) -> None:
    door = Door(mode, PairingState("", first_start, closed), 1000.0)
    opening = door.opening(now, 1000.0 + uptime)
    assert (opening.kind if opening is not None else None) == kind


def test_a_window_ends_by_a_clock_that_cannot_be_set() -> None:
    door = Door("approve", PairingState("", START), 0.0)
    door.open_window(10, 50.0)
    opening = door.opening(START, 100.0)
    assert opening is not None and opening.until == START + 550
    assert door.opening(START + 10 * DAY, 649.0) is not None
    assert door.opening(START, 650.0) is None


def test_the_first_day_begins_when_the_clock_is_set() -> None:
    door = Door(None, PairingState("", 100.0), 0.0)
    assert not door.note_clock(200.0)
    assert door.note_clock(START)
    assert not door.note_clock(START + 5)
    assert door.state.first_start_at == START >= CLOCK_IS_SET
    opening = door.opening(START + 60, 60.0)
    assert opening is not None and opening.until == START + DAY


def test_closing_ends_the_window_and_the_first_day() -> None:
    door = Door(None, PairingState("", START), 0.0)
    door.open_window(10, 0.0)
    door.close(START + 1)
    assert door.opening(START + 2, 2.0) is None


# -- tokens -------------------------------------------------------------------------------------------------------


def test_an_earlier_token_is_good_until_a_later_one_was_used_and_a_little_longer() -> None:
    ring = TokenRing()
    first = ring.issue(0.0)
    assert ring.use(first, 1.0) is True
    assert ring.use(first, 2.0) is False
    second = ring.issue(10.0)
    assert ring.use(first, 1e9) is False
    assert ring.use(second, 1e9) is True
    assert ring.use(first, 1e9 + GRACE_SECONDS - 1) is False
    assert ring.use(first, 1e9 + GRACE_SECONDS) is None
    assert ring.use(second, 1e12) is False


def test_the_token_in_use_survives_any_number_of_lost_answers() -> None:
    ring = TokenRing()
    used = ring.issue(0.0)
    ring.use(used, 1.0)
    last = [ring.issue(float(n)) for n in range(2, 50)][-1]
    assert len(ring.tokens) == MOST_TOKENS
    assert ring.use(used, 60.0) is False
    assert ring.use(last, 60.0) is True


def test_of_tokens_that_were_never_used_the_newest_are_kept() -> None:
    ring = TokenRing()
    tokens = [ring.issue(float(n)) for n in range(10)]
    assert [ring.use(token, 20.0) is not None for token in tokens] == [False] * 6 + [True] * 4


def test_only_the_hash_of_a_token_is_kept() -> None:
    ring = TokenRing()
    token = ring.issue(0.0)
    assert ring.tokens[0].hash == hashlib.sha256(token.encode()).hexdigest()
    assert token not in repr(ring.tokens)


@pytest.mark.parametrize("shown", ["", "x", "\udcff", "密", "x" * 100_000])
def test_what_is_no_token_opens_nothing(shown: str) -> None:
    ring = TokenRing()
    ring.issue(0.0)
    assert ring.use(shown, 1.0) is None
    assert TokenRing().use(shown, 1.0) is None


# -- codes --------------------------------------------------------------------------------------------------------


def enter(room: WaitingRoom, device: str, now: float = 0.0, address: str = "192.168.1.5", client: str = "c") -> Any:
    return room.enter(device, client, now, address=address)


def test_codes_have_six_digits_and_differ() -> None:
    room = WaitingRoom(b"key")
    codes = [enter(room, f"d{n}", address=f"a{n % 8}").code for n in range(MOST_WAITING)]
    assert len(set(codes)) == MOST_WAITING
    assert all(len(code) == 6 and code.isdigit() and code[0] != "0" for code in codes)


def test_codes_depend_on_the_hubs_own_key() -> None:
    assert enter(WaitingRoom(b"one"), "d").code != enter(WaitingRoom(b"two"), "d").code


def test_a_stranger_with_the_same_address_has_another_code() -> None:
    room = WaitingRoom(b"key")
    assert enter(room, "d").code != enter(room, "d", client="other").code


def test_one_address_cannot_keep_the_others_out() -> None:
    room = WaitingRoom(b"key")
    assert [enter(room, f"d{n}") is not None for n in range(20)] == [True] * MOST_PER_ADDRESS + [False] * 4
    assert enter(room, "honest", address="192.168.1.6") is not None


def test_a_full_room_has_place_again_when_somebody_has_gone() -> None:
    room = WaitingRoom(b"key")
    for n in range(MOST_WAITING):
        enter(room, f"d{n}", float(n) / 10, address=f"a{n}")
    assert enter(room, "late", 100.0, address="new") is None
    for n in range(1, MOST_WAITING):
        room.seen(f"d{n}", "c", STILL_HERE_SECONDS)
    assert enter(room, "late", STILL_HERE_SECONDS + 1, address="new") is not None
    assert "d0" not in {each.device_id for each in room.all(STILL_HERE_SECONDS + 1)}


def test_a_device_that_went_away_is_forgotten() -> None:
    room = WaitingRoom(b"key")
    code = enter(room, "d").code
    assert room.find(code, FORGET_SECONDS) is not None
    assert room.find(code, FORGET_SECONDS + 1) is None
    assert room.all(0.0) == ()


# -- limits -------------------------------------------------------------------------------------------------------


def test_each_address_has_a_limit_of_its_own_and_few_are_remembered() -> None:
    limits = RateLimits(0.1, 2.0, most=3)
    assert [limits.allows("a", 0.0) for _ in range(3)] == [True, True, False]
    assert limits.allows("b", 0.0)
    assert limits.allows("a", 10.0)
    for name in "cdefgh":
        limits.allows(name, 10.0)
    assert len(limits) == 3
