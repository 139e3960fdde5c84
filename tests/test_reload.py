"""The owner edits the configuration while the hub runs and people talk: through real hubs, files and devices."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession

from xiaozhi_hub import reloading
from xiaozhi_hub.cli import main
from xiaozhi_hub.core import yaml_files
from xiaozhi_hub.core.changes import NEEDS_RESTART, Change
from xiaozhi_hub.core.config import Config, SilenceConfig
from xiaozhi_hub.core.events import ConfigurationChanged, NamesChanged
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.core.places import PACKAGE
from xiaozhi_hub.core.yaml_files import Stamp
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import ConfigErrors
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.api import EntryState
from xiaozhi_hub.plugins.manager import Patience
from xiaozhi_hub.testing import FakeDevice, house, running_hub
from xiaozhi_hub.testing.house import write_configuration

KITCHEN = "02:00:00:00:00:01"
BASE = """
voice: {vad: echo, asr: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, clock: false, demo: false, echo: {tts: {ms: 100}}}
"""
DEVICE = """
devices:
  "02-00-00-00-00-01": {name: Kitchen speaker, area: Kitchen}
assistants:
  laoshi: {name: Laoshi, voice: low}
"""


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(reloading, "QUIET_SECONDS", 0.05)


@pytest.fixture
def looks_when_told(looks_often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else takes over what a test has just written, and wants to know of from whom it tells to do so."""
    monkeypatch.setattr(reloading, "LOOK_SECONDS", 600.0)


class Voice(Tts):
    """Notes what it is asked to say, and gives the sound of it as noise."""

    def __init__(self) -> None:
        self.info = EngineInfo("spy", Role.TTS, "Spy", rank=100)
        self.asked: list[SpeechRequest] = []
        self.goes_on = asyncio.Event()
        """Without it only the first sentence is said."""

    async def speak(self, request: SpeechRequest) -> AsyncIterator[PcmChunk]:  # type: ignore[override]
        self.asked.append(request)
        if len(self.asked) > 1:
            await self.goes_on.wait()
        yield PcmChunk(np.full(2400, 1000, np.int16), 24000)


def device(hub: Hub) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=KITCHEN, listens=False)


