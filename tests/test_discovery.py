"""The hub is found by name: in this process where that says enough, else between network namespaces."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ifaddr
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from netns import Namespace, Network, network  # noqa: F401  # network is a fixture
from zeroconf import DNSAddress, RecordUpdate, ServiceInfo

from xiaozhi_hub.discovery import Discovery, announce
from xiaozhi_hub.discovery.dns import TYPE_A, NotDns, encode_question, parse_answer
from xiaozhi_hub.discovery.interfaces import interface_addresses

HERE = Path(__file__).resolve().parent
GROUP = ("224.0.0.251", 5353)
ANNOUNCER = """
import asyncio, json, sys
from xiaozhi_hub.discovery import Discovery

async def main():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    end = asyncio.ensure_future(reader.read())
    async with Discovery(sys.argv[1], int(sys.argv[2]), "9.9", only=sys.argv[3:] or None, look_s=0.1) as discovery:
        told = None
        while not end.done():
            state = {"host": discovery.host_name, "addresses": discovery.addresses, "problem": discovery.problem}
            if state != told:
                told = state
                print(json.dumps(state), flush=True)
            await asyncio.sleep(0.02)

asyncio.run(main())
"""
FINDER = """
import asyncio, dataclasses, json, sys
from xiaozhi_hub.discovery import find_hubs

hubs = asyncio.run(find_hubs(float(sys.argv[1]), interface=sys.argv[2] or None, only_first=len(sys.argv) > 3))
print(json.dumps([dataclasses.asdict(hub) for hub in hubs]))
"""
RESOLVER = """
import asyncio, json, sys
from xiaozhi_hub.discovery import resolve_one_shot

print(json.dumps(asyncio.run(resolve_one_shot(sys.argv[1], sys.argv[2] or None, timeout=float(sys.argv[3])))))
"""


@dataclass(frozen=True)
class State:
    host: str
    addresses: list[str]
    problem: str | None


class Announcer:
    """A hub's discovery in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tells(self) -> State:
        """The next state it reports."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            line = await self._process.stdout.readline()
        assert line, "the announcer ended"
        return State(**json.loads(line))

    async def tells_of(self, *addresses: str) -> State:
        """The next state that has exactly these addresses."""
        while True:
            state = await self.tells()
            if tuple(state.addresses) == addresses:
                return state

    async def leave(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(30):
            assert await self._process.wait() == 0


async def start(namespace: Namespace | None, *arguments: str) -> asyncio.subprocess.Process:
    """Run Python on a machine of the test's network, or on this one."""
    command = [sys.executable, *arguments]
    return await asyncio.create_subprocess_exec(
        *(namespace.command(*command) if namespace is not None else command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(HERE.parent)},
    )


async def result(namespace: Namespace | None, *arguments: str) -> Any:
    """Run Python there and read the JSON that it prints."""
    process = await start(namespace, *arguments)
    try:
        async with asyncio.timeout(20):
            output, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0
    return json.loads(output)


