"""What people ask the hub to remember is found again, in two languages, after a restart, and gone when they say so."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from house import CHINESE, ENGLISH
from tone_words import spoken

from xiaozhi_hub.cli import main
from xiaozhi_hub.cli.memory import PAGE
from xiaozhi_hub.core.config import MemoryConfig, VoiceConfig
from xiaozhi_hub.core.flow import Completeness, Sentence, ToolCall, TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.dialog.assistants.assistants import Assistants
from xiaozhi_hub.dialog.intents.sentence_files import read_sentences
from xiaozhi_hub.dialog.memory.confidential import is_confidential
from xiaozhi_hub.dialog.memory.memories import Memories
from xiaozhi_hub.dialog.memory.tools import LONGEST_FACT, memory_tools
from xiaozhi_hub.dialog.respond import Conversation, NotUnderstood
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.household import Household
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message
from xiaozhi_hub.engines.memory import Fact, Memory
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import ConfigError, HubError, StoreError, ToolError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.fact_words import all_of, any_of, indexed
from xiaozhi_hub.store.memory import FactRow, Facts
from xiaozhi_hub.testing import FakeDevice, running_hub
from xiaozhi_hub.tools.registry import ToolRegistry

KITCHEN, OFFICE, NURSERY = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3))
CONFIG = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
assistants:
  teddy: {memory: false}
devices:
  "02:00:00:00:00:01": {name: Kitchen speaker, area: Kitchen}
  "02:00:00:00:00:02": {name: Desk, area: Office, language: zh-Hans}
  "02:00:00:00:00:03": {name: Nursery, area: Bedroom, assistant: teddy}
integrations:
  echo: {tts: {ms: 60}}
  demo: false
  clock: false
  silero_vad: false
  phrases: false
  espeak: false
"""
DAY = 86400.0


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "hub.db")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
async def facts(db: Database) -> Facts:
    return Facts(db)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, CONFIG) as hub:
        yield hub


def device(hub: Hub, device_id: str = KITCHEN) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, listens=False)


async def told(facts: Facts, *texts: str, at: float = 1000.0) -> list[FactRow]:
    return [
        await facts.add(
            text, person="", language="en", turn_id=f"t{index}", device_id=KITCHEN, noted_by="person", noted_at=at
        )
        for index, text in enumerate(texts)
    ]


def texts_of(found: Sequence[FactRow | Fact]) -> list[str]:
    return [fact.text for fact in found]


# -- finding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("spare key", ["the spare key is under the flower pot"]),
        ("the spare keys", ["the spare key is under the flower pot"]),
        ("Anna", ["Anna's birthday is in May", "Anna likes green tea"]),
        ("Anna's birthday", ["Anna's birthday is in May"]),
        ("café", ["the Cafe closes at six"]),
        ("blue car", []),
        ("is the of", []),
        ('"; DROP TABLE fact; --', []),
        ("key AND NOT pot", ["the spare key is under the flower pot"]),
        ("花盆", ["备用钥匙在花盆下面"]),
        ("钥匙", ["备用钥匙在花盆下面", "车钥匙在抽屉里"]),
        ("备用钥匙", ["备用钥匙在花盆下面"]),
        ("车", ["车钥匙在抽屉里"]),
        ("我的备用钥匙", ["备用钥匙在花盆下面"]),
        ("妈妈的生日", ["妈妈生日是五月三号"]),
        ("花园", []),
        ("匙钥", []),
    ],
)
async def test_a_fact_is_found_by_all_the_words_that_name_it(facts: Facts, question: str, found: list[str]) -> None:
    await told(
        facts,
        "the spare key is under the flower pot",
        "Anna likes green tea",
        "Anna's birthday is in May",
        "the Cafe closes at six",
        "备用钥匙在花盆下面",
        "车钥匙在抽屉里",
        "妈妈生日是五月三号",
    )
    assert sorted(texts_of(await facts.with_all_of(question, 10))) == sorted(found)


