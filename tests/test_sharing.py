"""Several hubs that share devices: which device goes where, and that it is let in there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.core.secret import Secret
from xiaozhi_hub.devices.pairing.tickets import SKEW_SECONDS, TICKET_SECONDS, Tickets
from xiaozhi_hub.errors import ConfigErrors
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub
from xiaozhi_hub.testing.check_in import NoLink
from xiaozhi_hub.web.devices.sharing import choose

MAC = "24:6f:28:aa:bb:cc"
CONFIGURATION = """
devices: {pairing: approve}
server: {auth_key: %s}
http: {websocket_urls: [%s]}
voice: {vad: echo, asr: echo, tts: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, clock: false, demo: , echo: {tts: {ms: 200}}}
"""
OTHER = "ws://127.0.0.1:1/xiaozhi/v1/"
URLS = ("ws://192.168.1.20:8003/xiaozhi/v1/", "ws://192.168.1.21:8003/xiaozhi/v1/", "ws://attic.local:8003/xiaozhi/v1/")
NOW = 1_800_000_000.0


def address(hub: Hub) -> str:
    return f"ws://127.0.0.1:{hub.port}/xiaozhi/v1/"


def device(hub: Hub) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=MAC)


async def approved(hub: Hub, speaker: FakeDevice) -> None:
    assert speaker.activation is not None
    await hub.device_management.approve(speaker.activation.code)
    await speaker.check_in()


async def test_a_device_approved_on_one_hub_talks_with_another(tmp_path: Path) -> None:
    async with (
        running_hub(tmp_path / "b", CONFIGURATION % ("shared words", OTHER)) as b,
        running_hub(tmp_path / "a", CONFIGURATION % ("shared words", address(b))) as a,
        device(a) as speaker,
    ):
        await approved(a, speaker)
        assert (await speaker.ask_text("turn on the bed light")).said == "Turned on the Bed Light."
        assert set(b.devices.sessions) == {MAC} and not a.devices.sessions
        await b.device_management.revoke(MAC)
        await speaker.hung_up(20)
        with pytest.raises(NoLink, match="401"):
            await speaker.connect()


async def test_a_hub_with_another_key_lets_nobody_in(tmp_path: Path) -> None:
    async with (
        running_hub(tmp_path / "b", CONFIGURATION % ("other words", OTHER)) as b,
        running_hub(tmp_path / "a", CONFIGURATION % ("shared words", address(b))) as a,
        device(a) as speaker,
    ):
        await approved(a, speaker)
        with pytest.raises(NoLink, match="401"):
            await speaker.connect()


async def test_hubs_that_share_devices_without_a_key_are_told(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIGURATION % ("", f"{OTHER}, {URLS[0]}")) as hub:
        assert "auth_key" in hub.problems["sharing"].hint


def test_every_hub_sends_a_device_to_the_same_one_and_all_get_some() -> None:
    devices = [f"24:6f:28:aa:{n >> 8:02x}:{n & 255:02x}" for n in range(3000)]
    chosen = {device: choose(URLS, device) for device in devices}
    assert chosen == {device: choose(URLS[::-1], device) for device in devices}
    assert all(900 < count < 1100 for count in Counter(chosen.values()).values())


def test_when_a_hub_leaves_only_its_own_devices_move() -> None:
    devices = [f"d{n}" for n in range(1000)]
    for device in devices:
        before, after = choose(URLS, device), choose(URLS[1:], device)
        assert before == after or before == URLS[0]


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        ("ws://192.168.1.20/xiaozhi/v1/", "with its port"),
        ("http://192.168.1.20:8003/xiaozhi/v1/", "Did you mean ws://192.168.1.20:8003/xiaozhi/v1/?"),
        ("ws://192.168.1:4:8000/x", "with its port"),
        ("ws://192.168.1.999:8000/x", "a host name or an IP address"),
        ("ws://[fe80::1]:8003/x", "with its port"),
        ("ws://hub:99999/x", "a port number"),
        ("ws://hub:8003/x?a=b:c", "with its port"),
        ("ws://me@hub:8003/x", "with its port"),
        ("[ws://hub:8003/x, ws://hub:8003/x]", "each address once"),
    ],
)
def test_an_address_that_firmware_would_misread_is_refused(tmp_path: Path, written: str, complaint: str) -> None:
    (tmp_path / "configuration.yaml").write_text(f"http:\n  websocket_urls: {written}\n")
    with pytest.raises(ConfigErrors) as wrong:
        load_config(tmp_path, {})
    assert complaint in str(wrong.value)


def test_one_address_needs_no_list(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_text(f"http:\n  websocket_urls: {URLS[2]}\n")
    assert load_config(tmp_path, {}).http.websocket_urls == (URLS[2],)


# -- tickets ------------------------------------------------------------------------------------------------------


def test_a_ticket_is_good_for_its_device_its_time_and_its_key() -> None:
    tickets, others = Tickets(Secret("shared words")), Tickets(Secret("other words"))
    ticket = tickets.issue(MAC, NOW)
    assert " " not in ticket and len(ticket) < 128
    assert tickets.issued_at(ticket, MAC, NOW + 60) == NOW
    assert tickets.issued_at(ticket, MAC, NOW - SKEW_SECONDS + 1) == NOW
    assert tickets.issued_at(ticket, MAC, NOW - SKEW_SECONDS) is None
    assert tickets.issued_at(ticket, MAC, NOW + TICKET_SECONDS) is None
    assert tickets.issued_at(ticket, "24:6f:28:aa:bb:cd", NOW) is None
    assert others.issued_at(ticket, MAC, NOW) is None
    assert tickets.issue(MAC, NOW) != ticket


@pytest.mark.parametrize("shown", ["", "t1...", "t1.fff.0000000000000000." + "A" * 43, "\udcff", "t1." + "f" * 100_000])
def test_what_is_no_ticket_is_none(shown: str) -> None:
    assert Tickets(Secret("k")).issued_at(shown, MAC, NOW) is None


def test_a_ticket_cannot_be_changed() -> None:
    tickets = Tickets(Secret("k"))
    version, at, nonce, mac = tickets.issue(MAC, NOW).split(".")
    for changed in (f"{int(at, 16) + 1:x}.{nonce}", f"{at}.{nonce[::-1] if nonce != nonce[::-1] else '0' * 16}"):
        assert tickets.issued_at(f"{version}.{changed}.{mac}", MAC, NOW) is None
