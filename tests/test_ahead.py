"""What a language model reads before it is certain what was said: whose guess it gets, when it stops, and that nothing comes of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from talking_model import Home, ScriptedModel, call
from tone_words import spoken

from tests.house import person_in
from xiaozhi_hub.core.flow import TextDelta, Transcript
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.ahead import Ahead
from xiaozhi_hub.dialog.respond import Conversation
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.failover import one_model
from xiaozhi_hub.engines.llm import ChatRequest, Llm, ToolRequest
from xiaozhi_hub.errors import StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

PATIENT = """
voice: {vad: echo, asr: echo, tts: echo, silence: {extendable_ms: 5000, unfinished_ms: 5000, unknown_ms: 5000}}
integrations: {echo: , demo: , silero_vad: false, phrases: false, espeak: false, llama_cpp: false}
"""
WAIT = 20


class Reader(Llm):
    """Reads ahead until it is stopped; notes what."""

    def __init__(self, *, reads_ahead: bool = True) -> None:
        self.info = EngineInfo("reader", Role.LLM, "Reader", streams_output=True, rank=100, reads_ahead=reads_ahead)
        self.reading: list[ChatRequest] = []
        self.stopped: list[ChatRequest] = []
        self.asked: list[ChatRequest] = []
        self.stopped_when_asked: list[int] = []
        self.news = asyncio.Event()

    async def prepare(self, request: ChatRequest) -> None:
        self.reading.append(request)
        self.news.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.stopped.append(request)
            self.news.set()

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        self.asked.append(request)
        self.stopped_when_asked.append(len(self.stopped))
        yield TextDelta("So it is.")

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not true():
                self.news.clear()
                await self.news.wait()


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "config", PATIENT) as hub:
        yield hub


@pytest.fixture
def reader(hub: Hub) -> Reader:
    reader = Reader()
    hub.engines.add(reader, "test")
    return reader


def device(hub: Hub) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01")


async def let_go(speaker: FakeDevice) -> None:
    """End the turn now, however long the hub would still wait."""
    await speaker.send_text(json.dumps({"type": "listen", "state": "stop"}))


# -- through a hub ------------------------------------------------------------------------------------------------


async def test_a_guess_is_read_before_the_turn_is_over_and_is_what_the_model_is_then_asked(
    hub: Hub, reader: Reader
) -> None:
    async with device(hub) as speaker:
        await speaker.say(spoken("tell me of the sea"))
        await reader.until(lambda: bool(reader.reading))
        assert not reader.asked, "the turn was over already"
        await let_go(speaker)
        assert (await speaker.answer()).said == "So it is."
        await reader.until(lambda: bool(reader.stopped))
    assert reader.asked == reader.reading
    assert reader.stopped_when_asked == [0], "what served the question was stopped"


async def test_reading_stops_when_the_person_goes_on(hub: Hub, reader: Reader) -> None:
    async with device(hub) as speaker:
        await speaker.say(spoken("tell me"))
        await reader.until(lambda: bool(reader.reading))
        await speaker.say(spoken("of the sea"))
        await reader.until(lambda: len(reader.reading) == 2)
        first, second = reader.reading
        assert reader.stopped == [first]
        assert first.messages[-1].words == "tell me"
        assert second.messages[-1].words != "tell me"
        await let_go(speaker)
        await speaker.answer()
    assert reader.asked == [second]


async def test_what_an_intent_understands_is_not_read(hub: Hub, reader: Reader) -> None:
    async with device(hub) as speaker:
        await speaker.say(spoken("turn on the bed light"))
        assert (await speaker.answer()).said == "Turned on the Bed Light."
    assert reader.reading == []


async def test_an_engine_that_cannot_read_ahead_is_not_told_what_was_only_guessed(hub: Hub) -> None:
    async def prepared(engine: Reader) -> bool:
        hub.engines.add(engine, "test")
        work = await hub.parts.responder.prepare(person_in("Kitchen"), "tell me of the sea", Conversation())
        hub.engines.remove(engine)
        return work is not None

    assert await prepared(Reader())
    assert not await prepared(Reader(reads_ahead=False))


async def test_a_device_that_leaves_ends_the_reading(hub: Hub, reader: Reader) -> None:
    async with device(hub) as speaker:
        await speaker.say(spoken("tell me of the sea"))
        await reader.until(lambda: bool(reader.reading))
    await reader.until(lambda: reader.stopped == reader.reading)
    assert not reader.asked


async def test_one_guess_is_read_at_a_time_however_quickly_they_change() -> None:
    reading: list[str] = []
    most = 0

    async def prepare(guess: Transcript) -> Callable[[], Awaitable[None]]:
        async def read() -> None:
            nonlocal most
            reading.append(guess.text)
            most = max(most, len(reading))
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                for _ in range(20):
                    await asyncio.sleep(0)  # engines on this machine finish a piece before they stop
                reading.remove(guess.text)

        return read

    async def until(*texts: str) -> None:
        async with asyncio.timeout(WAIT):
            while reading != list(texts):
                await asyncio.sleep(0)

    async with TaskScope("t") as scope:
        ahead = Ahead(prepare, scope)
        ahead.guessed(Transcript("one", "en"))
        await until("one")
        ahead.guessed(None)
        ahead.guessed(Transcript("two", "en"))
        await until("two")
        ahead.guessed(Transcript("three", "en"))
        ahead.guessed(Transcript("four", "en"))
        await until("four")
        await ahead.settle(Transcript("four", "en"))
        assert reading == ["four"]
        await ahead.settle(Transcript("four", "zh-Hans"))
        assert reading == []
    assert most == 1


async def test_what_the_engine_does_not_have_yet_is_given_up_when_it_is_really_asked() -> None:
    prepared: list[str] = []
    stopped: list[str] = []

    async def prepare(guess: Transcript) -> None:
        prepared.append(guess.text)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.append(guess.text)

    async with TaskScope("t") as scope, asyncio.timeout(WAIT):
        ahead = Ahead(prepare, scope)
        ahead.guessed(Transcript("", "en"))
        await asyncio.sleep(0)
        ahead.guessed(Transcript("one", "en"))
        while not prepared:
            await asyncio.sleep(0)
        await ahead.settle(Transcript("one", "en"))
        assert prepared == stopped == ["one"]


async def test_what_cannot_be_prepared_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    async def prepare(guess: Transcript) -> None:
        raise StageError("llm", "not now")

    async with TaskScope("t") as scope:
        ahead = Ahead(prepare, scope)
        ahead.guessed(Transcript("one", "en"))
        await asyncio.sleep(0)
        await ahead.settle(Transcript("one", "en"))
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


# -- what is expected ---------------------------------------------------------------------------------------------


async def test_what_is_expected_is_what_is_asked_and_changes_nothing() -> None:
    def script(request: ChatRequest) -> list[str | ToolRequest]:
        first = request.messages[-1].role == "user"
        return [call("home.turn_on", name="Bed Light")] if first and len(request.messages) == 2 else ["Done. It is on."]

    model = ScriptedModel(script, room=4000)
    home = Home(model)
    kitchen = person_in("Kitchen")
    for number in range(3):
        home.dialogue.notes.append("interrupted")
        home.dialogue.command("turn off the fan", "Turned off.", "home.turn_off")
        before = home.dialogue.copy()
        text = f"is it cosy {number}"
        expected = await home.agent.expected(model, kitchen, text, home.assistant, home.dialogue)
        assert home.dialogue == before
        asked = len(model.requests)
        await home.say(text, kitchen)
        assert model.requests[asked] == expected
    assert home.called[0][0] == "home.turn_on"
    assert len(home.called) == 1


async def test_nothing_is_expected_while_an_answer_is_being_written() -> None:
    model = ScriptedModel(lambda request: ["One. ", "Two. "])
    home = Home(model)
    kitchen = person_in("Kitchen")
    answer = home.agent.answer([model], kitchen, "count", home.assistant, home.dialogue, home.tools.call)  # type: ignore[arg-type]
    await anext(answer)
    assert await home.agent.expected(model, kitchen, "and on", home.assistant, home.dialogue) is None
    await answer.aclose()
    assert await home.agent.expected(model, kitchen, "and on", home.assistant, home.dialogue) is not None


async def test_of_several_models_only_the_first_reads_ahead() -> None:
    first, second = Reader(), Reader()
    (both,) = one_model([first, second])
    assert both.info.reads_ahead
    reading = asyncio.ensure_future(both.prepare(ChatRequest(())))
    await first.until(lambda: bool(first.reading))
    reading.cancel()
    await asyncio.wait([reading])
    assert second.reading == []