@pytest.mark.parametrize(
    ("question", "best"),
    [
        ("I wonder where I could have left that spare key again", "the spare key is under the flower pot"),
        ("can you tell me what Anna would like to drink, tea perhaps", "Anna likes green tea"),
        ("我把备用的钥匙放到哪里去了", "备用钥匙在花盆下面"),
        ("周五晚上要倒垃圾吗", "垃圾周五倒"),
    ],
)
async def test_whole_questions_find_what_they_are_about_first(facts: Facts, question: str, best: str) -> None:
    await told(
        facts,
        "the spare key is under the flower pot",
        "Anna likes green tea",
        "the piano key that sticks is the low C",
        "备用钥匙在花盆下面",
        "垃圾周五倒",
        "周三有钢琴课",
    )
    found = await facts.with_any_of(question, 5)
    assert found[0].text == best


async def test_two_character_words_are_found_in_a_full_memory_in_time(facts: Facts) -> None:
    """The trigram tokenizer of FTS5 would find none of these."""

    def many(db: Any) -> None:
        for number in range(1999):
            text = f"第{number}号箱子里有冬天的衣服和旧书"
            db.execute(
                "INSERT INTO fact (id, text, person, language, turn_id, device_id, noted_by, noted_at)"
                " VALUES (?, ?, '', 'zh-Hans', '', '', 'person', 0)",
                (number, text),
            )
            db.execute("INSERT INTO fact_words (rowid, words) VALUES (?, ?)", (number, indexed(text)))

    await facts._db.write(many)
    await told(facts, "备用钥匙在花盆下面")
    assert texts_of(await facts.with_all_of("花盆", 5)) == ["备用钥匙在花盆下面"]
    times = []
    for question in ("花盆", "备用钥匙在哪里", "冬天的衣服", "spare key") * 10:
        began = time.perf_counter()
        await facts.with_any_of(question, 5)
        times.append((time.perf_counter() - began) * 1000)
    assert statistics.median(times) < 25, "a turn waits for it"  # about 1 ms on a quiet machine
    with pytest.raises(StoreError) as full:
        await told(facts, "one more")
    assert full.value.code == "memory-full"
    assert await facts.count() == 2000


def test_questions_become_safe_queries() -> None:
    assert all_of("the spare key") == '"spare" AND "key"'
    assert all_of("我的备用钥匙") == '("备 用 钥 匙" OR ("备 用" AND "用 钥" AND "钥 匙"))'
    assert any_of("备用key") == '"备 用" OR "key"'
    assert all_of("what is it about") == any_of("这是什么") == ""
    assert all_of('near("a", *) OR x:y') == '"near" AND "x" AND "y"'


async def test_the_same_fact_again_only_gets_the_newer_receipt(facts: Facts) -> None:
    await told(facts, "the spare key is under the flower pot", "Anna likes tea")
    again = await facts.add(
        "The spare key is under the flower pot",
        person="",
        language="en",
        turn_id="later",
        device_id=OFFICE,
        noted_by="person",
        noted_at=2000.0,
    )
    assert await facts.newest(10) == [again, (await facts.with_all_of("tea", 1))[0]]
    assert [fact.turn_id for fact in await facts.with_all_of("spare key", 5)] == ["later"]


async def test_what_is_forgotten_is_gone_from_the_disk(tmp_path: Path) -> None:
    database = Database(tmp_path / "hub.db")
    await database.open()
    facts = Facts(database)
    kept, gone = await told(facts, "the bins go out on Friday", "xylophone lessons are on Monday")
    assert await facts.forget([gone.id, 4711]) == 1
    assert await facts.with_any_of("xylophone lessons", 5) == []
    assert await facts.newest(5) == [kept]
    await database.close()
    raw = (tmp_path / "hub.db").read_bytes()
    assert b"xylophon" not in raw and b"Friday" in raw


