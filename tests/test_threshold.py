"""The first part of the hub: devices that boot with it are answered while the rest is still being fetched."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import ClientSession, WSMsgType
from free_ports import free_port
from test_cli_run import QUIET, ROOT, banner, run, stop

from xiaozhi_hub.core.config import Config, load_config
from xiaozhi_hub.front import Front
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.storage import Storage
from xiaozhi_hub.threshold import Threshold
from xiaozhi_hub.web.requests.later import LaterRoutes

DEVICE = {"Device-Id": "24:6f:28:aa:bb:cc", "Client-Id": "5f1c"}
SLOW_TO_IMPORT = {
    "numpy": "a tenth of a second; only sound that is computed with needs it",
    "soxr": "as numpy",
    "PIL": "characters and photos; nobody has asked for any yet",
    "jinja2": "pages; no person has looked yet",
    "pluggy": "integrations start later",
    "zeroconf": "the network is told of the hub when its ports are open",
    "xiaozhi_hub.hub": "all that the hub is made of",
    "xiaozhi_hub.rooms": "the APIs; whoever asks for them waits a moment",
    "xiaozhi_hub.dialog": "nobody is spoken with before the hub is there",
    "xiaozhi_hub.devices.sessions": "as the dialogue",
    "xiaozhi_hub.devices.waking": "as the dialogue",
    "xiaozhi_hub.devices.abilities": "as the dialogue",
    "xiaozhi_hub.devices.announcements": "as the dialogue",
    "xiaozhi_hub.engines": "engines start later",
    "xiaozhi_hub.models": "as the engines",
    "xiaozhi_hub.tools": "tools belong to turns",
    "xiaozhi_hub.entities": "as tools",
    "xiaozhi_hub.plugins.manager": "integrations start later",
    "xiaozhi_hub.display": "as PIL",
    "xiaozhi_hub.firmware": "offered once the store has been asked what was given to whom",
    "xiaozhi_hub.testing": "a whole device, for the self-test",
}
"""What an answer to a check-in does without, and why. Each of them made every device wait that boots with its hub."""

BROUGHT_BY_THE_STORE = {"numpy", "pluggy"}
"""sqlite-utils imports them if they are installed; it does so in the thread of the store, when the ports are open."""

AT_THE_DOOR = """
import sys
def heard(event, arguments):
    if event == "socket.bind" and arguments[0].family != 1:
        import json, os
        print(json.dumps(sorted(sys.modules)), flush=True)
        os._exit(0)
sys.addaudithook(heard)
from xiaozhi_hub.cli import main
sys.exit(main(["run", "-c", sys.argv[1], "--host", "127.0.0.1", "--port", "0"]))
"""
"""The real command, until it opens its first port."""
ANSWERED = """
import asyncio, json, sys
from pathlib import Path
from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.devices.pairing import pairing
from xiaozhi_hub.threshold import Threshold
from xiaozhi_hub.web.devices import ota
from dataclasses import replace

ota.CONTRIBUTION_SECONDS = pairing.LOAD_SECONDS = 20.0  # the token needs the store, which may take long to open here

