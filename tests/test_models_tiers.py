"""A stage steps down to a smaller model under load or when memory is short, says so, and steps back when it is calm."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from permissions import permissions_hold

from xiaozhi_hub import stepping
from xiaozhi_hub.cli import main
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.flow import Channel, Outcome, TurnRecord
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.core.turn_context import turn_id
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.errors import NotInstalled
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.models.board import Board, keep, kept, memory_mib
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.models.tiers import Rules, Tier
from xiaozhi_hub.testing import FakeDevice, running_hub

RULES = Rules(budget=2.0)
NEEDS = (2400, 1000, 200)


def tier(**more: int) -> Tier:
    return Tier(NEEDS, RULES, **more)


# -- the policy -----------------------------------------------------------------------------------------------------


def test_three_slow_answers_of_four_step_down_and_one_alone_does_not() -> None:
    stage = tier()
    assert [stage.ran(seconds, now) for now, seconds in enumerate((5, 1, 5, 1, 1, 5, 1))] == [None] * 7
    assert stage.ran(5, 8) is None
    step = stage.ran(5, 9)
    assert step is not None and step.down and step.level == 1 and "longer than 2 s" in step.why


def test_little_memory_steps_down_at_once_but_not_again_before_it_had_an_effect() -> None:
    stage = tier()
    first = stage.memory(150, 0)
    assert first is not None and "150 MiB" in first.why
    assert stage.memory(150, 10) is None
    assert stage.memory(150, 31) is not None and stage.level == 2
    assert stage.memory(50, 100) is None, "there is nothing smaller"


def test_it_steps_back_after_a_calm_while_if_the_memory_is_there() -> None:
    stage = tier()
    stage.memory(150, 0)
    assert stage.memory(9000, 179) is None
    assert stage.memory(1700, 181) is None, "1400 MiB more would leave too little"
    step = stage.memory(1900, 200)
    assert step is not None and not step.down and stage.level == 0


def test_a_slow_answer_puts_the_way_back_off() -> None:
    stage = tier()
    stage.memory(150, 0)
    stage.ran(9, 100)
    assert stage.memory(9000, 200) is None
    assert stage.memory(9000, 281) is not None


def test_each_return_that_was_too_early_makes_the_next_one_wait_twice_as_long() -> None:
    stage, now, waits = tier(), 0.0, []
    for _ in range(8):
        assert stage.memory(100, now)
        fell = now
        while stage.memory(9000, now) is None:
            now += 10
        waits.append(now - fell)
        now += 40
    assert waits[:4] == [180, 360, 720, 1440]
    assert waits[-1] == 3600


def test_a_return_that_holds_makes_it_patient_again_as_at_first() -> None:
    stage = tier()
    stage.memory(100, 0)
    assert stage.memory(9000, 180)
    assert stage.memory(100, 220) and stage.memory(9000, 580) is not None
    stage.memory(9000, 5000)
    assert stage.memory(100, 6000) and stage.memory(9000, 6180) is not None


def test_it_never_climbs_above_what_suits_the_board() -> None:
    stage = tier(level=1, highest=1)
    assert stage.memory(99_999, 1e6) is None and stage.level == 1


events = st.lists(
    st.tuples(st.sampled_from(["ran", "memory"]), st.floats(0, 20), st.integers(0, 5000), st.floats(0, 500))
)


@given(events)
def test_whatever_happens_it_stays_on_its_ladder_and_steps_one_at_a_time_with_pauses(
    happened: list[tuple[str, float, int, float]],
) -> None:
    stage, now, last = tier(highest=0), 0.0, None
    for kind, seconds, free, passed in happened:
        now, before = now + passed, stage.level
        step = stage.ran(seconds, now) if kind == "ran" else stage.memory(free, now)
        assert 0 <= stage.level < len(NEEDS)
        assert (step is None) == (stage.level == before)
        if step is not None:
            assert abs(stage.level - before) == 1 and step.down == (stage.level > before)
            assert last is None or now - last >= RULES.settle
            last = now


# -- which model there is ---------------------------------------------------------------------------------------------


def test_the_preferred_model_is_found_where_nobody_wants_a_certain_one(tmp_path: Path) -> None:
    shelf = ModelShelf(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "llama_cpp" / name).mkdir(parents=True)
    assert shelf.find("llama_cpp").name == "a"
    shelf.prefer("llama_cpp", "b")
    assert shelf.find("llama_cpp").name == "b" and shelf.find("llama_cpp", "a").name == "a"
    shelf.prefer("llama_cpp", "gone")
    assert shelf.find("llama_cpp").name == "a"
    with pytest.raises(NotInstalled):
        shelf.find("piper")


def test_a_board_is_measured_once_and_again_when_it_is_another(tmp_path: Path) -> None:
    first, _ = kept(tmp_path)
    assert first.gflops > 0
    keep(tmp_path, first, {"tiny": 0.5})
    assert kept(tmp_path) == (first, {"tiny": 0.5})
    keep(tmp_path, Board(first.cores + 1, first.memory_mib, 1, 1.0, 1.0), {})
    assert kept(tmp_path)[0].cores == first.cores
    (tmp_path / "board.json").write_text("{")
    assert kept(tmp_path)[0].memory_mib == memory_mib()[0]


# -- in a hub -------------------------------------------------------------------------------------------------------

OWN = """
import asyncio
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import EngineInfo, Llm, Role, TextDelta, hookimpl


