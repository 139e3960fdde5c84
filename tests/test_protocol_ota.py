"""The check-in at the OTA address."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.identity import DeviceIdentity, identify
from xiaozhi_hub.protocol.ota import (
    BadAnswer,
    CheckIn,
    build_answer,
    encode_answer,
    host_of,
    read_check_in,
    websocket_url,
)

MAC = "24:6f:28:aa:bb:cc"
HEADERS = {
    "Device-Id": MAC,
    "Client-Id": "3b0f7c1e-9a52-4a0e-8f3d-5d2f0c7e6a11",
    "User-Agent": "bread-compact-wifi/2.4.2",
    "Accept-Language": "en-US",
}
BODY: dict[str, Any] = {
    "version": 2,
    "language": "de-DE",
    "mac_address": "24:6F:28:AA:BB:CC",
    "chip_model_name": "esp32s3",
    "application": {"name": "xiaozhi", "version": "2.4.1"},
    "board": {"type": "lcd", "name": "bread-compact-wifi-lcd", "ssid": "home", "ip": "192.168.1.77", "mac": MAC},
}


def check_in(body: bytes = b"", **headers: str) -> CheckIn:
    return read_check_in({**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}, body)


def test_a_device_tells_what_it_is() -> None:
    assert read_check_in(HEADERS, json.dumps(BODY).encode(), "192.168.1.77") == CheckIn(
        DeviceIdentity(MAC, HEADERS["Client-Id"], "bread-compact-wifi/2.4.2", "192.168.1.77"),
        language="de-DE",
        board="bread-compact-wifi-lcd",
        firmware="2.4.1",
        chip="esp32s3",
        mac=MAC,
        ip="192.168.1.77",
        ssid="home",
        project="xiaozhi",
    )


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("empty", b""),
        ("truncated", json.dumps(BODY).encode()[:200]),
        ("a quote in the network's name", json.dumps(BODY).replace("home", 'ho"me').encode()),
        ("not an object", b"[1,2]"),
        ("not UTF-8", b"\xff\xfe{"),
        ("deeper than sense", b"[" * 100_000),
        ("wrong types", b'{"application":[],"board":"x","language":7,"mac_address":null}'),
    ],
)
def test_a_bad_body_leaves_the_headers_to_say_it(name: str, body: bytes) -> None:
    said = check_in(body)
    assert said.device.id == MAC
    assert (said.board, said.firmware, said.language) == ("bread-compact-wifi", "2.4.2", "en-US")


@pytest.mark.parametrize("name", ["Device-Id", "device-id", "DEVICE-ID"])
def test_header_names_may_have_any_case(name: str) -> None:
    assert identify({name: f" {MAC.upper()} "}).id == MAC


@pytest.mark.parametrize("value", ["", "   ", "x" * 65, "a\x00b", "a\nb"])
def test_without_a_usable_id_there_is_no_device(value: str) -> None:
    with pytest.raises(ProtocolError, match="Device-Id"):
        read_check_in({"Device-Id": value}, b"{}")


def test_the_first_accepted_language_counts() -> None:
    assert check_in(Accept_Language="zh-CN,zh;q=0.9,en;q=0.8").language == "zh-CN"


@settings(deadline=None, derandomize=True)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=20)), st.binary(max_size=200))
def test_any_check_in_is_understood_or_refused(headers: dict[str, str], body: bytes) -> None:
    said = read_check_in({**headers, "device-id": MAC, "Device-Id": MAC}, body)
    assert json.loads(encode_answer(build_answer(said, host="h", port=1, now=datetime.now(UTC))))["websocket"]["url"]


# -- the answer ---------------------------------------------------------------------------------------------------


def answer(firmware: str = "2.4.2", now: datetime | None = None, **options: Any) -> dict[str, Any]:
    said = CheckIn(DeviceIdentity(MAC), firmware=firmware)
    return build_answer(said, host="hub.local", port=8003, now=now or datetime.now(UTC), **options)


def test_the_answer_says_where_and_how_to_connect() -> None:
    body = json.loads(encode_answer(answer(token="t0k3n", version=3)))
    assert body["websocket"] == {"url": "ws://hub.local:8003/xiaozhi/v1/", "token": "t0k3n", "version": 3}
    assert "mqtt" not in body and "activation" not in body


def test_token_and_framing_are_sent_even_when_they_say_nothing() -> None:
    assert answer()["websocket"] == {"url": websocket_url("hub.local", 8003), "token": "", "version": 1}


@pytest.mark.parametrize(
    ("zone", "at", "offset"),
    [
        ("UTC", (2026, 7, 1), 0),
        ("Europe/Berlin", (2026, 7, 1), 120),
        ("Europe/Berlin", (2026, 1, 1), 60),
        ("Asia/Shanghai", (2026, 1, 1), 480),
        ("America/St_Johns", (2026, 1, 1), -210),
        ("Asia/Kathmandu", (2026, 1, 1), 345),
    ],
)
def test_the_clock_is_right_in_every_zone_and_season(zone: str, at: tuple[int, int, int], offset: int) -> None:
    now = datetime(*at, 12, 30, 15, 250_000, ZoneInfo(zone))
    assert answer(now=now)["server_time"] == {"timestamp": round(now.timestamp() * 1000), "timezone_offset": offset}


def test_a_time_without_zone_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="zone"):
        answer(now=datetime(2026, 1, 1))


@pytest.mark.parametrize("version", ["2.4.2", "1", "1.6.2.0"])
def test_the_device_is_told_its_own_version(version: str) -> None:
    assert answer(version)["firmware"] == {"version": version, "url": ""}


@pytest.mark.parametrize("version", ["", "v2.1", "latest", "2.", ".1", "1..2", "2.4.2-dirty", "1\n", "9" * 40, "١.٢"])
def test_a_version_that_would_crash_the_device_is_left_out(version: str) -> None:
    assert "firmware" not in answer(version)


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("192.168.1.20:8003", "192.168.1.20"),
        ("xiaozhi-hub.local", "xiaozhi-hub.local"),
        ("Hub.Local:80", "Hub.Local"),
        ("my_box:8003", "my_box"),
        ("", None),
        ("[fe80::1]:8003", None),
        ("a b", None),
        ('x"y', None),
        ("x/y", None),
        ("-", None),
        ("h" * 300, None),
    ],
)
def test_only_a_host_that_a_device_can_use_is_taken(header: str, host: str | None) -> None:
    assert host_of(header) == host


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("a key that makes the device crash", {"websocket": {"sixteen_letters_": "x"}}, "15 characters"),
        ("a value too long to be stored", {"websocket": {"url": "x" * 4000}}, "3999 bytes"),
        ("a value that is stored as nothing", {"websocket": {"version": True}}, "text or a number"),
        ("a null", {"mqtt": None}, "null"),
        ("no way to connect", {"websocket": None}, "null"),
        ("a version that crashes the device", {"firmware": {"version": "v2", "url": ""}}, "not made of numbers"),
        ("a body that hangs the device", {"note": "x" * 6200}, "too long"),
    ],
)
def test_an_answer_that_would_harm_the_device_does_not_leave(name: str, change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadAnswer, match=says):
        encode_answer({**answer(), **change})


def test_an_answer_without_websocket_does_not_leave() -> None:
    body = answer()
    del body["websocket"]
    with pytest.raises(BadAnswer, match="websocket"):
        encode_answer(body)
