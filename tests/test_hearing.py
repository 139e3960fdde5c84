"""What a recogniser is given of an utterance, and when it is asked: frame by frame, with a detector and a recogniser that do as
the test says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing

import numpy as np
import pytest

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.audio.mic import Mic
from xiaozhi_hub.audio.opus import OpusDecoder, silence
from xiaozhi_hub.core.flow import Completeness, Packet, PcmChunk, Transcript, Wait, WaitReason
from xiaozhi_hub.core.tasks import cancel_and_wait
from xiaozhi_hub.dialog.hearing import hearing as hear
from xiaozhi_hub.dialog.hearing.hearing import BEFORE_MS, RATE, Ears, Heard, Hearing
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.failover import AsrTargets
from xiaozhi_hub.engines.vad import VadStream
from xiaozhi_hub.errors import StageError

FRAME_MS = 60
SURE = {"#": 0.9, "!": 0.9, "_": 0.9, "+": 0.6, "f": 0.2, ".": 0.0}
"""Clear speech, the same after a hitch of the hub or a gap, fading speech, what may be the soft beginning of a word, and nothing."""


BEFORE = 1000
"""The number of the first frame of those that came before the turn."""


class Detector(VadStream):
    def __init__(self, script: str, listener: Listener) -> None:
        self._script = script
        self._listener = listener

    async def feed(self, chunk: PcmChunk) -> float:
        if (number := int(chunk.samples[0])) >= BEFORE:
            return 0.0
        self._listener.listened += 1
        return SURE[self._script[number]]

    def reset(self) -> None: ...


class Listener(Asr):
    """Remembers which frames it had, at the end and at each guess, and thinks until so many more have come."""

    def __init__(self, understands: Callable[[list[int]], str], *, thinks: int = 0, fails: bool = False) -> None:
        self.info = EngineInfo("listener", Role.ASR, "Listener")
        self.understands = understands
        self.thinks, self.fails = thinks, fails
        self.early: list[bool] = []
        """Which guesses were for a last word that was still fading."""
        self.cancelled = 0
        self.said = False
        """All has been said."""
        self.hearing: Hearing | None = None
        self.request = AsrRequest(())
        self.had: list[int] = []
        self.guesses: list[list[int]] = []
        self.finished: list[int] = []
        self.listened = 0
        """Frames that have come, wanted or not."""
        self.asked_at: list[int] = []
        """How many those were at each guess."""
        self.utterance: list[int] = []
        """What counts as said, to be passed on as it is."""
        self.kept: list[int] = []
        """The frames that are there to be remembered."""

    def open(self, request: AsrRequest) -> AsrStream:
        self.request = request
        return _Stream(self)


class _Stream(AsrStream):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    async def feed(self, chunk: PcmChunk) -> None:
        self._listener.had.append(int(chunk.samples[0]))

    async def guess(self) -> Transcript:
        return await self._guess(early=False)

    async def guess_early(self) -> Transcript:
        return await self._guess(early=True)

    async def _guess(self, *, early: bool) -> Transcript:
        listener, had = self._listener, list(self._listener.had)
        listener.guesses.append(had)
        listener.asked_at.append(listener.listened)
        listener.early.append(early)
        try:
            while listener.listened < listener.asked_at[-1] + listener.thinks and not listener.said:
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            listener.cancelled += 1
            raise
        if listener.fails:
            raise StageError("asr", "it was told to fail")
        return Transcript(listener.understands(had), "en")

    async def finish(self) -> Transcript:
        self._listener.finished = list(self._listener.had)
        return Transcript(self._listener.understands(self._listener.had), "en")


async def heard(
    script: str,
    listener: Listener,
    become: Completeness,
    *,
    released: bool = True,
    manual: bool = False,
    recognisers: Sequence[Asr] = (),
    frame_ms: int = FRAME_MS,
    before: int = 0,
    patience: Patience = Patience(),  # noqa: B008  (it cannot be changed)
    guessed: Callable[[Transcript | None], None] = lambda _: None,
    habit: Callable[[Transcript], Wait | None] = lambda _: None,
) -> Transcript | None:
    """Have *script* heard, a character a frame, each taken before the next one comes, by *listener* or by *recognisers*; before ``!``
    everything stands still for a while, before ``_`` the device sends nothing. *before* frames have come before the turn."""
    frame = silence(frame_ms)[0].data
    mic = Mic([Packet(frame, frame_ms, BEFORE + number) for number in range(before)])
    decoder = OpusDecoder(RATE)

    def numbered(chunk: PcmChunk, timestamp: int) -> PcmChunk:
        return PcmChunk(np.full(len(chunk.samples), timestamp, np.int16), chunk.rate)

    ears = Ears(decoder, Detector(script, listener), numbered)
    hearing = Hearing(
        mic,
        ears,
        recognisers or [listener],
        AsrRequest(("en",)),
        patience=patience,
        judge=lambda *_: become,
        stamp=lambda *_: None,
        manual=manual,
        guessed=guessed,
        habit=habit,
    )
    listener.hearing = hearing

    async def speak() -> None:
        for number in range(len(script)):
            if script[number] == "_":
                await asyncio.sleep(3 * hear.STALL_SECONDS)
            if script[number] == "!":
                time.sleep(1.1 * hear.STALL_SECONDS)
                for _ in range(20):
                    await asyncio.sleep(0)  # what has come meanwhile is only now on its way
            mic.put(Packet(frame, frame_ms, number))
            for _ in range(20):
                await asyncio.sleep(0)
        listener.said = True
        if released:
            mic.finish()

    result: Transcript | None = None
    try:
        async with asyncio.timeout(20), asyncio.TaskGroup() as group, aclosing(hearing.run()) as events:
            group.create_task(speak())
            async for event in events:
                if isinstance(event, Heard):
                    result = event.transcript
    finally:
        decoder.close()
        listener.utterance = [packet.timestamp for packet in hearing.utterance()]
        listener.kept = [packet.timestamp for packet in hearing.packets]
    return result


async def test_a_word_is_heard_from_its_soft_beginning_with_a_margin_before_it() -> None:
    listener = Listener(lambda had: "yes")
    await heard("." * 12 + "ff" + "####" + "." * 20, listener, Completeness.UNKNOWN)
    assert listener.had[:8] == list(range(8, 16)), "four frames of quiet, and all of the word"
    assert listener.request.lead_ms == 4 * FRAME_MS


async def test_what_was_long_before_a_word_does_not_belong_to_it() -> None:
    listener = Listener(lambda had: "yes")
    noise = 60
    await heard("f" * noise + "####" + "." * 20, listener, Completeness.UNKNOWN)
    assert 0 < noise - listener.had[0] <= BEFORE_MS / FRAME_MS


async def test_a_guess_that_lacks_too_much_of_a_fading_word_is_made_anew() -> None:
    listener = Listener(lambda had: "turn on the light" if 8 in had else "turn on the lie")
    result = await heard("....##" + "+++" + "." * 20, listener, Completeness.EXTENDABLE)
    assert len(listener.guesses) > 1 and 8 not in listener.guesses[0] and 8 in listener.guesses[-1]
    assert result is not None and result.text == "turn on the light"
    assert listener.listened == 6 + 5, "it shortened the silence"
    assert listener.asked_at[-1] <= 9, "and nobody waits for it after that"


async def test_who_was_not_understood_is_heard_again_with_all_that_came_after() -> None:
    listener = Listener(lambda had: "yes" if len(had) > 12 else "")
    result = await heard("....####" + "." * 20, listener, Completeness.UNKNOWN)
    assert listener.guesses and len(listener.finished) > max(map(len, listener.guesses))
    assert result is not None and result.text == "yes"


async def test_what_follows_a_guess_makes_it_worthless() -> None:
    listener = Listener(lambda had: f"{len(had)} frames")
    result = await heard("....####" + ".." + "####" + "." * 20, listener, Completeness.EXTENDABLE)
    assert result is not None and set(range(4, 14)) <= set(listener.guesses[-1])
    assert result.text == f"{len(listener.guesses[-1])} frames"


async def test_a_device_that_falls_silent_in_mid_sentence_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hear, "STALL_SECONDS", 0.3)
    listener = Listener(lambda had: "turn on the")
    result = await heard("....####", listener, Completeness.UNKNOWN, released=False)
    assert result is not None and result.text == "turn on the"


async def test_a_hub_that_was_held_up_goes_on_to_hear_who_speaks() -> None:
    listener = Listener(lambda had: "turn on the light" if {7, 8, 11} <= set(had) else "turn on")
    result = await heard("....####" + "!###" + "." * 20, listener, Completeness.UNKNOWN)
    assert result is not None and result.text == "turn on the light"


async def test_what_is_passed_on_as_it_was_said_has_little_silence_around_it() -> None:
    listener = Listener(lambda had: "yes")
    await heard("." * 20 + "####" + "." * 20, listener, Completeness.UNKNOWN)
    assert listener.utterance == list(range(16, 28)), "200 ms before and after"


async def test_while_the_button_is_held_no_pause_is_the_end() -> None:
    listener = Listener(lambda had: "yes")
    script = "....####" + "." * 40 + "####...."
    await heard(script, listener, Completeness.COMPLETE, manual=True)
    assert listener.listened == len(script) and {7, 48} <= set(listener.finished)


class Closing(Asr):
    """Thinks for ever; fails when it is closed meanwhile, as recognisers do whose work that ends."""

    def __init__(self, name: str) -> None:
        self.info = EngineInfo(name, Role.ASR, name)
        self.asked = asyncio.Event()

    def open(self, request: AsrRequest) -> AsrStream:
        return _ClosingStream(self)


class _ClosingStream(AsrStream):
    def __init__(self, engine: Closing) -> None:
        self._engine = engine
        self._closed = asyncio.Event()

    async def feed(self, chunk: PcmChunk) -> None: ...

    async def guess(self) -> Transcript:
        self._engine.asked.set()
        await self._closed.wait()
        raise StageError("asr", "the recognition was given up")

    async def finish(self) -> Transcript:
        return await self.guess()

    async def aclose(self) -> None:
        self._closed.set()
        for _ in range(20):
            await asyncio.sleep(0)  # as a connection does that is closed


async def test_who_is_interrupted_while_a_recogniser_thinks_has_not_made_it_fail() -> None:
    first, second = Closing("first"), Closing("second")
    listener = Listener(lambda had: "")
    turn = asyncio.create_task(
        heard(
            "....####" + "." * 5,
            listener,
            Completeness.UNKNOWN,
            released=False,
            recognisers=[AsrTargets([first, second])],
        )
    )
    async with asyncio.timeout(20):
        await first.asked.wait()
    await cancel_and_wait(turn)
    assert (first.health.reason, second.health.reason) == ("", "")


async def test_while_nobody_speaks_the_sound_of_long_ago_is_let_go() -> None:
    listener = Listener(lambda had: "yes")
    quiet = 500
    await heard("." * quiet + "####" + "." * 20, listener, Completeness.UNKNOWN)
    assert listener.utterance == list(range(quiet - 4, quiet + 8)), "what was said is found all the same"
    assert len(listener.kept) < 200


async def test_a_button_that_is_held_down_for_ever_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hear, "MOST_HELD_MS", 3000)
    listener = Listener(lambda had: "yes")
    result = await heard("##" + "#" * 200, listener, Completeness.UNKNOWN, manual=True)
    assert result is not None and result.text == "yes"
    assert len(listener.finished) == len(listener.kept) == 3000 / FRAME_MS


async def test_who_holds_the_button_for_long_is_heard_in_order_with_all_pauses() -> None:
    listener = Listener(lambda had: "yes")
    script = "####" + "." * 20 + "#" * 330 + "." * 20 + "####" + "." * 20 + "####...."
    await heard(script, listener, Completeness.COMPLETE, manual=True)
    said = script.rstrip(".")
    assert listener.finished[: len(said)] == list(range(len(said)))


@pytest.mark.parametrize("frame_ms", [20, 40, 60])
async def test_how_much_a_guess_may_lack_is_a_matter_of_time_and_not_of_frames(frame_ms: int) -> None:
    listener = Listener(lambda had: "turn on the light")
    lacks = 60 // frame_ms
    speech = "#" * (240 // frame_ms)
    script = speech + "+" * (60 // frame_ms) + "+" * lacks + "." * (960 // frame_ms)
    await heard(script, listener, Completeness.COMPLETE, frame_ms=frame_ms)
    assert len(listener.guesses) == 1


# -- guesses -----------------------------------------------------------------------------------------------------------


async def test_who_goes_on_stops_the_guess_and_what_comes_of_it() -> None:
    told: list[str | None] = []
    listener = Listener(lambda had: f"{len(had)} frames")
    await heard(
        "....####" + ".." + "####" + "." * 20,
        listener,
        Completeness.EXTENDABLE,
        guessed=lambda guess: told.append(guess.text if guess is not None else None),
    )
    assert told == [f"{len(listener.guesses[0])} frames", None, f"{len(listener.guesses[-1])} frames"]

    slow = Listener(lambda had: "yes", thinks=100)
    result = await heard("....####" + ".." + "####" + "." * 20, slow, Completeness.EXTENDABLE)
    assert slow.cancelled == 1 and result is not None
    assert len(slow.guesses[-1]) > 14, "it was made anew when it was wanted again"


async def test_a_guess_that_is_made_anew_is_taken_back_first() -> None:
    told: list[bool] = []
    listener = Listener(lambda had: "turn on the light" if 8 in had else "turn on the lie")
    await heard(
        "....##" + "+++" + "." * 20,
        listener,
        Completeness.EXTENDABLE,
        guessed=lambda guess: told.append(guess is not None),
    )
    assert told == [True, False, True]


async def test_what_was_guessed_before_somebody_went_on_says_nothing_of_the_end() -> None:
    listener = Listener(lambda had: "turn on the light")

    def habit(guess: Transcript) -> Wait:
        listener.thinks = 1000  # the next one
        return Wait(280, Completeness.EXTENDABLE, WaitReason.HABIT, 300)

    await heard("....####" + "..." + "####" + "." * 20, listener, Completeness.EXTENDABLE, habit=habit)
    assert listener.hearing is not None
    assert listener.hearing.wait == Wait(Patience().unknown_ms, None)
    first, end = listener.hearing.pauses
    assert (first.text, first.ms, first.went_on) == ("turn on the light", 180, True)
    assert (end.text, end.completeness, end.went_on) == ("", None, False)


async def test_habit_is_asked_for_what_may_go_on_only() -> None:
    def unasked(guess: Transcript) -> Wait:
        raise AssertionError("nobody goes on after this")

    for become in (Completeness.COMPLETE, Completeness.PARTIAL, Completeness.UNKNOWN):
        await heard("....####" + "." * 20, Listener(lambda had: "yes"), become, habit=unasked)


@pytest.mark.parametrize(("script", "early"), [("....####" + "." * 20, False), ("....####" + "+" + "." * 20, True)])
async def test_a_recogniser_is_told_when_the_last_word_is_still_fading(script: str, early: bool) -> None:
    listener = Listener(lambda had: "yes")
    await heard(script, listener, Completeness.UNKNOWN)
    assert listener.early == [early]


async def test_a_whole_command_is_not_guessed_again_while_its_last_word_fades() -> None:
    for become, again in ((Completeness.COMPLETE, 18), (Completeness.EXTENDABLE, 11)):
        listener = Listener(lambda had: "turn on the light")
        patience = Patience(complete_ms=600)
        await heard("....####" + "+" * 6 + "." * 20, listener, become, patience=patience)
        assert listener.asked_at[:2] == [9, again], "only at the end is it made sure of"


async def test_a_little_that_a_guess_lacks_is_added_as_soon_as_nobody_speaks() -> None:
    listener = Listener(lambda had: "turn on the light")
    await heard("....####" + "++" + "." * 20, listener, Completeness.EXTENDABLE)
    assert [9 in guess for guess in listener.guesses] == [False, True]
    assert listener.asked_at[-1] == 11, "with the first silence"


async def test_who_lets_go_of_the_button_while_a_word_fades_is_heard_to_its_end() -> None:
    listener = Listener(lambda had: "lights" if 9 in had else "light")
    result = await heard("....####" + "++", listener, Completeness.EXTENDABLE)
    assert 9 not in listener.guesses[0]
    assert result is not None and result.text == "lights"


async def test_of_the_silence_after_it_a_guess_is_given_little() -> None:
    listener = Listener(lambda had: "yes", thinks=6)
    await heard("....####" + "++" + "." * 20, listener, Completeness.UNKNOWN)
    assert [guess[-1] for guess in listener.guesses] == [8, 10]


async def test_only_so_many_pauses_are_noted() -> None:
    listener = Listener(lambda had: "yes")
    await heard("##" + ".##" * 60 + "." * 20, listener, Completeness.UNKNOWN)
    assert listener.hearing is not None
    assert [pause.went_on for pause in listener.hearing.pauses] == [True] * hear.MOST_PAUSES + [False]


async def test_a_guess_that_fails_is_followed_by_the_whole() -> None:
    listener = Listener(lambda had: "yes", fails=True)
    result = await heard("....####" + "." * 20, listener, Completeness.UNKNOWN)
    assert listener.guesses and result is not None and result.text == "yes"


async def test_what_came_before_the_turn_belongs_to_its_sound() -> None:
    listener = Listener(lambda had: "yes")
    await heard("####" + "." * 20, listener, Completeness.UNKNOWN, before=3)
    assert listener.kept[:4] == [BEFORE, BEFORE + 1, BEFORE + 2, 0]
    assert listener.utterance == [BEFORE, BEFORE + 1, BEFORE + 2, *range(8)]
    assert listener.had[:3] == [BEFORE, BEFORE + 1, BEFORE + 2]


async def test_speech_that_is_ended_by_its_length_has_not_paused() -> None:
    listener = Listener(lambda had: "yes")
    result = await heard("#" * 400, listener, Completeness.UNKNOWN)
    assert result is not None and listener.listened < 400
    assert listener.hearing is not None
    assert (listener.hearing.wait, listener.hearing.pauses) == (None, [])


async def test_while_the_button_is_held_or_nobody_speaks_a_device_may_send_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hear, "STALL_SECONDS", 0.1)
    listener = Listener(lambda had: "yes")
    await heard("####_###", listener, Completeness.COMPLETE, manual=True, patience=Patience(unknown_ms=90))
    assert listener.finished[-1] == 7
    await heard("......_####" + "." * 20, listener, Completeness.UNKNOWN)
    assert listener.utterance == list(range(2, 15))


async def test_a_packet_that_cannot_be_decoded_is_silence_of_its_length() -> None:
    decoder = OpusDecoder(RATE)
    ears = Ears(decoder, Detector("", Listener(lambda had: "")))
    try:
        ears.decode(silence(FRAME_MS)[0])
        broken = ears.decode(Packet(b"\xff" * 3, FRAME_MS))
    finally:
        decoder.close()
    assert broken.ms == FRAME_MS and not broken.samples.any()