class Thinker(Llm):
    def __init__(self, name):
        self.name = name
        self.info = EngineInfo("llama_cpp", Role.LLM, "Thinker", detail=name)

    async def chat(self, request):
        await asyncio.sleep(0.6 if self.name == "big" else 0)
        yield TextDelta(f"I am the {self.name} one.")


@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    entry.runtime = hub.models.find("llama_cpp", "").name
    yield


@hookimpl
def register_engines(register, entry):
    register(Thinker(entry.runtime))
"""
OFF = "silero_vad: false, phrases: false, espeak: false, clock: false, demo: false"
CONFIGURATION = f"""
voice: {{vad: echo, asr: echo, tts: echo, llm: llama_cpp}}
integrations: {{{OFF}, echo: {{tts: {{ms: 60}}}}, llama_cpp: {{%s}}}}
"""


def a_house(folder: Path) -> None:
    """An owner's folder with a language model of two sizes; the larger one is slow."""
    own = folder / "integrations" / "llama_cpp"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text(OWN)
    (own / "manifest.json").write_text(
        '{"domain": "llama_cpp", "name": "Mine", "version": "1", "kinds": ["engines"], "online": false}'
    )
    for name, size in (("big", 5_000_000), ("small", 10)):
        model = folder / "data" / "models" / "llama_cpp" / name
        model.mkdir(parents=True)
        (model / "model.gguf").write_bytes(bytes(size))
    # As if it had been measured before, which takes a second.
    keep(folder / "data" / "models", Board(os.cpu_count() or 1, memory_mib()[0], 1, 50.0, 10.0), {})


def device(hub: Hub) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01")


async def until_it_runs(hub: Hub, name: str) -> None:
    async with asyncio.timeout(30):
        while [engine.detail for engine in hub.engines.all() if engine.id == "llama_cpp"] != [name]:
            await asyncio.sleep(0.01)


async def test_a_hub_whose_model_is_too_slow_takes_a_smaller_one_says_so_and_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stepping, "BUDGET_SECONDS", {"asr": 1.0, "llm": 0.3})
    a_house(tmp_path)
    async with running_hub(tmp_path, CONFIGURATION % "") as hub, device(hub) as speaker:
        for _ in range(3):
            assert (await speaker.ask_text("tell me a story")).said == "I am the big one."
        await until_it_runs(hub, "small")
        problem = hub.problems["tier-llama_cpp"]
        assert "small stands in for big" in problem.message and "0.45 s" in problem.message
        assert (await speaker.ask_text("tell me a story")).said == "I am the small one."
        hub.stepping.now = lambda: time.monotonic() + 1000
        hub.stepping.look_at_memory()
        await until_it_runs(hub, "big")
        assert "tier-llama_cpp" not in hub.problems


