"""The whole hub on a network without a way out: a device on another machine finds it, asks and is answered."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from netns import Namespace, Network, network  # noqa: F401  # network is a fixture

from xiaozhi_hub.discovery.dns import NotDns, parse_answer

ROOT = Path(__file__).resolve().parent.parent
GROUP = ("224.0.0.251", 5353)
PORT = 18003
HUB, DEVICE = "10.73.0.1", "10.73.0.2"
QUIET = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n  demo:\n  echo:\n"
CHECK_IN = """
import json, sys, urllib.request

body = json.dumps({"application": {"name": "xiaozhi", "version": "2.0.0"}, "board": {"type": "test"}}).encode()
head = {"Device-Id": "02:00:00:00:00:01", "Client-Id": "test", "Content-Type": "application/json"}
with urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, head), timeout=10) as answer:
    print(answer.read().decode())
"""


async def start(namespace: Namespace, *arguments: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *namespace.command(sys.executable, *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    )


async def end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.communicate()


@asynccontextmanager
async def hub(namespace: Namespace, folder: Path, *, self_test: bool = False) -> AsyncIterator[Process]:
    """A hub that has shown its banner."""
    arguments = ("run", "-c", str(folder), "--port", str(PORT), *(() if self_test else ("--no-self-test",)))
    process = await start(namespace, "-m", "xiaozhi_hub", *arguments)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(180):
            while line := await process.stdout.readline():
                if b"Self-test" in line:
                    break
            else:
                raise AssertionError("the hub ended before its banner")
        yield process
    finally:
        await end(process)


async def output(namespace: Namespace, *arguments: str) -> tuple[Any, str]:
    """Run Python there; the JSON it prints and what it says beside that."""
    process = await start(namespace, *arguments)
    try:
        async with asyncio.timeout(180):
            shown, beside = await process.communicate()
        assert process.returncode == 0, beside.decode()
        return json.loads(shown), beside.decode()
    finally:
        await end(process)


def two_machines(network: Network) -> tuple[Namespace, Namespace]:  # noqa: F811
    one, other = network.machine(), network.machine()
    network.cable(one, f"{HUB}/24", other, f"{DEVICE}/24")
    return one, other


async def ask(namespace: Namespace, *question: str) -> tuple[dict[str, Any], str]:
    answer, beside = await output(namespace, "-m", "xiaozhi_hub", "device", "--discover", *question, "--json")
    return answer, beside


def routes(namespace: Namespace) -> list[str]:
    """The destinations that a machine knows a way to."""
    with namespace.entered():
        lines = Path("/proc/thread-self/net/route").read_text().splitlines()[1:]
    return [line.split()[1] for line in lines]


async def test_a_device_finds_the_hub_and_is_answered_without_any_way_out(
    network: Network,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    home, device = two_machines(network)
    for machine in (home, device):
        assert routes(machine) == ["0000490A"], "a way to more than the cable's own network"
    async with hub(home, tmp_path):
        answer, beside = await ask(device, "--text", "turn on the bed light")
        assert f"xiaozhi-hub at http://{HUB}:{PORT}/xiaozhi/ota/" in beside
        assert answer["heard"] == "turn on the bed light"
        assert answer["said"] == "Turned on the Bed Light."
        shown = await start(device, "-m", "xiaozhi_hub", "device", "--discover", "--text", "turn off the bed light")
        async with asyncio.timeout(180):
            lines = (await shown.communicate())[0].decode().splitlines()
        assert lines[:3] == [
            "heard   turn off the bed light",
            "did     home.turn_off(name=Bed Light)",
            "said    Turned off the Bed Light.",
        ]
        told, _ = await output(device, "-c", CHECK_IN, f"http://{HUB}:{PORT}/xiaozhi/ota/")
        assert told["websocket"]["url"].startswith(f"ws://{HUB}:{PORT}/")


async def test_a_stranger_in_the_network_waits_until_the_owner_approves_it_at_the_hub(
    network: Network,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The hub listens on its one address only, so that its own machine reaches it by that, too."""
    (tmp_path / "configuration.yaml").write_text(f"devices: {{pairing: approve}}\nserver: {{ip: {HUB}}}\n{QUIET}")
    home, device = two_machines(network)
    devices = ("-m", "xiaozhi_hub", "devices", "-c", str(tmp_path), "--port", str(PORT))
    async with hub(home, tmp_path):
        asked = await start(
            *(device, "-m", "xiaozhi_hub", "device", "--ota", f"http://{HUB}:{PORT}/xiaozhi/ota/"),
            *("--text", "turn on the bed light", "--json"),
        )
        try:
            assert asked.stderr is not None and asked.stdout is not None
            async with asyncio.timeout(180):
                shown = (await asked.stderr.readline()).decode()
            code = shown.split()[-1].rstrip(")")
            stranger = await start(device, *devices, "approve", code)
            assert b"Only programs on the hub's own machine may do this." in (await stranger.communicate())[1]
            told, _ = await output(home, *devices, "--json", "approve", code)
            assert told["device"]["address"] == DEVICE
            async with asyncio.timeout(180):
                assert json.loads(await asked.stdout.read())["said"] == "Turned on the Bed Light."
        finally:
            await end(asked)


