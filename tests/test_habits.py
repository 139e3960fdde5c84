"""How long the hub waits after a sentence that might go on, as it learns how people here end theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi_hub.cli.waited import told_wait
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.flow import (
    Channel,
    Completeness,
    Outcome,
    Pause,
    ToolCall,
    TurnRecord,
    Wait,
    WaitReason,
)
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.hearing.habits import BIN_MS, BINS, LOOK_AGAIN, MOST_TIMES, RISK, Habits
from xiaozhi_hub.dialog.hearing.waits import Waits
from xiaozhi_hub.dialog.intents.matcher import Found
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.habits import MOST_DEVICES, MOST_ROWS, HabitRow, HabitRows, PausesRow

HERE, THERE = "02:00:00:00:00:01", "02:00:00:00:00:02"
LIGHTS = "turn on the lights"
SHAPE, OTHER = "en home.turn_on domain", "en clock.start_timer hours"
SHORT, LONG, LONGEST = 120.0, 420.0, 700.0


def wait(habits: Habits, shape: str = SHAPE, device: str = HERE) -> float:
    return habits.wait(device, shape, SHORT, LONG, LONGEST).ms


def end(habits: Habits, times: int, shape: str = SHAPE, device: str = HERE) -> None:
    """So many sentences end there, each after the usual wait."""
    for at in range(times):
        habits.ended(device, shape, float(at), early=False)


# -- the model ----------------------------------------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(
        st.sampled_from(("ended", "went_on", "was_cut", "paused")),
        st.sampled_from((HERE, THERE)),
        st.sampled_from((SHAPE, OTHER)),
        st.floats(SHORT, 3000),
        st.booleans(),
    ),
    max_size=150,
)


Seen = tuple[str, str, str, float, bool]


def play(habits: Habits, events: Sequence[Seen | None]) -> None:
    """Let *habits* see what happened, at the times 0, 1, 2 …"""
    for at, event in enumerate(events):
        if event is None:
            continue
        what, device, shape, ms, early = event
        if what == "ended":
            habits.ended(device, shape, at, early=early)
        elif what == "paused":
            habits.paused(device, ms, at)
        else:
            getattr(habits, what)(device, shape, at)


def test_until_a_sentence_has_been_heard_often_it_is_waited_for_as_before() -> None:
    habits = Habits()
    assert habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST) == Wait(LONG, Completeness.EXTENDABLE, usual_ms=LONG)
    end(habits, 18)
    assert wait(habits) == LONG
    end(habits, 1)
    assert habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST) == Wait(
        SHORT, Completeness.EXTENDABLE, WaitReason.HABIT, LONG, ended=19, times=19
    )
    assert wait(habits, OTHER) == LONG, "what holds for one kind of sentence says nothing of another"


@given(EVENTS.filter(lambda events: len(events) < 10))
def test_a_handful_of_sentences_makes_nobody_hurry(events: list[Seen]) -> None:
    habits = Habits()
    play(habits, events)
    assert {wait(habits, shape, device) for shape in (SHAPE, OTHER) for device in (HERE, THERE)} <= {LONG, LONGEST}


@given(EVENTS, st.floats(60, 600), st.floats(0, 1000), st.floats(0, 1000))
def test_the_wait_is_the_shortest_one_with_so_little_risk_and_never_beyond_its_bounds(
    events: list[Seen], shortest: float, more: float, most: float
) -> None:
    habits, usual = Habits(), shortest + more
    longest = usual + most
    end(habits, 30)
    play(habits, events)
    known = habits.wait(HERE, SHAPE, shortest, usual, longest)
    assert shortest <= known.ms <= longest
    assert (known.ms > usual) == (known.reason is WaitReason.GOES_ON)
    if known.reason is not WaitReason.CHECK:
        assert known.ms in (usual, longest) or habits.risk(HERE, SHAPE, known.ms) <= RISK
        shorter = (float(step) for step in range(0, BINS * BIN_MS, BIN_MS) if shortest < step < known.ms)
        assert all(habits.risk(HERE, SHAPE, ms) > RISK for ms in shorter)
        assert known.ms == shortest or habits.risk(HERE, SHAPE, shortest) > RISK


@given(EVENTS)
def test_who_goes_on_is_never_waited_for_less_and_counts_stay_within_bounds(
    events: list[Seen],
) -> None:
    habits = Habits()
    end(habits, 25)
    play(habits, events)
    before, halves = habits.risk(HERE, SHAPE, SHORT), habits.habit(HERE, SHAPE)
    assert halves is not None and halves.times <= MOST_TIMES
    full = halves.times + 1 > MOST_TIMES
    habits.went_on(HERE, SHAPE, 0.0)
    assert full or habits.risk(HERE, SHAPE, SHORT) >= before


def test_one_who_goes_on_is_waited_for_again_for_long_but_not_for_ever() -> None:
    habits = Habits()
    end(habits, 40)
    assert wait(habits) == SHORT
    habits.went_on(HERE, SHAPE, 0.0)
    assert wait(habits) == LONG
    patient = 0
    while wait(habits) == LONG:
        end(habits, 1)
        patient += 1
    assert 50 <= patient <= 90


def test_one_who_was_cut_off_is_waited_for_longer_than_usual_until_that_has_become_rare() -> None:
    habits = Habits()
    end(habits, 1)
    habits.was_cut(HERE, SHAPE, 1.0)
    known = habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST)
    assert (known.ms, known.reason, known.ended, known.times) == (LONGEST, WaitReason.GOES_ON, 0, 1)
    assert wait(habits, OTHER) == LONG, "what holds for one kind of sentence says nothing of another"
    end(habits, 5)
    assert wait(habits) == LONG
    habits.went_on(HERE, SHAPE, 2.0)
    assert wait(habits) == LONGEST


def test_who_often_goes_on_but_never_pauses_for_long_is_waited_for_so_long() -> None:
    habits = Habits()
    end(habits, 20)
    for _ in range(20):
        habits.went_on(HERE, SHAPE, 0.0)
    for _ in range(390):
        habits.paused(HERE, 500.0, 0.0)
        habits.paused(THERE, 500.0, 0.0)
        habits.paused("another", 500.0, 0.0)
    assert wait(habits) == 540.0
    assert habits.wait(HERE, SHAPE, SHORT, LONG, 480.0).ms == 480.0


def test_who_always_goes_on_is_always_waited_for() -> None:
    habits = Habits()
    for _ in range(20):
        end(habits, 19)
        habits.went_on(HERE, SHAPE, 0.0)
        assert wait(habits) == LONG


def test_in_a_house_of_short_pauses_everything_is_waited_for_less() -> None:
    habits = Habits()
    for _ in range(200):
        habits.paused(HERE, 200, 0.0)
    known = habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST)
    assert (known.ms, known.reason) == (240, WaitReason.PAUSES), "the first wait that none of the pauses has reached"
    for _ in range(5):
        habits.paused(HERE, 1000, 0.0)
    assert wait(habits) == LONG


def test_one_who_pauses_among_many_who_do_not_is_not_cut_off() -> None:
    habits = Habits()
    for number in range(40):
        end(habits, 20, device=f"{number}")
    assert wait(habits) == SHORT
    for _ in range(3):
        habits.went_on(HERE, SHAPE, 0.0)
    assert wait(habits) == LONGEST
    assert wait(habits, device="7") == SHORT


def test_what_is_only_believed_is_looked_at_again_now_and_then() -> None:
    habits = Habits()
    end(habits, 30)
    waits = []
    for _ in range(2 * LOOK_AGAIN + 2):
        known = habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST)
        waits.append(known.ms)
        assert (known.reason is WaitReason.CHECK) == (known.ms == LONG)
        habits.ended(HERE, SHAPE, 0.0, early=known.ms < LONG)
    assert [index for index, ms in enumerate(waits) if ms == LONG] == [LOOK_AGAIN, 2 * LOOK_AGAIN + 1]


@given(EVENTS)
def test_what_was_written_down_is_what_is_known(events: list[Seen]) -> None:
    habits, again = Habits(), Habits()
    play(habits, events)
    again.load(*habits.changed())
    assert habits.changed() == ([], [])
    for device in (HERE, THERE):
        for shape in (SHAPE, OTHER):
            assert again.risk(device, shape, 180) == pytest.approx(habits.risk(device, shape, 180))


@given(EVENTS)
def test_a_forgotten_device_has_never_been_there(events: list[Seen]) -> None:
    habits, without = Habits(), Habits()
    play(habits, events)
    wait(habits)
    habits.forget(THERE)
    play(without, [event if event[1] == HERE else None for event in events])
    assert habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST) == without.wait(HERE, SHAPE, SHORT, LONG, LONGEST)
    assert all(row.device_id != THERE for rows in habits.changed() for row in rows)


def test_what_is_old_is_forgotten_and_what_is_new_stays() -> None:
    habits = Habits()
    habits.ended(HERE, SHAPE, 10.0, early=False)
    habits.ended(HERE, OTHER, 20.0, early=False)
    habits.paused(HERE, 200, 20.0)
    habits.forget(before=20.0)
    assert habits.habit(HERE, SHAPE) is None
    assert habits.habit(HERE, OTHER) is not None
    assert [len(rows) for rows in habits.changed()] == [1, 1]


def test_the_table_is_bounded() -> None:
    habits = Habits()
    for number in range(MOST_ROWS):
        habits.ended(HERE, f"shape {number}", 0.0, early=False)
    habits.ended(HERE, "shape 0", 0.0, early=False)
    for number in range(MOST_ROWS, MOST_ROWS + 10):
        habits.ended(HERE, f"shape {number}", 0.0, early=False)
    assert habits.habit(HERE, "shape 1") is None
    assert habits.habit(HERE, "shape 0") is not None, "it is not the one that changed longest ago"
    assert habits.habit(HERE, f"shape {MOST_ROWS}") is not None
    assert len(habits.changed()[0]) == MOST_ROWS
    for number in range(MOST_ROWS + 10):
        wait(habits, f"never heard {number}")
    assert len(habits._waits) <= MOST_ROWS


def test_of_devices_the_one_that_paused_longest_ago_makes_room() -> None:
    habits = Habits()
    for number in (*range(MOST_DEVICES), 0, *range(MOST_DEVICES, MOST_DEVICES + 5)):
        habits.paused(f"{number}", 200, 7.0)
    _, pauses = habits.changed()
    known = {row.device_id for row in pauses}
    assert len(known) == MOST_DEVICES and "0" in known and "1" not in known
    assert {row.changed_at for row in pauses} == {7.0}


def test_what_was_seen_long_ago_counts_less() -> None:
    habits = Habits()
    end(habits, 51)
    for _ in range(401):
        habits.paused(HERE, 200, 0.0)
    (habit,), (pauses,) = habits.changed()
    assert (habit.ended, habit.went_on, sum(pauses.lengths)) == (25.5, 0, 200.5)


def test_ten_times_on_a_device_weigh_as_much_as_the_house() -> None:
    habits = Habits()
    for number in range(40):
        end(habits, 20, device=f"{number}")
    for _ in range(10):
        habits.went_on(HERE, SHAPE, 0.0)
    assert habits.risk(HERE, SHAPE, 0) == pytest.approx(0.5, abs=0.02)
    assert habits.risk(HERE, OTHER, 0) == pytest.approx(0.2)


def test_who_was_cut_off_has_paused_for_longer_than_any_wait_and_has_not_ended() -> None:
    habits = Habits()
    habits.was_cut(HERE, SHAPE, 0.0)
    (habit,), (pauses,) = habits.changed()
    assert (habit.ended, habit.went_on) == (0, 1)
    assert list(pauses.lengths) == [0] * (BINS - 1) + [1]


def test_one_who_thinks_for_long_among_many_who_do_not_is_waited_for() -> None:
    habits = Habits()
    for number in range(40):
        for _ in range(20):
            habits.paused(f"{number}", 200, 0.0)
    assert wait(habits) == wait(habits, device="7") == 240
    for _ in range(2):
        habits.paused(HERE, 900, 0.0)
    assert wait(habits) == LONG
    assert wait(habits, device="7") == 240


def test_with_a_device_goes_how_long_people_paused_there_and_how_often_it_was_believed() -> None:
    habits = Habits()
    for _ in range(200):
        habits.paused(THERE, 200, 0.0)
    assert wait(habits, OTHER) == 240
    habits.forget(THERE)
    assert wait(habits, OTHER) == LONG
    end(habits, 30)
    for _ in range(LOOK_AGAIN):
        habits.ended(HERE, SHAPE, 0.0, early=True)
    assert habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST).reason is WaitReason.CHECK
    habits.forget(HERE)
    end(habits, 30, device=THERE)
    assert habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST).reason is WaitReason.HABIT


MAY_GO_ON = Completeness.EXTENDABLE


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (Wait(120, Completeness.COMPLETE), "120 ms: nothing could follow"),
        (Wait(420, MAY_GO_ON), "420 ms: it might have gone on"),
        (Wait(1000, Completeness.PARTIAL), "1000 ms: it sounded unfinished"),
        (Wait(700, None), "700 ms: the words were not known in time"),
        (
            Wait(420, MAY_GO_ON, usual_ms=420, ended=8, times=9),
            "420 ms: it might have gone on; 'lights on' and the like have ended here 8 of 9 times",
        ),
        (
            Wait(180, MAY_GO_ON, WaitReason.HABIT, 420, 23, 23),
            "180 ms, not 420: 'lights on' and the like have ended here 23 of 23 times",
        ),
        (
            Wait(240, MAY_GO_ON, WaitReason.PAUSES, 420, 1, 1),
            "240 ms, not 420: people here do not pause for longer in mid-sentence",
        ),
        (
            Wait(700, MAY_GO_ON, WaitReason.GOES_ON, 300, 1, 3),
            "700 ms, not 300: people here often go on after 'lights on' and the like, which have ended here 1 of 3 times",
        ),
        (
            Wait(420, MAY_GO_ON, WaitReason.CHECK, 420, 40, 40),
            "420 ms: to see whether anybody still never goes on; 'lights on' and the like have ended here 40 of 40 times",
        ),
    ],
)
def test_a_person_can_read_why_it_waited(known: Wait, told: str) -> None:
    assert told_wait(known, "lights on", Words("en")) == told


# -- what is learned from a turn ----------------------------------------------------------------------------------

MEANINGS = {
    LIGHTS: Found("home.turn_on", {"domain": "light"}),
    f"{LIGHTS} please": Found("home.turn_on", {"domain": "light"}),
    f"{LIGHTS} in the office": Found("home.turn_on", {"domain": "light", "area": "Office"}),
    "turn on the fans in the office": Found("home.turn_on", {"domain": "fan", "area": "Office"}),
    "开灯": Found("home.turn_on", {"domain": "light"}),
    "开灯在厨房": Found("home.turn_on", {"domain": "light", "area": "Kitchen"}),
}


@pytest.fixture
async def waits() -> AsyncIterator[Waits]:
    async with TaskScope("test") as scope:
        yield Waits(Config(Path("/nowhere")), lambda text, _: MEANINGS.get(text), judge, scope, _unasked, _unasked)


def judge(text: str, language: str) -> Completeness:
    return Completeness.EXTENDABLE if text == LIGHTS else Completeness.COMPLETE


def _unasked(*_: object) -> None:
    raise AssertionError("there is no problem")


def turn(heard: str, *pauses: Pause, at: float = 100.0, language: str = "en") -> TurnRecord:
    """A turn of three seconds, in which somebody began to speak after one."""
    found = MEANINGS.get(heard)
    return TurnRecord(
        "t", "s", HERE, at, Channel.VOICE, "auto", language, heard, "", Outcome.ANSWERED,
        stamps={"speech_start": 1000.0, "played": 3000.0}, pauses=pauses,
        tool_calls=(ToolCall(found.tool, found.arguments, ""),) if found is not None else (),
    )  # fmt: skip


def paused(text: str, ms: float = 300.0, *, language: str = "en", went_on: bool = True) -> Pause:
    return Pause(text, language, Completeness.EXTENDABLE, ms, went_on)


def last(text: str, language: str = "en") -> Pause:
    return paused(text, 420.0, language=language, went_on=False)


def counts(waits: Waits, shape: str = SHAPE) -> tuple[float, float] | None:
    known = waits.habits.habit(HERE, shape)
    return (known.ended, known.went_on) if known is not None else None


@pytest.mark.parametrize(
    ("record", "expected", "gaps"),
    [
        (turn(LIGHTS, last(LIGHTS)), (1, 0), 0),
        (turn(f"{LIGHTS} in the office", paused(LIGHTS)), (0, 1), 1),
        (turn(f"{LIGHTS} please", paused(LIGHTS)), None, 0),
        (turn(f"{LIGHTS} in the office", paused(LIGHTS, 60)), None, 0),
        (turn("a long story", paused(LIGHTS)), None, 0),
        (turn(f"{LIGHTS} in the office", paused("turn on")), None, 1),
        (turn(LIGHTS, last("turn on")), None, 0),
        (turn(LIGHTS, Pause("", "en", None, 720, False)), (1, 0), 0),
        (turn(LIGHTS, Pause("", "en", None, 240, False)), None, 0),
        (turn("turn on the fans in the office", Pause("", "en", None, 720, False)), None, 0),
        (replace(turn(LIGHTS, last(LIGHTS)), channel=Channel.TEXT), None, 0),
    ],
    ids=[
        "ended",
        "went on",
        "nothing added",
        "too short to matter",
        "no command",
        "half a sentence",
        "heard otherwise",
        "known late",
        "not waited for",
        "nothing could follow",
        "typed",
    ],
)
async def test_what_a_turn_teaches(
    waits: Waits, record: TurnRecord, expected: tuple[float, float] | None, gaps: int
) -> None:
    waits.turn_finished(TurnFinished(record))
    assert counts(waits) == expected
    shapes, pauses = waits.habits.changed()
    assert len(shapes) == (expected is not None)
    assert [row.lengths[300 // BIN_MS] for row in pauses] == [1] * gaps


@pytest.mark.parametrize(
    ("rest", "seconds", "cut"),
    [
        ("in the office", 4.0, True),
        (f"{LIGHTS} in the office", 4.0, True),
        ("turn on the fans in the office", 4.0, False),
        (LIGHTS, 4.0, False),
        ("good morning", 4.0, False),
        ("", 4.0, False),
        ("in the office", 4.9, True),
        ("in the office", 5.1, False),
    ],
)
async def test_only_the_rest_of_the_sentence_tells_that_it_was_cut_off(
    waits: Waits, rest: str, seconds: float, cut: bool
) -> None:
    waits.turn_finished(TurnFinished(turn(LIGHTS, last(LIGHTS))))
    waits.turn_finished(TurnFinished(turn(rest, at=100.0 + 3.0 + seconds - 1.0)))
    assert counts(waits) == ((0, 1) if cut else (1, 0))


async def test_only_the_turn_right_after_it_can_be_the_rest(waits: Waits) -> None:
    waits.turn_finished(TurnFinished(turn(LIGHTS, last(LIGHTS))))
    waits.turn_finished(TurnFinished(turn("good morning", at=103.0)))
    waits.turn_finished(TurnFinished(turn("in the office", at=105.0)))
    assert counts(waits) == (1, 0)


@pytest.mark.parametrize("early", [True, False])
async def test_turns_that_ended_early_are_counted_for_the_next_look(waits: Waits, early: bool) -> None:
    end(waits.habits, 30)
    record = replace(
        turn(LIGHTS, replace(last(LIGHTS), ms=120.0 if early else 420.0)),
        wait=Wait(120, Completeness.EXTENDABLE, WaitReason.HABIT, 420),
    )
    for _ in range(LOOK_AGAIN):
        waits.turn_finished(TurnFinished(record))
    reason = waits.habits.wait(HERE, SHAPE, SHORT, LONG, LONGEST).reason
    assert reason is (WaitReason.CHECK if early else WaitReason.HABIT)


async def test_the_newest_turns_of_so_many_devices_are_remembered(waits: Waits) -> None:
    for number in range(MOST_DEVICES + 5):
        waits.turn_finished(TurnFinished(replace(turn(LIGHTS, last(LIGHTS)), device_id=f"{number}")))
    assert len(waits._ended) == MOST_DEVICES and "0" not in waits._ended


async def test_the_rest_of_a_chinese_sentence_is_one_too(waits: Waits) -> None:
    waits.turn_finished(TurnFinished(turn("开灯", last("开灯", "zh-Hans"), language="zh-Hans")))
    waits.turn_finished(TurnFinished(turn("在厨房", at=103.0, language="zh-Hans")))
    assert counts(waits, SHAPE.replace("en ", "zh-Hans ")) == (0, 1)


async def test_a_television_that_goes_on_after_commands_makes_nobody_wait_for_longer_than_usual(waits: Waits) -> None:
    shortest, usual, longest = SHORT, LONG, LONGEST
    told = []
    for number in range(60):
        ms = waits.habits.wait(HERE, SHAPE, shortest, usual, longest).ms
        told.append(ms)
        spoke = number % 2 or ms > 500.0  # now within any wait, now half a second after the command
        waits.turn_finished(
            TurnFinished(turn("lights and the news", paused(LIGHTS)) if spoke else turn(LIGHTS, last(LIGHTS)))
        )
    assert set(told) == {usual}
    for _ in range(150):
        waits.turn_finished(TurnFinished(turn(LIGHTS, last(LIGHTS))))
    assert waits.habits.wait(HERE, SHAPE, shortest, usual, longest).ms == shortest, "it has been switched off"
    waits.turn_finished(TurnFinished(turn("lights and a long story", paused(LIGHTS))))
    assert waits.habits.wait(HERE, SHAPE, shortest, usual, longest).ms == usual, "who asked for more is not cut off"


async def test_an_answer_to_a_question_is_no_rest(waits: Waits) -> None:
    asked_back = replace(turn(LIGHTS, last(LIGHTS)), tool_calls=())
    waits.turn_finished(TurnFinished(asked_back))
    waits.turn_finished(TurnFinished(turn("in the office", at=103.0)))
    assert counts(waits) == (1, 0)


# -- what is written down -----------------------------------------------------------------------------------------


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "hub.db")
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def test_what_could_not_be_written_down_is_written_when_it_can(database: Database) -> None:
    troubles: list[str] = []
    async with TaskScope("test") as scope:
        waits = Waits(
            Config(Path("/nowhere")),
            lambda text, _: MEANINGS.get(text),
            judge,
            scope,
            lambda code, *_: troubles.append(f"there is {code}"),
            lambda code: troubles.append(f"no more {code}"),
        )
        await waits.open(HabitRows(database))
        await database.write(lambda db: db.execute("ALTER TABLE pause_habit RENAME TO elsewhere"))
        waits.turn_finished(TurnFinished(turn(f"{LIGHTS} in the office", paused(LIGHTS))))
        await waits.written(20)
        assert troubles == ["there is habits"]
        await database.write(lambda db: db.execute("ALTER TABLE elsewhere RENAME TO pause_habit"))
        waits.turn_finished(TurnFinished(replace(turn(LIGHTS, last(LIGHTS)), device_id=THERE)))
        await waits.written(20)
        assert troubles == ["there is habits", "no more habits"]
    habits, pauses = await HabitRows(database).all()
    assert {(row.device_id, row.ended, row.went_on) for row in habits} == {(HERE, 0, 1), (THERE, 1, 0)}
    assert [row.device_id for row in pauses] == [HERE]


async def test_what_was_forgotten_meanwhile_is_not_written_after_all(database: Database) -> None:
    habits = Habits()
    habits.ended(HERE, SHAPE, 1.0, early=False)
    habits.paused(THERE, 200, 1.0)
    rows = habits.changed()
    habits.forget(HERE)
    habits.unwritten(*rows)
    assert [[row.device_id for row in kind] for kind in habits.changed()] == [[], [THERE]]


async def test_the_tables_on_the_disk_are_bounded(database: Database) -> None:
    rows = HabitRows(database)
    await rows.put(
        [HabitRow(HERE, f"shape {number}", 1.0, 0.0, float(number)) for number in range(MOST_ROWS + 5)],
        [PausesRow(str(number), (0.0,) * BINS, float(number)) for number in range(MOST_DEVICES + 5)],
    )
    habits, pauses = await rows.all()
    assert (len(habits), habits[0].shape) == (MOST_ROWS, "shape 5")
    assert (len(pauses), pauses[0].device_id) == (MOST_DEVICES, "5")


async def test_the_words_of_a_turn_are_forgotten_with_it(waits: Waits) -> None:
    waits.turn_finished(TurnFinished(turn(LIGHTS, last(LIGHTS))))
    await waits.forget(Forget(before=103.0))
    assert waits._ended, "it was over at that moment, not before"
    await waits.forget(Forget(before=103.1))
    assert not waits._ended