async def test_pages_follow_each_other(facts: Facts) -> None:
    rows = await told(facts, *(f"fact number {number}" for number in range(5)))
    first = await facts.newest(3)
    assert texts_of(first) == [row.text for row in rows[:1:-1]]
    assert texts_of(await facts.newest(3, first[-1].id)) == ["fact number 1", "fact number 0"]


# -- the contract -------------------------------------------------------------------------------------------------


class Notebook(Memory):
    """The smallest memory that an integration could bring."""

    def __init__(self, id: str = "notebook", *, broken: bool = False) -> None:
        self.info = EngineInfo(id, Role.MEMORY, "Notebook")
        self.facts: list[Fact] = []
        self.broken = broken

    async def note(self, fact: Fact) -> Fact:
        if self.broken:
            raise HubError("the notebook is wet", code="memory-full")
        self.facts.append(fact)
        return fact

    async def recall(self, text: str, limit: int = 5, *, strict: bool = False) -> Sequence[Fact]:
        if self.broken:
            raise HubError("the notebook is wet")
        return [fact for fact in self.facts if text in fact.text][:limit]

    async def listed(self, limit: int = 100, before: str = "") -> Sequence[Fact]:
        return self.facts[:limit]

    async def count(self) -> int:
        return len(self.facts)

    async def forget(self, ids: Sequence[str]) -> int:
        return 0

    async def clear(self) -> int:
        return 0


async def test_the_built_in_memory_keeps_to_the_contract(facts: Facts) -> None:
    memory: Memory = Household(facts)
    noted = await memory.note(
        Fact("备用钥匙在花盆下面", person="Anna", turn_id="t1", noted_at=5.0, device_id=KITCHEN, language="zh-Hans")
    )
    assert noted.id and noted.person == "Anna"
    await memory.note(Fact("the bins go out on Friday", turn_id="t2", noted_at=6.0, noted_by="model"))
    assert await memory.recall("钥匙", 5, strict=True) == await memory.recall("钥匙") == [noted]
    assert await memory.recall("Anna", strict=True) == [noted], "a person is a way to ask too"
    assert await memory.recall("nothing of the kind", 5) == []
    newest = await memory.listed(1)
    assert (newest[0].text, newest[0].noted_by) == ("the bins go out on Friday", "model")
    assert await memory.listed(5, newest[0].id) == [noted]
    assert await memory.listed(5, "not an id") == [newest[0], noted]
    assert await memory.forget(["x", "9" * 30, noted.id]) == 1
    assert await memory.count() == 1
    assert await memory.clear() == 1
    assert await memory.count() == 0


async def test_an_integration_can_bring_another_memory_and_the_owner_can_choose(facts: Facts) -> None:
    engines = EngineRegistry()
    engines.add(Household(facts), "core")
    notebook = Notebook()
    engines.add(notebook, "notes")
    assistants = Assistants(VoiceConfig(), {}, {})
    assert Memories(engines, MemoryConfig(), assistants).engine is notebook, "it goes before the built-in one"
    chosen = Memories(engines, MemoryConfig(engine=("household",)), assistants).engine
    assert isinstance(chosen, Household)
    assert Memories(engines, MemoryConfig(enabled=False), assistants).engine is None


async def test_a_memory_that_fails_or_hangs_costs_a_model_nothing_but_the_facts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xiaozhi_hub.dialog.memory.memories.RECALL_SECONDS", 0.2)
    engines = EngineRegistry()
    notebook = Notebook(broken=True)
    engines.add(notebook, "notes")
    memories = Memories(engines, MemoryConfig(), Assistants(VoiceConfig(), {}, {}))
    assert await memories.recall(ENGLISH, "key") == ()
    notebook.broken = False
    await notebook.note(Fact("the key is here"))
    assert texts_of(await memories.recall(ENGLISH, "key")) == ["the key is here"]

    async def hang(text: str, limit: int = 5, *, strict: bool = False) -> Sequence[Fact]:
        await asyncio.Event().wait()
        return ()

    notebook.recall = hang  # type: ignore[method-assign]
    async with asyncio.timeout(20):
        assert await memories.recall(ENGLISH, "key") == ()