async def test_a_spoken_question_is_answered_without_any_way_out(
    network: Network,  # noqa: F811
    tmp_path: Path,
) -> None:
    pytest.importorskip("pocketsphinx", reason="the recogniser needs pocketsphinx")
    pytest.importorskip("piper", reason="the voice needs piper-tts")
    if not (ROOT / "integrations" / "phrases" / "engine.py").is_file():
        pytest.skip("there is no recogniser for known sentences")
    home, device = two_machines(network)
    async with hub(home, tmp_path):
        answer, _ = await ask(device, "--say", "what time is it")
        assert answer["heard"] == "what time is it"
        assert answer["said"].startswith("It is ")


OUTWARD = """
import socket
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import hookimpl

@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(b"x", ("192.0.2.1", 9))
    yield
"""
TO_NEIGHBOURS = {"224.0.0.251", "224.0.0.22", HUB, DEVICE}
"""Names (RFC 6762), and that one listens to them (RFC 3376, RFC 1112)."""


@pytest.mark.parametrize("outward", [False, True], ids=["as-shipped", "with-an-integration-that-calls-out"])
async def test_nothing_of_a_hub_leaves_the_network(
    network: Network,  # noqa: F811
    tmp_path: Path,
    outward: bool,
) -> None:
    """Its neighbour is the way to everywhere, and sees each packet, of its children too. With what calls out that is seen."""
    home, gate = two_machines(network)
    home.ip("route", "add", "default", "via", DEVICE)
    if outward:
        own = tmp_path / "integrations" / "outward"
        own.mkdir(parents=True)
        (own / "manifest.json").write_text(
            '{"domain": "outward", "name": "O", "version": "1", "kinds": ["tools"], "online": false}'
        )
        (own / "__init__.py").write_text(OUTWARD)
        (tmp_path / "configuration.yaml").write_text(QUIET + "  outward:\n")
    with gate.entered():
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with ear:
        ear.setblocking(False)
        async with hub(home, tmp_path, self_test=not outward) as process:
            process.terminate()
            async with asyncio.timeout(180):
                assert await process.wait() == 0
        seen = set()
        with suppress(BlockingIOError):
            while True:
                seen.add(socket.inet_ntoa(ear.recv(65536)[16:20]))
    assert "224.0.0.251" in seen, "it was announced"
    assert seen - TO_NEIGHBOURS == ({"192.0.2.1"} if outward else set())


async def test_a_hub_that_is_told_to_stop_says_goodbye_to_the_network(
    network: Network,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    home, device = two_machines(network)
    with device.socket() as ear:
        ear.setblocking(False)
        membership = socket.inet_aton(GROUP[0]) + socket.inet_aton(DEVICE)
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        ear.bind(("", GROUP[1]))
        async with hub(home, tmp_path) as process:
            process.terminate()
            async with asyncio.timeout(180):
                assert await process.wait() == 0
        goodbyes: set[str] = set()
        async with asyncio.timeout(20):
            while not goodbyes >= {"xiaozhi-hub.local", "_xiaozhi._tcp.local"}:
                try:
                    heard = parse_answer(await asyncio.get_running_loop().sock_recv(ear, 9000))
                except NotDns:
                    continue
                goodbyes |= {record.name for record in heard.records if record.ttl == 0}
