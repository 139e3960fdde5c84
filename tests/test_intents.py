"""What people say, and what the hub takes it for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from house import CHINESE, ENGLISH, House, Speakers, integration, person_in

from xiaozhi_hub.core.flow import Completeness
from xiaozhi_hub.core.i18n import LANGUAGES
from xiaozhi_hub.core.shared import Shared
from xiaozhi_hub.dialog.intents import matcher, sentence_files
from xiaozhi_hub.dialog.intents.intents import Intent, Pending
from xiaozhi_hub.dialog.intents.sentence_files import read_sentences
from xiaozhi_hub.errors import ConfigError, MissingSlot


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    """The demo home with the clock, as the hub would have it; built once, because nothing here changes it."""
    yield asyncio.run(_with_clock())


async def _with_clock() -> House:
    house = House()
    tools = integration("clock", "tools")
    for tool in tools.clock_tools(_keeper(house)):
        house.tools.add(tool, "clock")
    house.add_sentences("clock")
    await house.intents.rebuild()
    assert house.intents.problems == ()
    return house


def _keeper(house: House) -> Any:
    keeper = integration("clock", "keeper")
    wording = integration("clock", "wording").Wording(house.texts)
    return keeper.Keeper(None, Speakers(), wording, None, None, None, {})  # only asked for its tools, never called


def understood(intent: Intent | None) -> tuple[str, Mapping[str, Any]] | None:
    return None if intent is None else (intent.tool, intent.arguments)


ENGLISH_SENTENCES: list[tuple[str, str, dict[str, Any]]] = [
    ("turn on Standing Light", "home.turn_on", {"name": "Standing Light"}),
    ("Turn on the standing light, please.", "home.turn_on", {"name": "Standing Light"}),
    ("could you turn on the bed light", "home.turn_on", {"name": "Bed Light"}),
    ("turn Bed Light on", "home.turn_on", {"name": "Bed Light"}),
    ("turn the Standing Light in the Office on", "home.turn_on", {"name": "Standing Light", "area": "Office"}),
    ("turn on the TV in the Kitchen", "home.turn_on", {"name": "TV", "area": "Kitchen"}),
    ("turn off the television", "home.turn_off", {"name": "TV"}),
    ("turn on the kitchen lights", "home.turn_on", {"name": "Kitchen lights"}),
    ("turn off all of the Kitchen lights", "home.turn_off", {"name": "Kitchen lights"}),
    ("turn on the lights", "home.turn_on", {"domain": "light"}),
    ("turn the lights on", "home.turn_on", {"domain": "light"}),
    ("turn on lights in the Kitchen", "home.turn_on", {"domain": "light", "area": "Kitchen"}),
    ("turn off lights in the Office", "home.turn_off", {"domain": "light", "area": "Office"}),
    ("turn off all the lights", "home.turn_off", {"domain": "light", "everywhere": True}),
    ("turn on all the lights in the house", "home.turn_on", {"domain": "light", "everywhere": True}),
    ("illuminate the office", "home.turn_on", {"domain": "light", "area": "Office"}),
    ("toggle the bed light", "home.toggle", {"name": "Bed Light"}),
    ("open the Sliding Door in the Office", "home.open", {"name": "Sliding Door", "area": "Office"}),
    ("open the blinds in the Office", "home.open", {"name": "Office curtains", "area": "Office"}),
    ("open the garage", "home.open", {"name": "Garage Door"}),
    ("close the Kitchen windows", "home.close", {"name": "Kitchen windows"}),
    ("close the windows in the Office", "home.close", {"domain": "cover", "device_class": "window", "area": "Office"}),
    ("shut the windows", "home.close", {"domain": "cover", "device_class": "window"}),
    ("open the curtains 30 percent", "home.set_position", {"name": "Office curtains", "position": 30}),
    ("set garage door position to 40%", "home.set_position", {"name": "Garage Door", "position": 40}),
    ("lock the Front Door", "home.lock", {"name": "Front Door"}),
    ("unlock the Front Door", "home.unlock", {"name": "Front Door"}),
    ("is the Front Door locked", "home.get_state", {"name": "Front Door", "state": "locked"}),
    ("is the Front Door unlocked?", "home.get_state", {"name": "Front Door", "state": "unlocked"}),
    ("is the Sliding Door open", "home.get_state", {"name": "Sliding Door", "state": "open"}),
    ("are the kitchen windows shut", "home.get_state", {"name": "Kitchen windows", "state": "closed"}),
    (
        "which lights are on",
        "home.get_state",
        {"domain": "light", "state": "on", "question": "which", "everywhere": True},
    ),
    (
        "are any windows open in the kitchen",
        "home.get_state",
        {"domain": "cover", "device_class": "window", "state": "open", "question": "any", "area": "Kitchen"},
    ),
    ("what is the Outdoor Humidity", "home.get_state", {"name": "Outdoor Humidity"}),
    ("set Bed Light brightness to 50 percent", "home.set_light", {"name": "Bed Light", "brightness": 50}),
    ("set bed light brightness to fifty percent", "home.set_light", {"name": "Bed Light", "brightness": 50}),
    ("set Bed Light to 50%", "home.set_light", {"name": "Bed Light", "brightness": 50}),
    ("dim the bed light to 20 percent", "home.set_light", {"name": "Bed Light", "brightness": 20}),
    ("set bed light to maximum brightness", "home.set_light", {"name": "Bed Light", "brightness": 100}),
    ("set brightness to 50 percent", "home.set_light", {"domain": "light", "brightness": 50}),
    ("set Bed Light color to orange", "home.set_light", {"name": "Bed Light", "color": "orange"}),
    ("set color of the Kitchen lights to blue", "home.set_light", {"name": "Kitchen lights", "color": "blue"}),
    ("set the color of the Bed Light to yellow", "home.set_light", {"name": "Bed Light", "color": "yellow"}),
    ("set Kitchen lights to white", "home.set_light", {"name": "Kitchen lights", "color": "white"}),
    ("set Kitchen lights to warm white", "home.set_light", {"name": "Kitchen lights", "color_temperature": 2700}),
    ("set lights to red", "home.set_light", {"domain": "light", "color": "red"}),
    ("what's the temperature", "home.get_temperature", {}),
    ("what's the temperature in the bedroom", "home.get_temperature", {"area": "Bedroom"}),
    ("set the temperature to 21.5 degrees", "home.set_temperature", {"temperature": 21.5}),
    ("set ecobee to 20 degrees", "home.set_temperature", {"name": "EcoBee", "temperature": 20}),
    ("pause", "home.pause", {}),
    ("pause the music", "home.pause", {}),
    ("stop the music", "home.pause", {}),
    ("resume TV", "home.resume", {"name": "TV"}),
    ("resume", "home.resume", {}),
    ("next", "home.next", {}),
    ("next track", "home.next", {}),
    ("skip this song", "home.next", {}),
    ("previous track", "home.previous", {}),
    ("set the volume to 30 percent", "home.set_volume", {"volume_level": 30}),
    ("turn the volume up", "home.change_volume", {"volume_step": "up"}),
    ("quieter", "home.change_volume", {"volume_step": "down"}),
    ("mute the speaker", "home.mute", {}),
    ("activate Mood Lighting", "home.run", {"name": "Mood Lighting"}),
    ("run Party Time script", "home.run", {"name": "Party Time"}),
    ("add milk to my shopping list", "home.list_add", {"item": "milk", "name": "Shopping List"}),
    ("put rubber ducks on the shopping list", "home.list_add", {"item": "rubber ducks", "name": "Shopping List"}),
    ("what's on my shopping list", "home.list_show", {"name": "Shopping List"}),
    ("cross milk off the shopping list", "home.list_complete", {"item": "milk", "name": "Shopping List"}),
    ("what's the weather", "home.get_weather", {}),
    ("what is the weather like", "home.get_weather", {}),
    ("what time is it", "clock.get_time", {}),
    ("what's the date", "clock.get_date", {}),
    ("set a timer for 5 minutes", "clock.start_timer", {"minutes": 5}),
    ("set a timer for five minutes", "clock.start_timer", {"minutes": 5}),
    ("set a timer for 3 hours and 10 minutes", "clock.start_timer", {"hours": 3, "minutes": 10}),
    ("set a timer for 1 hour", "clock.start_timer", {"hours": 1}),
    ("create a timer for 5 and a half minutes", "clock.start_timer", {"minutes": 5, "seconds": 30}),
    ("create timer for 6 hours and 20 minutes", "clock.start_timer", {"hours": 6, "minutes": 20}),
    ("start a timer for 1 hour and 8 minutes", "clock.start_timer", {"hours": 1, "minutes": 8}),
    ("start a timer for 10 minutes and 20 seconds", "clock.start_timer", {"minutes": 10, "seconds": 20}),
    ("set a timer for an hour and a half", "clock.start_timer", {"hours": 1, "minutes": 30}),
    ("set a half hour timer", "clock.start_timer", {"minutes": 30}),
    ("set a pasta timer for 8 minutes", "clock.start_timer", {"name": "pasta", "minutes": 8}),
    ("set a timer called grandma for 20 minutes", "clock.start_timer", {"name": "grandma", "minutes": 20}),
    ("remind me in 20 minutes", "clock.start_timer", {"minutes": 20}),
    ("set a timer", "clock.start_timer", {}),
    ("timer status", "clock.timer_status", {}),
    ("status of the timers", "clock.timer_status", {}),
    ("how much time is left on the pasta timer", "clock.timer_status", {"name": "pasta"}),
    ("stop my timer", "clock.cancel_timer", {}),
    ("cancel the 5 minute timer", "clock.cancel_timer", {"of_minutes": 5}),
    ("cancel all timers", "clock.cancel_all_timers", {}),
    ("add 5 minutes to the pasta timer", "clock.extend_timer", {"minutes": 5, "name": "pasta"}),
    ("take 2 minutes off my timer", "clock.shorten_timer", {"minutes": 2}),
    ("pause the timer", "clock.pause_timer", {}),
    ("resume the pizza timer", "clock.resume_timer", {"name": "pizza"}),
    ("wake me at 7:30 tomorrow", "clock.set_alarm", {"hour": 7, "minute": 30, "day": "tomorrow", "waking": True}),
    ("wake me at 7:05", "clock.set_alarm", {"hour": 7, "minute": 5, "waking": True}),
    ("set an alarm for 7:00 pm", "clock.set_alarm", {"hour": 7, "period": "pm"}),
    ("set an alarm for 19:30", "clock.set_alarm", {"hour": 19, "minute": 30}),
    ("wake me up at seven thirty", "clock.set_alarm", {"hour": 7, "minute": 30, "waking": True}),
    ("wake me every day at 6", "clock.set_alarm", {"hour": 6, "repeat": "daily", "waking": True}),
    ("set an alarm for 6 am", "clock.set_alarm", {"hour": 6, "period": "am"}),
    ("set an alarm for a quarter to eight", "clock.set_alarm", {"hour": 8, "minute": -15}),
    ("set an alarm for monday at 8", "clock.set_alarm", {"hour": 8, "day": "monday"}),
    ("set an alarm for noon", "clock.set_alarm", {"hour": 12, "period": "pm"}),
    ("when is my next alarm", "clock.list_alarms", {}),
    ("cancel all my alarms", "clock.cancel_all_alarms", {}),
    ("louder", "home.change_volume", {"volume_step": "up"}),
    ("volume thirty percent", "home.set_volume", {"volume_level": 30}),
    ("set the volume to 30", "home.set_volume", {"volume_level": 30}),
    ("set the volume in the kitchen to 30 percent", "home.set_volume", {"volume_level": 30, "area": "Kitchen"}),
    ("dim the screen", "device.change_brightness", {"step": "down"}),
    ("make the display brighter", "device.change_brightness", {"step": "up"}),
    ("dim the screen in the kitchen", "device.change_brightness", {"step": "down", "area": "Kitchen"}),
    ("set the screen brightness to fifty percent", "device.set_brightness", {"brightness": 50}),
    ("screen brightness 50 percent", "device.set_brightness", {"brightness": 50}),
    ("set the screen to maximum brightness", "device.set_brightness", {"brightness": 100}),
    ("use the dark theme", "device.set_theme", {"theme": "dark"}),
    ("make the screen light", "device.set_theme", {"theme": "light"}),
    ("take a photo", "device.take_photo", {}),
    ("what do you see?", "device.take_photo", {}),
    ("take a photo: what do you see?", "device.take_photo", {}),
    ("take a photo and tell me what color the cup is", "device.take_photo", {"question": "what color the cup is"}),
    ("speak up", "home.change_volume", {"volume_step": "up"}),
    ("turn it down", "home.change_volume", {"volume_step": "down"}),
    ("turn up the volume in the kitchen", "home.change_volume", {"volume_step": "up", "area": "Kitchen"}),
    ("make the screen a bit darker", "device.change_brightness", {"step": "down"}),
    ("make the screen in the kitchen brighter", "device.change_brightness", {"step": "up", "area": "Kitchen"}),
    ("what is this", "device.take_photo", {"question": "What is this?"}),
    ("how full is your battery", "device.get_battery", {}),
    ("stop", "hub.stop", {}),
    ("Stop!", "hub.stop", {}),
    ("never mind", "hub.never_mind", {}),
]

CHINESE_SENTENCES: list[tuple[str, str, dict[str, Any]]] = [
    ("打开落地灯", "home.turn_on", {"name": "Standing Light"}),
    ("请把落地灯打开。", "home.turn_on", {"name": "Standing Light"}),
    ("开灯", "home.turn_on", {"domain": "light"}),
    ("把厨房的灯关了", "home.turn_off", {"name": "Kitchen lights"}),
    ("把书房的灯关了", "home.turn_off", {"domain": "light", "area": "Office"}),
    ("打开 TV", "home.turn_on", {"name": "TV"}),
    ("关闭所有的灯", "home.turn_off", {"domain": "light", "everywhere": True}),
    ("打开电视", "home.turn_on", {"name": "TV"}),
    ("把床头灯调到百分之五十", "home.set_light", {"name": "Bed Light", "brightness": 50}),
    ("床头灯亮度调到50%", "home.set_light", {"name": "Bed Light", "brightness": 50}),
    ("把卧室的灯调成蓝色", "home.set_light", {"domain": "light", "area": "Bedroom", "color": "blue"}),
    ("打开书房窗帘", "home.open", {"name": "Office curtains"}),
    ("打开书房的窗帘", "home.open", {"domain": "cover", "device_class": "curtain", "area": "Office"}),
    ("关上厨房窗户", "home.close", {"name": "Kitchen windows"}),
    ("锁上前门", "home.lock", {"name": "Front Door"}),
    ("前门锁了吗", "home.get_state", {"name": "Front Door", "state": "locked"}),
    ("室外湿度是多少", "home.get_state", {"name": "Outdoor Humidity"}),
    ("客厅现在几度", "home.get_temperature", {"area": "Living Room"}),
    ("把温度调到二十二度", "home.set_temperature", {"temperature": 22}),
    ("暂停音乐", "home.pause", {}),
    ("继续播放", "home.resume", {}),
    ("下一首", "home.next", {}),
    ("声音大一点", "home.change_volume", {"volume_step": "up"}),
    ("音量调到三十", "home.set_volume", {"volume_level": 30}),
    ("打开派对时间", "home.run", {"name": "Party Time"}),
    ("把牛奶加到购物清单", "home.list_add", {"item": "牛奶", "name": "Shopping List"}),
    ("购物清单上有什么", "home.list_show", {"name": "Shopping List"}),
    ("今天天气怎么样", "home.get_weather", {}),
    ("现在几点了", "clock.get_time", {}),
    ("今天星期几", "clock.get_date", {}),
    ("设置一个五分钟的定时器", "clock.start_timer", {"minutes": 5}),
    ("定个10分钟的计时器", "clock.start_timer", {"minutes": 10}),
    ("定一个两小时十分钟的定时器", "clock.start_timer", {"hours": 2, "minutes": 10}),
    ("一个半小时后提醒我", "clock.start_timer", {"hours": 1, "minutes": 30}),
    ("两分半钟后叫我", "clock.start_timer", {"minutes": 2, "seconds": 30}),
    ("设一个煮面定时器八分钟", "clock.start_timer", {"name": "煮面", "minutes": 8}),
    ("取消定时器", "clock.cancel_timer", {}),
    ("取消所有定时器", "clock.cancel_all_timers", {}),
    ("定时器还剩多久", "clock.timer_status", {}),
    ("把定时器延长五分钟", "clock.extend_timer", {"minutes": 5}),
    (
        "明天早上七点半叫我起床",
        "clock.set_alarm",
        {"day": "tomorrow", "period": "am", "hour": 7, "minute": 30, "waking": True},
    ),
    ("设一个晚上十点二十的闹钟", "clock.set_alarm", {"period": "night", "hour": 10, "minute": 20}),
    ("明天7:05叫我", "clock.set_alarm", {"day": "tomorrow", "hour": 7, "minute": 5, "waking": True}),
    ("我有哪些闹钟", "clock.list_alarms", {}),
    ("大声点", "home.change_volume", {"volume_step": "up"}),
    ("音量百分之三十", "home.set_volume", {"volume_level": 30}),
    ("把屏幕调暗一点", "device.change_brightness", {"step": "down"}),
    ("屏幕亮一点", "device.change_brightness", {"step": "up"}),
    ("把厨房的屏幕调暗", "device.change_brightness", {"step": "down", "area": "Kitchen"}),
    ("屏幕亮度调到百分之五十", "device.set_brightness", {"brightness": 50}),
    ("换成深色主题", "device.set_theme", {"theme": "dark"}),
    ("拍张照", "device.take_photo", {}),
    ("你看到了什么？", "device.take_photo", {}),
    ("拍张照，你看到了什么？", "device.take_photo", {}),
    ("拍张照片，看看桌上有什么", "device.take_photo", {"question": "桌上有什么"}),
    ("厨房的声音大一点", "home.change_volume", {"volume_step": "up", "area": "Kitchen"}),
    ("这是什么", "device.take_photo", {"question": "这是什么？"}),
    ("你还有多少电", "device.get_battery", {}),
    ("停", "hub.stop", {}),
    ("算了", "hub.never_mind", {}),
]


@pytest.mark.parametrize(("text", "tool", "arguments"), ENGLISH_SENTENCES, ids=[row[0] for row in ENGLISH_SENTENCES])
def test_english_sentences(house: House, text: str, tool: str, arguments: dict[str, Any]) -> None:
    assert understood(house.intents.recognise(text, ENGLISH)) == (tool, arguments)


@pytest.mark.parametrize(("text", "tool", "arguments"), CHINESE_SENTENCES, ids=[row[0] for row in CHINESE_SENTENCES])
def test_chinese_sentences(house: House, text: str, tool: str, arguments: dict[str, Any]) -> None:
    assert understood(house.intents.recognise(text, CHINESE)) == (tool, arguments)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "Kitchen lights",  # a bare name is no command
        "TV",
        "the",
        "who was the first president",
        "my fellow americans ask not what your country can do for you",
        "turn on the lava lamp",
        "5 minutes",
        "blue",
    ],
)
def test_what_is_not_a_command_is_not_taken_for_one(house: House, text: str) -> None:
    assert house.intents.recognise(text, ENGLISH) is None


@pytest.mark.parametrize(("text", "tool", "arguments"), ENGLISH_SENTENCES, ids=[row[0] for row in ENGLISH_SENTENCES])
def test_every_understood_sentence_passes_the_tools_check(
    house: House, text: str, tool: str, arguments: dict[str, Any]
) -> None:
    known = house.tools.get(tool)
    assert known is not None
    assert set(arguments) <= set(known.parameters["properties"])


def test_numbers_are_whole_where_they_are(house: House) -> None:
    intent = house.intents.recognise("set Bed Light to 50 percent", ENGLISH)
    assert intent is not None
    assert type(intent.arguments["brightness"]) is int


def test_a_chinese_sentence_is_understood_on_an_english_device(house: House) -> None:
    intent = house.intents.recognise("打开落地灯", ENGLISH)
    assert intent is not None
    assert (intent.tool, intent.language) == ("home.turn_on", "zh-Hans")


# -- follow-ups ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pending", "text", "tool", "arguments"),
    [
        (
            Pending("home.turn_on", {"domain": "light"}, "area"),
            "in the kitchen",
            "home.turn_on",
            {"domain": "light", "area": "Kitchen"},
        ),
        (
            Pending("home.turn_on", {"domain": "light"}, "area"),
            "Bedroom.",
            "home.turn_on",
            {"domain": "light", "area": "Bedroom"},
        ),
        (Pending("home.turn_off", {}, "name"), "the bed light", "home.turn_off", {"name": "Bed Light"}),
        (Pending("home.turn_off", {}, "name"), "TV", "home.turn_off", {"name": "TV"}),
        (
            Pending("home.set_light", {"name": "Bed Light"}, "brightness"),
            "fifty percent",
            "home.set_light",
            {"name": "Bed Light", "brightness": 50},
        ),
        (
            Pending("home.set_light", {"name": "Bed Light"}, "color"),
            "blue",
            "home.set_light",
            {"name": "Bed Light", "color": "blue"},
        ),
        (Pending("home.set_temperature", {}, "temperature"), "21 degrees", "home.set_temperature", {"temperature": 21}),
        (Pending("home.list_add", {}, "item"), "rubber ducks", "home.list_add", {"item": "rubber ducks"}),
        (
            Pending("clock.start_timer", {"name": "pasta"}, "duration"),
            "8 minutes",
            "clock.start_timer",
            {"name": "pasta", "minutes": 8},
        ),
        (
            Pending("clock.start_timer", {}, "duration"),
            "an hour and a half",
            "clock.start_timer",
            {"hours": 1, "minutes": 30},
        ),
        (Pending("clock.cancel_timer", {}, "timer"), "the pasta timer", "clock.cancel_timer", {"name": "pasta"}),
        (Pending("clock.cancel_timer", {}, "timer"), "the 5 minute one", "clock.cancel_timer", {"of_minutes": 5}),
        (
            Pending("clock.set_alarm", {}, "alarm_time"),
            "at 7 30 tomorrow",
            "clock.set_alarm",
            {"hour": 7, "minute": 30, "day": "tomorrow"},
        ),
        (
            Pending("test.explode", {"loud": True}, "confirmed"),
            "yes",
            "test.explode",
            {"loud": True, "confirmed": True},
        ),
        (Pending("test.explode", {"loud": True}, "confirmed"), "no thanks", "hub.never_mind", {}),
        (Pending("home.turn_on", {"domain": "light"}, "area"), "stop", "hub.stop", {}),
        (Pending("home.turn_on", {"domain": "light"}, "area"), "never mind", "hub.never_mind", {}),
        (Pending("home.turn_on", {"domain": "light"}, "area"), "what time is it", "clock.get_time", {}),
        (
            Pending("home.turn_on", {"domain": "light"}, "area"),
            "厨房",
            "home.turn_on",
            {"domain": "light", "area": "Kitchen"},
        ),
        (Pending("clock.start_timer", {}, "duration"), "五分钟", "clock.start_timer", {"minutes": 5}),
        (Pending("test.explode", {}, "confirmed"), "好的", "test.explode", {"confirmed": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_question_is_answered_with_a_word(
    house: House, pending: Pending, text: str, tool: str, arguments: dict[str, Any]
) -> None:
    assert understood(house.intents.recognise(text, ENGLISH, pending)) == (tool, arguments)


def test_what_does_not_answer_the_question_is_no_answer(house: House) -> None:
    pending = Pending("home.turn_on", {"domain": "light"}, "area")
    assert house.intents.answer(pending, "purple", ENGLISH) is None
    assert house.intents.answer(Pending("x.y", {}, "unheard of"), "kitchen", ENGLISH) is None


async def test_the_whole_conversation(house: House) -> None:
    """From a sentence to a question, from its answer to the deed."""
    turn = person_in(None)
    fresh = House()
    intent = house.intents.recognise("turn on the lights", turn)
    assert intent is not None
    _, question = await fresh.attempt(intent.tool, intent.arguments, turn)
    pending = Pending(intent.tool, question.arguments, question.slot)  # type: ignore[union-attr]  # a MissingSlot
    answer = house.intents.recognise("the bedroom", turn, pending)
    assert answer is not None
    assert await fresh.call(answer.tool, turn, **answer.arguments) == "Turned on the Bed Light."


# -- building -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_phrasebook_and_the_intents_agree(house: House, language: str) -> None:
    """What a recogniser may hear is what is understood, apart from bare answers."""
    turn = person_in(None, language)
    book = house.intents.book(language)
    lost = [text for text in book.samples(300, seed=1) if house.intents.recognise(text, turn) is None]
    assert len(lost) < 15, "\n".join(lost)


def test_a_sentence_that_may_go_on_is_known_as_such(house: House) -> None:
    book = house.intents.book("en")
    assert book.completeness("turn on the lights") is Completeness.EXTENDABLE
    assert book.completeness("turn on the") is Completeness.PARTIAL
    assert book.completeness("cancel all timers") is Completeness.COMPLETE
    assert not book.understands("my fellow americans")
    assert book.understands("set a timer for five minutes")


@pytest.mark.parametrize(
    ("text", "language", "slot"),
    [
        ("set a timer", "en", "duration"),
        ("create a pasta timer", "en", "duration"),
        ("set an alarm", "en", "alarm_time"),
        ("设一个计时器", "zh-Hans", "duration"),
        ("设闹钟", "zh-Hans", "alarm_time"),
    ],
)
async def test_who_says_what_the_hub_must_ask_about_is_given_time_to_say_it(
    house: House, text: str, language: str, slot: str
) -> None:
    turn = person_in("Kitchen", language)
    assert house.intents.book(language).completeness(text) is Completeness.EXTENDABLE
    assert house.intents.completeness(text, language) is Completeness.PARTIAL
    intent = house.intents.recognise(text, turn)
    assert intent is not None
    _, question = await house.attempt(intent.tool, intent.arguments, turn)  # changes nothing
    assert isinstance(question, MissingSlot) and question.slot == slot


def test_who_has_said_all_is_not_waited_for_although_it_begins_alike(house: House) -> None:
    assert house.intents.completeness("set a timer for five minutes", "en") is Completeness.EXTENDABLE
    assert house.intents.completeness("set a timer for five minutes called eggs", "en") is Completeness.EXTENDABLE
    assert house.intents.completeness("set an alarm for noon", "en") is Completeness.COMPLETE


@pytest.mark.parametrize(
    ("text", "language"),
    [("why is the sky blue", "en"), ("tell me something about yourself", "en"), ("为什么天空是蓝色的", "zh-Hans")],
)
def test_a_question_for_a_language_model_is_no_beginning_of_a_command(house: House, text: str, language: str) -> None:
    """It is not waited for as long as for one."""
    assert house.intents.completeness(text, language) is Completeness.UNKNOWN


def test_a_place_after_a_named_thing_is_not_waited_for(house: House) -> None:
    for text in (
        "is the sliding door",
        "is the sliding door open",
        "turn the standing light on",
        "turn on the standing light",
    ):
        expected = Completeness.PARTIAL if text.endswith("door") else Completeness.COMPLETE
        assert house.intents.completeness(text, "en") is expected, text
    assert house.intents.completeness("turn on the lights", "en") is Completeness.EXTENDABLE


async def test_new_names_are_understood_after_a_rebuild() -> None:
    house = House(furnished=False)
    await house.intents.rebuild()
    before = house.intents.book("en").version
    assert house.intents.recognise("turn on the bed light", ENGLISH) is None
    for entity in integration("demo", "home").build_home():
        house.entities.add(entity, "demo")
    await house.intents.rebuild()
    assert understood(house.intents.recognise("turn on the bed light", ENGLISH)) == (
        "home.turn_on",
        {"name": "Bed Light"},
    )
    assert house.intents.book("en").version != before


async def test_sentences_are_understood_without_phrasebooks() -> None:
    house = House()
    await house.intents.warm()
    assert house.intents.recognise("turn on the bed light", ENGLISH) is None  # what there is in the house comes later
    await house.intents.rebuild(())
    assert house.intents.recognise("turn on the bed light", ENGLISH) is not None


async def test_the_files_that_were_read_while_it_got_warm_are_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    await house.intents.warm()
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    await house.intents.rebuild()
    assert house.intents.problems == ()
    assert house.intents.recognise("turn on the bed light", ENGLISH) is not None


async def test_a_rebuild_that_changes_nothing_keeps_the_book() -> None:
    house = House(furnished=False)
    await house.intents.rebuild()
    book = house.intents.book("en")
    house.intents.add_sentences("test", Path("/nonexistent/en.yaml"))
    await house.intents.rebuild()
    assert house.intents.book("en") is book
    assert [problem.place.file for problem in house.intents.problems] == ["/nonexistent/en.yaml"]


async def test_sentences_come_and_go_with_their_source(tmp_path: Path) -> None:
    house = House(furnished=False)
    path = tmp_path / "en.yaml"
    path.write_text(
        "language: en\ntools: {Sing: hub.stop}\nintents:\n  Sing:\n    data:\n      - sentences: ['sing me a song']\n"
    )
    house.intents.add_sentences("test", path)
    await house.intents.rebuild()
    assert understood(house.intents.recognise("sing me a song", ENGLISH)) == ("hub.stop", {})
    house.intents.remove_source("test")
    await house.intents.rebuild()
    assert house.intents.recognise("sing me a song", ENGLISH) is None


async def test_building_does_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing_is_there_already = Shared()  # what earlier tests have built lives as long as somebody holds it
    for module in (matcher, sentence_files):
        monkeypatch.setattr(module, "SHARED", nothing_is_there_already)
    house = House()
    late: list[float] = []

    async def beat() -> None:
        while True:
            began = time.process_time()  # what the building took meanwhile, and not what other programs did
            await asyncio.sleep(0.005)
            late.append(time.process_time() - began)

    beating = asyncio.ensure_future(beat())
    try:
        await house.intents.rebuild()
    finally:
        beating.cancel()
    assert max(late) < 0.25, "the loop stood still while sentences were built"
    assert len(late) > 10


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("no YAML", "language: [", "not valid YAML"),
        ("no language", "intents: {}", "begins with its language"),
        ("an unknown key", "language: en\nsentence: []", "unknown key 'sentence'"),
        ("an intent without a tool", "language: en\nintents: {A: {data: [{sentences: [x]}]}}", "calls no tool"),
        ("a tool without an intent", "language: en\ntools: {A: a.b}", "there is no intent A"),
        (
            "a broken template",
            "language: en\ntools: {A: a.b}\nintents: {A: {data: [{sentences: ['(x']}]}}",
            "not a hassil file",
        ),
        ("no data", "language: en\ntools: {A: a.b}\nintents: {A: {}}", "not a hassil file"),
        (
            "an unknown list",
            "language: en\ntools: {A: a.b}\nintents: {A: {data: [{sentences: ['x {colour}']}]}}",
            "'x {colour}' refers to an unknown list 'colour'",
        ),
        (
            "an unknown rule",
            "language: en\ntools: {A: a.b}\nintents: {A: {data: [{sentences: ['<x>']}]}}",
            "unknown rule 'x'",
        ),
        ("a rule with an unknown list", "language: en\nexpansion_rules: {x: '{y}'}", "unknown list 'y'"),
    ],
)
def test_a_broken_sentence_file_is_told(tmp_path: Path, name: str, content: str, complaint: str) -> None:
    path = tmp_path / "en.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_sentences(path)
    assert complaint in str(caught.value)
    assert str(path) in str(caught.value)


async def test_a_broken_file_does_not_keep_the_others_from_working(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(furnished=False)
    path = tmp_path / "en.yaml"
    path.write_text("language: en\nintents: {A: {}}\n")
    house.intents.add_sentences("test", path)
    await house.intents.rebuild()
    assert house.intents.recognise("what's the weather", ENGLISH) is not None
    assert "the sentences of test cannot be used" in caplog.text


def test_all_sentence_files_are_whole() -> None:
    """Every tool that a built-in file names takes what its sentences give it; each language has the same abilities."""
    from xiaozhi_hub.core.places import PACKAGE, builtin

    folders = sorted({*PACKAGE.rglob("sentences"), *builtin("integrations").glob("*/sentences")})
    for folder in folders:
        tools = {path.stem: set(read_sentences(path).tools.values()) for path in sorted(folder.glob("*.yaml"))}
        assert set(tools) == set(LANGUAGES), folder
        assert tools["zh-Hans"] <= tools["en"], folder
