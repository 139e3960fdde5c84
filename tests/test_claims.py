"""Which sentences claim that something was done, and which are ordinary talk."""

from __future__ import annotations

import pytest

from xiaozhi_hub.core.flow import Sentence
from xiaozhi_hub.dialog.agent.claims import Claim, Tense, Truth, claim_words

WORDS = claim_words(["Bed Light", "Kitchen", "床头灯", "Living Room"])
CLAIMED = [
    ("en", "I've turned on the kitchen light."),
    ("en", "I turned the light off for you."),
    ("en", "Okay, I have set a timer for ten minutes."),
    ("en", "Done."),
    ("en", "Done!"),
    ("en", "All done."),
    ("en", "Okay, done."),
    ("en", "All set!"),
    ("en", "The timer is set."),
    ("en", "Your alarm has been set for seven."),
    ("en", "The Bed Light is now on."),
    ("en", "Turned on the Bed Light."),
    ("en", "Sure! I've locked the front door."),
    ("en", "I've added milk to your shopping list."),
    ("en", "I have dimmed it."),
    ("en", "It's done."),
    ("en", "The lights have been turned off."),
    ("en", "I've opened the curtains."),
    ("en", "I just paused the music."),
    ("en", "I've set the temperature to 21 degrees."),
    ("en", "Okay, I cancelled your alarm."),
    ("en", "I've sent the message."),
    ("en", "The door is now locked."),
    ("en", "It is quite late, so I've turned off the TV."),
    ("zh-Hans", "已打开客厅的灯。"),
    ("zh-Hans", "好的，已经为您打开了客厅的灯。"),
    ("zh-Hans", "我已经把灯关掉了。"),
    ("zh-Hans", "灯已经打开了。"),
    ("zh-Hans", "定时器设好了。"),
    ("zh-Hans", "好的，闹钟已设置。"),
    ("zh-Hans", "已为您关闭空调。"),
    ("zh-Hans", "我帮你把窗帘拉上了。"),
    ("zh-Hans", "搞定了！"),
    ("zh-Hans", "已完成。"),
    ("zh-Hans", "完成了。"),
    ("zh-Hans", "好的，我把音量调到了百分之五十。"),
    ("zh-Hans", "床头灯打开了。"),
    ("zh-Hans", "打开了客厅的灯。"),
    ("zh-Hans", "提醒已经设置好了。"),
    ("zh-Hans", "已经帮你添加到购物清单了。"),
]
PROMISED = [
    ("en", "I'll turn on the light."),
    ("en", "I am turning off the TV now."),
    ("en", "Turning on the lights."),
    ("en", "Let me set a timer for that."),
    ("en", "I'll remind you at five."),
    ("en", "Okay, turning it off."),
    ("zh-Hans", "我这就打开灯。"),
    ("zh-Hans", "好的，正在为您打开空调。"),
    ("zh-Hans", "马上为您关闭电视。"),
    ("zh-Hans", "我会提醒你喝水的，到时候响闹钟。"),
]
TALK = [
    ("en", "The light is on."),
    ("en", "It is nine o'clock."),
    ("en", "You turned on the light."),
    ("en", "Would you like me to turn on the light?"),
    ("en", "I can turn on the light if you like."),
    ("en", "I haven't turned on the light."),
    ("en", "I couldn't find the light."),
    ("en", "Turning off the lights saves energy."),
    ("en", "I'm sorry, I cannot do that."),
    ("en", "If I turned on the light, you would see."),
    ("en", "Once upon a time there was a lamp."),
    ("en", "I set great store by good manners."),
    ("en", "He opened the door and went out."),
    ("en", "Lights are on in the kitchen."),
    ("en", "Your timer has five minutes left."),
    ("en", "Set the oven to 200 degrees and wait."),
    ("en", "Just say turn on the light."),
    ("en", "Have you locked the door?"),
    ("en", "I think it is going to rain."),
    ("en", "I opened my heart to you."),
    ("en", "The sun has set."),
    ("en", "I've been thinking about that."),
    ("en", "I made a mistake."),
    ("en", "I have heard that song."),
    ("en", "What would you like to do?"),
    ("en", "The door was locked yesterday."),
    ("en", "Let me know if you want the light on."),
    ("en", "Let me think about it."),
    ("en", "I'll tell you a story about a lamp."),
    ("en", "To turn on the light, say so."),
    ("en", "The museum is open now."),
    ("en", "I'm done talking about it."),
    ("en", "You are all set for the trip, have fun!"),
    ("en", "Paris is lovely at night."),
    ("en", "Lights out is at nine."),
    ("en", "I switched on my brain this morning, figuratively."),
    ("en", "The news is on at eight."),
    ("en", "We set off at dawn."),
    ("en", "I added up the numbers: forty-two."),
    ("en", "I'll be here."),
    ("en", "I'm opening my mind to new ideas."),
    ("en", "Opening hours are from nine to five."),
    ("en", "The timer on your oven is broken, I think."),
    ("en", "I put a lot of thought into it."),
    ("en", "They have locked horns again."),
    ("en", "I closed my eyes and listened."),
    ("en", "Playing music is good for you."),
    ("en", "I changed my mind."),
    ("en", "I have made up my mind."),
    ("en", "Let me play devil's advocate."),
    ("en", "I sent a letter to Santa last year."),
    ("en", "The alarm rings at seven."),
    ("en", "That sounds good to me."),
    ("en", "I've set my heart on it."),
    ("en", "Two lights are on."),
    ("en", "It is all done with mirrors."),
    ("zh-Hans", "灯是开着的。"),
    ("zh-Hans", "现在九点。"),
    ("zh-Hans", "要我打开灯吗？"),
    ("zh-Hans", "我没有打开灯。"),
    ("zh-Hans", "我可以帮你打开灯。"),
    ("zh-Hans", "他打开了门。"),
    ("zh-Hans", "从前有一盏灯。"),
    ("zh-Hans", "抱歉，我做不到。"),
    ("zh-Hans", "你已经打开了灯。"),
    ("zh-Hans", "如果打开灯，会更亮。"),
    ("zh-Hans", "打开灯可以看得更清楚。"),
    ("zh-Hans", "今天天气很好。"),
    ("zh-Hans", "好了，我们开始吧。"),
    ("zh-Hans", "灯还没关。"),
    ("zh-Hans", "请打开窗户通风。"),
    ("zh-Hans", "我觉得这首歌很好听。"),
    ("zh-Hans", "你想听什么歌？"),
    ("zh-Hans", "客厅的温度是二十一度。"),
    ("zh-Hans", "小明关上了门。"),
    ("zh-Hans", "太阳出来了。"),
    ("zh-Hans", "这部电影很好看。"),
    ("zh-Hans", "我打开了话匣子。"),
    ("zh-Hans", "开心的事情说出来。"),
    ("zh-Hans", "关于这个问题，我不太清楚。"),
    ("zh-Hans", "现在是晚上九点，该关灯睡觉了。"),
    ("zh-Hans", "门前有一棵树。"),
    ("zh-Hans", "设计这首歌的人很有才。"),
    ("zh-Hans", "我听说过这首歌。"),
    ("zh-Hans", "我们来聊聊音乐。"),
    ("zh-Hans", "你好，我是小智。"),
    ("zh-Hans", "天亮了。"),
    ("zh-Hans", "火车开了。"),
    ("zh-Hans", "这是一首播放了很多年的歌。"),
    ("zh-Hans", "没关系，慢慢来。"),
    ("zh-Hans", "我已经三岁了。"),
    ("zh-Hans", "今天已经是星期六了。"),
]