async def main():
    config = load_config(Path(sys.argv[1]))
    server = replace(config.server, ip="127.0.0.1", port=0, http_port=0)
    async with Threshold(replace(config, server=server)) as threshold:
        reader, writer = await asyncio.open_connection("127.0.0.1", threshold.front.port)
        writer.write(b"POST /xiaozhi/ota/ HTTP/1.1\\r\\nHost: hub:8003\\r\\nDevice-Id: 24:6f:28:aa:bb:cc\\r\\nClient-Id: 5f1c\\r\\n"
                     b"Content-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
        head, _, body = (await reader.read()).partition(b"\\r\\n\\r\\n")
        writer.close()
        print(json.dumps([head.split()[1].decode(), json.loads(body), sorted(sys.modules)]))

asyncio.run(main())
"""


UNUSED = ("PIL", "jinja2", "zeroconf", "xiaozhi_hub.testing")
"""What a hub does not hold in memory before a device, a person, the network or the self-test has asked for it."""
IDLE = """
import asyncio, json, sys
from dataclasses import replace
from pathlib import Path
from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.hub import Hub

async def main():
    config = load_config(Path(sys.argv[1]))
    server = replace(config.server, ip="127.0.0.1", port=0, http_port=0)
    async with Hub(replace(config, server=server, discovery=replace(config.discovery, enabled=False))) as hub:
        await hub.ready()
        print(json.dumps(sorted(sys.modules)))

asyncio.run(main())
"""


def child(program: str, folder: Path) -> str:
    (folder / "configuration.yaml").write_text(QUIET)
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=180,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout.decode()


def slow(modules: list[str]) -> list[str]:
    return [name for name in SLOW_TO_IMPORT if name in modules]


def test_the_command_opens_its_ports_before_it_imports_what_only_conversations_need(tmp_path: Path) -> None:
    modules = json.loads(child(AT_THE_DOOR, tmp_path))
    assert "xiaozhi_hub.threshold" in modules
    assert slow(modules) == []


def test_a_device_is_answered_in_full_without_any_of_it(tmp_path: Path) -> None:
    status, answer, modules = json.loads(child(ANSWERED, tmp_path))
    assert status == "200"
    assert answer["websocket"]["url"] == "ws://hub:8003/xiaozhi/v1/"
    assert answer["websocket"]["token"]
    assert set(slow(modules)) <= BROUGHT_BY_THE_STORE


def test_a_hub_that_nobody_asks_anything_does_not_hold_what_answers_would_need(tmp_path: Path) -> None:
    modules = json.loads(child(IDLE, tmp_path))
    assert "xiaozhi_hub.rooms" in modules
    assert [name for name in UNUSED if name in modules] == []


def test_what_is_named_here_is_there_once_the_hub_is() -> None:
    """Names that nobody imports any more would prove nothing."""
    program = """if True:
        import json, sys
        import jinja2, zeroconf
        import xiaozhi_hub.cli.self_test, xiaozhi_hub.display.raster
        print(json.dumps(sorted(sys.modules)))
    """
    modules = subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        check=True,
        timeout=180,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ).stdout
    assert {*SLOW_TO_IMPORT, *UNUSED} <= set(json.loads(modules))


def at_home(folder: Path, more: str = "") -> Config:
    (folder / "configuration.yaml").write_text(QUIET + more)
    config = load_config(folder)
    return replace(
        config,
        server=replace(config.server, ip="127.0.0.1", port=0, http_port=0),
        discovery=replace(config.discovery, enabled=False),
    )


async def test_whoever_wants_more_waits_for_the_hub_and_is_answered_as_ever(tmp_path: Path) -> None:
    config = at_home(tmp_path)
    async with Threshold(config) as threshold, ClientSession(threshold.front.local_url) as http:

        async def status_of(method: str, path: str) -> int:
            async with http.request(method, path) as answer:
                return answer.status

        async with asyncio.TaskGroup() as group:
            waiting = {
                asked: group.create_task(status_of(*asked))
                for asked in (
                    ("GET", "/api/devices"),
                    ("GET", "/"),
                    ("GET", "/nowhere"),
                    ("DELETE", "/api/devices"),
                    ("GET", "/xiaozhi/ota/"),
                )
            }
            async with http.get("/health") as answer:
                assert (await answer.json())["status"] == "starting"
            async with http.post("/xiaozhi/ota/", json={}, headers=DEVICE) as answer:
                assert (await answer.json())["websocket"]["token"]
            async with http.get("/static/hub.css") as answer:
                assert answer.status == 200
            assert not any(task.done() for task in waiting.values())
            async with Hub(config, threshold=threshold) as hub:
                await hub.ready()
                async with asyncio.timeout(20):
                    await asyncio.wait(waiting.values())
        assert {asked: task.result() for asked, task in waiting.items()} == {
            ("GET", "/api/devices"): 200,
            ("GET", "/"): 200,
            ("GET", "/nowhere"): 404,
            ("DELETE", "/api/devices"): 405,
            ("GET", "/xiaozhi/ota/"): 200,
        }


LEAVING = """
import asyncio
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import hookimpl

@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    entry.runtime = leaves, may_go = asyncio.Event(), asyncio.Event()
    yield
    leaves.set()
    await may_go.wait()
"""


async def test_whoever_comes_while_the_hub_stops_is_refused_and_devices_check_in_to_the_last(tmp_path: Path) -> None:
    home = tmp_path / "integrations" / "leaving"
    home.mkdir(parents=True)
    manifest = {"domain": "leaving", "name": "L", "version": "1", "kinds": ["tools"], "online": False}
    (home / "manifest.json").write_text(json.dumps(manifest))
    (home / "__init__.py").write_text(LEAVING)
    hub = Hub(at_home(tmp_path, "  leaving:\n"))
    await hub.__aenter__()
    await hub.ready()
    entry = hub.plugins.entry("leaving")
    assert entry is not None
    leaves, may_go = entry.runtime
    async with ClientSession(hub.local_url) as http, asyncio.TaskGroup() as group:
        stopping = group.create_task(hub.__aexit__())
        async with asyncio.timeout(20):
            await leaves.wait()
        for method, path in (("GET", "/api/devices"), ("POST", "/api/chat"), ("GET", "/v1/models"), ("GET", "/x")):
            async with http.request(method, path, json={"message": "hello"}) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (503, "hub-stopping")
        async with http.post("/xiaozhi/ota/", json={}, headers=DEVICE) as answer:
            assert (await answer.json())["websocket"]["token"]
        async with http.get("/health") as answer:
            assert answer.status == 200
        may_go.set()
        await stopping


async def test_the_ports_close_before_the_store_so_nobody_is_answered_by_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[bool] = []
    really = Storage.close

    async def close(self: Storage) -> None:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            reached.append(False)
        else:
            reached.append(True)
            writer.close()
        await really(self)

    monkeypatch.setattr(Storage, "close", close)
    async with Threshold(at_home(tmp_path)) as threshold:
        port = threshold.front.port
    assert reached == [False]


async def test_who_waits_for_a_hub_that_does_not_come_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    come: asyncio.Queue[None] = asyncio.Queue()

    def noticed(place: type, name: str) -> None:
        really = getattr(place, name)

        async def note(*arguments: object) -> object:
            come.put_nowait(None)
            return await really(*arguments)

        monkeypatch.setattr(place, name, note)

    noticed(LaterRoutes, "resolve")
    noticed(Front, "_behind")

    async def answer_to(path: str) -> tuple[int, str]:
        async with http.get(path) as answer:
            return answer.status, (await answer.json())["error"]["code"]

    async with ClientSession() as http:
        async with Threshold(at_home(tmp_path)) as threshold:
            url = threshold.front.local_url
            waiting = [asyncio.create_task(answer_to(f"{url}{path}")) for path in ("/api/devices", "/")]
            async with asyncio.timeout(20):
                for _ in waiting:
                    await come.get()
        assert await asyncio.gather(*waiting) == [(503, "hub-stopping")] * 2


async def test_a_device_that_connects_early_is_greeted_at_once_and_talked_with_when_the_hub_is_there(
    tmp_path: Path,
) -> None:
    config = at_home(tmp_path)
    hello = {"type": "hello", "version": 1, "transport": "websocket", "audio_params": {"format": "opus"}}
    async with asyncio.timeout(60), Threshold(config) as threshold, ClientSession(threshold.front.local_url) as http:
        async with http.post("/xiaozhi/ota/", json={}, headers=DEVICE) as answer:
            told = (await answer.json())["websocket"]
        async with http.ws_connect(told["url"], headers=DEVICE | {"Authorization": f"Bearer {told['token']}"}) as link:
            await link.send_json(hello)
            assert (await link.receive_json())["type"] == "hello"  # nothing else of the hub is there
            await link.send_json({"type": "listen", "state": "detect", "text": "hello"})
            async with Hub(config, threshold=threshold) as hub:
                heard: list[str] = []
                while "You said: hello" not in heard:
                    frame = await link.receive()
                    if frame.type is WSMsgType.TEXT:
                        heard.append(json.loads(frame.data).get("text", ""))
                while await hub.known_devices.get(DEVICE["Device-Id"]) is None:
                    await asyncio.sleep(0.01)


async def test_a_hub_that_has_moved_sends_devices_on_from_its_first_answer(tmp_path: Path) -> None:
    port = free_port()
    async with (
        Threshold(at_home(tmp_path, f"http:\n  moved_to: http://127.0.0.1:{port}\n")) as threshold,
        ClientSession(threshold.front.local_url) as http,
        http.post("/xiaozhi/ota/", json={}, headers=DEVICE) as answer,
    ):
        assert (await answer.json())["websocket"]["url"] == f"ws://127.0.0.1:{port}/xiaozhi/v1/"


async def test_a_command_that_is_stopped_while_it_starts_ends_cleanly(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    port = free_port()
    async with run(tmp_path, "--port", str(port), "--no-self-test") as process:
        async with asyncio.timeout(180), ClientSession(f"http://127.0.0.1:{port}") as http:
            while True:
                try:
                    async with http.post("/xiaozhi/ota/", json={}, headers=DEVICE) as answer:
                        assert answer.status == 200
                        break
                except OSError:
                    await asyncio.sleep(0.01)
        assert await stop(process) == 0


async def test_a_hub_that_hears_sighup_while_it_starts_still_starts(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    port = free_port()
    async with run(tmp_path, "--port", str(port), "--no-self-test") as process:
        async with asyncio.timeout(180):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except OSError:
                    await asyncio.sleep(0.01)
        writer.close()
        process.send_signal(1)
        assert (await banner(process))["Self-test"] == "not asked for"
        assert await stop(process) == 0