# -- by voice and in writing, without a model ---------------------------------------------------------------------


class Talk:
    """A person who writes to the hub: one conversation, without the sound that takes its time."""

    def __init__(self, hub: Hub, device_id: str = KITCHEN) -> None:
        self._hub = hub
        self._device_id = device_id
        self._conversation = Conversation()

    def tool_called(self, call: ToolCall) -> None:
        """Nobody asks."""

    def model_wrote(self) -> None:
        """Nor here."""

    def model_answered(self, model: Llm, request: ChatRequest, answer: Message) -> None:
        """Nor what it has cost."""

    async def count(self) -> int:
        engine = self._hub.memories.engine
        assert engine is not None
        return await engine.count()

    async def __call__(self, text: str) -> str:
        turn = self._hub.answering.text_turn("", self._device_id)
        reply = self._hub.parts.responder.respond(turn, text, self._conversation, self)
        pieces = [piece.text async for piece in reply if isinstance(piece, Sentence)]
        return ("" if turn.language == "zh-Hans" else " ").join(pieces)


async def test_people_tell_ask_and_take_back_in_english(hub: Hub) -> None:
    ask = Talk(hub)
    assert await ask("what do you know about me") == "You have not asked me to remember anything yet."
    assert await ask("Remember that the spare key is under the flower pot.") == "I will remember that."
    assert await ask("where is the spare key?") == "Today you told me: the spare key is under the flower pot."
    assert await ask("what did I tell you about the keys") == (
        "Today you told me: the spare key is under the flower pot."
    )
    assert await ask("please remember that Anna, Tom and Lisa like tea") == "I will remember that."
    assert await ask("what do you know about Tom") == "Today you told me: Anna, Tom and Lisa like tea."
    assert await ask("what do you know about the moon") == "You have told me nothing about that."
    assert await ask("forget what I said about the tea") == "I have forgotten this: Anna, Tom and Lisa like tea."
    assert await ask("what do you know about Tom") == "You have told me nothing about that."
    assert await ask("what do you know about us") == "Today you told me: the spare key is under the flower pot."


async def test_people_tell_ask_and_take_back_in_chinese(hub: Hub) -> None:
    ask = Talk(hub, OFFICE)
    assert await ask("记住妈妈给我的备用钥匙在花盆下面") == "好的，我记住了。"
    assert await ask("备用钥匙在哪里？") == "你今天告诉过我：妈妈给我的备用钥匙在花盆下面。"
    assert await ask("关于钥匙我跟你说过什么") == "你今天告诉过我：妈妈给我的备用钥匙在花盆下面。"
    assert await ask("你还记得月亮吗") == "关于这个，你没有跟我说过什么。"
    assert await ask("帮我记一下周五倒垃圾") == "好的，我记住了。"
    assert await ask("忘掉刚才说的") == "我已经忘掉：周五倒垃圾。"
    assert await ask("你都知道我什么") == "你今天告诉过我：妈妈给我的备用钥匙在花盆下面。"
    assert await ask("忘掉一切") == "确定吗？"
    assert await ask("是的") == "你让我记的，我都忘掉了，一共1件。"
    assert await ask("你记住了什么") == "你还没有让我记过什么。"


async def test_who_has_not_said_what_is_asked(hub: Hub) -> None:
    ask = Talk(hub)
    assert (await ask("remember that the alarm code is 4711")).startswith("I don't remember passwords, codes")
    assert await ask.count() == 0
    assert await ask("take a note") == "What shall I remember?"
    assert await ask("that the plumber comes on Tuesday") == "I will remember that."
    assert await ask("remember this") == "What shall I remember?"
    assert await ask("never mind") == "Okay."
    assert "plumber" in await ask("what do you remember")
    assert (await ask("when is the plumber")).endswith("the plumber comes on Tuesday.")


