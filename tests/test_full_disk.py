"""A hub, as people run it, on a disk that is full or cannot be written: people are answered, and told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientConnectionError, ClientSession
from free_ports import free_port
from small_disk import SmallDisk, fill

from xiaozhi_hub.testing import FakeDevice

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "02:00:00:00:00:01"
QUIET = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
hub: {data_dir: %s}
integrations: {silero_vad: false, phrases: false, espeak: false, demo: , clock: , echo: {tts: {ms: 200}}}
"""
KILOBYTES = 1200
"""A new database and some turns."""
NO_OTHER = (
    "for each in /tmp /var/tmp /usr/tmp; do"
    " if [ -d $each ]; then mount --bind $each $each && mount -o remount,ro,bind $each; fi; done"
)
"""Where programs put what need not last, nothing can be written: everything is on one card."""


class RunningHub:
    """A hub whose data folder is a disk of its own."""

    def __init__(self, process: Process, disk: SmallDisk, url: str, http: ClientSession) -> None:
        self.pid = process.pid
        self.disk = disk
        self._url = url
        self._http = http
        self.ota_url = f"{url}/xiaozhi/ota/"

    async def get(self, path: str) -> Any:
        async with self._http.get(self._url + path) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def database(self) -> dict[str, str]:
        """How the hub says that its memory is."""
        services = (await self.get("/health/detailed"))["services"]
        part: dict[str, str] = services["database"]
        return part

    async def remembered(self) -> list[str]:
        return [turn["message"] for turn in (await self.get(f"/api/v2/chat-history/{DEVICE}"))["turns"]]


@asynccontextmanager
async def hub(folder: Path, before: str = ":", after: str = ":") -> AsyncIterator[RunningHub]:
    """It has started when the block is entered, and is ended by a signal when it is left: cleanly, without a traceback."""
    data, config = folder / "data", folder / "config"
    data.mkdir()
    config.mkdir()
    (config / "configuration.yaml").write_text(QUIET % data)
    disk = SmallDisk(data, KILOBYTES)
    port = free_port()
    arguments = ("run", "-c", str(config), "--host", "127.0.0.1", "--port", str(port))
    process = await asyncio.create_subprocess_exec(
        *disk.command(
            *(sys.executable, "-m", "xiaozhi_hub", *arguments, "--no-discovery", "--no-self-test"),
            before=before,
            after=f"cd {data} && {after}",
        ),
        stdout=PIPE,
        stderr=STDOUT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )
    assert process.stdout is not None
    reading = asyncio.create_task(process.stdout.read())
    try:
        async with ClientSession() as http:
            running = RunningHub(process, disk, f"http://127.0.0.1:{port}", http)
            await until(lambda: _has_started(running, process))
            yield running
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(180):
            shown = (await reading).decode()
            assert await process.wait() == 0, shown
        assert "Traceback" not in shown, shown
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        reading.cancel()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(180):
        while not await condition():
            await asyncio.sleep(0.02)


async def _has_started(running: RunningHub, process: Process) -> bool:
    assert process.returncode is None, "the hub has ended"
    try:
        return bool((await running.get("/health"))["status"] != "starting")
    except ClientConnectionError:
        return False


@asynccontextmanager
async def device(running: RunningHub) -> AsyncIterator[FakeDevice]:
    async with FakeDevice(ota_url=running.ota_url, device_id=DEVICE) as speaker:
        yield speaker


async def _has_remembered(running: RunningHub, heard: str) -> bool:
    return (await running.remembered())[-1] == heard


async def works(speaker: FakeDevice) -> bool:
    return (await speaker.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_on_a_disk_that_fills_up_people_are_answered_and_room_mends_it(tmp_path: Path) -> None:
    async with hub(tmp_path) as running, device(running) as speaker:
        assert await works(speaker)
        assert await until_remembered(running, 1)
        filler = fill(running.disk.seen_by(running.pid))
        for _ in range(3):  # the write-ahead log may have room for one more
            assert await works(speaker)
        await until(lambda: _is(running, "unhealthy"))
        assert (await running.database())["detail"].startswith("Turns are not remembered: the disk of ")
        filler.unlink()
        assert (await speaker.ask_text("what time is it")).said.startswith("It is ")
        await until(lambda: _is(running, "healthy"))
        await until(lambda: _has_remembered(running, "what time is it"))


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (":", "mount -o remount,ro {data}", "the database "),
        (NO_OTHER, "dd if=/dev/zero of={data}/filler bs=1k 2>/dev/null || :", "the disk of "),
    ],
    ids=["the-data-folder", "the-only-disk"],
)
async def test_a_hub_starts_on_a_disk_that_takes_nothing(tmp_path: Path, before: str, after: str, reason: str) -> None:
    async with hub(tmp_path, before, after.format(data=tmp_path / "data")) as running:
        async with device(running) as speaker:
            assert await works(speaker)
        state = await running.database()
        assert state["status"] == "unhealthy"
        assert state["detail"].startswith(f"Nothing will be remembered after a restart: {reason}")
        assert await until_remembered(running, 1), "for as long as it runs"
        (database,) = {path for path in _open_files(running.pid) if path.name == "hub.db"}
        assert (database.parts[1:3] == ("dev", "shm")) == (before == NO_OTHER)
        folder = database.parent
    assert not folder.exists()


async def until_remembered(running: RunningHub, count: int) -> bool:
    async def enough() -> bool:
        return len(await running.remembered()) >= count

    await until(enough)
    return True


async def _is(running: RunningHub, status: str) -> bool:
    return (await running.database())["status"] == status


def _open_files(pid: int) -> list[Path]:
    return [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
