"""What the owner forgets is gone everywhere: from the database, the folders, memory, and what engines have kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from test_llama_cpp import (
    may_take_its_time,  # noqa: F401 (a fixture)
    model_file,  # noqa: F401
    needs_llama,
)

from xiaozhi_hub.cli import main
from xiaozhi_hub.core.events import DeviceForgotten
from xiaozhi_hub.core.forgetting import MOST_LATER, Forget, Forgetting
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.announcements.audience import Listener
from xiaozhi_hub.devices.announcements.messenger import Said
from xiaozhi_hub.engines.conversations import owner_of
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.store.announcements import Kind
from xiaozhi_hub.testing import FakeDevice, running_hub
from xiaozhi_hub.testing.house import write_configuration

KITCHEN, OFFICE = "02:00:00:00:00:01", "02:00:00:00:00:02"
SECRET, OTHER = "zanzibar", "oslofjord"
CONFIG = """
voice: {{vad: echo, asr: echo, tts: echo, llm: [{llm}]}}
history: {{photos: true}}
integrations:
  echo: {{llm: {{otherwise: "You said {{text}}."}}}}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
  llama_cpp: {llama}
"""
SCRIPTED = CONFIG.format(llm="echo", llama="false")


def device(hub: Hub, device_id: str) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id)


async def run(hub: Hub, folder: Path, *arguments: str) -> int:
    return await asyncio.to_thread(main, ["devices", "-c", str(folder), "--port", str(hub.port), *arguments])


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await true():
            await asyncio.sleep(0.01)


async def talk(hub: Hub) -> None:
    """Words, a photo and messages on two devices; each has a word that only it has heard."""
    for device_id, word in ((KITCHEN, SECRET), (OFFICE, OTHER)):
        async with device(hub, device_id) as speaker:
            await speaker.ask_text(f"tell me of {word}")
            await speaker.ask_text(f"remember that the {word} key is red")
        await hub.services.photos.add(
            word.encode() * 20,
            turn_id="",
            session_id="s",
            device_id=device_id,
            question=word,
            answer=word,
            at=time.time(),
        )

    async def written() -> bool:
        return len(await hub.history.turns()) == 4

    await until(written)


def found(folder: Path, word: str) -> list[str]:
    """The files below *folder* that hold *word*."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    ]


# -- through a hub ------------------------------------------------------------------------------------------------