async def test_forget_that_means_what_was_spoken_of_last(hub: Hub) -> None:
    ask = Talk(hub)
    assert await ask("forget that") == "What shall I forget?"
    assert await ask("never mind") == "Okay."
    await ask("remember that the bins go out on Friday")
    await ask("remember that Anna likes tea")
    await ask("what do you know about the bins")
    assert await ask("forget that") == "I have forgotten this: the bins go out on Friday."
    assert await ask("forget that") == "What shall I forget?"
    assert await ask("Anna") == "I have forgotten this: Anna likes tea."
    assert await ask("forget it") == "Okay.", "that is about the conversation"


async def test_several_facts_that_could_be_meant_are_told_and_asked_about(hub: Hub) -> None:
    ask = Talk(hub)
    for fact in ("the car is in the garage", "the car needs oil", "the car keys hang in the hall"):
        await ask(f"remember that {fact}")
    question = await ask("forget everything about the car")
    assert question.startswith("I know 3 things of that kind. First: the car")
    second = question.partition("Second: ")[2].partition(".")[0]
    assert await ask("none of them") == "Okay, I keep it."
    assert await ask.count() == 3
    await ask("forget everything about the car")
    assert await ask("the second one") == f"I have forgotten this: {second}."
    await ask("forget about my car")
    assert await ask("both of them") == "I have forgotten 2 things."
    assert await ask("what do you know about the car") == "You have told me nothing about that."


async def test_everything_is_forgotten_only_after_a_yes(hub: Hub) -> None:
    ask = Talk(hub)
    await ask("remember that Anna likes tea")
    assert await ask("forget everything you know about me") == "Are you sure?"
    assert await ask("no") == "Okay."
    assert "tea" in await ask("what do you know about Anna")
    assert await ask("forget everything") == "Are you sure?"
    assert await ask("yes") == "I have forgotten everything that you told me. It was 1."
    assert await ask("what do you remember") == "You have not asked me to remember anything yet."


async def test_questions_that_are_not_for_the_memory_go_on_to_the_house_and_to_others(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG.replace("demo: false", "demo:")) as hub:
        facts = "the temperature in the kitchen is too high and the front door is blue"
        await hub.ask(f"remember that {facts}", "en", KITCHEN)
        for question, tool in (
            ("what's the temperature in the kitchen", "home.get_temperature"),
            ("is the front door locked", "home.get_state"),
            ("what is the Outdoor Humidity", "home.get_state"),
            ("厨房温度多少", "home.get_temperature"),
        ):
            record = await hub.ask(question, "zh-Hans" if question[0] > "z" else "en", KITCHEN)
            assert [call.name for call in record.tool_calls] == [tool], question
        for said in (
            "where is the north pole",
            "who is the king of Spain",
            "月亮在哪里",
            "when is easter",
            "forget me not",
        ):
            record = await hub.ask(said, "en", KITCHEN)
            assert record.outcome == "not_understood" and record.tool_calls == (), said


async def test_a_device_is_answered_from_memory_after_a_restart(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG) as hub, device(hub) as kitchen:
        answer = await kitchen.ask(spoken("remember that the key is here"))  # by voice, with an open recogniser
        assert (answer.heard, answer.said) == ("remember that the key is here", "I will remember that.")
    async with running_hub(tmp_path, CONFIG) as hub, device(hub) as kitchen:
        answer = await kitchen.ask_text("where is the key")
        assert answer.said == "Today you told me: the key is here."


async def test_an_assistant_without_memory_neither_notes_nor_recalls(hub: Hub) -> None:
    nursery, kitchen = Talk(hub, NURSERY), Talk(hub)
    assert await nursery("remember that the key is here") == "Here I remember nothing."
    await kitchen("remember that the spare key is under the flower pot")
    with pytest.raises(NotUnderstood):
        await nursery("where is the spare key")
    assert await nursery("what do you know about me") == "Here I remember nothing."
    assert await nursery("forget what I said about the key") == "Here I remember nothing."
    turn = TurnInfo("t", "s", NURSERY, "en", "Bedroom")
    assert await hub.memories.recall(turn, "spare key") == ()
    assert await hub.memories.recall(TurnInfo("t", "s", KITCHEN, "en", assistant="teddy"), "spare key") == ()
    assert len(await hub.memories.recall(TurnInfo("t", "s", KITCHEN, "en"), "spare key")) == 1
    teddy = hub.assistants.of(NURSERY)
    assert not teddy.may_use("memory.note") and teddy.may_use("home.turn_on")


