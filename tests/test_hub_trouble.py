"""What goes wrong around a hub (disks, ports, processes, devices that talk nonsense) costs as little as it can."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from free_ports import free_port
from permissions import permissions_hold

from xiaozhi_hub import archive
from xiaozhi_hub.answering import Answering
from xiaozhi_hub.archive import Archive
from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.core.flow import Outcome, PcmChunk
from xiaozhi_hub.devices.acquaintance import Acquaintance
from xiaozhi_hub.devices.announcements.messenger import Messenger
from xiaozhi_hub.devices.pairing.pairing import Pairing
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.dialog.intents.intents import Intents
from xiaozhi_hub.errors import HubError, StoreError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins import manager
from xiaozhi_hub.plugins.entries import EntryState
from xiaozhi_hub.services import DeviceServices
from xiaozhi_hub.storage import IN_MEMORY, Storage
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.grants import Grants
from xiaozhi_hub.testing import FakeDevice, running_hub, starting_hub

BASE = """
voice: {vad: echo, asr: echo, tts: echo, llm: %s, lead_ms: 1000}
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  demo:
  echo: {%s}
"""
PLAIN = BASE % ("none", "tts: {ms: 200}")
STORY = BASE % (
    "echo",
    'tts: {ms: 800}, llm: {otherwise: "Once upon a time there was a hub. It was very happy there."}',
)
LIGHT = ("turn on the bed light", "Turned on the Bed Light.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config"


def device(hub: Hub, device_id: str = "02:00:00:00:00:01", **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, **more)


async def works(speaker: FakeDevice) -> bool:
    """Does the hub answer this device's question?"""
    question, answer = LIGHT
    return (await speaker.ask_text(question)).said == answer


# -- disks ----------------------------------------------------------------------------------------------------------


def a_file_in_place_of_the_folder(data: Path) -> Path:
    data.write_text("not a folder")
    return data


def a_path_below_a_file(data: Path) -> Path:
    data.write_text("not a folder")
    return data / "below"


def a_corrupt_database(data: Path) -> Path:
    data.mkdir()
    (data / "hub.db").write_bytes(b"SQLite format 3\x00" + b"\xa5" * 8192)
    return data


def no_database_at_all(data: Path) -> Path:
    data.mkdir()
    (data / "hub.db").write_text("Dear diary, today I was a text file.")
    return data


def a_folder_in_place_of_the_database(data: Path) -> Path:
    (data / "hub.db").mkdir(parents=True)
    return data


def a_read_only_folder(data: Path) -> Path:
    data.mkdir(mode=0o500)
    return data


@pytest.mark.parametrize(
    "break_it",
    [
        a_file_in_place_of_the_folder,
        a_path_below_a_file,
        a_corrupt_database,
        no_database_at_all,
        a_folder_in_place_of_the_database,
        a_read_only_folder,
    ],
)
async def test_a_data_folder_that_cannot_be_used_is_told_and_people_are_answered(
    folder: Path, tmp_path: Path, break_it: Callable[[Path], Path]
) -> None:
    data = break_it(tmp_path / "data")
    before = _content(tmp_path / "data")
    with permissions_hold():
        async with running_hub(folder, f"hub: {{data_dir: {data}}}\n" + PLAIN) as hub, device(hub) as speaker:
            problem = hub.problems["store"]
            assert "Nothing will be remembered" in problem.message
            assert str(data) in problem.message
            assert problem.hint
            assert await works(speaker)
            assert set(hub.problems) == {"store"}
            instead = hub.database.path.parent
            assert instead.is_dir()
    assert not instead.exists()
    assert _content(tmp_path / "data") == before  # the owner may want to rescue it


def _content(path: Path) -> dict[str, bytes | None]:
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(p): p.read_bytes() if p.is_file() else None for p in found}


