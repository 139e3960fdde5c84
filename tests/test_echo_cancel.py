"""A device whose microphone hears its own speaker: the hub does not interrupt itself, and a person can interrupt it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession
from numpy.typing import NDArray
from tone_words import spoken

from xiaozhi_hub.audio.apm import ApmCanceller
from xiaozhi_hub.audio.echo import Alignment, EchoCanceller, EchoGate, Reference
from xiaozhi_hub.audio.endpoint import Endpoint, Patience
from xiaozhi_hub.cli.devices import listed
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.flow import Outcome, Samples
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.arrivals import Arrivals
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile, Loopback, running_hub
from xiaozhi_hub.testing.loopback import room

RATE, FRAME, FRAME_MS = 16000, 960, 60
SECONDS = 20
LEAD = 5
"""Packets that the device has before they sound."""
LOUD = 100.0
"""RMS from which these tests take 60 ms for a voice: -50 dB below full scale."""
needs_library = pytest.mark.skipif(
    find_spec("livekit") is None, reason="the extra aec (package livekit) is not installed"
)
BOTH = [EchoGate, pytest.param(ApmCanceller, marks=needs_library)]


def voice(seed: int, seconds: float, pitch: float) -> NDArray[np.float64]:
    """Something like speech: syllables of a buzzing tone whose timbre and loudness change, with pauses between words."""
    random = np.random.default_rng(seed)
    pieces: list[NDArray[np.float64]] = []
    while sum(map(len, pieces)) < seconds * RATE:
        count = int(RATE * random.uniform(0.08, 0.25))
        time = np.arange(count) / RATE
        tone = pitch * random.uniform(0.85, 1.2)
        formants = random.uniform((300, 900, 2200), (800, 2200, 3500))
        sound = np.zeros(count)
        for number in range(1, int(7000 / tone)):
            loudness = sum(1 / (1 + ((number * tone - formant) / 150) ** 2) for formant in formants) + 0.01
            sound += loudness * np.sin(2 * np.pi * number * tone * time + random.uniform(0, 6))
        sound += random.normal(0, 0.15, count)
        pieces.append(sound / np.sqrt((sound**2).mean()) * np.hanning(count) * random.uniform(1500, 5000))
        if random.random() < 0.35:
            pieces.append(np.zeros(int(RATE * random.uniform(0.05, 0.35))))
    return np.concatenate(pieces)[: int(seconds * RATE)]


STORY = voice(1, SECONDS, 110)
PERSON = voice(2, 2.0, 210)


@cache
def in_the_room() -> NDArray[np.float64]:
    return np.convolve(STORY, room(150))[: len(STORY)]


class House:
    """A hub's voice that comes back into the microphone, and what a canceller leaves of it."""

    def __init__(self, delay_ms: int, level: float, person: float = 0.0, *, unsteady: bool = False) -> None:
        echo = in_the_room() * level
        shift = delay_ms * RATE // 1000
        echo = np.roll(echo, shift)
        echo[:shift] = 0
        self.person_at = 12.0
        at = int(self.person_at * RATE)
        near = np.zeros(len(STORY))
        near[at : at + len(PERSON)] = PERSON * person
        noise = np.random.default_rng(3).normal(0, 4, len(STORY))
        self._mic = np.clip(echo + near + noise, -32768, 32767).astype(np.int16)
        self._story = np.clip(STORY, -32768, 32767).astype(np.int16)
        self._unsteady = unsteady

    def heard(self, canceller: EchoCanceller) -> NDArray[np.float64]:
        """The loudness (RMS) of each packet that the canceller lets through."""
        random = np.random.default_rng(4)
        count = len(self._story) // FRAME
        out = []
        for index in range(-LEAD, count):
            ahead = index + LEAD
            if ahead < count:
                canceller.reference(self._piece(self._story, ahead), 1000 + ahead * FRAME_MS)
            if index >= 0:
                stamp = 1000 + index * FRAME_MS
                if self._unsteady:
                    stamp = 0 if random.random() < 0.1 else stamp + int(random.integers(-1, 2)) * FRAME_MS
                out.append(canceller.clean(self._piece(self._mic, index), stamp))
        return np.array([np.sqrt((piece.astype(np.float64) ** 2).mean()) for piece in out])

    @staticmethod
    def _piece(samples: Samples, index: int) -> Samples:
        return samples[index * FRAME : (index + 1) * FRAME]