async def test_a_hub_without_memory_knows_no_such_sentence(tmp_path: Path) -> None:
    async with running_hub(tmp_path, f"{CONFIG}\nmemory: {{enabled: false}}") as hub:
        record = await hub.ask("remember that Anna likes tea", "en", KITCHEN)
        assert record.outcome == "not_understood"
        assert hub.tools.get("memory.note") is None and hub.memories.engine is None


# -- what is noted, and by whom -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "the wifi password is hunter2",
        "the password for the router is swordfish",
        "my PIN is 4711",
        "my pin code: 4711",
        "the alarm code's 0815",
        "my bank card has the number 4111 1111 1111 1111",
        "密码是芝麻开门",
        "银行卡的密码 123456",
        "无线网的密码为abc",
    ],
)
def test_secrets_are_recognised(text: str) -> None:
    assert is_confidential(text)


@pytest.mark.parametrize(
    "text",
    [
        "the password is under the keyboard",
        "the passwords are written in the red notebook",
        "the spare key is under the flower pot",
        "Anna's phone number is 0171 2345678",
        "the pineapple is 3 euros",
        "the meter reads 1234567890123",
        "密码写在红色本子里",
        "密码是放在抽屉里的",
        "电话是13812345678",
    ],
)
def test_where_a_secret_is_kept_may_be_told(text: str) -> None:
    assert not is_confidential(text)


async def test_what_is_too_long_and_a_full_memory_are_told() -> None:
    engines = EngineRegistry()
    engines.add(Notebook(broken=True), "notes")
    tools = ToolRegistry()
    memories = Memories(engines, MemoryConfig(), Assistants(VoiceConfig(), {}, {}))
    for tool in memory_tools(memories, Texts(), time.time, lambda at: datetime.fromtimestamp(at, UTC)):
        tools.add(tool, "core")
    for arguments, turn, message in (
        ({"text": "so " * LONGEST_FACT}, ENGLISH, "That is too long for me to remember."),
        ({"text": "a fact"}, ENGLISH, "My memory is full."),
        ({"text": "一件事"}, CHINESE, "我记满了。"),
    ):
        with pytest.raises(ToolError, match=message):
            await tools.call("memory.remember", arguments, turn)
    with pytest.raises(ToolError, match="my memory does not work"):
        await tools.call("memory.recall", {"about": "key"}, ENGLISH)


@pytest.mark.parametrize(
    ("days", "english", "chinese"),
    [
        (0, "Today you told me: it rains.", "你今天告诉过我：it rains."),
        (1, "Yesterday you told me: it rains.", "你昨天告诉过我：it rains."),
        (13, "13 days ago you told me: it rains.", "13天前你告诉过我：it rains."),
        (20, "2 weeks ago you told me: it rains.", "2周前你告诉过我：it rains."),
        (100, "3 months ago you told me: it rains.", "3个月前你告诉过我：it rains."),
        (800, "2 years ago you told me: it rains.", "2年前你告诉过我：it rains."),
    ],
)
async def test_facts_are_told_with_their_age(days: int, english: str, chinese: str) -> None:
    engines = EngineRegistry()
    notebook = Notebook()
    notebook.facts.append(Fact("it rains", noted_at=1000 * DAY))
    engines.add(notebook, "notes")
    tools = ToolRegistry()
    memories = Memories(engines, MemoryConfig(), Assistants(VoiceConfig(), {}, {}))
    now: Callable[[], float] = lambda: (1000 + days) * DAY + 60  # noqa: E731
    for tool in memory_tools(memories, Texts(), now, lambda at: datetime.fromtimestamp(at, UTC)):
        tools.add(tool, "core")
    for turn, said in ((ENGLISH, english), (CHINESE, chinese)):
        _, result = await tools.call("memory.recall", {"about": "rain"}, turn)
        assert result.text == said