@asynccontextmanager
async def announcer(
    namespace: Namespace | None, name: str = "test-hub", port: int = 8003, *only: str
) -> AsyncIterator[Announcer]:
    process = await start(namespace, "-c", ANNOUNCER, name, str(port), *only)
    try:
        yield Announcer(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def one_shot(namespace: Namespace | None, own_address: str, host: str) -> dict[str, Any]:
    answer: dict[str, Any] = await result(namespace, str(HERE / "one_shot.py"), host, own_address)
    return answer


# -- on this machine ----------------------------------------------------------------------------------------------


async def test_an_announced_hub_is_found_with_its_ota_address() -> None:
    async with announcer(None, "found-hub", 18003, "127.0.0.1") as process:
        assert await process.tells_of("127.0.0.1") == State("found-hub.local", ["127.0.0.1"], None)
        hubs = await result(None, "-c", FINDER, "1", "127.0.0.1")
        assert [hub for hub in hubs if hub["name"] == "found-hub"] == [
            {
                "name": "found-hub",
                "address": "127.0.0.1",
                "port": 18003,
                "ota_url": "http://127.0.0.1:18003/xiaozhi/ota/",
                "host": "found-hub.local",
                "version": "9.9",
            }
        ]
        assert await result(None, "-c", RESOLVER, "Found-Hub.local", "127.0.0.1", "3") == "127.0.0.1"


async def test_a_second_hub_on_the_same_machine_takes_the_next_name() -> None:
    async with announcer(None, "twin-hub", 18003, "127.0.0.1") as first:
        assert (await first.tells_of("127.0.0.1")).host == "twin-hub.local"
        async with announcer(None, "twin-hub", 18004, "127.0.0.1") as second:
            assert (await second.tells_of("127.0.0.1")).host == "twin-hub-2.local"


async def test_nobody_answers_for_an_unknown_name() -> None:
    assert await result(None, "-c", RESOLVER, "no-such-hub.local", "127.0.0.1", "0.3") is None


async def test_an_address_that_this_machine_does_not_have_is_a_problem_but_no_failure() -> None:
    async with announcer(None, "odd-hub", 1, "203.0.113.9") as process:
        state = await process.tells_of()
        assert state.problem is not None and "203.0.113.9" in state.problem


def test_of_each_interface_one_address_is_chosen_and_inner_bridges_come_last() -> None:
    def adapter(name: str, *addresses: str) -> ifaddr.Adapter:
        return ifaddr.Adapter(name, name, [ifaddr.IP(address, 24, name) for address in addresses])

    adapters = [
        adapter("lo", "127.0.0.1"),
        adapter("docker0", "172.17.0.1"),
        adapter("eth0", "192.168.1.20", "192.168.1.21"),
        adapter("wlan0", "192.168.2.5"),
        adapter("sleeping"),
    ]
    assert interface_addresses(adapters) == ("192.168.1.20", "192.168.2.5", "172.17.0.1")


def answer(*records: bytes, id_: int = 7) -> bytes:
    return struct.pack("!6H", id_, 0x8400, 0, len(records), 0, 0) + b"".join(records)


def a_record(name: bytes, address: str, class_: int = 1) -> bytes:
    return name + struct.pack("!2HIH", 1, class_, 120, 4) + socket.inet_aton(address)


def test_an_address_record_is_read_with_and_without_the_cache_flush_bit() -> None:
    data = answer(a_record(b"\3Hub\5local\0", "10.0.0.1", 0x8001), a_record(b"\xc0\x0c", "10.0.0.2"))
    assert [(r.name, r.address) for r in parse_answer(data).records] == [
        ("hub.local", "10.0.0.1"),
        ("hub.local", "10.0.0.2"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(encode_question(1, "hub.local", TYPE_A), id="a question"),
        pytest.param(answer(b"\xc0\x0c" + bytes(14)), id="a name that points to itself"),
        pytest.param(answer(a_record(b"\3hub\0", "10.0.0.1")[:-1]), id="cut short"),
        pytest.param(answer(b"\x40hub\0"), id="an unknown kind of label"),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(NotDns):
        parse_answer(data)


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.integers(0, 3))
def test_no_packet_from_the_network_can_do_harm(noise: bytes, records: int) -> None:
    with suppress(NotDns):
        parse_answer(struct.pack("!6H", 1, 0x8400, 0, records, 0, 0) + noise)


# -- between machines ---------------------------------------------------------------------------------------------


async def test_the_firmwares_one_shot_question_is_answered(network: Network) -> None:  # noqa: F811
    hub, device = network.machine(), network.machine()
    network.cable(hub, "10.71.0.1/24", device, "10.71.0.2/24")
    async with announcer(hub) as process:
        assert await process.tells_of("10.71.0.1") == State("test-hub.local", ["10.71.0.1"], None)
        assert await one_shot(device, "10.71.0.2", "test-hub.local") == {
            "peer": ["10.71.0.1", 5353],
            "same_id": True,
            "question_echoed": True,
            "addresses": ["10.71.0.1"],
            "classes": [1],
        }


async def test_a_hub_is_found_from_a_machine_without_default_route(network: Network) -> None:  # noqa: F811
    hub, device = network.machine(), network.machine()
    network.cable(hub, "10.71.0.1/24", device, "10.71.0.2/24")
    async with announcer(hub, port=1234) as process:
        await process.tells_of("10.71.0.1")
        hubs = await result(device, "-c", FINDER, "5", "", "first")
        assert [hub["ota_url"] for hub in hubs] == ["http://10.71.0.1:1234/xiaozhi/ota/"]
        assert await result(device, "-c", RESOLVER, "test-hub.local", "", "5") == "10.71.0.1"


async def test_each_network_gets_the_address_that_is_on_it(network: Network) -> None:  # noqa: F811
    hub, left, right = network.machine(), network.machine(), network.machine()
    network.cable(hub, "10.71.0.1/24", left, "10.71.0.2/24")
    network.cable(hub, "10.72.0.1/24", right, "10.72.0.2/24")
    async with announcer(hub) as process:
        state = await process.tells_of("10.71.0.1", "10.72.0.1")
        assert state.host == "test-hub.local"
        for device, own, expected in ((left, "10.71.0.2", "10.71.0.1"), (right, "10.72.0.2", "10.72.0.1")):
            for _ in range(3):  # each question has another id, so each is answered
                reply = await one_shot(device, own, state.host)
                assert (reply["addresses"], reply["peer"]) == ([expected], [expected, 5353])


async def test_two_interfaces_on_one_network_are_not_taken_for_rivals(network: Network) -> None:  # noqa: F811
    hub, switch = network.machine(), network.machine()
    switch.ip("link", "add", "bridge", "type", "bridge")
    for number in (1, 2):
        _, port = network.cable(hub, f"10.71.0.{number}/24", switch, f"10.99.{number}.1/24")
        switch.ip("link", "set", port, "master", "bridge")
    switch.ip("addr", "add", "10.71.0.9/24", "dev", "bridge")
    switch.ip("link", "set", "bridge", "up")
    async with announcer(hub) as process:
        assert (await process.tells_of("10.71.0.1", "10.71.0.2")).host == "test-hub.local"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await process.tells()
        reply = await one_shot(switch, "10.71.0.9", "test-hub.local")
        assert len(reply["addresses"]) == 1


async def test_of_two_hubs_that_start_together_one_takes_the_next_name(network: Network) -> None:  # noqa: F811
    one, other = network.machine(), network.machine()
    network.cable(one, "10.71.0.1/24", other, "10.71.0.2/24")
    async with announcer(one) as first, announcer(other) as second:
        lower, higher = await asyncio.gather(first.tells_of("10.71.0.1"), second.tells_of("10.71.0.2"))
        if lower.host == higher.host:  # neither could see the other while it looked: the lower address gives way
            lower = await first.tells_of("10.71.0.1")
        assert {lower.host, higher.host} == {"test-hub.local", "test-hub-2.local"}


class Rival:
    """A machine that claims the hub's name when it has announced it: see mdns_rival.py."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def hears(self) -> tuple[bool, list[tuple[str, int]]]:
        """Of the next packet: whether somebody asks for the name that was claimed, and the names in it that have an address,
        with their lifetimes."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the rival ended"
        told = json.loads(line)
        return told["asks"], [(name, ttl) for name, ttl in told["addresses"]]


@asynccontextmanager
async def claimed_by_another(namespace: Namespace, address: str, *answers: str) -> AsyncIterator[Rival]:
    process = await start(namespace, str(HERE / "mdns_rival.py"), address, *answers)
    try:
        rival = Rival(process)
        async with asyncio.timeout(180):
            await rival.hears()
            yield rival
    finally:
        process.kill()
        await process.wait()


async def test_a_hub_that_gives_way_does_not_claim_the_name_again(network: Network) -> None:  # noqa: F811
    """Not with what it had begun to announce either: the other one would then take it for a rival that stays, and go too."""
    hub, other = network.machine(), network.machine()
    network.cable(hub, "10.71.0.1/24", other, "10.71.0.2/24")
    heard: list[tuple[str, int]] = []
    async with claimed_by_another(other, "10.71.0.2", "answers") as rival, announcer(hub):
        while ("test-hub-2.local", 120) not in heard:
            heard += (await rival.hears())[1]
    of_old_name = [ttl for name, ttl in heard if name == "test-hub.local"]
    assert of_old_name[0] == 120 and 0 in of_old_name
    assert not any(of_old_name[of_old_name.index(0) :]), of_old_name


async def test_a_name_that_nobody_else_answers_for_is_kept(network: Network) -> None:  # noqa: F811
    """Whoever claimed it once may have gone without a word, and the name stands in devices: it is worth a question."""
    hub, other = network.machine(), network.machine()
    network.cable(hub, "10.71.0.1/24", other, "10.71.0.2/24")
    async with claimed_by_another(other, "10.71.0.2") as rival, announcer(hub) as process:
        assert (await process.tells_of("10.71.0.1")).host == "test-hub.local"
        asked = 0
        while asked < 3:
            asked += (await rival.hears())[0]
        assert (await one_shot(other, "10.71.0.2", "test-hub.local"))["addresses"] == ["10.71.0.1"]
        await process.leave()
        heard: list[tuple[str, int]] = []
        while not any(ttl == 0 for _, ttl in heard):
            heard += (await rival.hears())[1]
    assert {name for name, _ in heard} == {"test-hub.local"}


async def test_a_hub_that_comes_later_takes_the_next_name(network: Network) -> None:  # noqa: F811
    one, other = network.machine(), network.machine()
    network.cable(one, "10.71.0.1/24", other, "10.71.0.2/24")
    async with announcer(one) as first:
        await first.tells_of("10.71.0.1")
        async with announcer(other) as second:
            assert (await second.tells_of("10.71.0.2")).host == "test-hub-2.local"
            assert (await one_shot(other, "10.71.0.2", "test-hub.local"))["addresses"] == ["10.71.0.1"]
            assert (await one_shot(one, "10.71.0.1", "test-hub-2.local"))["addresses"] == ["10.71.0.2"]


async def test_when_two_networks_are_joined_one_of_two_equal_names_gives_way(network: Network) -> None:  # noqa: F811
    one, other = network.machine(), network.machine()
    cable, _ = network.cable(one, "10.71.0.1/24", other, "10.71.0.2/24")
    one.ip("link", "set", cable, "down")
    async with announcer(one) as lower, announcer(other) as higher:
        await asyncio.gather(lower.tells_of("10.71.0.1"), higher.tells_of("10.71.0.2"))
        one.ip("link", "set", cable, "up")
        await one_shot(other, "10.71.0.2", "test-hub.local")  # any question makes both say their names aloud
        state = await lower.tells_of("10.71.0.1")
        assert state.host == "test-hub-2.local"


async def test_a_changed_address_is_announced(network: Network) -> None:  # noqa: F811
    hub, device = network.machine(), network.machine()
    port, _ = network.cable(hub, "10.71.0.1/24", device, "10.71.0.2/24")
    async with announcer(hub) as process:
        await process.tells_of("10.71.0.1")
        hub.ip("addr", "del", "10.71.0.1/24", "dev", port)
        alone = await process.tells_of("127.0.0.1")
        assert alone.problem == "This machine has no network interface with an IPv4 address."
        hub.ip("addr", "add", "10.71.0.7/24", "dev", port)
        assert (await process.tells_of("10.71.0.7")).problem is None
        assert (await one_shot(device, "10.71.0.2", "test-hub.local"))["addresses"] == ["10.71.0.7"]


async def test_a_hub_that_leaves_says_goodbye(network: Network) -> None:  # noqa: F811
    hub, device = network.machine(), network.machine()
    network.cable(hub, "10.71.0.1/24", device, "10.71.0.2/24")
    with device.socket() as ear:
        ear.setblocking(False)
        membership = socket.inet_aton(GROUP[0]) + socket.inet_aton("10.71.0.2")
        ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        ear.bind(("", GROUP[1]))
        async with announcer(hub) as process:
            await process.tells_of("10.71.0.1")
            await process.leave()
        goodbyes: set[str] = set()
        async with asyncio.timeout(20):
            while not goodbyes >= {"test-hub.local", "_xiaozhi._tcp.local"}:
                try:
                    heard = parse_answer(await asyncio.get_running_loop().sock_recv(ear, 9000))
                except NotDns:
                    continue
                goodbyes |= {record.name for record in heard.records if record.ttl == 0}


async def test_a_port_that_somebody_keeps_is_a_problem_that_passes(network: Network) -> None:  # noqa: F811
    hub, device = network.machine(), network.machine()
    network.cable(hub, "10.71.0.1/24", device, "10.71.0.2/24")
    keeper = hub.socket()
    keeper.bind(("", 5353))
    async with announcer(hub) as process:
        state = await process.tells_of()
        assert state.problem is not None and "5353" in state.problem
        keeper.close()
        assert (await process.tells_of("10.71.0.1")).problem is None


async def test_the_lower_address_gives_way_and_the_higher_one_only_when_the_other_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = ServiceInfo("_xiaozhi._tcp.local.", "test-hub._xiaozhi._tcp.local.", server="test-hub.local.")
    responder = announce._Responder(None, own, "10.71.0.2", asyncio.Event())  # type: ignore[arg-type]  # it says nothing

    def claims(address: str) -> None:
        claim = DNSAddress("test-hub.local.", 1, 1, 120, socket.inet_aton(address))
        responder.async_update_records(None, 0.0, [RecordUpdate(claim, None)])  # type: ignore[arg-type]

    claims("10.71.0.1")
    assert not responder.must_give_way()
    monkeypatch.setattr(announce, "PATIENCE_S", -1.0)
    assert responder.must_give_way()
    responder.forget_rivals()
    assert not responder.must_give_way()
    monkeypatch.setattr(announce, "PATIENCE_S", 600.0)
    claims("10.71.0.3")
    assert responder.must_give_way()


# -- trouble in this process ------------------------------------------------------------------------------------------


async def test_a_hub_that_is_stopped_before_it_has_a_name_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = asyncio.Event()

    async def look_for_ever(self: Discovery) -> None:
        looks.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(Discovery, "_look", look_for_ever)

    async def announce() -> None:
        async with Discovery("test-hub", 8003, "9.9", only=()):
            raise AssertionError("it has no name yet")

    before = asyncio.all_tasks()
    announcing = asyncio.create_task(announce())
    async with asyncio.timeout(20):
        await looks.wait()
    announcing.cancel()
    await asyncio.wait([announcing])
    assert announcing.cancelled()
    assert asyncio.all_tasks() - before == set()


async def test_a_look_that_fails_is_told_and_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    failing, looks = True, asyncio.Event()

    async def free_number(self: Discovery, addresses: list[str], number: int) -> None:
        looks.set()
        if failing:
            raise OSError(24, "Too many open files")

    monkeypatch.setattr(Discovery, "_free_number", free_number)
    async with Discovery("test-hub", 8003, "9.9", only=("127.0.0.1",), look_s=0.01) as discovery:
        assert "Too many open files" in str(discovery.problem)
        failing = False
        looks.clear()
        async with asyncio.timeout(20):
            await looks.wait()
            while "Too many open files" in str(discovery.problem):
                await asyncio.sleep(0.01)
        assert "Other machines own the name" in str(discovery.problem)
