"""What the doctor finds: with a real hub, with other programs in its place, and on machines that are not well."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from free_ports import free_port

from xiaozhi_hub.cli import main
from xiaozhi_hub.core.config import Config, load_config
from xiaozhi_hub.core.i18n import LANGUAGES, Texts
from xiaozhi_hub.doctor.address import Way, look_at_way
from xiaozhi_hub.doctor.examination import examine, examine_from_afar
from xiaozhi_hub.doctor.finding import Finding, Level
from xiaozhi_hub.doctor.machine import look_at_machine
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.store.rollouts import ReleaseState, Rollouts
from xiaozhi_hub.testing.check_in import check_in
from xiaozhi_hub.testing.house import running_hub
from xiaozhi_hub.testing.profile import FirmwareProfile

QUIET = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n"
ONE, TWO = "24:6f:28:aa:bb:01", "24:6f:28:aa:bb:02"
ROOT = Path(__file__).resolve().parent.parent / "xiaozhi_hub"


def as_run(hub: Hub) -> Config:
    """The configuration as if its file named the ports that the hub has got."""
    return replace(hub.config, server=replace(hub.config.server, port=hub.port, http_port=hub.port))


async def found(findings: AsyncIterator[Finding]) -> dict[str, Finding]:
    return {finding.code: finding async for finding in findings}


@asynccontextmanager
async def program(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    """Another program where the hub should be."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def sick(findings: dict[str, Finding]) -> set[str]:
    return {code for code, finding in findings.items() if finding.level is Level.ERROR}


# -- the hub ------------------------------------------------------------------------------------------------------


async def test_a_hub_that_is_well_is_found_well_step_by_step(tmp_path: Path) -> None:
    async with running_hub(tmp_path, QUIET + "  echo:\n") as hub:
        findings = await found(examine(as_run(hub), tmp_path))
        assert sick(findings) == set()
        assert {"port", "ota", "websocket_locked", "engines", "integrations", "disk", "database", "clock"} <= set(
            findings
        )
        assert not await hub.known_devices.all(), "the doctor must leave no device behind"


async def test_a_hub_that_cannot_hear_is_called_deaf(tmp_path: Path) -> None:
    async with running_hub(tmp_path, QUIET) as hub:
        findings = await found(examine(as_run(hub), tmp_path))
        assert "deaf" in sick(findings)
        assert "asr" in findings["deaf"].values["missing"]


async def test_an_integration_that_fails_is_named(tmp_path: Path) -> None:
    more = "  echo:\n  openai_compatible:\n    url: http://127.0.0.1:1/v1\n"
    async with running_hub(tmp_path, QUIET + more) as hub:
        findings = await found(examine(as_run(hub), tmp_path))
        assert "openai_compatible" in findings["integrations_failed"].values["detail"]


async def test_without_a_hub_the_rest_is_looked_at_all_the_same(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "configuration.yaml").write_text(f"server: {{ip: 127.0.0.1, port: {port}, http_port: {port}}}\n")
    findings = await found(examine(load_config(tmp_path), tmp_path))
    assert sick(findings) == {"port_closed"}
    assert {"not_running", "no_device_yet", "disk", "clock"} <= set(findings)


async def test_another_program_on_the_hubs_port_is_told_from_a_hub(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text="Hello, I am a printer.")

    async with program(answer) as port:
        (tmp_path / "configuration.yaml").write_text(f"server: {{ip: 127.0.0.1, port: {port}, http_port: {port}}}\n")
        assert "port_taken" in sick(await found(examine(load_config(tmp_path), tmp_path)))


# -- what stands between a device and the hub ---------------------------------------------------------------------


def ota(answer: dict[str, Any], status: int = 200) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def reply(request: web.Request) -> web.StreamResponse:
        if request.path != "/xiaozhi/ota/":
            raise web.HTTPForbidden
        port = request.url.port
        return web.json_response(json.loads(json.dumps(answer).replace("PORT", str(port))), status=status)

    return reply


