"""Which recogniser hears an utterance: the closed one first, an open one beside it, the others when those fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest

from xiaozhi_hub.core.flow import PcmChunk, Transcript
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.dialog.hearing.recognition import Recognition, first_and_along
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.errors import StageError

CHUNK = PcmChunk(np.zeros(960, np.int16), 16000)


class Listener(Asr):
    """Hears what the test says, when the test says so."""

    def __init__(self, name: str, says: str = "", *, closed: bool = False, at_once: bool = True) -> None:
        self.info = EngineInfo(name, Role.ASR, name, closed=closed)
        self.says = says
        self.fails: set[str] = set()
        """What goes wrong: ``open``, ``feed``, ``guess``, ``finish``, ``aclose``."""
        self.bug = False
        """It goes wrong with an error of its own, as a hobbyist's recogniser may."""
        self.asked: list[str] = []
        self.cancelled = 0
        self.open_streams = 0
        self.fed: list[int] = []
        """Chunks that each stream was given."""
        self.go = asyncio.Event()
        if at_once:
            self.go.set()

    def fail(self, what: str) -> None:
        if what in self.fails:
            raise ValueError("not thought of") if self.bug else StageError("asr", f"{self.info.id} was told to fail")

    def open(self, request: AsrRequest) -> AsrStream:
        self.fail("open")
        self.open_streams += 1
        self.fed.append(0)
        return ListenerStream(self)

    async def act(self, what: str) -> None:
        self.asked.append(what)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.fail(what)


class ListenerStream(AsrStream):
    def __init__(self, engine: Listener) -> None:
        self._engine = engine
        self._open = True

    async def feed(self, chunk: PcmChunk) -> None:
        self._engine.fail("feed")
        self._engine.fed[-1] += 1

    async def guess(self) -> Transcript:
        await self._engine.act("guess")
        return Transcript(self._engine.says, "en")

    async def finish(self) -> Transcript:
        await self._engine.act("finish")
        return Transcript(self._engine.says, "en")

    async def aclose(self) -> None:
        self._engine.open_streams -= self._open
        self._open = False
        self._engine.fail("aclose")


@asynccontextmanager
async def hearing(*recognisers: Asr, chunks: int = 3) -> AsyncIterator[Recognition]:
    async with TaskScope("test") as scope:
        recognition = Recognition(recognisers, AsrRequest(("en",)), scope)
        for _ in range(chunks):
            await recognition.feed(CHUNK)
        try:
            yield recognition
        finally:
            await recognition.aclose()
    assert [asr.open_streams for asr in recognisers if isinstance(asr, Listener)] == [0] * len(recognisers)


def chain(*closed: bool) -> Sequence[Asr]:
    return [Listener(str(number), closed=value) for number, value in enumerate(closed)]


@pytest.mark.parametrize(
    ("closed", "hear"),
    [
        ((True,), 1),
        ((False,), 1),
        ((False, False), 1),
        ((True, False), 2),
        ((True, True, False, False), 3),
        ((True, True), 2),
        ((), 0),
    ],
)
async def test_closed_recognisers_and_the_first_open_one_hear_from_the_beginning(
    closed: tuple[bool, ...], hear: int
) -> None:
    recognisers = chain(*closed)
    assert first_and_along(recognisers) == tuple(recognisers[:hear])


@pytest.mark.parametrize("question", ["guess", "finish"])
async def test_what_the_closed_one_understands_is_not_waited_for_elsewhere(question: str) -> None:
    known = Listener("known", "turn on the light", closed=True, at_once=False)
    free = Listener("free", "turn on the lie", at_once=False)
    async with hearing(known, free) as recognition, TaskScope("t") as scope, asyncio.timeout(20):
        asking = scope.start(getattr(recognition, question)(), name="ask")
        while not (known.asked and free.asked):
            await asyncio.sleep(0)
        known.go.set()
        assert (await asking).text == "turn on the light"
        assert free.cancelled == 1
    assert known.fed == free.fed == [3]


async def test_what_the_closed_one_knows_at_once_is_not_even_asked_elsewhere() -> None:
    known, free = Listener("known", "turn on the light", closed=True), Listener("free", "turn on the lie")
    async with hearing(known, free) as recognition:
        assert (await recognition.guess()).text == "turn on the light"
    assert free.asked == []