async def test_a_model_may_note_and_recall_and_not_forget(tmp_path: Path) -> None:
    config = """
        voice: {vad: echo, asr: echo, tts: echo, llm: echo}
        integrations:
          silero_vad: false
          phrases: false
          espeak: false
          clock: false
          echo:
            llm:
              rules:
                - {heard: "daughter", call: {tool: memory.note, arguments: {text: "The daughter is called Lisa"}}}
                - {heard: "wipe", call: {tool: memory.forget, arguments: {about: Lisa}}}
                - {heard: "destroy", call: {tool: memory.forget_everything}}
                - {result_of: memory.note, say: "{result}"}
              otherwise: "{text}"
    """
    async with running_hub(tmp_path, config) as hub:
        record = await hub.ask("my daughter is called Lisa", "en", KITCHEN)
        assert record.tool_calls[0].name == "memory.note" and record.tool_calls[0].error == ""
        engine = hub.memories.engine
        assert engine is not None
        (fact,) = await engine.listed()
        assert (fact.text, fact.noted_by, fact.turn_id) == ("The daughter is called Lisa", "model", record.id)
        for attack, tool in (("wipe it", "memory.forget"), ("destroy it", "memory.forget_everything")):
            record = await hub.ask(attack, "en", KITCHEN)
            assert [(call.name, call.error) for call in record.tool_calls] == [(tool, "tool-unknown")]
        assert await engine.listed() == [fact]


# -- from programs ------------------------------------------------------------------------------------------------


@pytest.fixture
def command(hub: Hub, tmp_path: Path) -> Callable[..., Awaitable[int]]:
    async def run(*arguments: str) -> int:
        return await asyncio.to_thread(main, ["memory", "-c", str(tmp_path), "--port", str(hub.port), *arguments])

    return run


