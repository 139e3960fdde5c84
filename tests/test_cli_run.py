"""The command ``xiaozhi-hub run``, as a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from free_ports import free_port

from xiaozhi_hub.cli import main
from xiaozhi_hub.cli.run import allow_open_files
from xiaozhi_hub.cli.self_test import talk_to_yourself
from xiaozhi_hub.cli.table import cells
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.testing import running_hub

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 180.0
QUIET = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n  echo:\n"
"""Engines that need nothing and are there at once."""


@asynccontextmanager
async def run(folder: Path, *arguments: str, encoding: str = "utf-8", packages: Path = ROOT) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "xiaozhi_hub", "run", "-c", str(folder), "--host", "127.0.0.1", "--no-discovery"),
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{packages}", "PYTHONIOENCODING": encoding},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def banner(process: Process) -> dict[str, str]:
    """The lines of the banner by their titles."""
    assert process.stdout is not None
    shown: dict[str, str] = {}
    async with asyncio.timeout(START_SECONDS):
        while "Self-test" not in shown:
            line = (await process.stdout.readline()).decode()
            assert line, "the hub ended before its banner"
            title, _, text = line.strip().partition("  ")
            shown[title] = text.strip()
    return shown


async def stop(process: Process) -> int:
    process.terminate()
    async with asyncio.timeout(180):
        return await process.wait()


def listening(pid: int) -> set[int]:
    """The TCP ports on which a process listens."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(link.readlink().name)
        except OSError:
            continue
    ports = set()
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports


async def test_the_banner_says_where_the_hub_is_and_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    port = free_port()
    async with run(tmp_path, "--port", str(port), "--no-self-test") as process:
        shown = await banner(process)
        assert shown["Pages"] == f"http://127.0.0.1:{port}/"
        assert shown["OTA URL"].split()[0] == f"http://127.0.0.1:{port}/xiaozhi/ota/"
        assert re.search(r"VAD \S+ · ASR \S+.* · TTS \S+", shown["Voice"])
        assert re.match(r"The door is open until .* \(this hub is new\): every device", shown["Devices"])
        assert shown["Self-test"] == "not asked for"
        assert await stop(process) == 0


