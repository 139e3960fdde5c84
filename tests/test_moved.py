"""A hub that has moved sends its devices to the new one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from free_ports import free_port

from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.errors import ConfigErrors
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.store.moves import Moves
from xiaozhi_hub.testing.check_in import check_in
from xiaozhi_hub.testing.device import FakeDevice
from xiaozhi_hub.testing.house import running_hub
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.threshold import SELF_TEST
from xiaozhi_hub.web.devices.firmware import FirmwareDoor

QUIET = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n  echo:\n"
ONE, TWO = "24:6f:28:aa:bb:01", "24:6f:28:aa:bb:02"


async def told_at(hub: Hub, device: str) -> str:
    address, _ = await check_in(f"{hub.local_url}/xiaozhi/ota/", device, "c", "en-US", FirmwareProfile())
    return address.url


async def problem(hub: Hub, words: str) -> str:
    async with asyncio.timeout(20):
        while words not in (hub.problems["moved"].hint if "moved" in hub.problems else ""):
            await asyncio.sleep(0.01)
    return hub.problems["moved"].message


async def test_a_device_that_asks_the_old_hub_talks_with_the_new_one(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "new", QUIET) as new:
        moved = f"{QUIET}http:\n  moved_to: {new.local_url}\n"
        async with running_hub(tmp_path / "old", moved) as old:
            async with FakeDevice(ota_url=f"{old.local_url}/xiaozhi/ota/", device_id=ONE) as device:
                answer = await device.ask_text("hello")
            assert answer.said == "You said: hello"
            assert not old.devices.sessions
            async with asyncio.timeout(20):
                while not await new.history.turns():
                    await asyncio.sleep(0.01)
            known = await new.known_devices.get(ONE)
            assert known is not None and known.board == "bread-compact-wifi" and known.firmware == "2.4.2"


async def test_the_old_hub_adds_nothing_to_the_new_one_s_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[FirmwareDoor] = []

    async def contribute(self: FirmwareDoor, *_: object) -> None:
        asked.append(self)

    monkeypatch.setattr(FirmwareDoor, "contribute", contribute)
    async with running_hub(tmp_path / "new", QUIET) as new:
        moved = f"{QUIET}http:\n  moved_to: {new.local_url}\n"
        async with running_hub(tmp_path / "old", moved) as old:
            await told_at(old, ONE)
            assert asked == [new.services.firmware]


async def test_the_old_hub_s_test_of_itself_is_no_device_that_has_moved(tmp_path: Path) -> None:
    moved = f"{QUIET}http:\n  moved_to: http://127.0.0.1:{free_port()}\n"
    async with running_hub(tmp_path, moved) as old:
        await told_at(old, SELF_TEST)
        await told_at(old, ONE)
        await problem(old, "All 1 devices know.")
        assert set(await Moves(old.database).who(old.config.http.moved_to)) == {ONE}


async def test_the_old_hub_says_who_has_moved_and_who_has_not_also_after_a_restart(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "old", QUIET) as old:
        for device in (ONE, TWO):
            assert f":{old.port}/" in await told_at(old, device)
        async with asyncio.timeout(20):
            while len(await old.known_devices.all()) < 2:
                await asyncio.sleep(0.01)
    async with running_hub(tmp_path / "new", QUIET) as new:
        names = f'devices:\n  "{TWO}":\n    name: Kitchen\n'
        moved = f"{QUIET}{names}http:\n  moved_to: {new.local_url}\n"
        async with running_hub(tmp_path / "old", moved) as old:
            await problem(old, "0 of 2 devices know")
            assert f":{new.port}/" in await told_at(old, ONE)
            assert new.local_url in await problem(old, "1 of 2 devices know. Restart the others: Kitchen.")
        async with running_hub(tmp_path / "old", moved) as old:
            await problem(old, "Restart the others: Kitchen.")
            await told_at(old, TWO)
            await problem(old, "All 2 devices know.")
            assert set(await Moves(old.database).who(new.local_url)) == {ONE, TWO}


async def test_a_new_hub_that_does_not_answer_yet_costs_nobody_the_address(tmp_path: Path) -> None:
    moved = f"{QUIET}http:\n  moved_to: http://127.0.0.1:{free_port()}\n"
    async with running_hub(tmp_path, moved) as old:
        assert await told_at(old, ONE) == f"ws://{old.config.http.moved_to.removeprefix('http://')}/xiaozhi/v1/"


@pytest.mark.parametrize("answer", [b"[" * 10_000, b'{"websocket": ' * 1000, b" " * 2**20 + b"{}", b"[]", b""])
async def test_whatever_the_other_machine_says_devices_learn_its_address(
    tmp_path: Path, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    sent = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + answer)
            await writer.drain()
            while len(answer) > 2**19 and sent < 2**28:  # there is no end of it
                writer.write(bytes(2**16))
                sent += 2**16
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        async with running_hub(tmp_path, f"{QUIET}http:\n  moved_to: http://127.0.0.1:{port}\n") as old:
            assert await told_at(old, ONE) == f"ws://127.0.0.1:{port}/xiaozhi/v1/"
    assert sent < 2**24
    assert "an addition to the answer" not in caplog.text


async def test_two_hubs_that_send_to_each_other_do_not_go_round(tmp_path: Path) -> None:
    port = free_port()
    first = running_hub(tmp_path / "a", f"{QUIET}http:\n  moved_to: http://127.0.0.1:{port}\n")
    async with first as a:
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "configuration.yaml").write_text(
            f"{QUIET}http:\n  moved_to: {a.local_url}\ndiscovery: {{enabled: false}}\n"
            f"server: {{ip: 127.0.0.1, port: {port}, http_port: {port}}}\n"
        )
        async with Hub(load_config(tmp_path / "b")) as b:
            await b.ready()
            assert await told_at(a, ONE) == f"ws://127.0.0.1:{port}/xiaozhi/v1/"


@pytest.mark.parametrize(
    "value", ["hub", "https://hub:8003", "http://", "http://hub:99999", "http://hub:8003/xiaozhi/ota/", "http://a@hub"]
)
def test_an_address_that_is_none_is_refused(tmp_path: Path, value: str) -> None:
    (tmp_path / "configuration.yaml").write_text(f"http:\n  moved_to: {value}\n")
    with pytest.raises(ConfigErrors, match=r"address of a hub|host name"):
        load_config(tmp_path)