async def test_nothing_in_the_data_folder_holds_a_word_that_only_a_forgotten_device_has_heard(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_hub(tmp_path, SCRIPTED) as hub:
        await talk(hub)
        async with device(hub, KITCHEN) as speaker:  # it is in the middle of a conversation
            await speaker.ask_text(f"and again of {SECRET}")
            assert hub.devices.dialogues(time.time())
            assert await run(hub, tmp_path, "forget", KITCHEN) == 0
            assert KITCHEN not in hub.devices.sessions
        held = {kept.device_id: str(kept.dialogue) for kept in hub.devices.dialogues(time.time())}
        assert SECRET not in held.get(KITCHEN, "")
        assert OTHER in held[OFFICE]
        assert KITCHEN not in {each.id for each in (await hub.device_management.overview()).devices}
        (fact,) = [fact for fact in await hub.memories.engine.listed() if SECRET in fact.text]  # type: ignore[union-attr]
        assert (fact.device_id, fact.turn_id) == ("", ""), "the household's memory tells where it was said"
        await hub.memories.engine.forget([fact.id])  # type: ignore[union-attr]
    assert found(data, SECRET) == []
    assert found(data, OTHER)
    assert found(data, KITCHEN) == []


async def test_whoever_is_asked_to_forget_what_is_old_keeps_what_is_not(tmp_path: Path) -> None:
    async with running_hub(tmp_path, SCRIPTED) as hub:
        await talk(hub)
        cache = hub.archive.folder / "cache" / "gone" / "kept"
        cache.mkdir(parents=True)
        assert "photos" in hub.forgetting.holders
        assert await hub.forgetting.forget(Forget(before=time.time() - 86400.0)) == ()
        assert len(await hub.history.turns()) == 4
        assert len(list((hub.archive.folder / "photos").rglob("*.jpg"))) == 2
        assert {kept.device_id for kept in hub.devices.dialogues(time.time())} == {KITCHEN, OFFICE}
        assert {device.id for device in (await hub.device_management.overview()).devices} == {KITCHEN, OFFICE}
        assert len(await hub.memories.engine.listed()) == 2  # type: ignore[union-attr]
        assert cache.exists()


async def test_what_waits_for_a_forgotten_device_or_was_said_on_it_is_not_told(tmp_path: Path) -> None:
    async with running_hub(tmp_path, SCRIPTED) as hub:
        async with device(hub, KITCHEN), device(hub, OFFICE):
            pass
        for to, text, of in ((OFFICE, "dinner is ready", KITCHEN), (KITCHEN, "come home", OFFICE)):
            said = Said(text, kind=Kind.MESSAGE, from_device=of)
            await hub.messenger.say([Listener(to, to, "")], said)
        waiting = {id: [item.text for item in hub.messenger.waiting(id)] for id in (KITCHEN, OFFICE)}
        assert waiting == {KITCHEN: ["come home"], OFFICE: ["dinner is ready"]}
        assert await run(hub, tmp_path, "forget", KITCHEN) == 0
        assert not hub.messenger.waiting(KITCHEN) and not hub.messenger.waiting(OFFICE)
        assert await hub.announcements.listed() == []


async def test_deleting_the_history_leaves_the_devices(tmp_path: Path) -> None:
    async with running_hub(tmp_path, SCRIPTED) as hub:
        await talk(hub)
        assert await run(hub, tmp_path, "forget", "--only-said", KITCHEN) == 0
        assert {turn.device_id for turn in await hub.history.turns()} == {OFFICE}
        assert KITCHEN in {each.id for each in (await hub.device_management.overview()).devices}
        assert found(tmp_path / "data" / "photos", SECRET) == []
        assert found(tmp_path / "data" / "photos", OTHER) != []
        assert await hub.device_management.forget_said(None) == ()
        assert await hub.history.turns() == []
        assert found(tmp_path / "data" / "photos", OTHER) == []
        assert not any(kept.dialogue.exchanges for kept in hub.devices.dialogues(time.time()))
        async with device(hub, KITCHEN) as speaker:
            assert (await speaker.ask_text("hello again")).said == "You said hello again."


async def test_a_device_that_makes_room_takes_with_it_what_was_said_on_it(tmp_path: Path) -> None:
    async with running_hub(tmp_path, SCRIPTED) as hub:
        await talk(hub)
        hub.bus.tell(DeviceForgotten(KITCHEN))

        async def gone() -> bool:
            return {turn.device_id for turn in await hub.history.turns()} == {OFFICE}

        await until(gone)


async def test_caches_that_nobody_can_look_through_are_deleted_whole(tmp_path: Path) -> None:
    async with running_hub(tmp_path, SCRIPTED) as hub:
        state = tmp_path / "data" / "cache" / "llama_cpp" / "x" / "y.state"
        state.parent.mkdir(parents=True)
        state.write_bytes(b"?")
        await hub.device_management.forget_said(None)
        assert not state.exists()


@needs_llama
@pytest.mark.usefixtures("may_take_its_time")
async def test_what_llama_has_read_of_a_device_is_gone_from_memory_and_disk(tmp_path: Path, model_file: Path) -> None:  # noqa: F811
    options = f"{{model: {model_file}, temperature: 0, threads: 1, context: 8192, disk_mb: 64}}"
    config, cache = CONFIG.format(llm="llama_cpp", llama=options), tmp_path / "data" / "cache" / "llama_cpp"

    def owners() -> set[str]:
        heads = [json.loads(path.read_bytes().split(b"\n", 1)[0]) for path in cache.glob("*/*.state")]
        return {head["conversation"][:12] for head in heads if head["conversation"]}

    async with running_hub(tmp_path, config) as hub:
        for device_id in (KITCHEN, OFFICE):
            async with device(hub, device_id) as speaker:
                await speaker.ask_text(f"what is it that {device_id} has far away from here" + " and there" * 20)
    assert owners() == {owner_of(KITCHEN), owner_of(OFFICE)}
    async with running_hub(tmp_path, config) as hub:
        async with device(hub, OFFICE) as speaker:
            await speaker.ask_text("what is it now")  # so it is in memory, too
        assert await run(hub, tmp_path, "forget", KITCHEN) == 0
        assert owners() == {owner_of(OFFICE)}
        assert await run(hub, tmp_path, "forget", OFFICE) == 0
        assert owners() == set()
    assert owners() == set(), "it was in memory and was written at the end"


@needs_llama
@pytest.mark.usefixtures("may_take_its_time")
async def test_without_a_history_no_conversation_is_on_the_disk(tmp_path: Path, model_file: Path) -> None:  # noqa: F811
    options = f"{{model: {model_file}, temperature: 0, threads: 1, context: 8192, disk_mb: 64}}"
    config = CONFIG.format(llm="llama_cpp", llama=options).replace("photos: true", "enabled: false")
    async with running_hub(tmp_path, config) as hub, device(hub, KITCHEN) as speaker:
        await speaker.ask_text("what is it that is far away from here")
    states = list((tmp_path / "data" / "cache" / "llama_cpp").glob("*/*.state"))
    heads = [json.loads(path.read_bytes().split(b"\n", 1)[0]) for path in states]
    assert [head["conversation"] for head in heads] == [""]


@needs_llama
@pytest.mark.usefixtures("may_take_its_time")
async def test_without_a_history_nothing_of_earlier_runs_stays_either(tmp_path: Path, model_file: Path) -> None:  # noqa: F811
    options = f"{{model: {model_file}, temperature: 0, threads: 1, context: 8192, disk_mb: 64}}"
    config, cache = CONFIG.format(llm="llama_cpp", llama=options), tmp_path / "data" / "cache" / "llama_cpp"
    async with running_hub(tmp_path, config) as hub, device(hub, KITCHEN) as speaker:
        await speaker.ask_text("what is it that is far away from here")
    assert any(json.loads(path.read_bytes().split(b"\n", 1)[0])["conversation"] for path in cache.glob("*/*.state"))
    async with running_hub(tmp_path, config.replace("photos: true", "enabled: false")):
        heads = [json.loads(path.read_bytes().split(b"\n", 1)[0]) for path in cache.glob("*/*.state")]
        assert [head["conversation"] for head in heads] == [""]


@needs_llama
@pytest.mark.usefixtures("may_take_its_time")
async def test_a_history_that_is_switched_off_while_the_hub_runs_takes_what_is_kept_with_it(
    tmp_path: Path,
    model_file: Path,  # noqa: F811
) -> None:
    options = f"{{model: {model_file}, temperature: 0, threads: 1, context: 8192, disk_mb: 64}}"
    config, cache = CONFIG.format(llm="llama_cpp", llama=options), tmp_path / "data" / "cache" / "llama_cpp"

    def kept() -> list[str]:
        heads = [json.loads(path.read_bytes().split(b"\n", 1)[0]) for path in cache.glob("*/*.state")]
        return [head["conversation"] for head in heads if head["conversation"]]

    async with running_hub(tmp_path, config) as hub, device(hub, OFFICE) as speaker:
        await speaker.ask_text("what is it that was here before")
    assert kept()
    async with running_hub(tmp_path, config) as hub:
        async with device(hub, KITCHEN) as speaker:
            await speaker.ask_text("what is it that is far away from here")
            (engine,) = hub.engines.llms(["llama_cpp"])
            pid = engine.model.process.pid  # type: ignore[attr-defined]  # it is an integration's own class

            async def gone() -> bool:
                return not kept()

            os.kill(pid, signal.SIGSTOP)  # it is busy
            try:
                write_configuration(tmp_path, config.replace("photos: true", "enabled: false"))
                await hub.reloading.now()
                await until(gone)
            finally:
                os.kill(pid, signal.SIGCONT)
            await speaker.ask_text("what is it now")
            assert engine.model.process.pid == pid, "the model goes on"  # type: ignore[attr-defined]
            assert kept() == []
    assert kept() == [], "it was in memory and was written at the end"


# -- the place itself ---------------------------------------------------------------------------------------------


async def test_one_that_fails_keeps_none_of_the_others_from_it() -> None:
    asked: list[Forget] = []

    async def fails(what: Forget) -> None:
        raise OSError("the disk is gone")

    async def works(what: Forget) -> None:
        asked.append(what)

    async with TaskScope("test") as scope:
        forgetting = Forgetting(scope)
        forgetting.add("broken", fails)
        remove = forgetting.add("works", works)
        with pytest.raises(ValueError):
            forgetting.add("works", works)
        assert await forgetting.forget(Forget()) == ("broken",)
        assert asked == [Forget()]
        remove()
        assert await forgetting.forget(Forget()) == ("broken",)
        assert asked == [Forget()]


async def test_many_made_up_devices_are_forgotten_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def holder(what: Forget) -> None:
        asked.append(what)

    monkeypatch.setattr("xiaozhi_hub.core.forgetting.GATHER_SECONDS", 0.05)
    async with TaskScope("test") as scope:
        forgetting = Forgetting(scope)
        forgetting.add("holder", holder)
        for number in range(MOST_LATER + 500):
            forgetting.later(str(number))
        async with asyncio.timeout(10):
            while not asked:
                await asyncio.sleep(0.01)
    (what,) = asked
    assert what.gone and len(what.devices) == MOST_LATER
