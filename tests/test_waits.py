"""A hub learns how people end their sentences: it waits less, and for those who go on as before; it forgets, and can be told not to."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from tone_words import spoken

from xiaozhi_hub.cli import main
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.flow import Completeness, PcmChunk, TurnRecord, Wait, WaitReason
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub
from xiaozhi_hub.testing.house import write_configuration

HERE = "02:00:00:00:00:01"
LIGHTS, SHAPE = "turn on the lights", "en home.turn_on domain"
SHORT = 120.0
PATIENT = 1800.0
PEOPLE = [f"02:00:00:00:01:{number:02x}" for number in range(19)]
CONFIG = f"""
voice: {{vad: echo, asr: echo, tts: echo, silence: {{extendable_ms: 1800, unknown_ms: 5000}}}}
integrations: {{echo: , demo: , silero_vad: false, phrases: false, espeak: false, llama_cpp: false}}
devices: {{{", ".join(f"'{id}': {{area: Kitchen}}" for id in (HERE, *PEOPLE))}}}
"""


def device(hub: Hub, device_id: str = HERE) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, listens=False)


async def ask(hub: Hub, speaker: FakeDevice, sound: PcmChunk) -> TurnRecord:
    """Say something; return the record of the turn once the answer has been heard."""
    done = asyncio.get_running_loop().create_future()

    def finished(event: TurnFinished) -> None:
        if event.record.device_id == speaker.device_id and not done.done():
            done.set_result(event.record)

    stop = hub.bus.watch(TurnFinished, finished)
    try:
        await speaker.ask(sound)
        async with asyncio.timeout(20):
            record: TurnRecord = await done
        return record
    finally:
        stop()


def silence_of(record: TurnRecord) -> float:
    """The ms of audio without clear speech after which the turn was over."""
    assert not record.pauses[-1].went_on
    return record.pauses[-1].ms


def known_of(folder: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(folder / "data" / "hub.db") as db:
        rows = db.execute("SELECT device_id, shape FROM habit").fetchall()
    db.close()
    return rows


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.01)


async def _teach(folder: Path) -> list[TurnRecord]:
    """Nineteen people say the same, each on a device of their own, and never go on."""
    async with running_hub(folder, CONFIG) as hub:

        async def say(device_id: str) -> TurnRecord:
            async with device(hub, device_id) as speaker:
                return await ask(hub, speaker, spoken(LIGHTS))

        records = await asyncio.gather(*map(say, PEOPLE))

        async def is_written() -> bool:
            return len(known_of(folder)) == len(PEOPLE)

        await until(is_written)
        return records


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[TurnRecord]]:
    folder = tmp_path_factory.mktemp("taught")
    return folder, asyncio.run(_teach(folder))


@pytest.fixture
def house(taught: tuple[Path, list[TurnRecord]], tmp_path: Path) -> Path:
    """The folder of a hub that has been taught, and stopped."""
    folder = tmp_path / "house"
    shutil.copytree(taught[0], folder)
    return folder


def test_at_first_everybody_is_waited_for_in_full(taught: tuple[Path, list[TurnRecord]]) -> None:
    folder, records = taught
    assert [record.heard for record in records] == [LIGHTS] * len(PEOPLE)
    assert {record.wait.ms for record in records if record.wait is not None} == {PATIENT}
    assert all(silence_of(record) >= PATIENT for record in records)
    assert sorted(known_of(folder)) == [(device_id, SHAPE) for device_id in PEOPLE]


async def test_what_never_went_on_is_answered_after_the_short_wait_also_after_a_restart(
    house: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running_hub(house, CONFIG) as hub, device(hub) as speaker:
        record = await ask(hub, speaker, spoken(LIGHTS))
        assert record.wait == Wait(SHORT, Completeness.EXTENDABLE, WaitReason.HABIT, PATIENT, 19, 19)
        assert SHORT <= silence_of(record) < PATIENT
        other = await ask(hub, speaker, spoken("set a timer for three hours"))
        assert other.wait is not None and other.wait.ms == PATIENT
        assert silence_of(other) >= PATIENT
    assert await asyncio.to_thread(main, ["turns", "-c", str(house), record.id]) == 0
    assert (
        "120 ms, not 1800: 'turn on the lights' and the like have ended here 19 of 19 times" in capsys.readouterr().out
    )


async def test_who_was_cut_off_and_says_the_rest_is_waited_for_the_next_time(house: Path) -> None:
    async with running_hub(house, CONFIG) as hub, device(hub) as speaker:
        assert (await ask(hub, speaker, spoken(LIGHTS))).wait == Wait(
            SHORT, Completeness.EXTENDABLE, WaitReason.HABIT, PATIENT, 19, 19
        )
        await ask(hub, speaker, spoken("in the office"))
        record = await ask(hub, speaker, spoken(LIGHTS))
        assert record.wait == Wait(PATIENT, Completeness.EXTENDABLE, WaitReason.SETTING, PATIENT, 19, 20)
        assert silence_of(record) >= PATIENT


async def test_a_pause_in_mid_sentence_is_learned_and_no_end(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG) as hub, device(hub) as speaker:
        pieces = spoken(LIGHTS, after_ms=600), spoken("in the office", before_ms=0)
        sound = PcmChunk(np.concatenate([piece.samples for piece in pieces]), 16000)
        record = await ask(hub, speaker, sound)
        assert record.heard == f"{LIGHTS} in the office"
        pause, end = record.pauses
        assert (pause.text, pause.completeness, pause.went_on) == (LIGHTS, Completeness.EXTENDABLE, True)
        assert 480 <= pause.ms <= 720, "in frames of 60 ms"
        assert not end.went_on
        habits = hub.answering.waits.habits
        assert (known := habits.habit(HERE, SHAPE)) is not None
        assert (known.ended, known.went_on) == (0, 1)


async def test_a_device_that_falls_silent_in_mid_sentence_teaches_nothing(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG) as hub, device(hub) as speaker:
        records: list[TurnRecord] = []
        hub.bus.watch(TurnFinished, lambda event: records.append(event.record))
        await speaker.say(spoken(LIGHTS))
        speaker.microphone.stop()
        await speaker.answer()

        async def over() -> bool:
            return bool(records)

        await until(over)
        assert (records[0].heard, records[0].wait, records[0].pauses) == (LIGHTS, None, ())
        assert hub.answering.waits.habits.habit(HERE, SHAPE) is None


async def test_forgetting_a_device_forgets_how_it_was_spoken_to(house: Path) -> None:
    async with running_hub(house, CONFIG) as hub:
        arguments = ["devices", "-c", str(house), "--port", str(hub.port), "forget", PEOPLE[0]]
        assert await asyncio.to_thread(main, arguments) == 0
        assert [row for row in known_of(house) if row[0] == PEOPLE[0]] == []
        async with device(hub) as speaker:
            record = await ask(hub, speaker, spoken(LIGHTS))
        assert record.wait is not None
        assert (record.wait.ms, record.wait.times) == (PATIENT, 18), "18 times are not enough"
        assert await hub.forgetting.forget(Forget()) == ()
        assert known_of(house) == []
        assert hub.answering.waits.habits.habit(HERE, SHAPE) is None


async def test_switched_off_it_neither_learns_nor_uses_what_was_learned(house: Path) -> None:
    off = CONFIG.replace("extendable_ms: 1800", "extendable_ms: 1800, learn: false")
    async with running_hub(house, off) as hub:
        async with device(hub) as speaker:
            record = await ask(hub, speaker, spoken(LIGHTS))
            assert record.wait == Wait(PATIENT, Completeness.EXTENDABLE)
            assert silence_of(record) >= PATIENT
            write_configuration(house, CONFIG)
            await hub.reloading.now()
            record = await ask(hub, speaker, spoken(LIGHTS))
            assert record.wait is not None and (record.wait.ms, record.wait.times) == (SHORT, 19)


async def test_without_a_history_nothing_is_learned_and_what_was_learned_is_gone(house: Path) -> None:
    async with running_hub(house, CONFIG) as hub:
        write_configuration(house, CONFIG + "history: {enabled: false}\n")
        await hub.reloading.now()

        async def gone() -> bool:
            return known_of(house) == []

        await until(gone)
        async with device(hub) as speaker:
            assert (await ask(hub, speaker, spoken(LIGHTS))).wait == Wait(PATIENT, Completeness.EXTENDABLE)
    assert known_of(house) == []