@pytest.mark.skipif(not Path(IN_MEMORY).is_dir(), reason="this system has no file system in memory")
@pytest.mark.parametrize("in_memory", [True, False])
async def test_where_all_lies_in_memory_there_is_no_room_for_sound(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    really = tempfile.mkdtemp

    def mkdtemp(prefix: str, dir: str | None) -> str:
        if dir is None and in_memory:
            raise OSError(30, "Read-only file system")
        return really(prefix=prefix, dir=dir)

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    data = a_path_below_a_file(tmp_path / "data")
    settings = f"hub: {{data_dir: {data}}}\nhistory: {{audio: true}}\n"
    async with running_hub(folder, settings + PLAIN) as hub, device(hub) as speaker:
        assert await works(speaker)
        async with asyncio.timeout(20):
            while not await hub.history.turns(1):
                await asyncio.sleep(0.01)
        assert hub.archive.folder.is_relative_to(IN_MEMORY) is in_memory
        sounds = [path for path in hub.archive.folder.rglob("*.ogg") if "audio" in path.parts]
        assert bool(sounds) is not in_memory


async def test_a_hub_that_does_not_know_who_may_come_in_says_so_and_lets_nobody_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load(self: Grants, first: object) -> None:
        raise StoreError("the disk is ill", hint="Buy another one.")

    monkeypatch.setattr(Grants, "load", load)
    async with running_hub(folder, PLAIN) as hub, aiohttp.ClientSession(hub.local_url) as http:
        assert "not known: the disk is ill" in hub.problems["pairing"].message
        who = {"Device-Id": "02:00:00:00:00:01", "Client-Id": "c"}
        async with http.post("/xiaozhi/ota/", json={}, headers=who) as answer:
            told = (await answer.json())["websocket"]
        assert "token" not in told  # an empty one would erase what the device has
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await http.ws_connect(told["url"], headers=who)
        assert caught.value.status == 401


async def test_integrations_write_where_the_hub_can(folder: Path, tmp_path: Path) -> None:
    home = folder / "integrations" / "writer"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(
        '{"domain": "writer", "name": "W", "version": "1", "kinds": ["tools"], "online": false}'
    )
    (home / "__init__.py").write_text(
        "from xiaozhi_hub.plugins.api import hookimpl\n"
        "@hookimpl\n"
        "def register_tools(hub): (hub.data_dir / 'mine').write_text('x')\n"
    )
    data = a_path_below_a_file(tmp_path / "data")
    async with running_hub(folder, f"hub: {{data_dir: {data}}}\n" + PLAIN + "  writer:\n") as hub:
        assert set(hub.problems) == {"store"}


async def test_a_history_that_fails_leaves_the_turns_working(folder: Path) -> None:
    async with running_hub(folder, PLAIN) as hub, device(hub) as speaker:
        await hub.database.write(lambda db: db.execute("ALTER TABLE turn RENAME TO gone"))
        assert await works(speaker)
        async with asyncio.timeout(20):
            while "history" not in hub.problems:
                await asyncio.sleep(0.01)
        assert hub.problems["history"].message.startswith("Turns are not remembered: ")
        assert await works(speaker)
        await hub.database.write(lambda db: db.execute("ALTER TABLE gone RENAME TO turn"))
        assert await works(speaker)
        async with asyncio.timeout(20):
            while "history" in hub.problems:
                await asyncio.sleep(0.01)
        assert await hub.history.turns(10)


async def test_what_is_old_goes_everywhere_but_where_it_cannot_and_there_when_it_can(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "RETENTION_SECONDS", 0.02)
    async with running_hub(folder, PLAIN) as hub, asyncio.timeout(60):
        await hub.database.write(lambda db: db.execute("ALTER TABLE turn RENAME TO gone"))
        while "retention" not in hub.problems:
            await asyncio.sleep(0.01)
        photo = (
            "INSERT INTO photo (id, turn_id, session_id, device_id, file, bytes, question, answer, created_at)"
            " VALUES ('p', '', '', '', 'f', 1, '', '', 1)"
        )
        await hub.database.write(lambda db: db.execute(photo))
        while await hub.database.read(lambda db: db.execute("SELECT count(*) FROM photo").fetchone()[0]):
            await asyncio.sleep(0.01)
        await hub.database.write(lambda db: db.execute("ALTER TABLE gone RENAME TO turn"))
        while "retention" in hub.problems:
            await asyncio.sleep(0.01)


# -- a start that fails in one place --------------------------------------------------------------------------------

STEPS = (
    (Storage, "open"),
    (Acquaintance, "load"),
    (Pairing, "load"),
    (Answering, "open"),
    (DeviceServices, "open"),
    (Archive, "take_dialogues"),
    (Messenger, "open"),
    (DeviceRegistry, "housekeeping"),
)


@pytest.mark.parametrize(("place", "step"), STEPS, ids=lambda part: getattr(part, "__name__", part))
async def test_a_start_that_fails_anywhere_leaves_nothing_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: type, step: str
) -> None:
    """What is left would be found by the fixtures that hold for every test."""

    def fails(*_: object) -> None:
        raise ZeroDivisionError(step)

    folder.mkdir()
    (folder / "configuration.yaml").write_text(PLAIN)
    config, port = load_config(folder), free_port()
    config = replace(config, server=replace(config.server, ip="127.0.0.1", port=port, http_port=port))
    with monkeypatch.context() as broken, pytest.raises(ZeroDivisionError, match=step):
        broken.setattr(place, step, fails)
        async with Hub(config):
            pass
    async with Hub(config) as hub, device(hub) as speaker:  # on the same port
        await hub.ready()
        assert await works(speaker)