async def test_the_owner_lists_exports_and_deletes(
    hub: Hub, tmp_path: Path, command: Callable[..., Awaitable[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command() == 0
    assert "Nothing is remembered yet." in capsys.readouterr().out
    kept = await hub.ask("remember that the spare key is under the flower pot", "en", KITCHEN)
    gone = await hub.ask("记住周五倒垃圾", "zh-Hans", OFFICE)
    async with asyncio.timeout(20):
        while len(await hub.history.turns()) < 2:
            await asyncio.sleep(0.01)
    await hub.history.forget_device(OFFICE)
    assert await command("list") == 0
    shown = capsys.readouterr().out
    assert "    2  周五倒垃圾" in shown and f"{OFFICE}: the turn is gone" in shown
    assert f"{KITCHEN}: “remember that the spare key is under the flower pot”" in shown
    assert await command("list", "flower") == 0
    shown = capsys.readouterr().out
    assert "spare key" in shown and "垃圾" not in shown and "(1 of 2)" in shown
    assert await command("export", str(tmp_path / "facts.jsonl")) == 0
    assert "2 facts in" in capsys.readouterr().out
    newest, oldest = (json.loads(line) for line in (tmp_path / "facts.jsonl").read_text("utf-8").splitlines())
    assert newest["turn"] == {"id": gone.id, "heard": None} and newest["language"] == "zh-Hans"
    assert oldest["turn"] == {"id": kept.id, "heard": "remember that the spare key is under the flower pot"}
    assert (oldest["text"], oldest["device"], oldest["noted_by"], oldest["person"]) == (
        "the spare key is under the flower pot", KITCHEN, "person", "")  # fmt: skip
    assert abs(oldest["noted_at"] - time.time()) < 60
    assert await command("forget", newest["id"]) == 0
    assert "Deleted 1 fact." in capsys.readouterr().out
    assert await command("forget", newest["id"]) == 1
    assert await command("forget", "--everything") == 0
    assert await command("export") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Deleted 1 fact."
    engine = hub.memories.engine
    assert engine is not None
    for number in range(PAGE + 5):
        await engine.note(Fact(f"fact {number}", noted_at=float(number)))
    assert await command("export") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in lines] == [f"fact {number}" for number in range(PAGE + 4, -1, -1)]


async def test_wrong_requests_are_refused_and_delete_nothing(hub: Hub) -> None:
    engine = hub.memories.engine
    assert engine is not None
    await engine.note(Fact("Anna likes tea"))
    for (method, path, body), status, code in (
        (("GET", "/api/memory?limit=0", None), 400, "FIELD_INVALID"),
        (("GET", "/api/memory?limit=many", None), 400, "FIELD_INVALID"),
        (("GET", f"/api/memory?about={'x' * 501}", None), 400, "FIELD_INVALID"),
        (("POST", "/api/memory/forget", {}), 400, "FIELD_MISSING"),
        (("POST", "/api/memory/forget", {"ids": ["1"], "everything": True}), 400, "FIELD_MISSING"),
        (("POST", "/api/memory/forget", {"ids": "1"}), 400, "FIELD_INVALID"),
        (("POST", "/api/memory/forget", {"ids": [1]}), 400, "FIELD_INVALID"),
        (("POST", "/api/memory/forget", {"everything": "yes"}), 400, "FIELD_INVALID"),
    ):
        async with ClientSession() as http, http.request(method, f"{hub.local_url}{path}", json=body) as reply:
            assert (reply.status, (await reply.json())["error_code"]) == (status, code), path
    assert await engine.count() == 1


# -- what is listened for -----------------------------------------------------------------------------------------


def test_a_free_text_may_go_on(sentences: Any) -> None:
    """Who tells something thinks in between: the end of a turn waits a little longer than after a command."""
    judge = sentences.completeness
    assert judge("remember that the spare key is", "en") is Completeness.EXTENDABLE
    assert judge("记住备用钥匙在", "zh-Hans") is Completeness.EXTENDABLE
    assert judge("remember", "en") is Completeness.PARTIAL
    assert judge("turn on the bed light", "en") is Completeness.COMPLETE


def test_closed_recognisers_listen_for_none_of_it(sentences: Any, plain_sentences: Any) -> None:
    for language in ("en", "zh-Hans"):
        ours, plain = sentences.book(language), plain_sentences.book(language)
        for answering in (False, True):
            assert ours.graph(answering).states == plain.graph(answering).states
            assert len(ours.graph(answering).arcs) == len(plain.graph(answering).arcs)
    assert sentences.book("en").understands("remember that Anna likes tea")
    assert not sentences.book("en").understands("Anna likes tea")
    assert not sentences.book("zh-Hans").understands("小明喜欢喝茶")


def test_what_is_not_listened_for_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "en.yaml"
    file.write_text(
        "language: en\nunheard: [Sing, item]\ntools: {Sin: a.b}\nintents: {Sin: {data: [{sentences: [sing]}]}}\n"
        "lists: {item: {values: [song]}}\nanswers: {item: [{sentences: ['{item}']}]}\n"
    )
    with pytest.raises(ConfigError, match="there is no intent Sing"):
        read_sentences(file)


@pytest.fixture(scope="module")
def sentences() -> Any:
    return asyncio.run(_sentences("memory"))


@pytest.fixture(scope="module")
def plain_sentences() -> Any:
    return asyncio.run(_sentences())


async def _sentences(*folders: str) -> Any:
    from house import House

    from xiaozhi_hub.core.places import PACKAGE

    house = House()
    for folder in folders:
        for path in sorted((PACKAGE / "dialog" / folder / "sentences").glob("*.yaml")):
            house.intents.add_sentences("core", path)
    await house.intents.rebuild()
    assert house.intents.problems == ()
    return house.intents