@pytest.mark.parametrize("question", ["guess", "finish"])
async def test_what_the_closed_one_does_not_understand_is_taken_from_the_open_one(question: str) -> None:
    known, free = Listener("known", closed=True, at_once=False), Listener("free", "tell me a story")
    async with hearing(known, free) as recognition, TaskScope("t") as scope, asyncio.timeout(20):
        asking = scope.start(getattr(recognition, question)(), name="ask")
        while not free.asked:
            await asyncio.sleep(0)
        assert known.asked == free.asked == [question]  # at the same moment
        known.go.set()
        assert (await asking).text == "tell me a story"
        assert free.asked == [question], "it was asked twice"


async def test_an_open_one_that_comes_first_is_alone() -> None:
    free, known = Listener("free"), Listener("known", "turn on the light", closed=True)
    async with hearing(free, known) as recognition:
        assert (await recognition.guess()).text == ""
        assert (await recognition.finish()).text == ""
    assert known.asked == []


async def test_nothing_understood_by_anybody_is_nothing() -> None:
    known, free = Listener("known", closed=True), Listener("free")
    async with hearing(known, free) as recognition:
        assert (await recognition.guess()).text == ""
        assert (await recognition.finish()).text == ""


async def test_a_closed_one_alone_is_asked_once_for_each_question() -> None:
    known = Listener("known", closed=True)
    async with hearing(known) as recognition:
        assert (await recognition.guess()).text == ""
        assert (await recognition.finish()).text == ""
    assert known.asked == ["guess", "finish"]


async def test_who_fails_in_mid_sentence_hears_everything_again_at_the_end() -> None:
    first = Listener("first", "hello")
    first.fails = {"feed"}
    async with hearing(first) as recognition:
        assert not recognition.hears
        first.fails = set()
        assert (await recognition.finish()).text == "hello"
    assert first.fed == [0, 3]


async def test_a_closed_one_that_fails_leaves_the_guess_to_the_open_one() -> None:
    known, free = Listener("known", closed=True), Listener("free", "hello")
    known.fails = {"guess"}
    async with hearing(known, free) as recognition:
        assert (await recognition.guess()).text == "hello"
        known.fails, known.says = set(), "turn on the light"
        assert (await recognition.finish()).text == "turn on the light"
    assert known.fed == [3, 3], "who failed begins anew, with everything"


async def test_an_open_one_that_fails_does_not_spoil_what_the_closed_one_said() -> None:
    known, free = Listener("known", closed=True), Listener("free")
    free.fails = {"guess", "finish"}
    async with hearing(known, free) as recognition:
        assert (await recognition.finish()).text == ""
        known.says = "turn on the light"
        assert (await recognition.guess()).text == "turn on the light"


async def test_the_next_one_takes_over_with_the_whole_utterance() -> None:
    first, second = Listener("first"), Listener("second", "hello")
    first.fails = {"finish"}
    async with hearing(first, second) as recognition:
        assert (await recognition.finish()).text == "hello"
    assert second.fed == [3]


@pytest.mark.parametrize("bug", [False, True])
@pytest.mark.parametrize("what", ["open", "feed", "guess", "finish", "aclose"])
async def test_whatever_a_recogniser_does_wrong_the_next_one_hears_the_turn(what: str, bug: bool) -> None:
    broken, sound = Listener("broken", "rubbish", closed=True), Listener("sound", "tell me a story")
    broken.fails, broken.bug = {what}, bug
    async with hearing(broken, sound) as recognition:
        guessed = await recognition.guess()
        heard = await recognition.finish()
    assert "tell me a story" in (guessed.text, heard.text) or what == "aclose"
    assert heard.text == ("tell me a story" if what in ("open", "feed", "finish") else "rubbish")


async def test_when_all_fail_the_reason_is_told() -> None:
    first, second = Listener("first"), Listener("second")
    first.fails = second.fails = {"guess", "finish"}
    async with hearing(first, second) as recognition:
        with pytest.raises(StageError):
            await recognition.guess()
        with pytest.raises(StageError, match="second was told to fail"):
            await recognition.finish()


async def test_interruption_stops_all_of_them() -> None:
    known, free = Listener("known", closed=True, at_once=False), Listener("free", at_once=False)
    async with hearing(known, free) as recognition, TaskScope("t") as scope:
        asking = scope.start(recognition.guess(), name="ask")
        while not (known.asked and free.asked):
            await asyncio.sleep(0)
        await cancel_and_wait(asking)
        assert (known.cancelled, free.cancelled) == (1, 1)