async def test_the_banner_can_be_shown_where_there_are_no_arrows(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    async with run(tmp_path, "--port", str(free_port()), "--no-self-test", encoding="ascii") as process:
        shown = await banner(process)
        assert "? type this once into the device" in shown["OTA URL"]
        assert await stop(process) == 0


async def test_the_banner_speaks_chinese_and_programs_still_find_its_lines(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(f"hub: {{language: zh-Hans}}\n{QUIET}")
    port = free_port()
    async with run(tmp_path, "--port", str(port), "--no-self-test") as process:
        shown = await banner(process)
        assert shown["Pages"] == f"http://127.0.0.1:{port}/"
        assert shown["OTA URL"].endswith("← 在设备的配网页面里填一次")
        assert re.match(r"门开到 .*（中枢刚装好）：", shown["Devices"])
        assert shown["Self-test"] == "未要求"
        assert await stop(process) == 0


async def test_on_a_terminal_all_of_the_banner_is_in_its_language(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    ours, theirs = os.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "xiaozhi_hub", "run", "-c", str(tmp_path), "--host", "127.0.0.1"),
            *("--no-discovery", "--no-self-test", "--port", str(free_port())),
            stdout=theirs,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": "zh_CN.UTF-8", "PYTHONIOENCODING": "utf-8"},
        )
        try:
            os.set_blocking(ours, False)
            said = b""
            async with asyncio.timeout(START_SECONDS):
                while "自检".encode() not in said or not said.endswith(b"\n"):
                    with contextlib.suppress(BlockingIOError):
                        said += os.read(ours, 4096)
                    await asyncio.sleep(0.02)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    finally:
        os.close(ours)
        os.close(theirs)
    title, *lines = said.decode().splitlines()
    assert title.startswith("小智中枢 ")
    columns = [re.match(r"  (\S+(?: \S+)?) {2,}", line) for line in lines]
    assert [column[1] for column in columns if column] == ["页面", "OTA 地址", "语音", "设备", "自检"]
    assert {cells(column[0]) for column in columns if column} == {12}


class Broken(Tts):
    """A voice with a mistake in it, as anybody's may have."""

    info = EngineInfo("broken", Role.TTS, "Broken", rank=100)

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        raise ZeroDivisionError("no sound")
        yield


async def test_a_voice_with_a_mistake_in_it_fails_the_self_test_and_does_not_end_the_hub(tmp_path: Path) -> None:
    async with running_hub(tmp_path, QUIET) as hub:
        hub.engines.add(Broken(), "test")
        assert await talk_to_yourself(hub, Words("en")) == "FAILED: no sound"


@pytest.mark.skipif(not Path("/proc/self/net/tcp").exists(), reason="which ports are open is read from Linux's /proc")
async def test_a_given_port_is_the_only_one(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    port = free_port()
    async with run(tmp_path, "--port", str(port), "--no-self-test") as process:
        await banner(process)
        assert listening(process.pid) == {port}


async def test_sighup_has_the_configuration_read_again_and_ends_nothing(tmp_path: Path) -> None:
    file, port = tmp_path / "configuration.yaml", free_port()
    file.write_text(QUIET)
    async with run(tmp_path, "--port", str(port), "--no-self-test") as process:
        await banner(process)
        file.write_text(QUIET + "voice: {speed: 1.5}\nlimits: {devices: 7}\n")
        process.send_signal(signal.SIGHUP)
        assert process.stderr is not None
        told = b""
        async with asyncio.timeout(START_SECONDS):
            while b"limits" not in told:
                line = await process.stderr.readline()
                assert line, told
                told += line
        assert "voice → speed: 1.0 → 1.5" in told.decode()
        assert "needs a restart: limits → devices: 1000 → 7" in told.decode()
        assert "server" not in told.decode(), "what the command line says is no change"
        assert await stop(process) == 0


def test_more_files_may_be_open_than_the_system_allows_who_does_not_ask() -> None:
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
        for wanted, allowed in ((300, 300), (200, 300)):  # it is never made less
            allow_open_files(wanted)
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (allowed, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


async def opened_by_a_reader(pipe: Path) -> int:
    """The other end of *pipe*, once somebody reads from it."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                await asyncio.sleep(0.02)


async def test_a_signal_that_comes_before_there_is_anything_to_stop_ends_it_cleanly(tmp_path: Path) -> None:
    """Here it is reading its configuration, which comes very slowly."""
    os.mkfifo(tmp_path / "configuration.yaml")
    async with run(tmp_path) as process:
        writer = await opened_by_a_reader(tmp_path / "configuration.yaml")
        try:
            # One that arrives between opening the file and waiting for its first byte is seen by Python only after that byte.
            async with asyncio.timeout(START_SECONDS):
                while process.returncode is None:
                    process.terminate()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await process.wait()
            assert process.returncode == 0
            assert process.stderr is not None and await process.stderr.read() == b""
        finally:
            os.close(writer)


async def test_a_loop_that_takes_all_at_once_is_told_of(tmp_path: Path) -> None:
    """uvloop's place is taken by a package of its name: what counts here is that it is found."""
    elsewhere, home = tmp_path / "packages", tmp_path / "home"
    for folder in (elsewhere, home):
        folder.mkdir()
    (elsewhere / "uvloop.py").write_text("from asyncio import new_event_loop\n")
    (home / "configuration.yaml").write_text(QUIET)
    for packages, told in ((elsewhere, True), (tmp_path, False)):
        async with run(home, "--port", str(free_port()), "--no-self-test", packages=packages) as process:
            await banner(process)
            assert await stop(process) == 0
            assert process.stderr is not None
            assert ("uvloop is installed" in (await process.stderr.read()).decode()) == told


async def test_a_missing_folder_is_made_with_a_configuration_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "home"
    async with run(folder, "--port", str(free_port()), "--no-self-test") as process:
        await banner(process)
        assert "integrations:" in (folder / "configuration.yaml").read_text()
        assert await stop(process) == 0


async def test_at_its_start_the_hub_answers_a_spoken_question(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx", reason="the recogniser needs pocketsphinx")
    pytest.importorskip("piper", reason="the voice needs piper-tts")
    if not (ROOT / "integrations" / "phrases" / "engine.py").is_file():
        pytest.skip("there is no recogniser for known sentences")
    async with run(tmp_path, "--port", str(free_port())) as process:
        shown = await banner(process)
        assert re.match(r'"what time is it" → "It is \d+:\d\d [AP]M\."   first voice \d', shown["Self-test"])


async def test_a_wrong_configuration_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text("hub:\n  name: kitchen\nserver:\n  port: many\n")
    async with run(tmp_path) as process:
        async with asyncio.timeout(START_SECONDS):
            output, errors = await process.communicate()
    assert process.returncode == 1
    assert output == b""
    assert re.search(r"configuration\.yaml:4\b", errors.decode())


@pytest.mark.parametrize("port", ["99999", "-1", "0x50", "eight", "", "٨٠٠٣", "1" * 5000])
def test_what_is_no_port_is_refused(port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["run", "-c", str(tmp_path / "config"), "--port", port])
    assert left.value.code == 2
    assert "--port" in capsys.readouterr().err
    assert not (tmp_path / "config").exists()