async def test_only_turns_that_asked_the_model_and_waited_for_it_count(tmp_path: Path) -> None:
    for name, size in (("large", 3000), ("little", 10)):
        folder = tmp_path / "data" / "models" / "faster_whisper" / name
        folder.mkdir(parents=True)
        (folder / "model.bin").write_bytes(bytes(size))
    shelf = ModelShelf(tmp_path / "data" / "models")
    keep(shelf.folder, Board(os.cpu_count() or 1, memory_mib()[0], 1, 50.0, 10.0), {})
    again: list[str] = []

    async def reload(engine: str) -> None:
        again.append(engine)

    told: list[str] = []
    scope = TaskScope("test")
    steps = stepping.Stepping(
        Config(tmp_path), shelf, reload, scope, lambda code, message, hint: told.append(message), lambda code: None
    )
    await steps.choose()

    def turn(number: int, *, asked: bool, transcript: float) -> None:
        token = turn_id.set(f"t{number}")
        if asked:
            steps.asked(Role.ASR)
        turn_id.reset(token)
        stamps = {"endpoint": 100.0, "transcript": 100.0 + transcript}
        record = TurnRecord(
            f"t{number}", "s", "d", 0.0, Channel.VOICE, "auto", "en", "x", "y", Outcome.ANSWERED, stamps=stamps
        )
        steps.turn_finished(TurnFinished(record))

    assert shelf.find("faster_whisper").name == "large"
    for number in range(10):
        turn(number, asked=False, transcript=9000)  # a turn in writing, or of a hub that hears with something else
        turn(number + 20, asked=True, transcript=120)  # a known sentence
    assert told == []
    for number in range(40, 43):
        turn(number, asked=True, transcript=2600)
    await asyncio.sleep(0)
    await scope.close()
    assert shelf.find("faster_whisper").name == "little"
    assert again == ["faster_whisper"] and "little stands in for large" in told[0]


async def test_a_hub_with_little_memory_takes_a_smaller_model(tmp_path: Path) -> None:
    a_house(tmp_path)
    async with running_hub(tmp_path, CONFIGURATION % "") as hub:
        hub.stepping.free_mib = lambda: 120
        hub.stepping.look_at_memory()
        await until_it_runs(hub, "small")
        assert "only 120 MiB" in hub.problems["tier-llama_cpp"].message


async def test_a_model_that_the_owner_has_named_is_left_alone(tmp_path: Path) -> None:
    a_house(tmp_path)
    async with running_hub(tmp_path, CONFIGURATION % "model: big") as hub:
        hub.stepping.free_mib = lambda: 120
        hub.stepping.look_at_memory()
        assert hub.problems == {}


async def test_a_hub_starts_with_the_model_that_was_quick_enough_when_it_was_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``models recommend`` runs both, and remembers how long they took."""
    monkeypatch.setattr("xiaozhi_hub.models.fit.BUDGET_SECONDS", {"asr": 1.0, "llm": 0.5, "tts": 0.5, "wake": 0.1})
    a_house(tmp_path)
    (tmp_path / "configuration.yaml").write_text(CONFIGURATION % "")
    (tmp_path / "models.yaml").write_text(
        "".join(
            f"{name}: {{engine: llama_cpp, role: llm, languages: [en, zh-Hans], about: x, quality: {quality}, licence: x, "
            f"source: {{repository: x}}, memory: {{mib: {quality}, basis: measured}}, files: {{model.gguf: {{}}}}}}\n"
            for name, quality in (("big", 2), ("small", 1))
        )
    )
    assert await asyncio.to_thread(main, ["models", "-c", str(tmp_path), "recommend", "--json"]) == 0
    told = {model["name"]: model for model in json.loads(capsys.readouterr().out)["models"]}
    assert told["big"]["basis"] == told["small"]["basis"] == "timed"
    assert told["big"]["delay_s"] >= 0.6 and told["small"]["delay_s"] < 0.5
    assert told["big"]["verdict"] == "slow" and told["small"]["verdict"] == "best"
    async with running_hub(tmp_path, CONFIGURATION % "") as hub:
        assert [engine.detail for engine in hub.engines.all() if engine.id == "llama_cpp"] == ["small"]
        assert hub.problems == {}, "it is what suits the board, so there is nothing to tell"


async def test_models_that_cannot_be_looked_at_are_told_of_and_cost_nothing_else(tmp_path: Path) -> None:
    a_house(tmp_path)
    ill = tmp_path / "data" / "models" / "llama_cpp" / "small"
    ill.chmod(0)
    with permissions_hold():
        async with running_hub(tmp_path, CONFIGURATION % "") as hub:
            told = hub.problems["models-unknown"].message
            assert "PermissionError" in told and str(ill) in told
            async with device(hub) as speaker:
                assert (await speaker.ask_text("tell me a story")).said == "I am the big one."
            ill.chmod(0o755)
            await hub.readiness.reload("llama_cpp")
            assert hub.problems == {}
            hub.stepping.free_mib = lambda: 120
            hub.stepping.look_at_memory()
            await until_it_runs(hub, "small")


async def test_a_hub_without_several_models_measures_nothing_at_its_start(tmp_path: Path) -> None:
    off = f"voice: {{llm: none}}\nintegrations: {{{OFF}}}\n"
    async with running_hub(tmp_path, off):
        assert not (tmp_path / "data" / "models").exists()