async def redirect(request: web.Request) -> web.StreamResponse:
    raise web.HTTPMovedPermanently("https://elsewhere/")


async def login_page(request: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>Please log in</html>", content_type="text/html")


async def chunked(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b'{"websocket":{}}')
    return response


NOW = int(time.time() * 1000)
GOOD = {"server_time": {"timestamp": NOW}, "websocket": {"url": "ws://127.0.0.1:PORT/xiaozhi/v1/", "token": ""}}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (redirect, "ota_status"),
        (login_page, "ota_unreadable"),
        (chunked, "ota_unreadable"),
        (ota(GOOD, 503), "ota_status"),
        (ota({}), "websocket_missing"),
        (ota({"websocket": {"url": "ws://127.0.0.1/xiaozhi/v1/"}}), "websocket_missing"),
        (ota({"websocket": {"url": "wss://127.0.0.1:1/"}}), "websocket_missing"),
        (ota({"websocket": {"url": "ws://192.168.1:4:8000/"}}), "websocket_missing"),
        (ota({"websocket": {"url": "ws://127.0.0.1:1/xiaozhi/v1/"}}), "websocket_unreachable"),
        (ota(GOOD), "websocket_locked"),
        (ota({"websocket": GOOD["websocket"]}), "time_missing"),
        (ota(GOOD | {"server_time": {"timestamp": NOW - 3_600_000}}), "time_apart"),
    ],
)
async def test_what_would_stop_a_device_is_found(
    answer: Callable[[web.Request], Awaitable[web.StreamResponse]], code: str
) -> None:
    async with program(answer) as port:
        findings = await found(look_at_way(Way("127.0.0.1", port)))
        assert code in findings
        expected = Level.OK if code == "websocket_locked" else Level.WARNING if code.startswith("time") else Level.ERROR
        assert findings[code].level is expected


async def test_a_hub_elsewhere_is_looked_at_from_the_place_of_a_device(tmp_path: Path) -> None:
    async with running_hub(tmp_path, QUIET) as hub:
        assert {"ota", "websocket_locked"} <= set(await found(examine_from_afar(Way("127.0.0.1", hub.port))))
    assert "ota_unreachable" in sick(await found(examine_from_afar(Way("127.0.0.1", hub.port))))


# -- what the hub remembers ---------------------------------------------------------------------------------------


async def test_symptoms_of_devices_are_seen_in_what_the_hub_remembers(tmp_path: Path) -> None:
    async with running_hub(tmp_path, QUIET + "  echo:\n") as hub:
        await check_in(f"{hub.local_url}/xiaozhi/ota/", ONE, "c", "en-US", FirmwareProfile())
        async with asyncio.timeout(20):
            while not await hub.known_devices.all():
                await asyncio.sleep(0.01)
        await hub.known_devices.seen(TWO, time.time(), address="198.51.100.7")
        await Rollouts(hub.database).release("board", "2.5.0", ReleaseState.STOPPED, 0.0, reason="it came back")
        config = as_run(hub)
        config = replace(config, http=replace(config.http, moved_to="http://192.0.2.1:8003"))
        findings = await found(examine(config, tmp_path))
        assert findings["devices"].values["count"] == 2
        assert findings["never_talked"].values["devices"] == ONE
        assert (
            TWO in findings["other_network"].values["devices"]
            and ONE not in findings["other_network"].values["devices"]
        )
        assert findings["firmware_stopped"].values["why"] == "it came back"
        assert findings["moved_waiting"].values["waiting"] == f"{TWO}, {ONE}"
        assert "isolation" not in findings


# -- the machine --------------------------------------------------------------------------------------------------


def machine(config: Config, root: Path) -> dict[str, Finding]:
    return {finding.code: finding for finding in look_at_machine(config, root)}


