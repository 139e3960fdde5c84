"""The engines of the schedule bench keep to their contract, and a hub lets its stages overlap. What came before what, never how soon."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from xiaozhi_hub.core.flow import PcmChunk, TextDelta
from xiaozhi_hub.engines.asr import AsrRequest
from xiaozhi_hub.engines.llm import ChatRequest, Message, ToolRequest
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.testing import running_hub


def bench(name: str) -> ModuleType:
    """A file of the bench, once: they import each other by their names."""
    if name not in sys.modules:
        path = Path(__file__).resolve().parent.parent / "bench" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


replay = bench("replay")
schedule = bench("schedule")


def quick_board() -> Any:
    """Engines with the proportions of a board, ten times as quick, and a voice that speaks as quickly."""
    costs = {"asr_window": 0.02, "asr_per_second": 0.01, "prompt_token": 0.0001, "token": 0.01}
    voice = {"tts_first": 0.002, "tts_per_second": 0.02, "characters_per_second": 150}
    return replay.Board("quick", "a test's", {"asr": "a", "llm": "l", "tts": "t"}, **costs, **voice)


def slow_voice() -> Any:
    """Somebody who writes much more quickly than they speak."""
    board = replace(quick_board(), token=0.0005, tts_per_second=1.5)
    return replay.Engines.of(board, schedule.reply, shared=False)


def engines(*pieces: str | ToolRequest) -> Any:
    return replay.Engines.of(quick_board(), lambda request: pieces or schedule.reply(request))


def asked(*messages: tuple[str, str], conversation: str = "a") -> ChatRequest:
    return ChatRequest([Message(role, text) for role, text in messages], conversation=conversation)


async def written(model: Any, request: ChatRequest) -> str:
    return "".join([piece.text async for piece in model.chat(request) if isinstance(piece, TextDelta)])


# -- the engines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", replay.boards())
def test_every_board_has_a_cost_for_every_stage(name: str) -> None:
    board = replay.Board.named(name)
    costs = (
        board.asr_window,
        board.asr_per_second,
        board.prompt_token,
        board.token,
        board.tts_first,
        board.tts_per_second,
    )
    assert all(cost > 0 for cost in costs)


def test_the_boards_are_in_the_order_of_their_speed() -> None:
    pi4, pi5, n100 = (replay.Board.named(name) for name in ("pi4", "pi5", "n100"))
    assert pi4.tts_per_second > pi5.tts_per_second > n100.tts_per_second
    assert pi4.asr_per_second / pi5.asr_per_second > 0.4, "the Pi 4 has the smaller recogniser"
    assert pi4.token > pi5.token


async def test_a_model_reads_again_only_what_is_new() -> None:
    team = engines("Nine. ")
    await written(team.llm, asked(("system", "Be kind. " * 30), ("user", "What time is it?")))
    begun = (("system", "Be kind. " * 30), ("user", "What time is it?"), ("assistant", "Nine. "), ("user", "And now?"))
    await written(team.llm, asked(*begun))
    await written(team.llm, asked(*begun, conversation="b"))
    first, second, elsewhere = (job.read for job in team.book.of("llm"))
    assert second < 10 < first < elsewhere


async def test_what_was_read_ahead_is_not_read_again_and_a_question_goes_before_it() -> None:
    team = engines("Nine. ")
    question = asked(("system", "Be kind. " * 60), ("user", "What time is it?"))
    await team.llm.prepare(question)
    await written(team.llm, question)
    (ahead,), (job,) = team.book.of("ahead"), team.book.of("llm")
    assert job.read == 0 < 100 < ahead.read
    reading = asyncio.ensure_future(team.llm.prepare(asked(("system", "Be quick. " * 60), conversation="b")))
    while len(team.book.of("ahead")) != 2:
        await asyncio.sleep(0)
    await written(team.llm, question)
    await reading
    assert team.book.of("ahead")[1].read < ahead.read


async def test_a_model_that_is_left_stops_and_serves_the_next() -> None:
    team = engines("One two three four five six seven.")
    answer = team.llm.chat(asked(("user", "Count.")))
    await anext(answer)
    await answer.aclose()
    assert await written(team.llm, asked(("user", "Count."))) == "One two three four five six seven."
    given_up, whole = team.book.of("llm")
    assert given_up.stopped is not None and given_up.finished is None
    assert whole.finished is not None and whole.stopped is None


async def test_a_guess_is_not_computed_twice_for_the_same_sound() -> None:
    team = engines()
    team.asr.says = "hello"
    stream = team.asr.open(AsrRequest(("en",)))
    chunk = PcmChunk(schedule.np.zeros(960, schedule.np.int16), 16000)
    await stream.feed(chunk)
    assert [(await stream.guess()).text, (await stream.finish()).text] == ["hello", "hello"]
    assert len(team.book.of("asr")) == 1
    await stream.feed(chunk)
    await stream.finish()
    assert len(team.book.of("asr")) == 2


async def test_a_voice_says_one_thing_after_the_other_and_nothing_before_it_is_computed() -> None:
    team = engines()

    async def say(text: str) -> float:
        return sum([chunk.ms async for chunk in team.tts.speak(SpeechRequest(text, "en"))])

    lengths = await asyncio.gather(say("A first sentence."), say("A second one, which is a little longer."))
    first, second = team.book.of("tts")
    assert [round(ms) for ms in lengths] == [round(first.sound_ms), round(second.sound_ms)]
    assert first.asked <= second.asked <= first.finished <= second.began <= second.first


async def test_two_engines_on_one_processor_take_turns() -> None:
    processor = replay.Processor(shared=True)
    loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
    ends = await asyncio.gather(processor.work(0.5), processor.work(0.5))
    assert max(ends) - began == pytest.approx(1.0, abs=0.2), "what was due, not what a busy machine made of it"
    assert max(ends) - min(ends) == pytest.approx(replay.SLICE_SECONDS), "neither waited for the other's end"
    assert loop.time() >= max(ends)


# -- the hub ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def team() -> Any:
    return engines()


@pytest.fixture
async def house(tmp_path: Path, team: Any) -> AsyncIterator[Any]:
    """A hub with quick replay engines and somebody who speaks to it."""
    patient = schedule.CONFIGURATION.replace(
        "{vad: echo}", "{vad: echo, lead_ms: 1000}"
    )  # as `speech_is_ready`, all the way
    async with running_hub(tmp_path, patient) as hub:
        team.join(hub)
        device = schedule.Listener(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=schedule.DEVICE)
        async with device:
            yield schedule.Bench(hub, team, device)


async def ask(house: Any, question: str) -> Any:
    house.engines.asr.says = schedule.QUESTIONS[question]
    return await house.device.ask(schedule.speech(0.6))


@pytest.mark.usefixtures("speech_is_ready")
async def test_a_long_answer_is_spoken_while_it_is_written(house: Any) -> None:
    result = await ask(house, "long")
    (model,) = house.engines.book.of("llm")
    voices = house.engines.book.of("tts")
    at_of = {}
    text = ""
    for piece, at, *_ in model.marks:
        text += piece
        at_of[text.count(".")] = at_of.get(text.count("."), at)
    assert [job.what for job in voices] == list(result.sentences)
    assert voices[0].what.endswith("quiet house,"), "a voice that computes whole pieces begins with a clause"
    assert voices[0].began < at_of[3], "the voice began before the model had written its third sentence"
    assert voices[2].began < at_of[5], "… and so on"
    assert model.finished < house.device.sounding[-1][1], "the model had ended before the last sentence sounded"
    assert [text for text, _ in house.device.sounding] == list(result.sentences)
    assert result.underruns == 0


def is_fed_while_the_person_speaks(house: Any, model: Any) -> None:
    """Recognition has every packet when it is asked, and is done before the model is."""
    (feed,) = house.engines.book.feeds
    (guess,) = house.engines.book.of("asr")
    assert len(feed.pieces) >= 6
    assert feed.pieces[0][0] < feed.pieces[-1][0] <= guess.asked
    assert guess.finished <= model.asked


async def test_recognition_runs_beside_the_speech_and_the_model_goes_on_at_once_after_a_tool(house: Any) -> None:
    result = await ask(house, "tool")
    first, second = house.engines.book.of("llm")
    is_fed_while_the_person_speaks(house, first)
    assert "light jacket" in result.said
    assert first.finished <= second.asked
    (ahead,) = house.engines.book.of("ahead")
    assert second.read < first.read + ahead.read, "it reads the tool's answer, not the conversation"
    sounds = house.device.sounding[0][1]
    assert second.asked < sounds
    async with asyncio.timeout(20):
        while not (turns := await house.hub.history.turns(1)):
            await asyncio.sleep(0.01)
    (call,) = turns[0].tool_calls
    assert call.name == "home.get_weather"
    stamps = turns[0].stamps
    order = ["transcript", "first_token", "tool", "tool_result", "reply", "first_voice"]
    assert sorted(order, key=lambda name: stamps[name]) == order, "the waterfall knows model and tools"
    assert second.asked - first.finished < call.ms / 1000 + 0.5, "nothing is waited for in between"


@pytest.mark.parametrize("team", [slow_voice()], ids=["slow voice"])
async def test_an_interrupted_answer_frees_the_engines(house: Any) -> None:
    """Also from what was to be said later: the next answer would wait for it."""
    house.engines.asr.says = schedule.QUESTIONS["long"]
    await house.device.say(schedule.speech(0.6))
    await house.device.hears("all day", 20)
    under_way = [job for job in house.engines.book.of("tts") if job.finished is None]
    assert len(under_way) > 1, "several sentences are rendered ahead"
    await house.device.press_button()
    await house.device.answer(20)
    said = len(house.engines.book.of("tts"))
    result = await ask(house, "short")
    assert "quiet hours" in result.said
    assert len(house.engines.book.of("tts")) == said + 1
    assert [job.what for job in under_way[1:] if job.finished] == [], "nothing of the story was computed any more"


# -- the figures ------------------------------------------------------------------------------------------------------


def test_the_critical_path_of_a_known_turn() -> None:
    """Speech ends at 10; two pieces of 0.6 s of sound, the second of which is late by what the engines take."""
    asr = replay.Job("asr", "x", 10.1, began=10.1, first=10.3, finished=10.3)
    llm = replay.Job("llm", "x", 11.0, began=11.0, first=11.2, finished=14.0)
    llm.marks = [("Yes. ", 11.2, 0.2, 0.1), ("No. ", 14.0, 3.0, 2.0)]
    yes = replay.Job("tts", "Yes.", 11.5, began=11.5, first=11.6, finished=11.6, work=0.05, sound_ms=590)
    no = replay.Job("tts", "No.", 14.5, began=14.5, first=14.7, finished=14.7, sound_ms=600)
    path = schedule.critical_path(10.0, 700, [asr, llm, yes, no])
    assert path.heard == pytest.approx(10.74)  # the wait, in whole packets, is longer than recognition
    assert path.first == pytest.approx(10.74 + 0.2 + 0.1)
    assert path.last == pytest.approx(10.74 + 3.0 + 0.2 + 0.6)
    assert schedule.critical_path(10.0, 700, [asr, llm, yes, no], alone=True).first == pytest.approx(10.74 + 0.1 + 0.05)
    assert path.gaps == pytest.approx(3.0 + 0.2 - 0.2 - 0.1 - 0.6)
