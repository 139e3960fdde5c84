"""The recogniser for known sentences works while people speak, and understands the same as if it had waited."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from phrases_engine import RATE, Sound, book, decoder, distance, heard, sentences, spoken, started, stream

from xiaozhi_hub.core.flow import PcmChunk, Transcript
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.engines.asr import AsrRequest

SAID = (
    "turn on standing light",
    "turn off the standing light",
    "turn off front door",
    "set standing light to fifteen percent",
    "set standing light to fifty percent",
    "set a timer for eighteen minutes",
    "set a timer for eight minutes",
    "set a timer for three hours and thirteen minutes",
    "what time is it",
    "is the front door locked",
    "stop the music",
    "my brother lives in a small village near the mountains",
    "set a timer for",
)


def graph_of(known: Any) -> Any:
    graph = known.graph(False)
    return (graph.start, graph.states, graph.arcs, graph.ends, graph.polite)


def said_by(search: Any) -> set[str]:
    """Every sentence of a search that has no loops."""
    begin, end, steps = search
    found: set[str] = set()
    todo = [(begin, "")]
    while todo:
        state, text = todo.pop()
        if state == end:
            found.add(text.strip())
        todo += [(step[1], f"{text} {step[3]}" if len(step) > 3 else text) for step in steps if step[0] == state]
    return found


# -- what is near to a sentence ----------------------------------------------------------------------------------------


def known_sentences() -> Any:
    graph = graph_of(book())
    return sentences.Sentences("known", graph, {arc[2] for arc in graph[2]} | set(" ".join(graph[4]).split()))


@pytest.mark.parametrize(
    "said", ["turn on the standing light", "set a timer for eight minutes", "set standing light to fifty percent"]
)
def test_near_are_only_sentences_that_differ_in_at_most_two_words(said: str) -> None:
    known = known_sentences()
    near = said_by(known.near(said.split()))
    assert said in near
    assert all(known.is_whole(text.split()) for text in near)
    assert all(distance(said.split(), text.split()) <= 2 for text in near)


def test_near_are_all_of_them() -> None:
    said = "turn on the standing light"
    every = {
        " ".join(f"turn {switch} {the} {name}".split())
        for switch, the, name in itertools.product(("on", "off"), ("", "the"), ("standing light", "front door"))
    }
    near = said_by(known_sentences().near(said.split()))
    assert near & every == {text for text in every if distance(said.split(), text.split()) <= 2} != {said}


def test_what_sounds_alike_is_near() -> None:
    near = said_by(known_sentences().near("set a timer for eight minutes".split()))
    assert {"set a timer for eighteen minutes", "set a timer for five minutes"} <= near


def test_what_is_no_sentence_has_nothing_near() -> None:
    known = known_sentences()
    assert known.near("turn on the moon".split()) is None
    assert known.near("turn on".split()) is None
    assert known.near([]) is None


# -- the decoder ------------------------------------------------------------------------------------------------------


class Watched(decoder.Recogniser):  # type: ignore[misc,name-defined]
    """Remembers which searches were made."""

    def __init__(self) -> None:
        super().__init__()
        self.searches: list[str] = []

    def _search(self, *args: Any) -> Any:
        self.searches.append(args[2])
        return super()._search(*args)

    def only_near(self) -> bool:
        whole = {known.name for known in self._sentences.values()}
        return len(self.searches) == 1 and self.searches[0] not in whole


@pytest.fixture(scope="module")
def taught() -> Watched:
    recogniser = Watched()
    recogniser.learn("1", [(False, graph_of(book()))], (), {})
    return recogniser


def noisy(sound: Sound) -> bytes:
    noise = np.random.default_rng(1).normal(0, 35, len(sound))
    return np.clip(sound + noise, -32768, 32767).astype(np.int16).tobytes()


def follow(recogniser: Watched, utterance: int, pcm: bytes, first: int = 8 * RATE // 5, piece: int = 1920) -> bool:
    at, going = first, recogniser.follow("1", False, utterance, 0, pcm[:first])
    while going and at + piece < len(pcm) - 6400:
        going = recogniser.follow("1", False, utterance, at, pcm[at : at + piece])
        at += piece
    return going


@pytest.mark.parametrize("said", SAID)
async def test_who_is_followed_is_understood_as_who_is_not(said: str, taught: Watched) -> None:
    pcm = noisy(await spoken(said))
    whole = taught.recognise("1", False, pcm)
    taught.searches.clear()
    assert follow(taught, 7, pcm)
    text, certain = taught.recognise("1", False, pcm, 7)
    assert text == whole[0]
    assert certain == pytest.approx(whole[1], abs=0.25)


async def test_most_sentences_need_no_search_of_everything(taught: Watched) -> None:
    near = 0
    for said in SAID[:10]:
        pcm = noisy(await spoken(said))
        taught.searches.clear()
        assert follow(taught, 8, pcm)
        taught.recognise("1", False, pcm, 8)
        near += taught.only_near()
    assert near >= 7


async def test_who_was_interrupted_is_understood_all_the_same(taught: Watched) -> None:
    mine, other = noisy(await spoken("turn on standing light")), noisy(await spoken("what time is it"))
    assert follow(taught, 20, mine)
    assert taught.recognise("1", False, other)[0] == "what time is it"
    assert not taught.follow("1", False, 20, len(mine) - 6400, mine[-6400:])
    assert taught.recognise("1", False, mine, 20)[0] == "turn on standing light"

    assert follow(taught, 21, mine)
    assert follow(taught, 22, other)
    assert not taught.follow("1", False, 21, len(mine) - 6400, mine[-6400:])
    assert taught.recognise("1", False, other, 22)[0] == "what time is it"
    assert taught.recognise("1", False, mine, 21)[0] == "turn on standing light"


async def test_a_piece_that_is_missing_ends_the_following(taught: Watched) -> None:
    pcm = noisy(await spoken("turn on standing light"))
    assert taught.follow("1", False, 30, 0, pcm[:25600])
    assert not taught.follow("1", False, 30, 30000, pcm[30000:])
    assert not taught.follow("other", False, 30, 25600, pcm[25600:])
    assert taught.recognise("1", False, pcm, 30)[0] == "turn on standing light"


async def test_new_sentences_can_be_learned_while_somebody_is_followed() -> None:
    recogniser = Watched()
    recogniser.learn("1", [(False, graph_of(book("Standing Light")))], (), {})
    pcm = noisy(await spoken("turn on standing light"))
    assert follow(recogniser, 1, pcm)
    recogniser.learn("2", [(False, graph_of(book("Standing Light", "Garden Pump", version="2")))], (), {})
    assert recogniser.recognise("1", False, pcm, 1) is None
    assert recogniser.recognise("2", False, pcm, 1)[0] == "turn on standing light"


async def test_a_television_is_not_followed_for_ever(taught: Watched) -> None:
    pcm = noisy(np.concatenate([await spoken("once upon a time there was a king")] * 4))
    assert not follow(taught, 40, pcm)
    assert taught.recognise("1", False, pcm, 40)[0] == ""


# -- the engine -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def speaking(engine: Any, sound: Sound, upto: int | None = None) -> AsyncIterator[Any]:
    """A stream that has been given *sound* as it comes in, and followed as far as the decoder got."""
    stream = engine.open(AsrRequest(("en",)))
    try:
        await feed(stream, sound[:upto])
        yield stream
    finally:
        await stream.aclose()


async def feed(stream: Any, sound: Sound) -> None:
    for at in range(0, len(sound), 960):
        await stream.feed(PcmChunk(sound[at : at + 960], RATE))
        async with asyncio.timeout(20):
            while stream.following:
                await asyncio.sleep(0.005)


async def test_an_utterance_is_followed_while_it_is_spoken() -> None:
    sound = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book())
        async with speaking(engine, sound) as stream:
            assert engine.followed is stream
            assert stream._given > len(sound) - RATE // 10
            assert (await stream.guess_early()).text == "turn on Standing Light"
            assert engine.followed is None
        transcript: Transcript = await heard(engine, sound)
        assert transcript.text == "turn on Standing Light"


async def test_who_pauses_and_goes_on_is_followed_again() -> None:
    whole = await spoken("set a timer for three hours, and ten minutes")
    async with started() as engine:
        await engine.learn(book())
        begin = len(await spoken("set a timer for three hours")) - RATE // 4
        async with speaking(engine, whole, begin) as stream:
            assert (await stream.guess()).text == "set a timer for 3 hours"
            await feed(stream, whole[begin:])
            assert engine.followed is stream
            assert (await stream.finish()).text == "set a timer for 3 hours and 10 minutes"


async def test_a_word_that_fades_away_is_not_followed_anew() -> None:
    sound = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book())
        async with speaking(engine, sound) as stream:
            await stream.guess_early()
            await feed(stream, sound[-RATE // 5 :])
            assert engine.followed is None
            await feed(stream, sound)
            assert engine.followed is stream


async def test_two_who_speak_at_once_are_both_understood() -> None:
    one, other = await spoken("turn on standing light"), await spoken("what time is it")
    async with started() as engine:
        await engine.learn(book())
        async with speaking(engine, one) as first, speaking(engine, other) as second:
            assert engine.followed is first
            assert (await second.guess()).text == "what time is it"
            assert (await first.guess()).text == "turn on Standing Light"


async def test_who_leaves_in_mid_sentence_makes_room() -> None:
    sound = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book())
        async with speaking(engine, sound, RATE):
            assert engine.followed is not None
        async with speaking(engine, sound) as stream:
            assert engine.followed is stream
            assert (await stream.guess()).text == "turn on Standing Light"


async def test_a_decoder_that_dies_while_it_follows_loses_nothing() -> None:
    sound = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book())
        async with speaking(engine, sound, RATE * 6 // 5) as stream:
            os.kill(engine.pid, signal.SIGKILL)
            await feed(stream, sound[RATE * 6 // 5 :])
            assert (await stream.finish()).text == "turn on Standing Light"


# -- what a stream asks of its engine, with one that notes it -----------------------------------------------------------


class Noting:
    """Follows and recognises as the test says; notes what it was asked for."""

    def __init__(self) -> None:
        self.followed: object | None = None
        self.follows = True
        self.says = ""
        self.go = asyncio.Event()
        self.go.set()
        self.pieces: list[tuple[int, int, int]] = []
        """Utterance, place and length of what was to be followed."""
        self.asked: list[tuple[int, int, int | None]] = []
        """Length, tail and utterance of what was to be recognised."""
        self._utterances = 0

    def new_utterance(self) -> int:
        self._utterances += 1
        return self._utterances

    async def follow(self, utterance: int, answering: bool, samples: Sound, place: int) -> bool:
        self.pieces.append((utterance, place, len(samples)))
        await self.go.wait()
        return self.follows

    async def recognise(
        self, samples: Sound, answering: bool, tail: int = 0, utterance: int | None = None
    ) -> Transcript:
        self.asked.append((len(samples), tail, utterance))
        return Transcript(self.says, "en")


@asynccontextmanager
async def noted(engine: Noting, lead_ms: float = 0.0) -> AsyncIterator[Any]:
    async with TaskScope("t") as scope:
        heard_by = stream.PhrasesStream(engine, scope, AsrRequest(("en",), lead_ms=lead_ms))
        yield heard_by
        await heard_by.aclose()


async def feed_ms(listening: Any, ms: int, level: int = 3000) -> None:
    for _ in range(ms // 60):
        await listening.feed(PcmChunk(np.full(960, level, np.int16), RATE))
        for _ in range(5):
            await asyncio.sleep(0)


async def test_each_sample_is_followed_once() -> None:
    engine = Noting()
    async with noted(engine) as listening:
        await feed_ms(listening, 3000)
    assert {utterance for utterance, *_ in engine.pieces} == {1}
    ends = [0, *(place + length for _, place, length in engine.pieces)]
    assert [place for _, place, _ in engine.pieces] == ends[:-1]
    assert ends[-1] == 3 * RATE


async def test_who_goes_on_after_a_guess_that_came_in_between_is_followed_from_the_beginning() -> None:
    engine = Noting()
    async with noted(engine) as listening:
        await feed_ms(listening, 900)
        engine.go.clear()
        await feed_ms(listening, 60)
        await listening.guess()
        engine.go.set()
        await feed_ms(listening, 600)
    assert engine.asked == [(960 * 16, 0, 1)]
    second = [(place, length) for utterance, place, length in engine.pieces if utterance == 2]
    assert second[0][0] == 0 and second[0][1] >= (960 + 400) * 16


async def test_who_is_not_followed_makes_room_and_is_not_until_a_guess() -> None:
    engine = Noting()
    engine.follows = False
    async with noted(engine) as listening, noted(engine) as other:
        await feed_ms(listening, 1800)
        assert len(engine.pieces) == 1 and engine.followed is None
        engine.follows = True
        await feed_ms(other, 1200)
        assert engine.followed is other
        await listening.aclose()
        assert engine.followed is other, "nobody else lets go of it"


async def test_who_leaves_while_a_piece_is_being_searched_leaves_nothing() -> None:
    engine = Noting()
    engine.go.clear()
    async with noted(engine) as listening:
        await feed_ms(listening, 900)
        assert listening.following
        await listening.aclose()
        assert not listening.following and engine.followed is None


async def test_what_is_recognised_at_the_end_depends_on_what_came_after_the_guess() -> None:
    for says, more, level, expected in (
        ("yes", 300, 100, []),  # only silence
        ("yes", 300, 3000, [(1800 * 16, 0, 2)]),  # it went on
        ("", 300, 100, [(1600 * 16, 0, None)]),  # perhaps a click before the first word has spoilt it
        ("", 1200, 100, [(2000 * 16, 0, None)]),  # however long was waited for more
        ("", 300, 3000, [(1800 * 16, 0, 2), (1600 * 16, 0, None)]),
    ):
        engine = Noting()
        engine.says = says
        async with noted(engine, lead_ms=200) as listening:
            await feed_ms(listening, 1500)
            await listening.guess_early()
            assert engine.asked == [(1500 * 16, RATE // 10, 1)]
            await feed_ms(listening, more, level)
            await listening.finish()
        assert engine.asked[1:] == expected