SLOW_TO_START = """
import asyncio
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import hookimpl

@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    entry.runtime = asyncio.Event()
    await entry.runtime.wait()
    yield
"""


async def test_what_fails_beside_the_engines_neither_ends_their_start_nor_what_they_learn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder / "integrations" / "slow"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(
        '{"domain": "slow", "name": "S", "version": "1", "kinds": ["tools"], "online": false}'
    )
    (home / "__init__.py").write_text(SLOW_TO_START)
    failed = asyncio.Event()

    async def warm(self: Intents) -> None:
        failed.set()
        raise ValueError("half a sentence")

    monkeypatch.setattr(Intents, "warm", warm)
    async with starting_hub(folder, PLAIN + "  slow:\n") as hub, asyncio.timeout(60):
        await failed.wait()
        while (entry := hub.plugins.entry("slow")) is None or entry.runtime is None:
            await asyncio.sleep(0.01)
        assert not hub.is_ready
        entry.runtime.set()
        await hub.ready()
        assert hub.problems["start"].message == "The start is not complete: ValueError: half a sentence."
        assert entry.state is EntryState.READY
        async with device(hub) as speaker:
            assert await works(speaker)


# -- ports and processes --------------------------------------------------------------------------------------------


async def test_a_port_in_use_is_told_with_a_way_out(folder: Path) -> None:
    folder.mkdir()
    config = load_config(folder)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = replace(config, server=replace(config.server, ip="127.0.0.1", port=port, http_port=port))
        with pytest.raises(HubError) as caught:
            async with Hub(config):
                pass
    assert caught.value.code == "port-in-use"
    assert str(port) in caught.value.message
    assert re.search(r"xiaozhi-hub run --port \d+", caught.value.hint)


async def test_a_hub_whose_second_port_is_in_use_lets_go_of_the_first(folder: Path) -> None:
    folder.mkdir()
    config = load_config(folder)
    first = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = replace(config, server=replace(config.server, ip="127.0.0.1", port=port, http_port=first))
        with pytest.raises(HubError):
            async with Hub(config):
                pass
    socket.create_server(("127.0.0.1", first)).close()