def barges_in(loudness: NDArray[np.float64]) -> float | None:
    """The second at which the hub would take the sound for a person's words: its own rule, with a detector by loudness."""
    endpoint = Endpoint(Patience())
    for index, value in enumerate(loudness):
        endpoint.feed(FRAME_MS, 1.0 if value > LOUD else 0.0)
        if endpoint.speech_start_ms is not None:
            return index * FRAME_MS / 1000
    return None


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize(("delay", "level"), [(0, 0.3), (60, 1.0), (100, 0.05), (150, 0.3), (250, 1.5)])
def test_twenty_seconds_of_the_own_voice_are_no_interruption(
    make: type[EchoCanceller], delay: int, level: float
) -> None:
    assert barges_in(House(delay, level).heard(make())) is None


@pytest.mark.parametrize("make", BOTH)
def test_nor_are_they_with_timestamps_that_jump_and_get_lost(make: type[EchoCanceller]) -> None:
    assert barges_in(House(100, 0.3, unsteady=True).heard(make())) is None


@pytest.mark.parametrize("make", BOTH)
@pytest.mark.parametrize(("level", "person"), [(0.1, 1.0), (0.3, 1.0), (0.3, 0.5), (1.0, 1.0)])
def test_a_person_who_speaks_over_it_is_heard(make: type[EchoCanceller], level: float, person: float) -> None:
    house = House(100, level, person)
    at = barges_in(house.heard(make()))
    assert at is not None and house.person_at <= at < house.person_at + 1.0


def test_without_protection_the_hub_would_interrupt_itself() -> None:
    class Nothing(EchoGate):
        def clean(self, samples: Samples, at_ms: float) -> Samples:
            return samples

    assert barges_in(House(100, 0.3).heard(Nothing())) is not None


@pytest.mark.parametrize("make", BOTH)
def test_while_nothing_plays_a_person_is_heard_as_loud_as_ever(make: type[EchoCanceller]) -> None:
    canceller = make()
    said = np.clip(PERSON, -32768, 32767).astype(np.int16)
    kept = [canceller.clean(said[at : at + FRAME], 0) for at in range(0, len(said) - FRAME, FRAME)]
    loudness = np.sqrt((np.concatenate(kept).astype(np.float64) ** 2).mean())
    assert loudness > 0.7 * np.sqrt((said[: len(kept) * FRAME].astype(np.float64) ** 2).mean())


def test_packets_of_any_length_come_back_as_long_as_they_were() -> None:
    gate = EchoGate()
    for count in (0, 40, 160, 320, 960, 1000):
        assert len(gate.clean(np.ones(count, np.int16), 500)) == count


