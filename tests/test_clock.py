"""The clock: what it says, when it rings, and what it does when nobody can hear it."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from house import CHINESE, ENGLISH, House, Speakers, integration

from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.core.events import DeviceConnected
from xiaozhi_hub.core.flow import TurnInfo, TurnRecord
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import MissingSlot, StoreError, ToolError
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.plugins.api import Due, HubApi, Transports
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.loader import import_integration
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.schedule import Schedule

keeper_module = integration("clock", "keeper")
local_time = integration("clock", "local_time")
timers_module = integration("clock", "timers")
tools_module = integration("clock", "tools")
wording_module = integration("clock", "wording")

BERLIN = ZoneInfo("Europe/Berlin")
KITCHEN, BEDROOM = "kitchen-device", "bedroom-device"
HERE = replace(ENGLISH, device_id=KITCHEN)
THERE = replace(ENGLISH, device_id=BEDROOM)
SATURDAY = datetime(2026, 11, 21, 21, 41, tzinfo=BERLIN)


@dataclass
class Clockwork:
    """Both clocks, moved by hand."""

    wall: float = SATURDAY.timestamp()
    steady: float = 1000.0
    boot: str = "boot-1"

    def __call__(self) -> Any:
        return timers_module.Clocks(self.wall, self.steady, self.boot)

    def move(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


class Home:
    """The clock in a house with two devices."""

    def __init__(self, memory: Any, clockwork: Clockwork, speakers: Speakers, scope: TaskScope) -> None:
        self.house = House(furnished=False)
        self.house.texts.add_folder(Path(keeper_module.__file__).parent / "translations", "clock")
        self.clockwork = clockwork
        self.speakers = speakers
        local = local_time.LocalTime(BERLIN)
        wording = wording_module.Wording(self.house.texts)
        rounds = {"timer": 3, "alarm": 6}
        self.keeper = keeper_module.Keeper(memory, speakers, wording, local, clockwork, scope, rounds)
        for tool in tools_module.clock_tools(self.keeper):
            self.house.tools.add(tool, "clock")

    async def say(self, verb: str, turn: TurnInfo = HERE, /, **arguments: Any) -> str:
        return await self.house.call(f"clock.{verb}", turn, **arguments)

    async def ask(self, verb: str, turn: TurnInfo = HERE, /, **arguments: Any) -> Any:
        _, answer = await self.house.attempt(f"clock.{verb}", arguments, turn)
        return answer

    async def later(self, seconds: float) -> None:
        """Let time pass, and whatever is due ring."""
        self.clockwork.move(seconds)
        await self.settle()

    async def settle(self) -> None:
        await self.keeper.tick()
        for _ in range(5):  # ringing tasks end within a few rounds of the loop, nothing in them waits
            await asyncio.sleep(0)
        while self.keeper._ringing:
            await asyncio.wait(tuple(self.keeper._ringing.values()))

    async def connect(self, device_id: str) -> None:
        self.speakers.connected.append(device_id)
        self.keeper.connected(DeviceConnected(device_id, "session"))
        await self.settle()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "hub.db")
    await database.open()
    yield database
    await database.close()


@asynccontextmanager
async def running(database: Database, clockwork: Clockwork, speakers: Speakers) -> AsyncIterator[Home]:
    """One run of the hub; the database, the clocks and the devices outlive it."""
    async with TaskScope("test") as scope:
        home = Home(Schedule(database), clockwork, speakers, scope)
        await home.keeper.load()
        yield home


@pytest.fixture
async def home(database: Database) -> AsyncIterator[Home]:
    async with running(database, Clockwork(), Speakers(KITCHEN, BEDROOM)) as home:
        yield home


# -- time and date ------------------------------------------------------------------------------------------------


async def test_the_time_and_the_date_are_told(home: Home) -> None:
    assert await home.say("get_time") == "It is 9:41 PM."
    assert await home.say("get_date") == "It is Saturday, November 21, 2026."
    assert await home.say("get_time", CHINESE) == "现在是晚上9点41分。"
    assert await home.say("get_date", CHINESE) == "今天是2026年11月21日，星期六。"


@pytest.mark.parametrize(
    ("hour", "minute", "said", "gesagt"),
    [
        (0, 0, "It is 12 AM.", "现在是凌晨12点。"),
        (7, 5, "It is 7:05 AM.", "现在是早上7点05分。"),
        (12, 0, "It is 12 PM.", "现在是中午12点。"),
        (13, 30, "It is 1:30 PM.", "现在是下午1点30分。"),
    ],
)
async def test_times_of_day(home: Home, hour: int, minute: int, said: str, gesagt: str) -> None:
    home.clockwork.wall = datetime(2026, 11, 22, hour, minute, tzinfo=BERLIN).timestamp()
    assert await home.say("get_time") == said
    assert await home.say("get_time", CHINESE) == gesagt


# -- timers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said", "gesagt"),
    [
        ({"minutes": 5}, "5 minute timer set.", "5分钟的定时器已设好。"),
        ({"hours": 1}, "1 hour timer set.", "1小时的定时器已设好。"),
        ({"hours": 3, "minutes": 10}, "3 hour and 10 minute timer set.", "3小时10分钟的定时器已设好。"),
        ({"minutes": 5.5}, "5 minute and 30 second timer set.", "5分钟30秒的定时器已设好。"),
        ({"minutes": 2, "name": "pasta"}, "Pasta timer set for 2 minutes.", "Pasta定时器已设为两分钟。"),
    ],
)
async def test_setting_a_timer_is_confirmed(home: Home, arguments: dict[str, Any], said: str, gesagt: str) -> None:
    assert await home.say("start_timer", **arguments) == said
    assert await home.say("start_timer", CHINESE, **arguments) == gesagt


async def test_a_timer_rings_on_the_device_that_asked(home: Home) -> None:
    await home.say("start_timer", THERE, minutes=5)
    await home.later(299)
    assert home.speakers.heard == []
    await home.later(1)
    assert home.speakers.heard == [(BEDROOM, "Your 5 minute timer is done.")]
    assert home.speakers.rounds == [3]
    assert home.keeper.timers == ()
    await home.later(100)
    assert len(home.speakers.heard) == 1, "it rings once"


async def test_a_timer_rings_in_the_language_it_was_set_in(home: Home) -> None:
    await home.say("start_timer", replace(CHINESE, device_id=KITCHEN), minutes=8, name="煮面")
    await home.later(480)
    assert home.speakers.heard == [(KITCHEN, "煮面定时器到时间了。")]


async def test_the_next_device_rings_when_the_asking_one_is_away(home: Home) -> None:
    await home.say("start_timer", THERE, minutes=5)
    home.speakers.connected.remove(BEDROOM)
    await home.later(300)
    assert home.speakers.heard == [(KITCHEN, "Your 5 minute timer is done.")]


async def test_the_next_device_rings_when_the_asking_one_does_not_play(home: Home) -> None:
    await home.say("start_timer", THERE, minutes=5)
    home.speakers.deaf.add(BEDROOM)
    await home.later(300)
    assert [device for device, _ in home.speakers.heard] == [KITCHEN]


async def test_a_timer_nobody_can_hear_waits_for_a_device(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    home.speakers.connected.clear()
    await home.later(300)
    await home.later(20 * 60)
    assert home.speakers.heard == []
    await home.connect(BEDROOM)
    assert home.speakers.heard == [(BEDROOM, "Your 5 minute timer is done.")]


async def test_after_half_an_hour_it_is_told_as_missed(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    home.speakers.connected.clear()
    await home.later(300)
    await home.later(31 * 60)
    await home.connect(KITCHEN)
    assert home.speakers.heard == [(KITCHEN, "Your 5 minute timer was done at 9:46 PM, but nobody could hear it.")]
    assert home.speakers.rounds == [1]
    await home.connect(BEDROOM)
    assert len(home.speakers.heard) == 1


async def test_a_missed_timer_is_told_even_after_a_restart(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers()
    async with running(database, clockwork, speakers) as home:
        await home.say("start_timer", minutes=5)
        await home.later(300)
    clockwork.move(3600)
    async with running(database, clockwork, speakers) as home:
        await home.connect(KITCHEN)
        await home.settle()
    assert speakers.heard == [(KITCHEN, "Your 5 minute timer was done at 9:46 PM, but nobody could hear it.")]
    async with running(database, clockwork, speakers) as home:
        await home.settle()
    assert len(speakers.heard) == 1, "it was told, so it is forgotten"


async def test_a_timer_rings_after_a_restart(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers(KITCHEN)
    async with running(database, clockwork, speakers) as home:
        await home.say("start_timer", minutes=5, name="pasta")
    clockwork.move(200)
    async with running(database, clockwork, speakers) as home:
        assert await home.say("timer_status") == "1 minute and 40 seconds left on the pasta timer."
        await home.later(100)
    assert speakers.heard == [(KITCHEN, "Your pasta timer is done.")]


async def test_a_timer_that_ran_out_while_the_hub_was_off_rings_at_once(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers(KITCHEN)
    async with running(database, clockwork, speakers) as home:
        await home.say("start_timer", minutes=5)
    clockwork.move(600)
    async with running(database, clockwork, speakers) as home:
        await home.settle()
    assert speakers.heard == [(KITCHEN, "Your 5 minute timer is done.")]


async def test_setting_the_clock_does_not_change_a_timer(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    home.clockwork.wall += 86400
    await home.later(299)
    assert home.speakers.heard == []
    home.clockwork.wall -= 7 * 86400
    await home.later(1)
    assert len(home.speakers.heard) == 1


async def test_setting_the_clock_while_the_hub_is_off_does_not_change_a_timer(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers(KITCHEN)
    async with running(database, clockwork, speakers) as home:
        await home.say("start_timer", minutes=5)
    clockwork.move(60)
    clockwork.wall -= 86400
    async with running(database, clockwork, speakers) as home:
        assert await home.say("timer_status") == "4 minutes left on the 5 minute timer."


async def test_after_the_machine_was_switched_off_the_clock_on_the_wall_counts(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers(KITCHEN)
    async with running(database, clockwork, speakers) as home:
        await home.say("start_timer", minutes=5)
    clockwork.wall += 60
    clockwork.steady, clockwork.boot = 3.0, "boot-2"
    async with running(database, clockwork, speakers) as home:
        assert await home.say("timer_status") == "4 minutes left on the 5 minute timer."


async def test_a_paused_timer_waits(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers(KITCHEN)
    async with running(database, clockwork, speakers) as home:
        await home.say("start_timer", minutes=5)
        await home.later(100)
        assert await home.say("pause_timer") == "5 minute timer paused with 3 minutes and 20 seconds left."
        await home.later(86400)
        assert home.speakers.heard == []
    async with running(database, clockwork, speakers) as home:
        assert await home.say("timer_status") == "The 5 minute timer is paused with 3 minutes and 20 seconds left."
        assert await home.say("resume_timer") == "5 minute timer resumed. 3 minutes and 20 seconds left."
        await home.later(200)
    assert len(speakers.heard) == 1


async def test_a_timer_can_be_made_longer_and_shorter(home: Home) -> None:
    await home.say("start_timer", minutes=5, name="pasta")
    assert await home.say("extend_timer", minutes=5, name="pasta") == "10 minutes left on the pasta timer."
    assert await home.say("shorten_timer", minutes=9) == "1 minute left on the pasta timer."
    await home.later(60)
    assert len(home.speakers.heard) == 1


async def test_a_timer_that_is_shortened_to_nothing_rings(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    await home.say("shorten_timer", minutes=9)
    await home.later(0)
    assert len(home.speakers.heard) == 1


async def test_timers_are_told_the_next_first(home: Home) -> None:
    await home.say("start_timer", minutes=10)
    await home.say("start_timer", minutes=3, seconds=20, name="pasta")
    assert await home.say("timer_status") == (
        "3 minutes and 20 seconds left on the pasta timer. 10 minutes left on the 10 minute timer."
    )
    assert await home.say("timer_status", name="pasta") == "3 minutes and 20 seconds left on the pasta timer."


async def test_a_timer_is_cancelled_by_name_by_length_or_because_it_is_the_only_one(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    await home.say("start_timer", minutes=8, name="pasta")
    assert await home.say("cancel_timer", name="Pasta") == "Pasta timer cancelled."
    await home.say("start_timer", minutes=10)
    assert await home.say("cancel_timer", of_minutes=5) == "5 minute timer cancelled."
    assert await home.say("cancel_timer") == "10 minute timer cancelled."
    await home.later(3600)
    assert home.speakers.heard == []


async def test_which_timer_is_asked_when_there_are_several(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    await home.say("start_timer", minutes=8, name="pasta")
    answer = await home.ask("cancel_timer")
    assert isinstance(answer, MissingSlot)
    assert (answer.slot, answer.message) == ("timer", "Which one: the 5 minute timer or the pasta timer?")


async def test_the_timer_of_the_asking_device_is_meant(home: Home) -> None:
    await home.say("start_timer", HERE, minutes=5)
    await home.say("start_timer", THERE, minutes=7)
    assert await home.say("cancel_timer", THERE) == "7 minute timer cancelled."
    assert await home.say("cancel_timer", THERE) == "5 minute timer cancelled."


async def test_two_timers_that_are_alike_need_no_question(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    await home.say("start_timer", minutes=5)
    assert await home.say("cancel_timer") == "5 minute timer cancelled."
    assert len(home.keeper.timers) == 1


async def test_all_timers_are_cancelled_those_that_nobody_heard_too(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    await home.say("start_timer", minutes=50)
    home.speakers.connected.clear()
    await home.later(300)
    assert await home.say("cancel_all_timers") == "All timers cancelled."
    await home.connect(KITCHEN)
    assert home.speakers.heard == []
    assert await home.say("cancel_all_timers") == "There are no timers."


@pytest.mark.parametrize(
    ("verb", "arguments", "said", "gesagt"),
    [
        ("cancel_timer", {}, "There are no timers.", "没有定时器。"),
        ("timer_status", {}, "There are no timers.", "没有定时器。"),
        ("start_timer", {"hours": 101}, "A timer can run for 100 hours at most.", "定时器最长100小时。"),
        ("cancel_alarm", {}, "There are no alarms.", "没有闹钟。"),
        ("set_alarm", {"hour": 99}, "That is not a time of day I can use.", "这个时间不能用。"),
        (
            "set_alarm",
            {"hour": 6, "period": "am", "day": "today"},
            "That is not a time of day I can use.",
            "这个时间不能用。",
        ),
    ],
)
async def test_refusals(home: Home, verb: str, arguments: dict[str, Any], said: str, gesagt: str) -> None:
    assert await home.say(verb, HERE, **arguments) == said
    assert await home.say(verb, CHINESE, **arguments) == gesagt


async def test_a_timer_that_is_not_there_is_not_found(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    assert await home.say("cancel_timer", name="pizza") == "I could not find that timer."


async def test_how_long_is_asked(home: Home) -> None:
    answer = await home.ask("start_timer", name="pasta")
    assert isinstance(answer, MissingSlot)
    assert (answer.slot, answer.message, answer.arguments) == ("duration", "For how long?", {"name": "pasta"})


async def test_there_is_an_end_to_it(home: Home) -> None:
    for _ in range(keeper_module.DOMAIN_LIMIT):
        await home.say("start_timer", minutes=5)
    assert isinstance(await home.ask("start_timer", minutes=5), ToolError)


# -- lines --------------------------------------------------------------------------------------------------------


async def test_a_device_is_kept_on_the_line_for_a_short_timer(home: Home) -> None:
    await home.say("start_timer", minutes=30)
    ((device, _),) = home.speakers.lines
    assert device == KITCHEN
    assert home.speakers.lines.popitem()[1] == pytest.approx(home.clockwork.wall + 30 * 60, abs=61)


async def test_a_longer_timer_keeps_the_line_only_towards_its_end(home: Home) -> None:
    await home.say("start_timer", hours=2)
    assert home.speakers.lines == {}
    await home.later(91 * 60)
    assert len(home.speakers.lines) == 1


async def test_the_line_is_let_go_when_the_timer_ends(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    await home.say("pause_timer")
    assert home.speakers.lines == {}
    await home.say("resume_timer")
    assert len(home.speakers.lines) == 1
    await home.say("cancel_timer")
    assert home.speakers.lines == {}
    await home.say("start_timer", minutes=5)
    await home.later(300)
    assert home.speakers.lines == {}


async def test_the_line_follows_a_timer_that_is_changed(home: Home) -> None:
    await home.say("start_timer", minutes=5)
    before = dict(home.speakers.lines)
    await home.say("extend_timer", minutes=10)
    ((key, until),) = home.speakers.lines.items()
    assert until == pytest.approx(before[key] + 600)


async def test_a_device_that_comes_back_is_kept_on_the_line_again(home: Home) -> None:
    await home.say("start_timer", minutes=10)
    home.speakers.lines.clear()
    home.keeper.connected(DeviceConnected(KITCHEN, "session"))
    assert len(home.speakers.lines) == 1


# -- alarms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said", "local"),
    [
        ("the next half of the day", {"hour": 10}, "2026-11-21 22:00"),
        ("the next half of the day, tomorrow", {"hour": 9}, "2026-11-22 09:00"),
        ("am", {"hour": 10, "period": "am"}, "2026-11-22 10:00"),
        ("pm", {"hour": 9, "minute": 30, "period": "pm"}, "2026-11-22 21:30"),
        ("waking is in the morning", {"hour": 10, "waking": True}, "2026-11-22 10:00"),
        ("twenty-four hours", {"hour": 23, "minute": 15}, "2026-11-21 23:15"),
        ("tomorrow morning", {"hour": 7, "minute": 30, "day": "tomorrow"}, "2026-11-22 07:30"),
        ("tomorrow afternoon", {"hour": 3, "day": "tomorrow"}, "2026-11-22 15:00"),
        ("a day of the week", {"hour": 8, "day": "monday"}, "2026-11-23 08:00"),
        ("the same day next week", {"hour": 8, "day": "saturday"}, "2026-11-28 08:00"),
        ("a quarter to eight", {"hour": 8, "minute": -15, "waking": True}, "2026-11-22 07:45"),
        ("noon", {"hour": 12, "period": "pm"}, "2026-11-22 12:00"),
        ("midnight", {"hour": 12, "period": "am"}, "2026-11-22 00:00"),
        ("twelve at night", {"hour": 12, "period": "night"}, "2026-11-22 00:00"),
        ("ten at night", {"hour": 10, "period": "night"}, "2026-11-21 22:00"),
        ("two at night", {"hour": 2, "period": "night"}, "2026-11-22 02:00"),
        ("twenty-four", {"hour": 24}, "2026-11-22 00:00"),
        ("every day", {"hour": 6, "waking": True, "repeat": "daily"}, "2026-11-22 06:00"),
        ("on weekdays", {"hour": 6, "waking": True, "repeat": "weekdays"}, "2026-11-23 06:00"),
        ("on weekends", {"hour": 6, "waking": True, "repeat": "weekends"}, "2026-11-22 06:00"),
    ],
)
async def test_an_alarm_rings_when_it_was_meant(home: Home, name: str, said: dict[str, Any], local: str) -> None:
    await home.say("set_alarm", **said)
    (alarm,) = home.keeper.alarms
    assert f"{datetime.fromtimestamp(alarm.at, BERLIN):%Y-%m-%d %H:%M}" == local


@pytest.mark.parametrize(
    ("arguments", "said", "gesagt"),
    [
        ({"hour": 7, "minute": 30, "waking": True}, "Alarm set for 7:30 AM tomorrow.", "闹钟已设在明天早上7点30分。"),
        ({"hour": 22}, "Alarm set for 10 PM today.", "闹钟已设在今天晚上10点。"),
        ({"hour": 8, "day": "monday"}, "Alarm set for 8 AM on Monday.", "闹钟已设在星期一早上8点。"),
        ({"hour": 6, "waking": True, "repeat": "daily"}, "Alarm set for 6 AM every day.", "闹钟已设在每天早上6点。"),
    ],
)
async def test_setting_an_alarm_is_confirmed(home: Home, arguments: dict[str, Any], said: str, gesagt: str) -> None:
    assert await home.say("set_alarm", HERE, **arguments) == said
    assert await home.say("set_alarm", CHINESE, **arguments) == gesagt


async def test_an_alarm_rings(home: Home) -> None:
    await home.say("set_alarm", THERE, hour=22)
    await home.later(19 * 60)
    assert home.speakers.heard == [(BEDROOM, "It is 10 PM. This is your alarm.")]
    assert home.speakers.rounds == [6]
    assert home.keeper.alarms == ()


async def test_an_alarm_follows_the_clock_on_the_wall(home: Home) -> None:
    await home.say("set_alarm", hour=22)
    home.clockwork.wall += 19 * 60  # somebody sets the clock
    await home.settle()
    assert len(home.speakers.heard) == 1


async def test_an_alarm_rings_after_a_restart(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers(KITCHEN)
    async with running(database, clockwork, speakers) as home:
        await home.say("set_alarm", hour=22)
    async with running(database, clockwork, speakers) as home:
        await home.later(19 * 60)
    assert len(speakers.heard) == 1


async def test_a_repeated_alarm_rings_again_after_a_restart_too(database: Database) -> None:
    clockwork, speakers = Clockwork(), Speakers(KITCHEN)
    async with running(database, clockwork, speakers) as home:
        await home.say("set_alarm", hour=22, repeat="daily")
        await home.later(19 * 60)
        assert len(home.keeper.alarms) == 1
    async with running(database, clockwork, speakers) as home:
        await home.later(86400)
        assert len(home.keeper.alarms) == 1
    assert len(speakers.heard) == 2


async def test_a_missed_alarm_is_told(home: Home) -> None:
    await home.say("set_alarm", hour=22)
    home.speakers.connected.clear()
    await home.later(19 * 60)
    await home.later(3600)
    await home.connect(KITCHEN)
    assert home.speakers.heard == [(KITCHEN, "Your alarm for 10 PM rang, but nobody could hear it.")]


async def test_summer_time_moves_an_alarm_with_the_clock(home: Home) -> None:
    home.clockwork.wall = datetime(2027, 3, 27, 22, 0, tzinfo=BERLIN).timestamp()
    await home.say("set_alarm", hour=7, waking=True)
    await home.say("set_alarm", hour=2, minute=30, period="am")
    skipped, morning = home.keeper.alarms
    assert morning.at - home.clockwork.wall == 8 * 3600, "the night is an hour shorter"
    assert f"{datetime.fromtimestamp(skipped.at, BERLIN):%H:%M}" == "03:30"


async def test_alarms_are_listed_and_cancelled(home: Home) -> None:
    await home.say("set_alarm", hour=7, waking=True)
    await home.say("set_alarm", hour=22)
    assert await home.say("list_alarms") == "There is an alarm for 10 PM today and 7 AM tomorrow."
    answer = await home.ask("cancel_alarm")
    assert isinstance(answer, MissingSlot)
    assert answer.message == "Which one: 10 PM today or 7 AM tomorrow?"
    assert await home.say("cancel_alarm", hour=11) == "There is no alarm at that time."
    assert await home.say("cancel_alarm", hour=10) == "Alarm for 10 PM today cancelled."
    assert await home.say("cancel_alarm", day="tomorrow") == "Alarm for 7 AM tomorrow cancelled."
    assert await home.say("list_alarms") == "There are no alarms."


async def test_all_alarms_are_cancelled_and_timers_stay(home: Home) -> None:
    await home.say("set_alarm", hour=7)
    await home.say("start_timer", minutes=5)
    assert await home.say("cancel_all_alarms") == "All alarms cancelled."
    assert len(home.keeper.timers) == 1


async def test_for_what_time_is_asked(home: Home) -> None:
    answer = await home.ask("set_alarm")
    assert isinstance(answer, MissingSlot)
    assert (answer.slot, answer.message) == ("alarm_time", "For what time?")


# -- the running integration --------------------------------------------------------------------------------------


async def test_a_real_timer_rings_by_itself(database: Database) -> None:
    """No clock is moved: the watch waits on the real ones."""
    speakers = Speakers(KITCHEN)
    async with TaskScope("test") as scope:
        home = Home(Schedule(database), lambda: keeper_module.read_clocks(time.time), speakers, scope)  # type: ignore[arg-type]
        scope.start(home.keeper.watch(), name="watch")
        await asyncio.sleep(0)  # it waits already
        began = time.monotonic()
        await home.say("start_timer", seconds=0.1)
        await asyncio.wait_for(speakers.rang.wait(), 20)
    assert time.monotonic() - began >= 0.09


async def test_a_full_disk_does_not_keep_a_timer_from_ringing(caplog: pytest.LogCaptureFixture) -> None:
    class Full:
        async def put(self, due: Due) -> None:
            raise StoreError("the disk is full")

        async def remove(self, domain: str, id: str) -> None:
            raise StoreError("the disk is full")

        async def all(self, domain: str) -> list[Due]:
            raise StoreError("the disk is broken")

    speakers = Speakers(KITCHEN)
    async with TaskScope("test") as scope:
        home = Home(Full(), Clockwork(), speakers, scope)
        await home.keeper.load()
        assert await home.say("start_timer", minutes=5) == "5 minute timer set."
        await home.later(300)
    assert len(speakers.heard) == 1
    assert "could not be written down" in caplog.text


async def test_what_cannot_be_read_any_more_is_forgotten(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    schedule = Schedule(database)
    await schedule.put(Due("odd", "clock", 1.0, {"kind": "sundial"}))
    async with running(database, Clockwork(), Speakers(KITCHEN)) as home:
        assert home.keeper.timers == ()
    assert await schedule.all("clock") == []
    assert "cannot be read any more" in caplog.text


async def answers_nothing(text: str, language: str, device_id: str) -> AsyncGenerator[str | TurnRecord, None]:
    """Stands where the hub answers; the clock asks nothing."""
    for piece in ():
        yield piece


async def test_the_integration_joins_the_hub_and_leaves_it_clean(database: Database, tmp_path: Path) -> None:
    """Its hooks, as the hub calls them: start, tools, a device that connects, stop."""
    clock = import_integration(builtin("integrations") / "clock")
    house, speakers = House(furnished=False), Speakers()
    house.texts.add_folder(builtin("integrations") / "clock" / "translations", "clock")
    (tmp_path / "configuration.yaml").write_text("hub: {time_zone: Europe/Berlin}\n")
    wall = SATURDAY.timestamp()
    schedule = Schedule(database)
    long_ago = timers_module.Timer("t", KITCHEN, "en", "", 300.0, 0.0)
    await schedule.put(Due("t", "clock", wall - 60, long_ago.payload(timers_module.Clocks(wall, 0.0, "other boot"))))
    hub = HubApi(
        current_config=lambda: load_config(tmp_path),
        data_dir=tmp_path,
        models=ModelShelf(tmp_path),
        texts=house.texts,
        bus=house.bus,
        entities=house.entities,
        tools=house.tools,
        schedule=schedule,
        announcer=speakers,
        now=lambda: wall,
        transports=Transports(),
        serve_link=lambda link: link.close("nobody talks here"),
        admits=lambda device: False,
        engines=EngineRegistry(),
        ask=answers_nothing,
    )
    entry = Entry("clock", importlib.import_module(f"{clock.__name__}.config").SCHEMA({}))
    async with clock.entry_context(hub, entry):
        clock.register_tools(register=lambda tool: house.tools.add(tool, "clock"), entry=entry)
        assert await house.call("clock.get_time") == "It is 9:41 PM."
        speakers.connected.append(KITCHEN)
        house.bus.tell(DeviceConnected(KITCHEN, "session"))
        await asyncio.wait_for(speakers.rang.wait(), 20)
    assert speakers.heard == [(KITCHEN, "Your 5 minute timer is done.")]
    house.bus.tell(DeviceConnected(KITCHEN, "session"))
    assert len(speakers.heard) == 1