def claim(language: str, text: str) -> Claim | None:
    return WORDS[language].find(text)


@pytest.mark.parametrize(("language", "text"), CLAIMED)
def test_who_says_that_it_was_done_is_noticed(language: str, text: str) -> None:
    found = claim(language, text)
    assert found is not None
    assert found.tense is not Tense.PROMISED


@pytest.mark.parametrize(("language", "text"), PROMISED)
def test_who_announces_it_is_noticed(language: str, text: str) -> None:
    found = claim(language, text)
    assert found is not None
    assert found.tense is Tense.PROMISED


@pytest.mark.parametrize(("language", "text"), TALK)
def test_ordinary_talk_is_no_claim(language: str, text: str) -> None:
    assert claim(language, text) is None


@pytest.mark.parametrize(
    ("language", "text", "command"),
    [
        ("en", "Okay, I've turned the kitchen light off.", "turn the kitchen light off"),
        ("en", "I have set a timer for ten minutes.", "set a timer for ten minutes"),
        ("zh-Hans", "好的，已经为您打开了客厅的灯。", "打开客厅的灯"),
        ("zh-Hans", "我把窗帘拉上了。", "把窗帘拉上"),
    ],
)
def test_a_claim_tells_the_command_that_it_stands_for(language: str, text: str, command: str) -> None:
    found = claim(language, text)
    assert found is not None
    assert found.command == command


@pytest.mark.parametrize(
    ("text", "tool", "borne_out"),
    [
        ("I've turned on the light.", "home.turn_on", True),
        ("I've turned on the light.", "home.run", True),
        ("I've turned on the light.", "clock.start_timer", False),
        ("I've locked the door.", "home.lock", True),
        ("I've locked the door.", "home.turn_on", False),
        ("I've set the timer.", "clock.start_timer", True),
        ("I've turned on the light.", "self.lamp.glow", True),
        ("Done.", "home.list_add", True),
        ("I've added milk to the list.", "home.list_add", True),
        ("I've added milk to the list.", "home.turn_on", False),
    ],
)
def test_a_claim_is_borne_out_by_the_tools_that_do_such_things(text: str, tool: str, borne_out: bool) -> None:
    found = claim("en", text)
    assert found is not None
    assert found.by(tool) is borne_out


def truth(asked: str = "please", before: tuple[str, ...] = ()) -> Truth:
    return Truth(WORDS, asked, "en", before)


def told(pieces: list[Sentence] | list[Sentence | Claim]) -> list[str]:
    return [piece.text if isinstance(piece, Sentence) else "(claim)" for piece in pieces]


def test_talk_is_not_held_back() -> None:
    assert told(truth().feed(Sentence("How nice.", "en"))) == ["How nice."]


def test_what_follows_a_held_claim_keeps_its_place() -> None:
    held = truth()
    assert held.feed(Sentence("I turned on the light.", "en")) == []
    assert held.feed(Sentence("Anything else?", "en")) == []
    assert told(held.round_over()) == ["(claim)", "Anything else?"]
    held.called("home.turn_on", True, "")
    assert held.owed is None, "done after all"


def test_a_state_may_be_what_was_looked_up_or_asked_for() -> None:
    sentence = Sentence("The timer is set.", "en")
    assert truth().feed(sentence) == []
    looked = truth()
    looked.called("clock.timer_status", False, "")
    assert looked.feed(sentence) == [sentence]
    assert truth("is there a timer").feed(sentence) == [sentence]
    assert truth("can you set a timer").feed(sentence) == []
    assert Truth(WORDS, "你能打开灯吗", "zh-Hans").feed(Sentence("灯已经打开了。", "zh-Hans")) == []


@pytest.mark.parametrize("asked", ["tell me a story", "讲个故事", "how do you say I opened the door in French"])
def test_fiction_is_not_checked(asked: str) -> None:
    assert told(truth(asked).feed(Sentence("I opened the door.", "en"))) == ["I opened the door."]