async def until(true: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


def events(hub: Hub) -> list[Change]:
    """The changes that the hub tells from now on."""
    told: list[Change] = []
    hub.bus.watch(ConfigurationChanged, lambda event: told.extend(event.changes))
    return told


def integration(folder: Path, code: str) -> Path:
    """Write one, called mine, beside the configuration; return its folder."""
    home = folder / "integrations" / "mine"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(
        json.dumps({"domain": "mine", "name": "Mine", "version": "1.0", "kinds": ["tools"], "online": False})
    )
    (home / "__init__.py").write_text(code)
    return home


async def save(hub: Hub, folder: Path, configuration: str) -> list[Change]:
    """Save another configuration and wait until the hub has noticed by itself; return what it tells."""
    told = events(hub)
    write_configuration(folder, configuration)
    await until(lambda: told)
    return told


# -- in force at once -----------------------------------------------------------------------------------------------------


async def test_a_connected_device_has_its_new_assistant_and_area_with_the_next_question(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE + DEVICE) as hub, device(hub) as kitchen:
        assert (await kitchen.ask_text("who are you")).said == "Here is XiaoZhi."
        session = hub.devices.sessions[KITCHEN]
        changed = DEVICE.replace("area: Kitchen", "area: Attic, assistant: laoshi")
        told = await save(hub, tmp_path, BASE + changed)
        assert [str(change) for change in told] == [
            f'devices → {KITCHEN} → area: "Kitchen" → "Attic"',
            f'devices → {KITCHEN} → assistant: nothing → "laoshi"',
        ]
        assert not any(change.restart for change in told)
        assert (await kitchen.ask_text("who are you")).said == "Here is Laoshi."
        assert hub.devices.sessions[KITCHEN] is session, "on the line that it had"
        assert hub.devices.profile(KITCHEN).area == "Attic"
        (speaker,) = (entity for entity in hub.entities.all() if entity.device_id == KITCHEN)
        assert (speaker.name, speaker.area) == ("Kitchen speaker", "Attic")
        told = await save(hub, tmp_path, BASE)
        assert f"devices → {KITCHEN}: removed" in [str(change) for change in told]
        assert not any(entity.device_id == KITCHEN for entity in hub.entities.all()), "without a name it is no thing"
        assert hub.device_tools.name_of(KITCHEN) == KITCHEN


@pytest.mark.usefixtures("looks_when_told")
async def test_a_turn_ends_as_it_has_begun(tmp_path: Path) -> None:
    story = "One thing was. Two things were. Three things were. Four things were. Five things were. Six things were."
    config = BASE.replace("llm: none", "llm: echo").replace("echo: {", f"echo: {{llm: {{otherwise: {story}}}, ")
    mine = '\ndevices: {"02:00:00:00:00:01": {assistant: laoshi}}\nassistants: {laoshi: {voice: %s}}\n'
    async with running_hub(tmp_path, config + mine % "low") as hub, device(hub) as kitchen:
        voice = Voice()
        hub.engines.add(voice, "test")
        asked = asyncio.create_task(kitchen.ask_text("tell me a story"))
        await kitchen.speaking()
        write_configuration(tmp_path, config + mine % "high")
        await hub.reloading.now()
        before = len(voice.asked)
        voice.goes_on.set()
        await asked
        assert before < len(voice.asked), "it was not over yet"
        assert {request.voice for request in voice.asked} == {"low"}
        voice.asked.clear()
        await kitchen.ask_text("tell me another story")
        assert {request.voice for request in voice.asked} == {"high"}


async def test_voice_pairing_history_and_memory_follow(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE) as hub:
        assert hub.answering.parts.patience.complete_ms == SilenceConfig().complete_ms
        await hub.ask("one", "en", KITCHEN)
        await hub.archive.written(20)
        more = (
            BASE.replace("llm: none", "llm: none, silence: {complete_ms: 250}, speed: 1.5, lead_ms: 240")
            + "devices: {pairing: approve}\nhistory: {enabled: false}\nmemory: {engine: nobody}\n"
            + "conversation: {idle_s: 20, check_wake_words: true}\ndisplay: {glyph_push: true}\n"
        )
        told = await save(hub, tmp_path, more)
        assert not any(change.restart for change in told)
        assert hub.answering.parts.patience.complete_ms == 250
        assert (hub.answering.parts.voice.lead_ms, hub.assistants.usual.speed) == (240, 1.5)
        assert hub.pairing.mode == "approve" and hub.pairing.opening is None
        assert hub.devices.wake_check.enabled
        assert "lacking-memory" in hub.problems
        await hub.ask("two", "en", KITCHEN)
        await hub.archive.written(20)
        assert [turn.heard for turn in await hub.history.turns()] == ["one"]
        await save(hub, tmp_path, BASE)
        assert hub.pairing.mode is None and "lacking-memory" not in hub.problems
        assert hub.answering.parts.patience.complete_ms == SilenceConfig().complete_ms


async def test_assistants_come_and_go_with_the_sentences_that_call_them(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE) as hub:
        assert (await hub.ask("be the storyteller", "en", KITCHEN)).outcome == "not_understood"
        await save(hub, tmp_path, BASE + "assistants: {storyteller: {persona: You tell stories.}}\n")
        await until(lambda: hub.intents.recognise("be the storyteller", hub.answering.text_turn("en", KITCHEN)))
        assert (await hub.ask("be the storyteller", "en", KITCHEN)).said == "Here is storyteller."
        await save(hub, tmp_path, BASE + "assistants: {clown: {}}\n")
        await until(lambda: hub.intents.recognise("be the clown", hub.answering.text_turn("en", KITCHEN)))
        assert hub.assistants.of(KITCHEN).id == "default", "who was chosen is gone"
        await save(hub, tmp_path, BASE)
        assert hub.tools.get("assistant.switch") is None


# -- integrations ---------------------------------------------------------------------------------------------------------


async def test_an_integration_is_added_changed_and_removed_and_the_others_do_not_notice(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE) as hub:
        echo = hub.entry("echo")
        assert echo is not None
        voices = hub.engines.ttss(("echo",), "en")
        assert (await hub.ask("turn on the bed light", "en", "")).outcome == "not_understood"

        await save(hub, tmp_path, BASE.replace("demo: false", "demo:"))
        await until(lambda: hub.entry("demo") is not None and hub.entry("demo").state is EntryState.READY)  # type: ignore[union-attr]
        await until(lambda: hub.intents.recognise("turn on the bed light", hub.answering.text_turn("en", "")))
        assert (await hub.ask("turn on the bed light", "en", "")).said == "Turned on the Bed Light."
        assert hub.entry("echo") is echo and hub.engines.ttss(("echo",), "en") == voices

        learned: list[NamesChanged] = []
        hub.bus.watch(NamesChanged, learned.append)
        await save(hub, tmp_path, BASE.replace("demo: false, echo: {tts: {ms: 100}}", "echo: {tts: {ms: 50}}"))
        await hub.reloading.now()
        assert learned, "recognisers that are new know nothing yet"
        assert hub.entry("echo") is not echo and hub.entry("echo").state is EntryState.READY  # type: ignore[union-attr]
        assert hub.engines.ttss(("echo",), "en") != voices, "it started anew"
        assert hub.entry("demo") is None, "without a word of it, it is as by default"

        await save(hub, tmp_path, BASE.replace("demo: false", "demo:"))
        await hub.reloading.now()
        await until(lambda: hub.intents.recognise("turn off the bed light", hub.answering.text_turn("en", "")))
        assert (await hub.ask("turn off the bed light", "en", "")).said == "Turned off the Bed Light."
        await save(hub, tmp_path, BASE)
        await hub.reloading.now()
        demo = hub.entry("demo")
        assert demo is not None and demo.state is EntryState.DISABLED
        assert not hub.entities.all()
        await until(lambda: not hub.intents.recognise("turn on the bed light", hub.answering.text_turn("en", "")))
        assert (await hub.ask("turn on the bed light", "en", "")).outcome == "not_understood"


async def test_an_integration_follows_even_if_no_models_can_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise OSError("the disk is ill")

    async with running_hub(tmp_path, BASE) as hub:
        monkeypatch.setattr(hub.stepping, "_look", fails)
        await save(hub, tmp_path, BASE.replace("demo: false", "demo:"))
        await until(lambda: (demo := hub.entry("demo")) is not None and demo.state is EntryState.READY)
        assert "the disk is ill" in hub.problems["models-unknown"].message
        monkeypatch.undo()
        await save(hub, tmp_path, BASE)
        assert hub.problems == {}


async def test_a_part_that_fails_to_follow_is_shown_and_the_others_have_their_new_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("no way")

    async with running_hub(tmp_path, BASE + DEVICE) as hub, device(hub) as kitchen:
        assert (await kitchen.ask_text("who are you")).said == "Here is XiaoZhi."
        monkeypatch.setattr(hub.pairing, "configure", fails)  # the first of all
        monkeypatch.setattr(hub.archive, "configure", fails)
        changed = DEVICE.replace("area: Kitchen", "area: Attic, assistant: laoshi")
        told = await save(hub, tmp_path, BASE + changed)
        assert len(told) == 2, "what is in force is told to those who watch"
        assert (await kitchen.ask_text("who are you")).said == "Here is Laoshi."
        assert hub.devices.profile(KITCHEN).area == "Attic"
        shown = hub.problems["configuration-parts"].message
        assert "pairing (RuntimeError: no way), history (RuntimeError: no way)" in shown
        reload = ["reload", "-c", str(tmp_path), "--port", str(hub.port)]
        assert await asyncio.to_thread(main, reload) == 1
        assert "pairing (RuntimeError: no way)" in capsys.readouterr().err
        monkeypatch.undo()
        await save(hub, tmp_path, BASE + DEVICE)
        assert hub.problems == {}
        assert await asyncio.to_thread(main, reload) == 0


OPTIONS = "import voluptuous as vol\nSCHEMA = vol.Schema({'%s': int})\n"


@pytest.mark.usefixtures("looks_when_told")
async def test_an_integration_that_was_off_comes_back_with_the_code_of_now(tmp_path: Path) -> None:
    home = integration(tmp_path, "")
    (home / "config.py").write_text(OPTIONS % "old")
    async with running_hub(tmp_path, BASE.replace("demo: false", "demo: false, mine: {old: 1}")) as hub:
        write_configuration(tmp_path, BASE.replace("demo: false", "demo: false, mine: false"))
        await hub.reloading.now()
        (home / "config.py").write_text(OPTIONS % "newer")
        write_configuration(tmp_path, BASE.replace("demo: false", "demo: false, mine: {newer: 2}"))
        (entry,) = (await hub.reloading.now()).entries
        assert (entry.state, entry.options) == (EntryState.READY, {"newer": 2})


HANGS = """
import asyncio
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import hookimpl

@hookimpl
@asynccontextmanager
async def entry_context():
    try:
        yield
    finally:
        await asyncio.get_running_loop().create_future()
"""


@pytest.mark.usefixtures("looks_when_told")
async def test_an_entry_that_hangs_when_it_is_stopped_holds_nobody_up(tmp_path: Path) -> None:
    integration(tmp_path, HANGS)
    mine = BASE.replace("demo: false", "demo: false, mine: {}")
    async with running_hub(tmp_path, mine, Patience(stop=3.0)) as hub:
        write_configuration(tmp_path, BASE.replace("demo: false", "demo: {}") + DEVICE)
        reload = asyncio.create_task(hub.reloading.now())
        await until(lambda: hub.devices.profile(KITCHEN).area == "Kitchen")
        assert hub.entry("mine") is not None, "it still hangs"
        done = await reload
        assert [(entry.domain, entry.state) for entry in done.entries] == [("demo", EntryState.READY)]
        assert hub.entry("mine") is None


# -- mistakes -------------------------------------------------------------------------------------------------------------


async def test_a_mistake_changes_nothing_and_is_shown_until_it_is_mended(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_hub(tmp_path, BASE + DEVICE) as hub, device(hub) as kitchen:
        told = events(hub)
        for wrong, said in (
            ("area: Kitchen", "aria: Attic"),
            ("voice: low", "voice: low, speed: fast"),
            ("assistants:", "  ]assistants:"),
        ):
            before = hub.config
            write_configuration(tmp_path, (BASE + DEVICE).replace(wrong, said).replace("Kitchen speaker", "Changed"))
            await until(lambda: "configuration" in hub.problems)
            problem = hub.problems["configuration"]
            assert "configuration.yaml:" in problem.message and "goes on" in problem.message
            assert hub.config is before and not told
            async with ClientSession() as http, http.get(hub.local_url) as page:
                assert "The hub goes on with the configuration that it had" in await page.text()
            assert (await kitchen.ask_text("who are you")).said == "Here is XiaoZhi."
            write_configuration(tmp_path, BASE + DEVICE)
            await until(lambda: "configuration" not in hub.problems)
        messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        (first,) = (message for message in messages if "aria" in message)
        assert "configuration.yaml:6 devices → 02-00-00-00-00-01 → aria" in first and "Did you mean area?" in first
        async with ClientSession() as http, http.get(hub.local_url) as page:
            assert "goes on with" not in await page.text()


@pytest.mark.usefixtures("looks_when_told")
async def test_what_an_integration_does_not_take_is_refused_before_anything_stops(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE) as hub:
        echo = hub.entry("echo")
        for wrong, complaint in (
            ("echo: {tts: {ms: often}}", "integrations → echo → tts → ms"),
            ("echoo: {}", 'there is no integration "echoo". Did you mean echo?'),
        ):
            write_configuration(tmp_path, BASE.replace("echo: {tts: {ms: 100}}", wrong))
            with pytest.raises(ConfigErrors) as refused:
                await hub.reloading.now()
            assert complaint in str(refused.value)
            assert complaint in hub.problems["configuration"].message
            assert hub.entry("echo") is echo and echo is not None and echo.state is EntryState.READY


async def test_a_file_that_is_emptied_or_lost_for_a_moment_ends_nothing(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE + DEVICE) as hub:
        entries, file = hub.plugins.entries, tmp_path / "configuration.yaml"
        file.write_text("")  # as editors do that write into the file itself
        await until(lambda: "configuration" in hub.problems)
        assert "this file is empty now" in hub.problems["configuration"].message
        file.unlink()
        await until(lambda: "this file is gone" in hub.problems["configuration"].message)
        assert hub.plugins.entries == entries and hub.config.devices
        await save(hub, tmp_path, BASE)
        assert "configuration" not in hub.problems and not hub.config.devices


async def test_a_file_that_is_emptied_just_before_it_is_read_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, slips = tmp_path / "configuration.yaml", [""]

    def stamp_of(path: Path) -> Stamp | None:
        """Of the file as it was; then an editor begins to write into it, and has done so by the next time."""
        if path == file and slips == ["half"]:
            file.write_text(BASE + DEVICE.replace("area: Kitchen", "area: Attic"))
            slips.append("whole")
        stamp = stamp_as_it_is(path)
        if path == file and slips == [""]:
            file.write_text("")
            slips[:] = ["half"]
        return stamp

    monkeypatch.setattr(reloading, "LOOK_SECONDS", 600.0)
    stamp_as_it_is = yaml_files.stamp_of
    async with running_hub(tmp_path, BASE + DEVICE) as hub:
        entries = hub.plugins.entries
        monkeypatch.setattr(yaml_files, "stamp_of", stamp_of)
        await hub.reloading.now()
        assert slips == ["half", "whole"]
        assert hub.plugins.entries == entries and hub.devices.profile(KITCHEN).area == "Attic"


async def test_files_that_the_hub_fails_on_are_read_again_only_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, looks = [], []

    def fails(folder: Path) -> Config:
        tries.append(folder)
        raise RuntimeError("a lemon")

    def stamp_of(path: Path) -> Stamp | None:
        looks.append(path)
        return yaml_files.stamp_of(path)

    async with running_hub(tmp_path, BASE) as hub:
        monkeypatch.setattr(reloading, "stamp_of", stamp_of)
        with monkeypatch.context() as broken:
            broken.setattr(house, "load_config", fails)
            write_configuration(tmp_path, BASE + DEVICE)
            await until(lambda: "configuration" in hub.problems)
            looks.clear()
            await until(lambda: looks.count(tmp_path / "configuration.yaml") > 10)
            assert len(tries) == 1 and "RuntimeError: a lemon" in hub.problems["configuration"].message
        await save(hub, tmp_path, BASE + DEVICE)
        assert "configuration" not in hub.problems and hub.devices.profile(KITCHEN).area == "Kitchen"


async def test_a_folder_that_comes_back_is_followed_again(tmp_path: Path) -> None:
    home, away, config = tmp_path / "home", tmp_path / "away", "hub: {data_dir: ../data}\n" + BASE
    async with running_hub(home, config) as hub:
        home.rename(away)
        home.write_text("a file")
        await until(lambda: "configuration" in hub.problems)
        assert "expected a folder" in hub.problems["configuration"].message
        home.unlink()
        write_configuration(away, config + DEVICE)
        away.rename(home)
        await until(lambda: hub.devices.profile(KITCHEN).area == "Kitchen")
        assert "configuration" not in hub.problems


async def test_included_files_are_followed_even_those_that_do_not_exist_yet(tmp_path: Path) -> None:
    config = BASE + "devices: !include devices.yaml\n"
    (tmp_path / "devices.yaml").write_text(f'"{KITCHEN}": {{area: Kitchen}}\n')
    async with running_hub(tmp_path, config) as hub:
        told = events(hub)
        (tmp_path / "devices.yaml").write_text(f'"{KITCHEN}": {{area: Attic}}\n')
        await until(lambda: told)
        assert hub.devices.profile(KITCHEN).area == "Attic"
        write_configuration(tmp_path, config + "assistants: !include others.yaml\n")
        await until(lambda: "others.yaml" in hub.problems["configuration"].message if hub.problems else False)
        (tmp_path / "others.yaml").write_text("clown: {}\n")
        await until(lambda: hub.assistants.get("clown"))
        assert "configuration" not in hub.problems


# -- what is told ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("looks_when_told")
async def test_what_needs_a_restart_is_named_until_it_is_restarted_or_taken_back(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE) as hub:
        write_configuration(tmp_path, BASE.replace("llm: none", "llm: none, speed: 1.5") + "limits: {devices: 7}\n")
        done = await hub.reloading.now()
        assert [(str(change), change.restart) for change in done.changes] == [
            ("voice → speed: 1.0 → 1.5", False),
            ("limits → devices: 1000 → 7", True),
        ]
        assert hub.config.limits.devices == 1000, "what is said to be in force is"
        assert "limits → devices: 1000 → 7" in hub.problems["configuration-restart"].message
        write_configuration(tmp_path, BASE + "limits: {devices: 7}\nhub: {name: other}\n")
        await hub.reloading.now()
        assert "limits → devices: 1000 → 7" in hub.problems["configuration-restart"].message
        assert "hub → name" in hub.problems["configuration-restart"].message
        assert hub.assistants.usual.speed == 1.0
        write_configuration(tmp_path, BASE)
        await hub.reloading.now()
        assert "configuration-restart" not in hub.problems


async def test_two_quick_saves_lead_to_the_last_state(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE) as hub:
        asked = []
        for ms in (10, 20, 30):  # each begins before the entry has followed the one before
            write_configuration(tmp_path, BASE.replace("ms: 100", f"ms: {ms}").replace("demo: false", "demo:"))
            asked += [asyncio.create_task(hub.reloading.now()) for _ in range(2)]
            await until(lambda ms=ms: hub.config.integrations["echo"] == {"tts": {"ms": ms}})
        await asyncio.gather(*asked)
        await until(lambda: (echo := hub.entry("echo")) is not None and echo.state is EntryState.READY)
        echo = hub.entry("echo")
        assert echo is not None and echo.options["tts"]["ms"] == 30
        told = events(hub)
        for speed in (1.4, 1.5):
            write_configuration(tmp_path, BASE.replace("llm: none", f"llm: none, speed: {speed}"))
        await until(lambda: hub.assistants.usual.speed == 1.5)
        await until(lambda: (demo := hub.entry("demo")) is not None and demo.state is EntryState.DISABLED)
        assert told


@pytest.mark.usefixtures("looks_when_told")
async def test_no_secret_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "secrets.yaml").write_text("key: hunter2\nname: lemon\n")
    config = BASE.replace("demo: false", "demo: false, openai_compatible: false") + (
        "server: {auth_key: !secret key}\n"
        "devices: {'02-00-00-00-00-01': {name: !secret name}}\n"
        "models: {proxy: 'http://me:grape@127.0.0.1:1'}\n"
    )
    async with running_hub(tmp_path, config) as hub:
        told = events(hub)
        (tmp_path / "secrets.yaml").write_text("key: hunter3\nname: melon\nother: quince\n")
        write_configuration(
            tmp_path,
            config.replace("grape", "fig").replace(
                "openai_compatible: false", "mqtt_udp: {password: !secret other, nothing: sour_plum}"
            ),
        )
        with pytest.raises(ConfigErrors):
            await hub.reloading.now()
        write_configuration(tmp_path, config.replace("grape", "fig"))
        async with ClientSession() as http:
            async with http.get(f"{hub.local_url}/api/configuration/changes") as reply:
                outstanding = await reply.text()
            async with http.post(f"{hub.local_url}/api/configuration/reload") as reply:
                answer = await reply.text()
        await until(lambda: told)
        assert {change.key: change.what for change in told} == {
            f"devices → {KITCHEN} → name": "changed",
            "models → proxy": "changed",
        } | {"server → auth_key": "changed"}
        problems = " ".join(f"{each.message} {each.hint}" for each in hub.problems.values())
        everything = f"{told} {outstanding} {answer} {problems} {caplog.text}"
        for word in ("hunter2", "hunter3", "lemon", "melon", "grape", "fig@", "quince"):
            assert word not in everything, word


@pytest.mark.usefixtures("looks_when_told")
async def test_a_value_under_a_mistyped_key_is_not_told_when_that_is_mended(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE.replace("tts: {ms: 100}", "tts: {ms: 100}, tokn: grape")) as hub:
        write_configuration(tmp_path, BASE)
        told = str((await hub.reloading.now()).changes)
        assert "tokn" in told and "grape" not in told


async def test_the_command_line_shows_what_has_changed_and_what_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloading, "LOOK_SECONDS", 600.0)
    async with running_hub(tmp_path, BASE) as hub:
        options = ("-c", str(tmp_path), "--port", str(hub.port))

        async def command(*words: str) -> tuple[int, str]:
            code = await asyncio.to_thread(main, [*words, *options])
            output = capsys.readouterr()
            return code, output.out + output.err

        assert await command("reload") == (0, "Nothing has changed since the hub last read it.\n")
        changed = BASE.replace("demo: false", "demo:").replace("llm: none", "llm: none, speed: 2")
        write_configuration(tmp_path, changed + "limits: {devices: 7}\n")
        code, output = await command("check-config", "--diff")
        assert code == 0 and "voice → speed" in output and "will be in force in a moment" in output
        assert hub.assistants.usual.speed == 1.0, "nothing was taken over"
        code, output = await command("reload")
        assert code == 0
        lines = [" ".join(line.split()) for line in output.splitlines()]
        assert lines == [
            "integrations → demo now on in force",
            "voice → speed 1.0 → 2 in force",
            "limits → devices 1000 → 7 needs a restart",
            "integration demo: ready",
        ]
        write_configuration(tmp_path, BASE.replace("echo: {tts", "echo: {tss"))
        code, output = await command("reload")
        assert code == 1 and "Did you mean tts?" in output and "goes on with the configuration" in output
        write_configuration(tmp_path, BASE.replace("voice:", "voic:"))
        code, output = await command("reload")
        assert code == 1 and "Did you mean voice?" in output


async def test_a_hub_without_files_says_so(tmp_path: Path) -> None:
    async with running_hub(tmp_path, BASE) as other:
        config: Config = other.config
    async with Hub(config) as hub, ClientSession() as http:
        await hub.ready()
        async with http.post(f"{hub.local_url}/api/configuration/reload") as reply:
            answer = await reply.json()
        assert answer["success"] is False and "comes from no files" in answer["error"]


def test_the_guide_names_what_needs_a_restart() -> None:
    guide = (PACKAGE / "docs" / "configuration.md").read_text(encoding="utf-8")
    for path in NEEDS_RESTART:
        assert f"`{'.'.join(str(part) for part in path)}{'.*' if len(path) == 1 else ''}`" in guide