@asynccontextmanager
async def hub_process(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A hub as people run it. It is killed at the end if it has not ended by itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "xiaozhi_hub", "run", "-c", str(folder), "--host", "127.0.0.1"),
        *("--port", str(port), "--no-discovery", "--no-self-test"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _answers(port: int) -> float:
    """Wait until the hub has answered on *port*; returns how many seconds that took."""
    clock = asyncio.get_running_loop().time
    began = clock()
    async with aiohttp.ClientSession() as http, asyncio.timeout(180):
        while True:
            try:
                async with http.get(f"http://127.0.0.1:{port}/xiaozhi/ota/") as answer:
                    assert answer.status == 200
                    return clock() - began
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_hub_cleanly(folder: Path, number: signal.Signals) -> None:
    """In the middle of its start, too, when integrations are still being loaded."""
    folder.mkdir()
    (folder / "configuration.yaml").write_text(PLAIN)
    port = free_port()
    async with hub_process(folder, port) as process:
        start = await _answers(port)
        process.send_signal(number)
        output = await _ended(process, start)
    assert process.returncode == 0, output.decode()
    assert b"Traceback" not in output, output.decode()


async def test_a_signal_ends_the_hub_cleanly_while_the_shipped_engines_load(folder: Path) -> None:
    """Beside them is one that takes long, so that the hub has not started when it is told to stop."""
    pytest.importorskip("pocketsphinx", reason="the recogniser needs pocketsphinx")
    write_slow_integration(folder)
    (folder / "configuration.yaml").write_text("integrations: {slow: }\n")
    port = free_port()
    async with hub_process(folder, port) as process:
        start = await _answers(port)
        async with asyncio.timeout(180):
            await begun(folder / "data")
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/health") as answer:
            assert (await answer.json())["status"] == "starting"
        process.send_signal(signal.SIGTERM)
        output = await _ended(process, start)
    assert process.returncode == 0, output.decode()
    assert b"Traceback" not in output, output.decode()


async def test_a_signal_ends_the_hub_cleanly_while_a_device_is_connected(folder: Path) -> None:
    folder.mkdir()
    (folder / "configuration.yaml").write_text(STORY)
    port = free_port()
    async with hub_process(folder, port) as process:
        start = await _answers(port)
        async with FakeDevice(ota_url=f"http://127.0.0.1:{port}/xiaozhi/ota/") as speaker:
            asked = asyncio.create_task(speaker.ask_text("tell me a story"))
            await speaker.hears("Once upon a time")
            process.send_signal(signal.SIGTERM)
            output = await _ended(process, start)
            await asyncio.wait([asked])
            assert asked.exception() is not None  # the connection ended before the answer did
    assert process.returncode == 0, output.decode()
    assert b"Traceback" not in output, output.decode()


async def _ended(process: asyncio.subprocess.Process, start: float) -> bytes:
    """What a hub showed that ends within five seconds, or more where the machine took more than the usual second for its
    *start*, or has begun to do something else since: before those who stop services lose their patience, which is ten."""
    async with asyncio.timeout(5 * max(2.0, start)):
        output, _ = await process.communicate()
    return output


CHILD = """
import time
from pathlib import Path

class Ear:
    def hear(self, busy):
        if not Path(busy).exists():
            Path(busy).touch()
            time.sleep(60)
        return "turn on the bed light"

def create():
    return Ear()
"""
RECOGNISER = """
from contextlib import asynccontextmanager
from pathlib import Path
from xiaozhi_hub.plugins.api import Asr, AsrStream, EngineInfo, ProcessWorker, Role, Transcript, hookimpl

class Stream(AsrStream):
    def __init__(self, worker, busy):
        self.worker, self.busy = worker, busy
    async def feed(self, chunk): pass
    async def guess(self): return None
    async def finish(self): return Transcript(await self.worker.call("hear", str(self.busy)), "en")

class Fragile(Asr):
    info = EngineInfo("fragile", Role.ASR, "Fragile", languages=("en",))
    def __init__(self, worker, busy):
        self.worker, self.busy = worker, busy
    def open(self, request): return Stream(self.worker, self.busy)

@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    worker = ProcessWorker("ear", Path(__file__).with_name("ear.py"))
    entry.runtime = Fragile(worker, hub.config.config_dir / "busy")
    yield
    await worker.close()

@hookimpl
def register_engines(register, entry): register(entry.runtime)
"""


async def test_a_recogniser_whose_process_dies_in_a_turn_is_told_and_hears_the_next_one(folder: Path) -> None:
    home = folder / "integrations" / "fragile"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(
        '{"domain": "fragile", "name": "F", "version": "1", "kinds": ["engines"], "online": false}'
    )
    (home / "__init__.py").write_text(RECOGNISER)
    (home / "ear.py").write_text(CHILD)
    configuration = PLAIN.replace("asr: echo", "asr: fragile") + "  fragile:\n"
    async with running_hub(folder, configuration) as hub, device(hub, mode="manual") as speaker:
        asked = asyncio.create_task(speaker.ask(PcmChunk(np.full(8000, 9000, np.int16), 16000)))
        async with asyncio.timeout(180):
            while not (folder / "busy").exists():
                await asyncio.sleep(0.01)
        engine = next(entry.runtime for entry in hub.plugins.entries if entry.domain == "fragile")
        os.kill(engine.worker.pid, signal.SIGKILL)
        assert (await asked).said == "Sorry, my speech recogniser failed. Please say that again."
        result = await speaker.ask(PcmChunk(np.full(8000, 9000, np.int16), 16000))
        assert (result.heard, result.said) == LIGHT
        assert engine.worker.starts == 2


# -- devices --------------------------------------------------------------------------------------------------------


async def test_a_hub_stops_at_once_while_devices_talk_and_remembers_what_was_heard(folder: Path) -> None:
    devices: list[FakeDevice] = []
    async with running_hub(folder, STORY) as hub:
        path = hub.database.path
        for number in range(4):
            speaker = await device(hub, f"02:00:00:00:00:0{number}").__aenter__()
            devices.append(speaker)
            await speaker.wake()
        asked = [asyncio.create_task(speaker.ask_text("tell me a story")) for speaker in devices[:3]]
        for speaker in devices[:3]:
            await speaker.hears("Once upon a time")
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 15
    await asyncio.wait(asked)
    for speaker in devices:
        await speaker.hung_up(20)
        assert not any("Sorry" in line for line in speaker.conversation), speaker.transcript()
        await speaker.__aexit__(None, None, None)
    database = Database(path, read_only=True)
    await database.open()
    try:
        rows = await database.read(lambda db: list(db.execute("SELECT device_id, outcome FROM turn")))
    finally:
        await database.close()
    assert sorted(rows) == [(f"02:00:00:00:00:0{n}", Outcome.INTERRUPTED.value) for n in range(3)]


async def test_a_second_connection_of_a_device_takes_over_in_the_middle_of_an_answer(folder: Path) -> None:
    async with running_hub(folder, STORY) as hub, device(hub) as old, device(hub) as new:
        asked = asyncio.create_task(old.ask_text("tell me a story"))
        await old.hears("Once upon a time")
        assert await works(new)
        await old.hung_up(20)
        await asyncio.wait([asked])
        assert asked.exception() is not None
        assert list(hub.devices.sessions) == [new.device_id]
        assert await works(new)


NONSENSE: list[str | bytes] = [
    "",
    "{",
    "nonsense",
    "[]",
    "null",
    '{"type": 5}',
    '{"type": null}',
    '{"session_id": "x"}',
    '{"type": "teleport", "to": "Mars"}',
    '{"type": "listen"}',
    '{"type": "listen", "state": "sideways"}',
    '{"type": "listen", "state": "start", "mode": 7}',
    '{"type": "listen", "state": "detect", "text": {"a": 1}}',
    '{"type": "mcp", "payload": "x"}',
    '{"type": "mcp", "payload": {"jsonrpc": "2.0", "id": 99, "result": []}}',
    '{"type": "iot", "states": 5}',
    '{"type": "abort", "reason": 5}',
    '{"type": "hello", "version": 1}',
    '{"type": "listen", "state": "stop", "x": ' + "[" * 3000 + "]" * 3000 + "}",
    b"",
    b"\x00",
    b"\xff" * 300,
    bytes(range(256)) * 8,
    os.urandom(400),
]


async def test_nonsense_in_the_middle_of_a_conversation_does_not_end_it(folder: Path) -> None:
    async with running_hub(folder, PLAIN) as hub, device(hub) as speaker:
        assert await works(speaker)
        await speaker.wake()
        session = speaker.session_id
        for frame in NONSENSE:
            await (speaker.send_text(frame) if isinstance(frame, str) else speaker.send_binary(frame))
        assert await works(speaker)
        assert speaker.connected
        assert speaker.session_id == session
        assert not speaker.complaints


@pytest.mark.usefixtures("speech_is_ready")
async def test_nonsense_during_an_answer_does_not_spoil_it(folder: Path) -> None:
    async with running_hub(folder, STORY) as hub, device(hub) as speaker:
        asked = asyncio.create_task(speaker.ask_text("tell me a story"))
        await speaker.hears("Once upon a time")
        for frame in NONSENSE:
            if isinstance(frame, bytes):
                await speaker.send_binary(frame)
            elif '"abort"' not in frame and '"listen"' not in frame:  # those may well be meant
                await speaker.send_text(frame)
        result = await asked
        assert result.said.endswith("It was very happy there.")
        assert (result.underruns, result.overflows) == (0, 0)


async def test_a_frame_of_a_hundred_kilobytes_ends_its_own_connection_only(folder: Path) -> None:
    async with running_hub(folder, PLAIN) as hub, device(hub) as giant, device(hub, "02:00:00:00:00:02") as other:
        await other.connect()
        await giant.connect()
        await giant.send_binary(bytes(100_000))
        await giant.hung_up(20)
        assert giant.close_code is not None
        assert await works(other)
        assert other.connected
        assert await works(giant)  # over a new connection


@pytest.mark.usefixtures("speech_is_ready")
async def test_a_device_that_reads_nothing_does_not_disturb_another_one(folder: Path) -> None:
    async with running_hub(folder, STORY) as hub, device(hub, "02:00:00:00:00:02") as other:
        async with aiohttp.ClientSession() as http, _deaf(http, hub) as deaf:
            for _ in range(40):
                await deaf.send_json({"type": "listen", "state": "detect", "text": "tell me a story"})
            result = await other.ask_text("tell me a story")
            assert result.said.endswith("It was very happy there.")
            assert (result.underruns, result.overflows, result.dropped_early) == (0, 0, 0)
            assert await works(other)


@asynccontextmanager
async def _deaf(http: aiohttp.ClientSession, hub: Hub) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """A connection that says hello and then takes nothing more."""
    url = hub.local_url.replace("http", "ws") + "/xiaozhi/v1/"
    async with http.ws_connect(url, headers={"Device-Id": "02:00:00:00:00:01", "Protocol-Version": "1"}) as ws:
        await ws.send_json({"type": "hello", "version": 1, "transport": "websocket"})
        await ws.receive()
        transport = ws._response.connection.transport  # type: ignore[union-attr]  # a device has no such handle either
        transport.pause_reading()  # type: ignore[union-attr]
        try:
            yield ws
        finally:
            transport.abort()  # type: ignore[union-attr]  # or closing would wait for an answer it does not read


# -- a stop that comes early ----------------------------------------------------------------------------------------

LACKING = (BASE % ("none", "tts: {ms: 200}")) + "assistants: {nobody: {asr: not_there}}\n"


async def test_a_hub_that_stops_while_it_looks_for_integrations_is_quiet(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The thread that looks through the folders comes back when the integrations have been stopped already."""
    looking, go_on = threading.Event(), threading.Event()
    find, stop = manager.find_integrations, manager.PluginManager.stop

    def slowly(own: Path | None = None) -> Any:
        looking.set()
        assert go_on.wait(10)
        return find(own)

    async def stop_first(self: manager.PluginManager) -> None:
        await stop(self)
        go_on.set()
        await asyncio.to_thread(find)  # as long as the other thread needs
        await asyncio.sleep(0.05)

    monkeypatch.setattr(manager, "find_integrations", slowly)
    monkeypatch.setattr(manager.PluginManager, "stop", stop_first)
    async with starting_hub(folder, LACKING) as hub:
        assert await asyncio.to_thread(looking.wait, 10)
    assert (hub.problems, _complaints(caplog)) == ({}, [])
    assert not hub.plugins.entries
    assert not hub.is_ready


SLOW = """
import asyncio
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import hookimpl

@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    (hub.data_dir / "begun").touch()
    while not (hub.data_dir / "go-on").exists():
        await asyncio.sleep(0.01)
    yield
"""


def write_slow_integration(folder: Path) -> None:
    """An integration that has started when there is a file ``go-on`` beside the one called ``begun`` that it makes."""
    home = folder / "integrations" / "slow"
    home.mkdir(parents=True)
    (home / "manifest.json").write_text(
        '{"domain": "slow", "name": "S", "version": "1", "kinds": ["tools"], "online": false}'
    )
    (home / "__init__.py").write_text(SLOW)


async def begun(data: Path) -> None:
    """Wait until the slow integration is about to start in the hub that keeps its things in *data*."""
    while not (data / "begun").exists():
        await asyncio.sleep(0.01)


async def test_a_hub_that_stops_while_an_integration_starts_is_quiet(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_slow_integration(folder)
    async with asyncio.timeout(20), starting_hub(folder, LACKING.replace("  demo:\n", "  demo:\n  slow:\n")) as hub:
        await begun(hub.config.data_dir)
    assert (hub.problems, _complaints(caplog)) == ({}, [])
    assert not hub.is_ready


async def test_who_writes_or_is_rung_while_the_hub_starts_hears_it_when_it_can_speak(folder: Path) -> None:
    write_slow_integration(folder)
    async with asyncio.timeout(30), starting_hub(folder, PLAIN.replace("  demo:\n", "  demo:\n  slow:\n")) as hub:
        await begun(hub.config.data_dir)
        async with device(hub) as asking, device(hub, "02:00:00:00:00:02") as rung:
            await asking.connect()
            await rung.connect()
            answer = asyncio.create_task(asking.ask_text(LIGHT[0]))
            ring = asyncio.create_task(hub.announcer.ring(rung.device_id, "The pasta is ready.", "en", rounds=1))
            while not any("stt" in line for line in asking.conversation):
                await asyncio.sleep(0.01)
            assert not hub.is_ready
            (hub.config.data_dir / "go-on").touch()
            assert (await answer).said == LIGHT[1]
            assert (await rung.next_answer()).said == "The pasta is ready."
            assert await ring


async def test_integrations_that_were_stopped_do_not_start_again(folder: Path) -> None:
    async with running_hub(folder, PLAIN) as hub:
        await hub.plugins.stop()
        engines = hub.engines.all()
        await hub.plugins.start()
        await hub.plugins.reload("echo")
        assert hub.engines.all() == engines


def _complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, but that the door is open on the first day."""
    told = (record for record in caplog.records if record.levelno >= logging.WARNING)
    return [record.getMessage() for record in told if not record.name.endswith(".pairing")]
