"""The command ``xiaozhi-hub devices``, beside a hub that runs."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from xiaozhi_hub.cli import main
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile, running_hub

MAC = "24:6f:28:aa:bb:cc"
CONFIGURATION = """
devices: {pairing: approve, "24:6f:28:aa:bb:99": {name: Attic}}
voice: {vad: echo, asr: echo, tts: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, clock: false, demo: false, echo: {tts: {ms: 200}}}
"""
Command = Callable[..., Awaitable[int]]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, CONFIGURATION) as running:
        yield running


@pytest.fixture
def command(hub: Hub, tmp_path: Path) -> Command:
    async def run(*arguments: str) -> int:
        given = ["devices", "-c", str(tmp_path), "--port", str(hub.port), *arguments]
        return await asyncio.to_thread(main, given)

    return run


def device(hub: Hub) -> FakeDevice:
    profile = FirmwareProfile(pending_seconds=0.05, unclear_seconds=0.05)
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=MAC, profile=profile)


async def test_a_person_reads_the_code_from_the_device_and_approves_it(
    hub: Hub, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    async with device(hub) as speaker:
        assert speaker.activation is not None
        code = speaker.activation.code
        assert await command() == 0
        shown = capsys.readouterr().out
        assert "The door is closed" in shown
        assert re.search(rf"code {code} +{MAC} +bread-compact-wifi 2\.4\.2 at 127\.0\.0\.1", shown)
        assert await command("approve", f"{code[:3]} {code[3:]}") == 0
        assert f"{MAC} is let in." in capsys.readouterr().out
        await speaker.activated(20)
        await speaker.connect()
        assert await command("list") == 0
        shown = capsys.readouterr().out
        assert re.search(rf"let in +{MAC} .*in conversation", shown)
        assert "code" not in shown.replace("show a code", "").replace("approve CODE", "")
        assert await command("revoke", MAC.upper()) == 0
        await speaker.hung_up(20)
        assert await command() == 0
        assert re.search(rf"shut out +{MAC}", capsys.readouterr().out)


async def test_a_device_gets_a_name_and_a_place(hub: Hub, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("open", "--minutes", "5") == 0
    assert re.search(r"The door is open until .* \(opened by the owner\)", capsys.readouterr().out)
    async with device(hub):
        while not await hub.known_devices.all():
            await asyncio.sleep(0.01)
    assert await command("close") == 0
    assert "The door is closed" in capsys.readouterr().out
    assert await command("rename", MAC, "Bedside", "--area", "Bedroom") == 0
    assert f"{MAC} is called Bedside, in Bedroom." in capsys.readouterr().out
    assert await command("--json") == 0
    told = json.loads(capsys.readouterr().out)
    names = {each["id"]: (each["name"], each["area"], each["state"]) for each in told["devices"]}
    assert names == {MAC: ("Bedside", "Bedroom", "in"), "24:6f:28:aa:bb:99": ("Attic", "", "unknown")}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("approve", "000000"), "No device waits with this code."),
        (("revoke", "nobody"), "There is no device nobody."),
        (("rename", "attic", "Loft"), "stand in the configuration"),
        (("open", "--minutes", "0"), "The door opens for 1 to 1440 minutes."),
    ],
)
async def test_what_cannot_be_done_is_told(
    command: Command, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], complaint: str
) -> None:
    assert await command(*arguments) == 1
    assert complaint in capsys.readouterr().err


def test_without_a_hub_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert main(["devices", "-c", str(tmp_path), "--port", str(port), "approve", "123456"]) == 1
    assert f"No hub answers at http://127.0.0.1:{port}. Start it: xiaozhi-hub run." in capsys.readouterr().err


@pytest.mark.parametrize("answer", [b'{"type": "info"}\n', b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"])
@pytest.mark.parametrize("command", ["devices", "integrations"])
async def test_what_answers_at_its_port_and_is_no_hub_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, answer: bytes
) -> None:
    """Another service, or a hub that is stopped in the middle of its answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        code = await asyncio.to_thread(main, [command, "-c", str(tmp_path), "--port", str(port)])
    if command == "devices":
        assert code == 1
        assert f"No hub answers at http://127.0.0.1:{port}." in capsys.readouterr().err
    else:  # it needs none
        assert "wyoming" in capsys.readouterr().out
