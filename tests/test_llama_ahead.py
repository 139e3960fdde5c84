"""What llama.cpp reads before it is asked: nothing of it is read again, nobody waits for it, and nothing is lost by it."""

# ruff: noqa: F811 (fixtures of another file)

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from pathlib import Path
from typing import Any

from test_ahead import WAIT, let_go, spoken
from test_llama_cpp import (
    GET_TIME,
    HUB,
    SYSTEM,
    TURN_ON,
    Loader,
    chat,
    device,
    llm,
    loaded,  # noqa: F401 (a fixture)
    may_take_its_time,  # noqa: F401
    model,  # noqa: F401
    model_file,  # noqa: F401
    needs_llama,
    user,
)

from xiaozhi_hub.engines.llm import ChatRequest, Message
from xiaozhi_hub.testing import running_hub

pytestmark = needs_llama
TOOLS = (TURN_ON, GET_TIME)


def request(history: list[Message], conversation: str = "kitchen") -> ChatRequest:
    return ChatRequest(tuple(history), TOOLS, "en", conversation)


def long(number: int = 0) -> Message:
    """A question that takes the model a while to read."""
    return user(" ".join(f"{number} and {word}" for word in range(250)))


async def test_of_a_guess_that_was_right_only_the_last_token_is_read_again(
    tmp_path: Path,
    model_file: Path,
) -> None:
    """Through a device: what is left to read when the turn is over, with and without reading ahead."""
    patient = HUB.replace(
        "llm: llama_cpp}", "llm: llama_cpp, silence: {{unfinished_ms: 5000, unknown_ms: 5000, extendable_ms: 5000}}}"
    )
    async with running_hub(tmp_path / "config", patient.format(model=model_file)) as hub, device(hub) as speaker:
        engine = llm(hub)
        await speaker.ask_text("what is it then")
        at_once = engine.uses[-1]
        await speaker.ask_text("what is that then")
        later = engine.uses[-1]
        await speaker.say(spoken("what is this then"))
        async with asyncio.timeout(WAIT):
            while not engine.read_ahead:
                await asyncio.sleep(0.01)
        assert len(engine.uses) == 2, "the turn was over already"
        await let_go(speaker)
        await speaker.answer()
        ahead = engine.uses[-1]
    assert ahead.evaluated == 1
    assert later.evaluated > 15, "there was nothing to save"
    assert at_once.evaluated > later.evaluated
    assert engine.read_ahead > 15


async def test_of_a_guess_that_was_wrong_only_the_words_are_read_again(model: Any) -> None:
    told = "tell me " + "and so on " * 20
    await model.prepare(request([SYSTEM, user(told + "of the sea")]))
    before = model.read_ahead
    await chat(model, [SYSTEM, user(told + "of a bedtime story")], TOOLS)
    assert before > 150
    assert model.uses[-1].evaluated < 60


async def test_a_question_of_the_same_conversation_goes_on_where_the_reading_is(model: Any) -> None:
    reading = asyncio.ensure_future(model.prepare(request([SYSTEM, long()])))
    while not model.model.process.waiting:
        await asyncio.sleep(0)
    await chat(model, [SYSTEM, long()], TOOLS)
    await reading
    use = model.uses[-1]
    assert use.evaluated + model.read_ahead <= use.prompt + 1, "something was read twice"


async def test_a_question_of_another_conversation_does_not_wait_for_the_reading(model: Any) -> None:
    await chat(model, [SYSTEM, user("what is it")], TOOLS, "office")
    process = model.model.process
    os.kill(process.pid, signal.SIGSTOP)  # until it has been asked: it must not have read everything by then
    try:
        reading = asyncio.ensure_future(model.prepare(request([SYSTEM, long()])))
        while process.waiting < 1:
            await asyncio.sleep(0)
        asked = asyncio.ensure_future(chat(model, [SYSTEM, user("for bedtime")], TOOLS, "office"))
        while process.waiting < 2:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)  # both are on their way
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert (await asked).text.startswith("Once upon")
    await reading
    assert model.read_ahead == 0, "the question waited until everything was read"
    await model.prepare(request([SYSTEM, long()]))
    assert model.read_ahead > 2000, "there was nothing to wait for"


async def test_who_waits_for_an_answer_goes_before_what_is_only_guessed(model: Any) -> None:
    writing = model.chat(ChatRequest((SYSTEM, user("something endless")), (), "en", "office"))
    async with aclosing(writing):
        await anext(writing)
        await model.prepare(request([SYSTEM, user("for bedtime")]))
        assert model.read_ahead == 0
        assert len(model.uses) == 0, "the guess waited until the answer was written"


async def test_reading_ahead_can_be_stopped(model: Any) -> None:
    reading = asyncio.ensure_future(model.prepare(request([SYSTEM, long()])))
    while not model.model.process.waiting:
        await asyncio.sleep(0)
    reading.cancel()
    await asyncio.wait([reading])
    assert model.model.process.waiting == 0
    assert (await chat(model, [SYSTEM, user("for bedtime")], TOOLS)).text.startswith("Once upon")


async def test_a_guess_does_not_cost_another_conversation_what_was_read_of_it(loaded: Loader) -> None:
    """Without memory for a second conversation the first one stays where it is."""
    async with loaded(memory_mb=0) as model:
        history = [SYSTEM, user("for bedtime")]
        history.append(await chat(model, history, TOOLS, "nursery"))
        await model.prepare(request([SYSTEM, user("what is that")], "office"))
        assert model.read_ahead == 0
        await chat(model, [*history, user("what is it")], TOOLS, "nursery")
        assert model.uses[-1].evaluated < 40


async def test_a_guess_does_not_cost_a_third_conversation_what_was_read_of_it(loaded: Loader) -> None:
    """The memory has room for one conversation beside the live one."""
    async with loaded(memory_mb=1) as model:
        history = [SYSTEM, user("for bedtime" + " and so on" * 12)]
        history.append(await chat(model, history, TOOLS, "nursery"))
        await chat(model, [SYSTEM, user("what is that" + " and so on" * 12)], TOOLS, "office")
        await model.prepare(request([SYSTEM, user("what is it")], "kitchen"))
        assert model.read_ahead == 0
        await model.prepare(request([*history, user("what is it")], "nursery"))
        assert model.read_ahead > 0, "there is room for two that take turns"
        await chat(model, [*history, user("what is it")], TOOLS, "nursery")
        assert model.uses[-1].evaluated < 40


async def test_answers_are_known_again_after_a_restart_although_something_was_only_guessed(loaded: Loader) -> None:
    history = [SYSTEM, user("make it cosy")]
    async with loaded(disk_mb=64) as model:
        history.append(await chat(model, history, TOOLS))
        await model.prepare(request([*history, Message("tool", "done", "home.turn_on"), user("what is th")]))
        assert model.read_ahead
    async with loaded(disk_mb=64) as model:
        history.append(Message("tool", "done", "home.turn_on"))
        await chat(model, [*history, user("what is this")], TOOLS)
        assert model.uses[-1].evaluated < 30