def test_what_the_system_tells_of_itself_is_read(tmp_path: Path) -> None:
    files = {
        "etc/ufw/ufw.conf": "# comment\nENABLED=yes\n",
        "proc/meminfo": "MemTotal: 1 kB\nMemAvailable:   50000 kB\n",
        ".dockerenv": "",
        "run/systemd/timesync/clock": "",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    findings = machine(Config(tmp_path), tmp_path)
    assert {"firewall_ufw", "memory_high", "container", "clock_unsynchronised"} <= set(findings)
    (tmp_path / "run/systemd/timesync/synchronized").touch()
    assert "clock" in machine(Config(tmp_path), tmp_path)


def test_a_clock_before_the_hub_was_written_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    then = time.gmtime(0)
    monkeypatch.setattr(time, "localtime", lambda: then)
    assert "clock_wrong" in sick(machine(Config(tmp_path), tmp_path))


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"SQLite format 3\x00" + b"\xa5" * 8192, "database_damaged"), (b"a diary" * 99, "database_damaged")],
)
def test_a_damaged_database_is_found_and_left_as_it_is(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "data" / "hub.db"
    path.parent.mkdir()
    path.write_bytes(content)
    assert code in sick(machine(Config(tmp_path), tmp_path))
    assert path.read_bytes() == content


def test_a_database_that_another_program_holds_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.doctor.machine._BUSY_S", 0.1)
    (tmp_path / "data").mkdir()
    other = sqlite3.connect(tmp_path / "data" / "hub.db", isolation_level=None)
    other.execute("CREATE TABLE t (a)")
    other.execute("BEGIN EXCLUSIVE")
    try:
        assert "database_busy" in machine(Config(tmp_path), tmp_path)
    finally:
        other.close()


def test_a_data_folder_that_is_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    assert "folder_is_file" in sick(machine(Config(tmp_path), tmp_path))


@pytest.mark.parametrize(("free", "code"), [(50 * 2**20, "disk_full"), (500 * 2**20, "disk_low"), (5 * 2**30, "disk")])
def test_a_disk_that_fills_up_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, code: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert code in machine(Config(tmp_path), tmp_path)


# -- the command --------------------------------------------------------------------------------------------------


async def test_the_command_tells_in_both_languages_and_by_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def call(*arguments: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["doctor", "-c", str(tmp_path), *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    async with running_hub(tmp_path, QUIET + "  echo:\nserver: {ip: 127.0.0.1}\n") as hub:
        port = ("--port", str(hub.port))
        code, said = await call(*port, "--json")
        facts = json.loads(said)["findings"]
        assert code == 0 and all(set(fact) == {"level", "code", "message", "hint"} for fact in facts)
        assert all(fact["hint"] for fact in facts if fact["level"] != "ok")
        assert "A device can check in at" in (await call(*port))[1]
        assert "设备可以在" in (await call(*port, "--language", "zh-Hans"))[1]
        code, said = await call("--hub", f"127.0.0.1:{hub.port}")
        assert code == 0 and "WebSocket" in said
    code, said = await call("--port", str(free_port()))
    assert code == 1 and "Nobody listens" in said and "xiaozhi-hub run" in said
    (tmp_path / "configuration.yaml").write_text("server: {ip: 127.0.0.1, prot: 1}\n")
    code, said = await call("--port", str(free_port()), "--json")
    assert code == 1 and "prot" in json.loads(said)["findings"][0]["message"]
    assert (await call("--hub", "not a host"))[0] == 1


def test_every_finding_has_its_words_and_every_bad_one_says_what_to_do() -> None:
    texts = Texts()
    used: dict[str, str] = {}
    for path in (*(ROOT / "doctor").glob("*.py"), ROOT / "cli" / "doctor.py"):
        for level, code in re.findall(r'\b(ok|warning|error)\(\s*"(\w+)"', path.read_text(encoding="utf-8")):
            used[code] = level
    used["deaf"] = used["mute"] = "error"
    assert len(used) > 50
    no_remedy = {"starting", "store_trouble", "memory_unreadable", "time_missing"}
    for code, level in used.items():
        for language in LANGUAGES:
            assert texts.has(f"doctor.{code}", language), code
            if level != "ok" and code not in no_remedy:
                assert texts.has(f"doctor.{code}_do", language), code
