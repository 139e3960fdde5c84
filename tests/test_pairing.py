"""New devices and old ones at the hub's door: codes, approval, tokens, and what becomes of those who make things up."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, WSServerHandshakeError

from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile, running_hub
from xiaozhi_hub.testing.check_in import NoLink
from xiaozhi_hub.threshold import SELF_TEST

MAC = "24:6f:28:aa:bb:cc"
BASE = """
devices: {pairing: %s}
voice: {vad: echo, asr: echo, tts: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, clock: false, demo: %s, echo: {tts: {ms: 200}}}
"""
LIGHT = ("turn on the bed light", "Turned on the Bed Light.")
QUICK = {"pending_seconds": 0.05, "unclear_seconds": 0.05}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config"


@asynccontextmanager
async def hub_with(folder: Path, mode: str = "", *, talks: bool = False) -> AsyncIterator[Hub]:
    async with running_hub(folder, BASE % (mode, "" if talks else "false")) as hub:
        yield hub


def device(hub: Hub, device_id: str = MAC, *, version: int = 1, **more: Any) -> FakeDevice:
    profile = FirmwareProfile(activation_version=version, **QUICK)
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, profile=profile, **more)


async def works(speaker: FakeDevice) -> bool:
    question, answer = LIGHT
    return (await speaker.ask_text(question)).said == answer


async def check_in(hub: Hub, device_id: str = MAC, client_id: str | None = "c-1", **more: str) -> dict[str, Any]:
    headers = {"Device-Id": device_id, **({"Client-Id": client_id} if client_id else {}), **more}
    async with (
        ClientSession() as http,
        http.post(f"{hub.local_url}/xiaozhi/ota/", headers=headers, data=b"{}") as reply,
    ):
        assert reply.status == 200
        answer: dict[str, Any] = await reply.json()
        return answer


async def knock(hub: Hub, device_id: str = MAC, authorization: str | None = None) -> int:
    """Try to open a WebSocket; return the status."""
    headers = {"Device-Id": device_id, "Client-Id": "c-1"}
    if authorization is not None:
        headers["Authorization"] = authorization
    url = f"{hub.local_url.replace('http', 'ws')}/xiaozhi/v1/"
    async with ClientSession() as http:
        try:
            async with http.ws_connect(url, headers=headers):
                return 101
        except WSServerHandshakeError as error:
            return error.status


async def api(hub: Hub, action: str, values: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
    url = f"{hub.local_url}/api/devices{action}"
    async with ClientSession() as http, http.request("GET" if values is None else "POST", url, json=values) as reply:
        return reply.status, await reply.json()


# -- a device that nobody knows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
async def test_a_new_device_shows_a_code_is_approved_and_talks(folder: Path, version: int) -> None:
    async with hub_with(folder, "approve", talks=True) as hub, device(hub, version=version) as speaker:
        assert speaker.activation is not None
        assert len(speaker.activation.code) == 6 and speaker.activation.code.isdigit()
        assert speaker.activation.code in speaker.activation.message
        assert await speaker.activate() == 202
        waiting = asyncio.create_task(speaker.activated(10))
        status, told = await api(hub, "/approve", {"code": speaker.activation.code})
        assert (status, told["device"]["id"]) == (200, MAC)
        await waiting
        assert "activation" not in speaker.ota_answer
        assert speaker.ota_answer["websocket"]["token"]
        assert await works(speaker)


async def test_who_waits_gets_a_code_and_nothing_else(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        answer = await check_in(hub)
        assert set(answer) == {"server_time", "websocket", "activation"}
        assert answer["websocket"]["token"] == ""
        assert set(answer["activation"]) == {"code", "message", "challenge"}
        assert await knock(hub) == 401
        assert await knock(hub, authorization="Bearer of-another-server") == 401
        assert not await hub.known_devices.all()
        assert not hub.devices.sessions


async def test_the_code_stays_the_same_even_over_a_restart_of_the_hub(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        first = (await check_in(hub))["activation"]
        assert (await check_in(hub))["activation"] == first
        assert (await check_in(hub, "24:6f:28:aa:bb:cd"))["activation"]["code"] != first["code"]
    async with hub_with(folder, "approve") as hub:
        assert (await check_in(hub))["activation"] == first


async def test_the_message_is_in_the_language_of_the_device(folder: Path) -> None:
    expected = {"zh-CN": "请在中枢上批准我", "en-US": "Approve me", "de-DE": "Approve me"}
    async with hub_with(folder, "approve") as hub:
        for locale, words in expected.items():
            answer = await check_in(hub, **{"Accept-Language": locale})
            assert answer["activation"]["message"].startswith(words), locale


BODIES = {
    "version 1": b"{}",
    "version 2": json.dumps({"algorithm": "hmac-sha256", "hmac": "0" * 64}).encode(),
    "desktop client": json.dumps({"Payload": {"algorithm": "hmac-sha256"}}).encode(),
    "empty": b"",
    "nested": b"[" * 5000,
    "no text": b"\xff\x00",
}


async def test_the_question_for_activation_may_have_any_body(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub, ClientSession() as http:

        async def ask(body: bytes, path: str = "/xiaozhi/ota/activate") -> int:
            headers = {"Device-Id": MAC, "Client-Id": "c-1"}
            async with http.post(f"{hub.local_url}{path}", headers=headers, data=body) as reply:
                return reply.status

        code = (await check_in(hub))["activation"]["code"]
        assert {name: await ask(body) for name, body in BODIES.items()} == dict.fromkeys(BODIES, 202)
        await api(hub, "/approve", {"code": code})
        assert {name: await ask(body) for name, body in BODIES.items()} == dict.fromkeys(BODIES, 200)
        assert await ask(b"{}", "/xiaozhi/ota/activate/") == 200


async def test_a_question_for_activation_without_a_device_is_refused_as_json(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub, ClientSession() as http:
        async with http.post(f"{hub.local_url}/xiaozhi/ota/activate", data=b"{}") as reply:
            assert reply.status == 400
            assert (await reply.json())["error"]["code"] == "device-id-missing"


async def test_with_an_open_door_there_is_no_code_but_a_token(folder: Path) -> None:
    async with hub_with(folder, "open", talks=True) as hub, device(hub) as speaker:
        assert "activation" not in speaker.ota_answer
        assert len(speaker.ota_answer["websocket"]["token"]) >= 40
        assert await works(speaker)


# -- tokens -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["", "open", "approve"])
async def test_a_wrong_token_is_refused_and_the_right_one_is_not(folder: Path, mode: str) -> None:
    async with hub_with(folder, mode) as hub:
        token = await token_of(hub)
        assert await knock(hub, authorization="Bearer wrong") == 401
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert await knock(hub, authorization=f"Basic {token}") == 401
        assert await knock(hub) == 401
        assert await knock(hub, "24:6f:28:aa:bb:cd", f"Bearer {token}") == (401 if mode == "approve" else 101)


async def token_of(hub: Hub, device_id: str = MAC, client_id: str = "c-1") -> str:
    """Check in, being approved where that is needed."""
    answer = await check_in(hub, device_id, client_id)
    if "activation" in answer:
        status, _ = await api(hub, "/approve", {"code": answer["activation"]["code"]})
        assert status == 200
        answer = await check_in(hub, device_id, client_id)
    return str(answer["websocket"]["token"])


async def test_each_check_in_brings_another_token_and_no_device_is_locked_out_by_that(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        first = await token_of(hub)
        assert await knock(hub, authorization=f"Bearer {first}") == 101
        lost = [await token_of(hub) for _ in range(6)]  # answers that never reached the device
        assert len({first, *lost}) == 7
        assert await knock(hub, authorization=f"Bearer {first}") == 101
        assert await knock(hub, authorization=f"Bearer {lost[-1]}") == 101


async def test_tokens_outlive_the_hub_and_are_stored_as_hashes(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        token = await token_of(hub, client_id="my-client-id")
    stored = "".join(
        path.read_bytes().decode(errors="replace") for path in (folder / "data").iterdir() if path.is_file()
    )
    assert MAC in stored
    assert token not in stored and "my-client-id" not in stored
    async with hub_with(folder, "approve") as hub:
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert "activation" not in await check_in(hub, client_id="my-client-id")


async def test_a_devices_address_alone_fetches_no_token(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        token = await token_of(hub)
        stranger = await check_in(hub, client_id="guessed")
        assert stranger["websocket"]["token"] == ""
        assert (await check_in(hub, client_id=None))["websocket"]["token"] == ""
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert "activation" not in await check_in(hub)


async def test_a_device_whose_memory_was_erased_is_approved_again_and_what_it_had_is_worthless(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        old = await token_of(hub)
        answer = await check_in(hub, client_id="c-2")
        assert answer["activation"]["code"]
        new = await token_of(hub, client_id="c-2")
        assert await knock(hub, authorization=f"Bearer {old}") == 401
        assert await knock(hub, authorization=f"Bearer {new}") == 101
        assert "activation" in await check_in(hub, client_id="c-1")


async def test_a_device_without_a_client_id_cannot_be_approved(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        code = (await check_in(hub, client_id=None))["activation"]["code"]
        status, told = await api(hub, "/approve", {"code": code})
        assert (status, told["error_code"]) == (409, "CLIENT_ID_MISSING")


async def test_with_an_open_door_a_device_of_another_server_talks_until_it_has_a_token_of_ours(folder: Path) -> None:
    async with hub_with(folder, "open") as hub:
        assert await knock(hub, authorization="Bearer of-another-server") == 101
        assert await knock(hub) == 101
        token = await token_of(hub)
        assert await knock(hub) == 101  # it may be one that cares for no tokens
        assert await knock(hub, authorization="Bearer of-another-server") == 401
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert await knock(hub) == 401  # it does


async def test_any_authorization_gets_an_answer(folder: Path) -> None:
    shown = ["Bearer", "Bearer ", "Basic abc", "\xff", "Bearer " + "x" * 5000, "Bearer \xe9t\xe9", "Bearer 密"]
    async with hub_with(folder, "approve") as hub:
        await token_of(hub)
        assert [await knock(hub, authorization=header) for header in shown] == [401] * len(shown)


async def test_wrong_tokens_are_limited_for_each_address_and_the_right_one_still_opens(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        token = await token_of(hub)
        seen = [await knock(hub, authorization=f"Bearer {number}") for number in range(30)]
        assert seen[:20] == [401] * 20
        assert seen[-1] == 429
        assert await knock(hub, authorization=f"Bearer {token}") == 101


async def test_codes_cannot_be_tried_through(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        code = (await check_in(hub))["activation"]["code"]
        seen = [(await api(hub, "/approve", {"code": f"{number:06}"}))[0] for number in range(15)]
        assert seen[:10] == [404] * 10
        assert seen[-1] == 429
        assert (await api(hub, "/approve", {"code": code}))[0] == 429


async def test_those_who_make_devices_up_fill_neither_memory_nor_the_database(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        answers = [await check_in(hub, f"02:00:00:00:00:{number:02x}") for number in range(40)]
        codes = [answer["activation"].get("code") for answer in answers]
        assert len(set(codes[:16])) == 16 and not any(codes[16:])
        assert all(answer["activation"]["message"] and answer["activation"]["challenge"] for answer in answers)
        assert len(hub.pairing.waiting) == 16
        assert not await hub.known_devices.all()


# -- shutting out -------------------------------------------------------------------------------------------------


async def test_a_device_that_is_shut_out_is_gone_within_a_second(folder: Path) -> None:
    async with (
        hub_with(folder, "approve", talks=True) as hub,
        device(hub) as speaker,
        device(hub, "02:00:00:00:00:02") as other,
    ):
        for each in (speaker, other):
            assert each.activation is not None
            await api(hub, "/approve", {"code": each.activation.code})
            await each.check_in()
            assert await works(each)
        status, _ = await api(hub, "/revoke", {"device": MAC})
        assert status == 200
        await speaker.hung_up(20)
        with pytest.raises(NoLink, match="401"):
            await speaker.connect()
        await speaker.check_in()
        assert speaker.activation is not None
        assert await works(other)


async def test_a_device_that_has_not_said_hello_yet_is_shut_out_too(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub, ClientSession() as http:
        token = await token_of(hub)
        headers = {"Device-Id": MAC, "Authorization": f"Bearer {token}"}
        async with http.ws_connect(f"{hub.local_url}/xiaozhi/v1/", headers=headers) as ws:
            await api(hub, "/revoke", {"device": MAC})
            async with asyncio.timeout(20):
                assert (await ws.receive()).data == 1000
            assert ws.closed


async def test_an_open_door_does_not_let_in_who_was_shut_out_but_approval_does(folder: Path) -> None:
    async with hub_with(folder, "open") as hub:
        token = await token_of(hub)
        await api(hub, "/revoke", {"device": MAC})
        assert await knock(hub, authorization=f"Bearer {token}") == 401
        assert await knock(hub) == 401
    async with hub_with(folder, "open") as hub:
        assert "activation" in await check_in(hub)
        token = await token_of(hub)
        assert await knock(hub, authorization=f"Bearer {token}") == 101


# -- the first day, and a window ----------------------------------------------------------------------------------


async def test_a_new_hub_lets_the_first_devices_in_until_the_first_approval(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with hub_with(folder) as hub:
        assert "the door is open for 1440 minutes (first-day): every device in the network is let in" in caplog.text
        first = await token_of(hub)
        assert hub.pairing.opening is not None and hub.pairing.opening.kind == "first-day"
        await api(hub, "/revoke", {"device": MAC})
        await token_of(hub)  # approved this time
        assert hub.pairing.opening is None
        assert "the door is closed: new devices wait to be approved" in caplog.text
        assert "activation" in await check_in(hub, "24:6f:28:aa:bb:cd")
        assert first
    async with hub_with(folder) as hub:
        assert hub.pairing.opening is None
        assert "activation" not in await check_in(hub)


async def test_the_first_day_ends_and_those_who_came_stay(folder: Path) -> None:
    async with hub_with(folder) as hub:
        token = await token_of(hub)
    with sqlite3.connect(folder / "data" / "hub.db") as db:
        db.execute("UPDATE pairing SET first_start_at = first_start_at - 24 * 3600 - 1")
    db.close()
    async with hub_with(folder) as hub:
        assert hub.pairing.opening is None
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert "activation" not in await check_in(hub)
        assert "activation" in await check_in(hub, "24:6f:28:aa:bb:cd")


async def test_a_device_that_never_restarted_is_known_after_the_first_day(folder: Path) -> None:
    """It came with an address of its own and no check-in: its next one needs no approval."""
    async with hub_with(folder) as hub:
        assert await knock(hub) == 101
        assert (await api(hub, "/close", {}))[0] == 200
        assert await knock(hub) == 401
        assert (await check_in(hub))["websocket"]["token"]


async def test_a_window_lets_everybody_in_until_it_is_closed(folder: Path) -> None:
    async with hub_with(folder, "approve", talks=True) as hub, device(hub) as speaker:
        assert speaker.activation is not None
        status, told = await api(hub, "/open", {"minutes": 10})
        assert status == 200 and told["door"]["open"] == "window"
        assert told["door"]["until"] == pytest.approx(time.time() + 600, abs=5)
        await speaker.activated(20)
        assert await works(speaker)
        await api(hub, "/close", {})
        assert "activation" in await check_in(hub, "24:6f:28:aa:bb:cd")
        assert hub.pairing.waiting[0].device_id == "24:6f:28:aa:bb:cd"
        assert len(hub.pairing.waiting) == 1


async def test_a_window_has_a_sensible_length(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        for minutes in (0, -1, 100_000, "ten", True, None):
            status, told = await api(hub, "/open", {"minutes": minutes})
            assert status in (400, 409) and told["error"], minutes
            assert hub.pairing.opening is None, minutes


async def test_what_the_configuration_opens_the_owner_closes_there(folder: Path) -> None:
    async with hub_with(folder, "open") as hub:
        status, told = await api(hub, "/close", {})
        assert (status, told["error_code"]) == (409, "DOOR_OPEN_BY_CONFIGURATION")


# -- the hub's own device, names, and trouble ---------------------------------------------------------------------


async def test_the_hub_talks_with_itself_while_strangers_wait(folder: Path) -> None:
    async with hub_with(folder, "approve", talks=True) as hub:
        async with device(hub, SELF_TEST, client_id=hub.self_test_client_id) as speaker:
            assert await works(speaker)
        assert not hub.pairing.grants


@pytest.mark.parametrize("mode", ["open", "approve"])
async def test_nobody_else_comes_in_under_the_hubs_own_name(folder: Path, mode: str) -> None:
    async with hub_with(folder, mode) as hub:
        answer = await check_in(hub, SELF_TEST, "guessed")
        assert answer["websocket"]["token"] == "" and "code" not in answer["activation"]
        assert await knock(hub, SELF_TEST) == 401
        assert not hub.admits(DeviceIdentity(SELF_TEST, "guessed"))  # nor on another transport
        assert not hub.pairing.waiting


async def test_a_device_has_the_name_and_the_area_that_its_owner_gave_it(folder: Path) -> None:
    async with hub_with(folder, "open") as hub, device(hub):
        while not await hub.known_devices.all():  # written beside the answer
            await asyncio.sleep(0.01)
        status, told = await api(hub, "/rename", {"device": MAC, "name": "Bedside", "area": "Bedroom"})
        assert status == 200 and (told["device"]["name"], told["device"]["area"]) == ("Bedside", "Bedroom")
        assert hub.devices.profile(MAC).area == "Bedroom"
        status, told = await api(hub, "/rename", {"device": "bedside", "name": "Nightstand"})
        assert (told["device"]["name"], told["device"]["area"]) == ("Nightstand", "Bedroom")
    async with hub_with(folder, "open") as hub:
        assert hub.devices.profile(MAC).area == "Bedroom"
        _, told = await api(hub, "")
        assert told["devices"][0]["name"] == "Nightstand"


async def test_what_cannot_be_done_is_told(folder: Path) -> None:
    cases: list[tuple[str, dict[str, Any], int]] = [
        ("/rename", {"device": "nobody", "name": "x"}, 404),
        ("/rename", {"device": MAC, "name": ""}, 400),
        ("/rename", {"device": MAC, "name": "x" * 65}, 400),
        ("/rename", {"device": MAC, "name": "a\u0007b"}, 409),
        ("/revoke", {"device": "nobody"}, 404),
        ("/revoke", {}, 400),
        ("/approve", {"code": "①②③"}, 404),
        ("/approve", {"code": 123456}, 400),
    ]
    async with hub_with(folder, "open") as hub:
        await check_in(hub)
        for action, values, status in cases:
            got, told = await api(hub, action, values)
            assert got == status and told["error"], (action, values)


async def test_the_list_shows_codes_to_this_machine_only(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub, ClientSession() as http:
        code = (await check_in(hub))["activation"]["code"]
        _, told = await api(hub, "")
        assert [(each["id"], each["code"]) for each in told["waiting"]] == [(MAC, code)]
        url = f"{hub.local_url}/api/devices"
        for headers in ({"X-Forwarded-For": "192.168.1.9"}, {"Origin": "http://evil.example"}):
            async with http.get(url, headers=headers) as reply:
                assert reply.status == 403
                assert code not in await reply.text()


async def test_the_page_shows_who_waits_to_everybody_and_the_code_to_this_machine(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub, ClientSession() as http:
        code = (await check_in(hub))["activation"]["code"]

        async def page(language: str, **headers: str) -> str:
            async with http.get(f"{hub.local_url}/?lang={language}", headers=headers) as reply:
                assert reply.status == 200
                return await reply.text()

        assert f"xiaozhi-hub devices approve {code}" in await page("en")
        stranger = await page("zh-Hans", **{"X-Forwarded-For": "192.168.1.9"})
        assert MAC in stranger and "等待批准" in stranger and code not in stranger
        await api(hub, "/open", {"minutes": 30})
        assert "every device in the network is let in. (30 more minutes)" in await page("en")
        async with http.get(f"{hub.local_url}/health/detailed") as reply:
            told = (await reply.json())["services"]["pairing"]
        assert told == {"status": "healthy", "detail": "door open (window), 1 waiting"}


async def test_the_owner_keeps_a_device_that_came_on_the_first_day_and_so_ends_that_day(folder: Path) -> None:
    async with hub_with(folder) as hub:
        token = await token_of(hub)
        status, told = await api(hub, "/approve", {"device": MAC})
        assert (status, told["device"]["granted_by"]) == (200, "owner")
        assert hub.pairing.opening is None
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert "activation" not in await check_in(hub)


async def test_a_device_that_was_shut_out_by_mistake_comes_back_by_its_id(folder: Path) -> None:
    async with hub_with(folder, "approve") as hub:
        await token_of(hub)
        await api(hub, "/revoke", {"device": MAC})
        assert "activation" in await check_in(hub)
        assert (await api(hub, "/approve", {"device": MAC}))[0] == 200
        assert "activation" not in await check_in(hub)
        assert "activation" in await check_in(hub, client_id="guessed")
        await api(hub, "/revoke", {"device": "24:6f:28:aa:bb:cd"})  # never met
        status, told = await api(hub, "/approve", {"device": "24:6f:28:aa:bb:cd"})
        assert (status, told["error_code"]) == (409, "CLIENT_ID_MISSING")


async def test_an_answer_that_cannot_be_finished_in_time_takes_no_token_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hub_with(folder, "approve") as hub:
        token = await token_of(hub)
        monkeypatch.setattr("xiaozhi_hub.web.devices.ota.CONTRIBUTION_SECONDS", 0.0)
        assert set((await check_in(hub))["websocket"]) == {"url", "version"}
        assert await knock(hub, authorization=f"Bearer {token}") == 101


async def test_no_token_code_or_client_id_is_ever_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with hub_with(folder, "approve") as hub:
        code = (await check_in(hub, client_id="my-client-id"))["activation"]["code"]
        token = await token_of(hub, client_id="my-client-id")
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert await knock(hub, authorization=f"Bearer x{token}") == 401
        await api(hub, "/revoke", {"device": MAC})
    assert MAC in caplog.text
    assert not [secret for secret in (code, token, "my-client-id") if secret in caplog.text]


async def test_a_disk_that_hangs_keeps_no_device_from_its_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.devices.pairing.pairing.SAVE_SECONDS", 0.4)
    async with hub_with(folder, "approve") as hub:
        await token_of(hub)
        held = sqlite3.connect(folder / "data" / "hub.db", isolation_level=None)
        held.execute("BEGIN IMMEDIATE")
        try:
            token = (await check_in(hub))["websocket"]["token"]
            assert await knock(hub, authorization=f"Bearer {token}") == 101
        finally:
            held.execute("ROLLBACK")
            held.close()
    async with hub_with(folder, "approve") as hub:
        assert await knock(hub, authorization=f"Bearer {token}") == 101


async def test_check_ins_of_a_fleet_are_answered_with_tokens_at_once(folder: Path) -> None:
    async with hub_with(folder, "open") as hub:
        answers = await asyncio.gather(*(check_in(hub, f"02:00:00:00:01:{n:02x}") for n in range(100)))
        assert all(answer["websocket"]["token"] for answer in answers)
    async with hub_with(folder, "approve") as hub:
        token = answers[99]["websocket"]["token"]
        assert await knock(hub, "02:00:00:00:01:63", f"Bearer {token}") == 101


async def test_while_the_database_is_not_open_nobody_loses_a_token_and_nobody_comes_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi_hub.devices.pairing.pairing.LOAD_SECONDS", 0.05)
    monkeypatch.setattr("xiaozhi_hub.devices.pairing.pairing.DOOR_SECONDS", 0.05)
    async with hub_with(folder, "approve") as hub:
        token = await token_of(hub)
    config = load_config(folder)
    server = replace(config.server, ip="127.0.0.1", port=0, http_port=0)
    hub = Hub(replace(config, server=server, discovery=replace(config.discovery, enabled=False)))
    held = sqlite3.connect(folder / "data" / "hub.db", isolation_level=None)
    held.execute("BEGIN IMMEDIATE")
    async with asyncio.TaskGroup() as group:
        done = asyncio.Event()

        async def run() -> None:
            async with hub:
                await done.wait()

        group.create_task(run())
        while not hub.front.ports:
            await asyncio.sleep(0.01)
        answer = await check_in(hub)
        assert set(answer["websocket"]) == {"url", "version"}
        assert "activation" not in answer
        assert await knock(hub, authorization=f"Bearer {token}") == 401
        held.execute("ROLLBACK")
        held.close()
        await hub.ready()
        assert await knock(hub, authorization=f"Bearer {token}") == 101
        assert (await check_in(hub))["websocket"]["token"]
        done.set()


def test_the_key_has_three_values_and_names_stay_beside_it(tmp_path: Path) -> None:
    for written, expected in (("open", "open"), ("approve", "approve"), ("", None)):
        (tmp_path / "configuration.yaml").write_text(
            f"devices:\n  pairing: {written}\n  24:6f:28:aa:bb:cc: {{name: Kitchen}}\n"
        )
        config = load_config(tmp_path, {})
        assert config.pairing == expected
        assert list(config.devices) == [MAC]