def test_the_reference_is_silent_where_nothing_was_sent_and_forgets_what_is_old() -> None:
    played = Reference()
    played.add(np.full(RATE // 10, 7, np.int16), 1000)
    played.add(np.full(RATE // 10, 9, np.int16), 1200)
    assert played.between(1050, RATE // 5).tolist() == [7.0] * 800 + [0.0] * 1600 + [9.0] * 800
    played.add(np.ones(16, np.int16), 9000)
    assert not played.between(1000, 1600).any()


def test_the_stream_is_followed_over_lost_timestamps_but_not_for_ever() -> None:
    alignment = Alignment()
    assert alignment.place(0, 60) is None  # nothing has ever played
    assert [alignment.place(at, 60) for at in (500, 0, 560, 700)] == [500, 560, 620, 680]
    assert alignment.place(5000, 60) == 5000
    assert [alignment.place(0, 60) for _ in range(30)][-1] is None


def test_jitter_lateness_and_losses_are_counted() -> None:
    arrivals = Arrivals()
    for stamp in range(60, 660, 60):
        arrivals.sent(stamp)
    for index in range(20):
        arrivals.arrived(60, index * 0.06)
    assert arrivals.figures().jitter_ms == 0 and arrivals.figures().round_trip_ms is None
    arrivals.arrived(60, 1.4, timestamp=60, now_ms=110)  # 200 ms late
    arrivals.arrived(60, 1.46, timestamp=240, now_ms=290)
    arrivals.arrived(60, 1.52, timestamp=240)  # once more: not counted twice
    figures = arrivals.figures()
    assert (figures.packets, figures.late, figures.played, figures.lost, figures.round_trip_ms) == (23, 1, 2, 2, 50.0)
    assert 10 < figures.jitter_ms < 14
    arrivals.arrived(60, 60.0)  # it listens again after a minute: no jitter
    assert arrivals.figures().late == 1


# -- through a hub ------------------------------------------------------------------------------------------------

CONFIG = """
voice: {vad: echo, asr: echo, tts: echo, llm: echo}
devices: {'02:00:00:00:00:01': {framing: 2}}
integrations:
  echo: {llm: {}, tts: {ms: 2400}}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
"""
STORY_PLEASE = "tell a story"
AEC = FirmwareProfile(features=("mcp", "aec"))


@pytest.fixture(params=["gate", pytest.param("library", marks=needs_library)])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With and without the optional library."""
    if request.param == "gate":
        monkeypatch.setattr("xiaozhi_hub.audio.apm.available", lambda: False)
    yield request.param


def device(hub: Hub, **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", mode="realtime", **more)


async def outcome_of(hub: Hub, heard: str) -> Outcome:
    async with asyncio.timeout(20):
        while True:
            for turn in await hub.history.turns(10):
                if turn.heard == heard:
                    return turn.outcome
            await asyncio.sleep(0.01)


async def test_an_answer_that_comes_back_into_the_microphone_is_told_to_its_end(tmp_path: Path, way: str) -> None:
    async with running_hub(tmp_path, CONFIG) as hub, device(hub, profile=AEC, loopback=Loopback()) as speaker:
        told = await speaker.ask(spoken(STORY_PLEASE))
        outcome = await outcome_of(hub, STORY_PLEASE)
        async with ClientSession() as http, http.get(f"{hub.local_url}/api/devices") as answer:
            listing = await answer.json()
    figures = listing["devices"][0]["sound"]
    assert outcome is Outcome.ANSWERED
    assert told.stamps["tts_stop"] - told.stamps["tts_start"] > 2200
    stamps = [packet.timestamp for packet in told.packets]
    assert all(stamps) and stamps == sorted(stamps)
    assert figures["played"] > 30 and figures["lost"] <= 5 and figures["round_trip_ms"] < 1000
    assert f"sound: jitter {figures['jitter_ms']:g} ms" in listed(listing, Words("en"))
    assert speaker.complaints == []


async def test_so_it_is_where_the_framing_has_no_timestamps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.audio.apm.available", lambda: False)
    config = CONFIG.replace("framing: 2", "framing: 1")
    async with running_hub(tmp_path, config) as hub, device(hub, profile=AEC, loopback=Loopback()) as speaker:
        await speaker.ask(spoken(STORY_PLEASE))
        assert await outcome_of(hub, STORY_PLEASE) is Outcome.ANSWERED


async def test_a_person_who_speaks_into_it_ends_it(tmp_path: Path, way: str) -> None:
    config = CONFIG.replace("ms: 2400", "ms: 20000")  # they come in time, however slow this machine is just now
    async with running_hub(tmp_path, config) as hub, device(hub, profile=AEC, loopback=Loopback()) as speaker:
        telling = asyncio.create_task(speaker.ask(spoken(STORY_PLEASE)))
        await speaker.speaking()
        await asyncio.sleep(1.0)
        await speaker.interrupt(spoken("turn off the bed light"))
        await telling
        await speaker.answer()
        assert await outcome_of(hub, STORY_PLEASE) is Outcome.INTERRUPTED


async def test_a_device_without_the_feature_is_treated_as_before(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG) as hub, device(hub) as speaker:
        told = await speaker.ask(spoken("turn on the bed light"))
        assert hub.devices.sound_figures(speaker.device_id) is None
    assert {packet.timestamp for packet in told.packets} == {0}
