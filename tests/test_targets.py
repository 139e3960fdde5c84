"""Several engines for one role: who helps out when one fails, dies in the middle, or keeps people waiting."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi_hub.core.flow import PcmChunk, Sentence, TextDelta, Transcript
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.hearing.recognition import Recognition
from xiaozhi_hub.dialog.speaking.splitter import Splitter
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.failover import AsrTargets, Attempt, LlmTargets, one_model, one_open_recogniser, speak
from xiaozhi_hub.engines.health import (
    FAILURES,
    FIRST_WAIT_S,
    LONGEST_WAIT_S,
    PROBE_S,
    Circuit,
    CircuitBreaker,
    Health,
    Timing,
)
from xiaozhi_hub.engines.joint import Clauses, Joint, rest_of
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message, ToolRequest
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import HubError, StageError

ANSWER = "It is warm today, about twenty degrees. Take a light jacket. Have a nice walk."


# -- deciding -----------------------------------------------------------------------------------------------------


def broken(at: float) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(FAILURES):
        breaker.failed(at)
    return breaker


def test_one_failure_may_be_chance_and_several_in_a_row_are_not() -> None:
    breaker = CircuitBreaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
        assert breaker.state(0.0) is Circuit.CLOSED
    breaker.failed(0.0)
    assert breaker.state(0.0) is Circuit.OPEN


def test_a_success_in_between_forgives_the_failures_before() -> None:
    breaker = CircuitBreaker()
    for _ in range(5):
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.state(0.0) is Circuit.CLOSED


def test_one_tries_a_broken_engine_again_and_the_others_wait_for_the_result() -> None:
    breaker = broken(0.0)
    assert breaker.state(FIRST_WAIT_S - 0.1) is Circuit.OPEN
    assert breaker.state(FIRST_WAIT_S) is Circuit.HALF_OPEN
    breaker.asked(FIRST_WAIT_S)
    assert breaker.state(FIRST_WAIT_S + 0.1) is Circuit.OPEN
    assert breaker.state(FIRST_WAIT_S + PROBE_S) is Circuit.HALF_OPEN  # who tried it was interrupted
    breaker.succeeded()
    assert breaker.state(FIRST_WAIT_S + 0.1) is Circuit.CLOSED


def test_each_try_in_vain_doubles_the_wait_up_to_a_bound() -> None:
    breaker, now, waits = broken(0.0), 0.0, []
    for _ in range(10):
        waits.append(breaker.wait_s)
        now += breaker.wait_s
        breaker.asked(now)
        breaker.failed(now)
    assert waits[:3] == [FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S]
    assert waits[-1] == LONGEST_WAIT_S


def test_who_tried_in_vain_need_not_be_waited_for_any_more() -> None:
    breaker = broken(0.0)
    breaker.asked(FIRST_WAIT_S)
    assert breaker.state(FIRST_WAIT_S + 14.0) is Circuit.OPEN, "somebody tries it"
    breaker.failed(FIRST_WAIT_S + 1.0)
    again = FIRST_WAIT_S + 1.0 + breaker.wait_s
    assert breaker.state(again - 0.1) is Circuit.OPEN
    assert breaker.state(again) is Circuit.HALF_OPEN


def test_who_is_overtaken_gets_more_time() -> None:
    health = Health(lambda: 0.0)
    for _ in range(20):
        health.began(100)
    late = health.begins.late_ms(2000, 150, 5000)
    health.overtaken()
    assert health.begins.late_ms(2000, 150, 5000) == 2 * late
    assert health.reason == "it takes too long"


def test_many_turns_that_fail_together_count_as_one_try() -> None:
    breaker = CircuitBreaker()
    for _ in range(50):
        breaker.failed(0.0)
    assert breaker.state(FIRST_WAIT_S) is Circuit.HALF_OPEN


def test_what_is_late_is_learned_and_a_slow_engine_gets_more_time() -> None:
    timing = Timing()
    assert timing.late_ms(2000, 150, 5000) == 2000
    for _ in range(30):
        timing.took(40)
    assert timing.late_ms(2000, 150, 5000) == 150
    timing.was_late()
    timing.was_late()
    assert timing.late_ms(2000, 150, 5000) == 600
    timing.took(400)
    assert 400 < timing.late_ms(2000, 150, 5000) < 1000


@given(st.text(alphabet="ab .,!?。，\n", max_size=200), st.integers(1, 7))
def test_clauses_lose_and_add_nothing(text: str, size: int) -> None:
    clauses = Clauses()
    pieces = [clauses.feed(text[at : at + size]) for at in range(0, len(text), size)]
    assert "".join(pieces) + clauses.flush() == text


@given(st.text(alphabet="ab .!?。", max_size=120))
def test_a_sentence_is_let_through_no_later_than_it_could_be_spoken(text: str) -> None:
    held, plain, clauses = Splitter("en"), Splitter("en"), Clauses()
    for char in text:
        assert [*held.feed(clauses.feed(char))] == [*plain.feed(char)]


LONG = st.lists(
    st.text(alphabet="abc", min_size=1, max_size=9) | st.sampled_from([",", ";", ".", "热", "，"]), max_size=40
)


@given(LONG)
def test_a_first_clause_is_let_through_with_the_word_that_shows_that_it_goes_on(words: list[str]) -> None:
    held, plain, clauses = Splitter("en", clause_first=True), Splitter("en", clause_first=True), Clauses()
    for word in (f"{word} " for word in words):
        let_through = list(held.feed(clauses.feed(word)))
        written = list(plain.feed(word))
        assert let_through == written
        if any(isinstance(piece, Sentence) for piece in written):
            return  # the others are held to their clauses


def test_what_follows_the_first_sentence_waits_for_its_clause() -> None:
    clauses = Clauses()
    text = "It is warm, rather warm today. Take a jacket along, and a hat."
    assert [clauses.feed(f"{word} ") for word in text.split()] == [
        "", "", "It is warm, ", "rather ", "warm ", "today. ", "", "", "", "Take a jacket along, ", "", "", "and a hat. "
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "next_one", "together"),
    [
        ("It is warm today,", "and sunny.", "It is warm today, and sunny."),
        ("It is warm.", "It is warm. Take a jacket.", "It is warm. Take a jacket."),
        ("It is warm. Take a jacket,", "Take a jacket, and a hat.", "It is warm. Take a jacket, and a hat."),
        ("It is warm today,", "It is warm today, and sunny.", "It is warm today, and sunny."),
        ("It is warm.", "It is warmer there.", "It is warm. It is warmer there."),
        ("今天很热，", "今天很热，记得喝水。", "今天很热，记得喝水。"),
        ("It is warm.", "It is", "It is warm. It is"),
        ("It is warm.", "", "It is warm."),
        ("", "Hello.", "Hello."),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_what_the_next_model_repeats_is_left_out(said: str, next_one: str, together: str, size: int) -> None:
    joint = Joint(said)
    new = "".join(joint.feed(next_one[at : at + size]) for at in range(0, len(next_one), size)) + joint.flush()
    assert said + new == together


@pytest.mark.parametrize(
    ("text", "ms", "pace", "rest"),
    [
        ("One, two, three.", 0, 50, "One, two, three."),
        ("One, two, three.", 500, 50, "two, three."),
        ("One, two, three.", 600, 50, "three."),
        ("It costs 3.50, he said.", 600, 50, "It costs 3.50, he said."),
        ("第一，第二，第三。", 4000, 1000, "第二，第三。"),
        ("No pauses in here at all", 9000, 50, "No pauses in here at all"),
        ("One, two.", 10_000, None, "two."),
    ],
)
def test_the_rest_of_a_sentence_begins_with_a_clause_and_leaves_no_word_out(
    text: str, ms: float, pace: float | None, rest: str
) -> None:
    assert rest_of(text, ms, pace) == rest


# -- engines that misbehave ---------------------------------------------------------------------------------------


def info(name: str, role: Role, *, remote: bool = True, closed: bool = False) -> EngineInfo:
    return EngineInfo(name, role, name, remote=remote, closed=closed)


class Model(Llm):
    """Writes *words*; dies after *dies* of them, falls silent after *hangs* of them."""

    def __init__(
        self,
        name: str,
        text: str = ANSWER,
        *,
        dies: int | None = None,
        hangs: int | None = None,
        bug: bool = False,
        remote: bool = True,
        calls: Sequence[ToolRequest] = (),
    ) -> None:
        self.info = info(name, Role.LLM, remote=remote)
        self.text, self.dies, self.hangs, self.bug, self.calls = text, dies, hangs, bug, calls
        self.asked: list[ChatRequest] = []
        self.left = 0

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        self.asked.append(request)
        try:
            for call in self.calls:
                yield call
            for number, word in enumerate(f"{self.text} ".split(" ")):
                if number == self.dies:
                    raise (ValueError("a bug") if self.bug else StageError("llm", "died"))
                if number == self.hangs:
                    await asyncio.Event().wait()
                yield TextDelta(word + " ")
        finally:
            self.left += 1


async def said_by(*models: Llm) -> tuple[str, list[ToolRequest]]:
    request = ChatRequest((Message("system", "Be kind."), Message("user", "How is the weather?")))
    text, calls = "", []
    async with asyncio.timeout(30):
        async for piece in LlmTargets(models).chat(request):
            if isinstance(piece, ToolRequest):
                calls.append(piece)
            else:
                text += piece.text
    return " ".join(text.split()), calls


def known_quick(*engines: Llm | Tts | Asr) -> None:
    for engine in engines:
        for _ in range(20):
            engine.health.began(5)


@pytest.mark.parametrize("dies", range(16))
async def test_a_model_that_dies_after_any_word_costs_no_word(dies: int) -> None:
    second = Model("second")
    assert await said_by(Model("first", dies=dies), second) == (ANSWER, [])
    before = [message.text for message in second.asked[0].messages[2:]]
    assert not before or ANSWER.startswith(before[0])  # it was told what had been said


@pytest.mark.parametrize("hangs", [0, 1, 9])
async def test_a_model_that_falls_silent_is_overtaken(hangs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.MODELS", _quick_limits())
    first, second = Model("first", hangs=hangs), Model("second")
    known_quick(first)
    assert (await said_by(first, second))[0] == ANSWER
    assert first.left == 1  # nothing of it is left running


def _quick_limits() -> object:
    from xiaozhi_hub.engines.relay import Limits

    return Limits(unknown_ms=300.0, stall_ms=600.0)


async def test_a_model_on_this_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.MODELS", _quick_limits())

    class Slow(Model):
        async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
            await asyncio.sleep(1.0)
            yield TextDelta("Slowly.")

    second = Model("second")
    assert (await said_by(Slow("first", remote=False), second))[0] == "Slowly."
    assert second.asked == []


async def test_a_bug_in_one_engine_costs_no_turn() -> None:
    assert (await said_by(Model("first", dies=3, bug=True), Model("second")))[0] == ANSWER


async def test_tools_that_a_dying_model_asked_for_are_not_called() -> None:
    light = ToolRequest("light", {})
    first = Model("first", "", calls=[light], dies=0)
    assert await said_by(first, Model("second", "Done.", calls=[light])) == ("Done.", [light])


async def test_an_open_thought_of_a_dying_model_does_not_swallow_the_answer() -> None:
    text = "".join(["<think>Let me see. ", "Hm, well, "])
    first = Model("first", text + "x " * 50, dies=4)
    said, _ = await said_by(first, Model("second"))
    assert [*Splitter("en").feed(said + "\n")][-1:] and ANSWER in said.split("</think>")[-1]


async def test_when_all_die_the_last_reason_is_told() -> None:
    with pytest.raises(HubError, match="died"):
        await said_by(Model("first", dies=2), Model("second", dies=0), Model("third", dies=0))


async def test_an_interrupted_answer_leaves_no_model_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.MODELS", _quick_limits())
    first, second = Model("first", hangs=0), Model("second", hangs=0)
    task = asyncio.create_task(said_by(first, second))
    async with asyncio.timeout(20):
        while not second.asked:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert (first.left, second.left) == (1, 1)


# -- the registry -------------------------------------------------------------------------------------------------


async def test_an_engine_that_keeps_failing_is_asked_last_and_comes_back() -> None:
    now = 0.0
    registry = EngineRegistry()
    first, second = Model("first", dies=0), Model("second")
    first.health = Health(lambda: now)
    registry.add(first, "a")
    registry.add(second, "b")
    for _ in range(FAILURES):
        assert registry.llms()[0] is first
        await said_by(*registry.llms())
    assert registry.llms() == (second, first)
    assert [(left.id, reason) for left, reason in registry.left_out()] == [("first", "died")]
    now += FIRST_WAIT_S
    first.dies = None
    assert registry.llms()[0] is first
    await said_by(*registry.llms())
    assert registry.llms()[0] is first and registry.left_out() == ()


async def test_the_only_engine_is_never_taken_away() -> None:
    registry = EngineRegistry()
    model = Model("only", dies=0)
    registry.add(model, "a")
    for _ in range(FAILURES + 3):
        model.health.failed("died")
    assert registry.llms() == (model,)
    assert one_model(registry.llms()) == (model,)


# -- voices -------------------------------------------------------------------------------------------------------


class Voice(Tts):
    """Speaks 100 ms for each character, as that many samples with the character's number; dies after *dies* of them."""

    def __init__(self, name: str, rate: int = 16000, *, dies: int | None = None, hangs: bool = False) -> None:
        self.info = info(name, Role.TTS)
        self.rate, self.dies, self.hangs = rate, dies, hangs
        self.texts: list[str] = []

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        self.texts.append(request.text)
        if self.hangs:
            await asyncio.Event().wait()
        for number, _ in enumerate(request.text):
            if number == self.dies:
                raise StageError("tts", "died")
            yield PcmChunk(np.full(self.rate // 10, 1000, np.int16), self.rate)


async def spoken(*voices: Tts, text: str = "Turn left, then right, then stop.") -> list[tuple[str, PcmChunk]]:
    request = SpeechRequest(text, "en")

    def say(attempt: Attempt, words: str) -> AsyncGenerator[PcmChunk, None]:
        return attempt[0].speak(replace(attempt[1], text=words))

    async with asyncio.timeout(30):
        pieces = speak([(voice, request) for voice in voices], request, say)
        return [(voice.info.id, chunk) async for (voice, _), chunk in pieces]


async def test_the_next_voice_says_the_rest_from_the_clause_in_which_one_died() -> None:
    first, second = Voice("first"), Voice("second", 24000)
    await spoken(first)  # its pace is known now
    first.dies = 20
    pieces = await spoken(first, second)
    assert second.texts == ["then right, then stop."]
    ms = sum(chunk.ms for name, chunk in pieces if name == "second")
    assert ms == pytest.approx(100 * len("then right, then stop."), abs=1)


async def test_a_voice_that_is_late_is_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.VOICES", _quick_limits())
    pieces = await spoken(Voice("first", hangs=True), Voice("second"), text="Hello.")
    assert {name for name, _ in pieces} == {"second"} and len(pieces) == 6


# -- recognisers --------------------------------------------------------------------------------------------------


class Ear(Asr):
    """Hears how many pieces it was given; fails or hangs where it is told to."""

    def __init__(
        self,
        name: str,
        *,
        fails_in: str = "",
        breaks_in: str = "",
        hangs_in: str = "",
        remote: bool = True,
        closed: bool = False,
        slow_s: float = 0.0,
    ) -> None:
        """*breaks_in* is where it fails as nobody has thought of."""
        self.info = info(name, Role.ASR, remote=remote, closed=closed)
        self.fails_in, self.breaks_in, self.hangs_in, self.slow_s = fails_in, breaks_in, hangs_in, slow_s
        self.open_streams = 0

    def open(self, request: AsrRequest) -> AsrStream:
        self.open_streams += 1
        return EarStream(self)


class EarStream(AsrStream):
    def __init__(self, ear: Ear) -> None:
        self.ear, self.count, self.open = ear, 0, True

    async def _act(self, where: str) -> None:
        if self.ear.fails_in == where:
            raise StageError("asr", "died")
        if self.ear.breaks_in == where:
            raise ValueError("not thought of")
        if self.ear.hangs_in == where:
            await asyncio.Event().wait()

    async def feed(self, chunk: PcmChunk) -> None:
        await self._act("feed")
        await asyncio.sleep(self.ear.slow_s)
        self.count += 1

    async def guess(self) -> Transcript:
        await self._act("guess")
        return Transcript(f"{self.ear.info.id} {self.count}", "en")

    async def finish(self) -> Transcript:
        await self._act("finish")
        return Transcript(f"{self.ear.info.id} {self.count}", "en")

    async def aclose(self) -> None:
        if self.open:
            self.open = False
            self.ear.open_streams -= 1


@pytest.mark.parametrize("how", ["fails_in", "breaks_in", "hangs_in"])
@pytest.mark.parametrize("where", ["feed", "guess", "finish"])
async def test_the_next_recogniser_hears_the_whole_utterance(
    how: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.RECOGNISERS", _quick_limits())
    monkeypatch.setattr("xiaozhi_hub.engines.failover.FEED_S", 0.1)
    first, second = Ear("first", **{how: where}), Ear("second")
    stream = AsrTargets((first, second)).open(AsrRequest(("en",)))
    async with asyncio.timeout(30):
        for _ in range(3):
            await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
        guessed = await stream.guess()
        await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
        finished = await stream.finish()
    assert guessed.text.endswith(" 3") and finished.text == "second 4"
    await stream.aclose()
    assert (first.open_streams, second.open_streams) == (0, 0)


async def test_recognisers_that_take_no_sound_any_more_are_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.FEED_S", 0.05)
    chunk = PcmChunk(np.zeros(960, np.int16), 16000)
    first, second = Ear("first", hangs_in="feed"), Ear("second", hangs_in="feed")
    (both,) = one_open_recogniser((first, second))
    async with TaskScope("t") as scope, asyncio.timeout(20):
        recognition = Recognition([both], AsrRequest(("en",)), scope)
        for _ in range(3):
            await recognition.feed(chunk)
        assert not recognition.hears
        second.hangs_in = ""
        assert (await recognition.finish()).text == "second 3"
        await recognition.aclose()
    assert (first.open_streams, second.open_streams) == (0, 0)


async def test_a_guess_that_is_cancelled_leaves_the_recogniser_listening() -> None:
    ear = Ear("first", hangs_in="guess", remote=False)
    stream = AsrTargets((ear, Ear("second"))).open(AsrRequest(("en",)))
    await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
    task = asyncio.create_task(stream.guess())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
    assert (await stream.finish()).text == "first 2"
    await stream.aclose()


async def test_who_was_overtaken_helps_out_when_the_quicker_one_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.MODELS", _quick_limits())
    first, second = Model("first", hangs=0), Model("second", dies=4)
    request = first.chat

    def once(asked: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        answer = request(asked)
        first.hangs = first.hangs if not first.asked else None
        return answer

    monkeypatch.setattr(first, "chat", once)
    assert (await said_by(first, second))[0] == ANSWER
    assert len(first.asked) == 2


async def test_who_is_no_longer_wanted_stops_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.MODELS", _quick_limits())
    for hangs in (0, 1):
        first = Model("first", hangs=hangs)
        known_quick(first)
        left: list[int] = []

        class Second(Model):
            async def chat(
                self, request: ChatRequest, first: Model = first, left: list[int] = left
            ) -> AsyncGenerator[TextDelta | ToolRequest, None]:
                yield TextDelta("It ")
                for _ in range(20):
                    await asyncio.sleep(0)
                left.append(first.left)
                yield TextDelta("is.")

        await said_by(first, Second("second"))
        assert left == [1]


async def test_the_last_one_is_waited_for_however_long_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    from xiaozhi_hub.engines.relay import Limits

    monkeypatch.setattr("xiaozhi_hub.engines.failover.MODELS", Limits(unknown_ms=50.0, stall_ms=50.0))

    class Slow(Model):
        async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
            for word in ("Slowly, ", "but surely."):
                await asyncio.sleep(0.3)
                yield TextDelta(word)

    slow = Slow("first")
    assert (await said_by(slow))[0] == "Slowly, but surely."
    assert slow.health.begins.usual_ms is not None and slow.health.begins.usual_ms >= 250


async def test_what_an_engine_does_not_have_says_nothing_against_it() -> None:
    class Without(Voice):
        async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
            raise StageError("tts", "no such voice", code="voice-unknown")
            yield PcmChunk(np.zeros(0, np.int16), 16000)

    first, second = Without("first"), Voice("second")
    assert {name for name, _ in await spoken(first, second, text="Hi.")} == {"second"}
    assert first.health.reason == ""


@pytest.mark.parametrize("dies", [0, 20])
async def test_what_else_an_engine_offers_that_has_just_failed_is_tried_last(dies: int) -> None:
    first, second = Voice("first", dies=dies), Voice("second")
    known_quick(first, second)
    pieces = await spoken(first, first, second)
    assert pieces[-1][0] == "second"
    assert len(first.texts) == 1


async def test_a_recogniser_that_fails_is_closed_and_noted() -> None:
    first, second = Ear("first", fails_in="guess"), Ear("second")
    stream = AsrTargets((first, second)).open(AsrRequest(("en",)))
    await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
    assert (await stream.guess()).text == "second 1"
    assert (first.open_streams, first.health.reason) == (0, "died")
    second.fails_in = "feed"
    await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
    assert second.health.reason == "died"
    first.fails_in = ""
    assert (await stream.finish()).text == "first 2"
    await stream.aclose()


async def test_a_recogniser_on_this_machine_may_take_its_time_with_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.engines.failover.FEED_S", 0.02)
    first, second = Ear("first", remote=False, slow_s=0.1), Ear("second")
    stream = AsrTargets((first, second)).open(AsrRequest(("en",)))
    await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
    assert (await stream.finish()).text == "first 1"
    await stream.aclose()


def test_recognisers_of_the_hubs_own_sentences_stay_by_themselves() -> None:
    closed, one, two = Ear("closed", closed=True), Ear("one"), Ear("two")
    grouped = one_open_recogniser((closed, one, two))
    assert [each.info.id for each in grouped] == ["closed", "one"] and isinstance(grouped[1], AsrTargets)
    assert one_open_recogniser((closed, one)) == (closed, one)


# -- in a house ---------------------------------------------------------------------------------------------------


async def test_a_server_that_is_killed_in_the_middle_of_a_turn_costs_no_turn() -> None:
    bench = _bench()
    pairs = await bench.run(8, 5, freezes=2, warm_up=2)  # more of them: bench/targets.py
    assert len(pairs) == 10
    assert [pair for pair in pairs if pair.lost] == []
    extras = sorted(pair.extra_ms for pair in pairs)
    assert extras[len(extras) // 2] < 300


def _bench() -> Any:
    path = Path(__file__).resolve().parent.parent / "bench" / "targets.py"
    spec = importlib.util.spec_from_file_location("bench_targets", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_targets"] = module
    spec.loader.exec_module(module)
    return module
