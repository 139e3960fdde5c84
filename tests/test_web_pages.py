"""Pages for people, who may see them, and the ports they are served on."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import replace

import pytest
from aiohttp import web
from served import DEVICE_ID, STATUS, served

from xiaozhi_hub.core.flow import STAMPS, Completeness, Outcome, Wait, WaitReason
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.errors import HubError, StageError, ToolError
from xiaozhi_hub.plugins.entries import EntryState
from xiaozhi_hub.web.app import WebParts, build_app, serve
from xiaozhi_hub.web.pages.pages import ROLES, preferred_language
from xiaozhi_hub.web.pages.status import DeviceStatus, EngineStatus, EntryStatus, TurnStatus
from xiaozhi_hub.web.pages.waterfall import Bar, bars
from xiaozhi_hub.web.requests.hosts import is_safe_for_pages

TURN = TurnStatus(
    id="t1",
    device="Kitchen speaker",
    started_at=0.0,
    heard="what <b>time</b> is it",
    said="It is noon.",
    outcome="answered",
    stamps={"speech_start": 100, "speech_end": 1100, "endpoint": 1300, "transcript": 1400, "reply": 1410,
            "first_voice": 1500, "played": 2600},
    wait=Wait(120, Completeness.EXTENDABLE, WaitReason.HABIT, 420, ended=22, times=23),
)  # fmt: skip
FULL = replace(
    STATUS,
    engines=(EngineStatus("asr", "Phrases", "en-US", ("en",)), EngineStatus("tts", "eSpeak NG")),
    entries=(
        EntryStatus("clock", "Clock", "ready"),
        EntryStatus("wyoming", "Wyoming", "retrying", "connection refused", "Is the server running?"),
    ),
    devices=(DeviceStatus(DEVICE_ID, "Kitchen speaker", True, "Kitchen", "bread-compact-wifi", "2.4.2"),),
    turns=(TURN,),
    problems=("UDP port 5353 is taken",),
)


async def page(path: str = "/", **headers: str) -> tuple[int, str]:
    headers = {"Accept": "text/html"} | headers
    async with served(status=FULL) as hub, hub.http.get(hub.url(path), headers=headers) as response:
        return response.status, await response.text()


# -- what they show -----------------------------------------------------------------------------------------------


async def test_the_home_page_shows_what_to_type_into_the_device() -> None:
    status, text = await page()
    assert status == 200
    for url in STATUS.ota_urls:
        assert url in re.sub("<[^>]*>", "", text)


@pytest.mark.parametrize(
    "fact",
    ["Phrases · en-US (en)", "connection refused", "Is the server running?", "Kitchen speaker", "bread-compact-wifi",
     "UDP port 5353 is taken", "It is noon.", "what &lt;b&gt;time&lt;/b&gt; is it", "<rect class=\"silence\"",
     "the like has ended here 22 of 23 times"],
)  # fmt: skip
async def test_the_home_page_tells_how_the_hub_is(fact: str) -> None:
    assert fact in (await page())[1]


async def test_a_hub_that_knows_nothing_yet_has_a_page() -> None:
    empty = replace(STATUS, ota_urls=(), addresses=(), starting=True)
    async with served(status=empty) as hub, hub.http.get(hub.url("/")) as response:
        assert response.status == 200
        assert "Starting" in await response.text()


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-Hans"),
        ("de-DE,de;q=0.9,en;q=0.5,zh;q=0.4", "en"),
        ("en;q=0.1,zh-TW", "zh-Hans"),
        ("fr", "zh-Hans"),
        ("", "zh-Hans"),
        ("en;q=x,zh;q=0", "zh-Hans"),
    ],
)
def test_the_reader_is_shown_the_language_the_browser_asks_for(header: str, language: str) -> None:
    assert preferred_language(header, "zh-Hans") == language


async def test_the_language_can_be_chosen_by_a_link() -> None:
    _, text = await page("/?lang=zh-Hans", **{"Accept-Language": "en"})
    assert '<html lang="zh-Hans">' in text and "连接设备" in text
    _, text = await page("/", **{"Accept-Language": "zh-CN"})
    assert '<html lang="zh-Hans">' in text


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_every_state_and_stage_has_a_name_for_people(language: str) -> None:
    texts = Texts()
    keys = [f"entry.{state}" for state in EntryState] + [f"outcome.{outcome}" for outcome in Outcome]
    keys += [f"wait.{reason}" for reason in (WaitReason.HABIT, WaitReason.PAUSES, WaitReason.GOES_ON)]
    keys += [f"role.{role}" for role in Role] + [f"stage.{bar.stage}" for bar in bars(TURN.stamps)]
    assert [key for key in keys if not texts.has(f"page.{key}", language)] == []
    assert set(ROLES) == {role.value for role in Role}


async def test_pages_need_nothing_from_elsewhere_and_run_no_foreign_code() -> None:
    async with served(status=FULL) as hub, hub.http.get(hub.url("/")) as response:
        text = await response.text()
        policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert "<script" not in text and "style=" not in text
    assert 'src="http' not in text and 'href="http' not in text


async def test_what_pages_refer_to_exists() -> None:
    async with served() as hub:
        for path, kind in (("/static/hub.css", "text/css"), ("/static/icon.svg", "image/svg+xml"),
                           ("/favicon.ico", "image/svg+xml")):  # fmt: skip
            async with hub.http.get(hub.url(path)) as response:
                assert (response.status, response.content_type) == (200, kind)


def test_the_stages_of_a_turn_lie_one_after_the_other() -> None:
    laid = bars(TURN.stamps)
    assert [bar.stage for bar in laid] == ["speech", "silence", "hearing", "thinking", "voice", "playing"]
    assert laid[0] == Bar("speech", 0.0, 40.0, 1000)
    assert laid[1] == Bar("silence", 40.0, 8.0, 200)
    assert laid[-1].begin + laid[-1].width == pytest.approx(100)


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_what_a_model_read_and_the_tools_it_used_have_bars_of_their_own(language: str) -> None:
    laid = bars({**TURN.stamps, "first_token": 1402, "tool": 1403, "tool_result": 1407})
    assert [(bar.stage, bar.ms) for bar in laid[2:6]] == [
        ("hearing", 100),
        ("reading", 2),
        ("tool", 4),
        ("thinking", 8),
    ]
    assert all(Texts().has(f"page.stage.{bar.stage}", language) for bar in laid)


@pytest.mark.parametrize(
    "stamps", [{}, {"transcript": 5.0}, {"speech_start": 9, "speech_end": 3}, dict.fromkeys(STAMPS, 1)]
)
def test_a_turn_that_did_not_get_far_has_no_bars(stamps: dict[str, float]) -> None:
    assert bars(stamps) == ()


# -- who may see them ---------------------------------------------------------------------------------------------


async def test_what_was_said_is_shown_on_this_machine_only() -> None:
    _, text = await page()
    assert "It is noon." in text
    _, text = await page(**{"X-Forwarded-For": "192.168.1.9"})
    assert "It is noon." not in text and "only on the machine" in text


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("127.0.0.1:8003", True),
        ("192.168.1.20", True),
        ("[::1]:8003", True),
        ("localhost:8003", True),
        ("XiaoZhi-Hub.local:8003", True),
        ("hub.example.org", True),
        ("evil.example.com", False),
        ("127.0.0.1.evil.com", False),
        ("local", False),
        ("", False),
        ("[::1].evil.com", False),
    ],
)
def test_pages_are_for_names_that_no_stranger_can_point_here(host: str, safe: bool) -> None:
    assert is_safe_for_pages(host, "Hub.example.org") is safe


async def test_a_foreign_name_gets_no_page_but_a_way_out() -> None:
    status, text = await page(Host="evil.example.com")
    assert status == 421
    assert "It is noon." not in text and "public_host" in text
    async with served() as hub, hub.http.get(hub.url("/api/x"), headers={"Host": "evil.example.com"}) as response:
        assert response.status == 421
        assert (await response.json())["error"]["code"] == "misdirected-request"


async def test_devices_may_come_by_any_name() -> None:
    async with (
        served() as hub,
        hub.http.post(
            hub.url("/xiaozhi/ota/"), headers={"Host": "hub.fritz.box", "Device-Id": DEVICE_ID}, data=b"{}"
        ) as response,
    ):
        assert (await response.json())["websocket"]["url"] == f"ws://hub.fritz.box:{hub.port}/xiaozhi/v1/"


# -- failures -----------------------------------------------------------------------------------------------------


async def failing(request: web.Request) -> web.Response:
    match request.match_info["how"]:
        case "tool":
            raise ToolError("There is no lamp.", hint="Try the light.")
        case "engine":
            raise StageError("asr", "no ear", code="no-asr")
        case _:
            raise ValueError("a secret detail")


@pytest.mark.parametrize(
    ("how", "status", "error"),
    [
        ("tool", 422, {"code": "tool-failed", "message": "There is no lamp.", "hint": "Try the light."}),
        ("engine", 502, {"code": "no-asr", "message": "no ear", "hint": ""}),
        ("bug", 500, {"code": "internal", "message": "The hub could not do this.", "hint": "Its log tells why."}),
    ],
)
async def test_programs_are_told_of_failures_in_one_form(how: str, status: int, error: dict[str, str]) -> None:
    routes = [web.get("/api/{how}", failing)]
    async with served(routes=routes) as hub, hub.http.get(hub.url(f"/api/{how}")) as response:
        assert response.status == status
        assert await response.json() == {"error": error}


async def test_people_are_told_of_failures_on_a_page_without_details() -> None:
    async with served(routes=[web.get("/page/{how}", failing)]) as hub:
        for path, code, words in (
            ("/page/bug", 500, "Something went wrong"),
            ("/nowhere", 404, "There is nothing here"),
        ):
            async with hub.http.get(hub.url(path), headers={"Accept": "text/html"}) as response:
                text = await response.text()
                assert (response.status, response.content_type) == (code, "text/html")
                assert words in text and "secret" not in text and "Traceback" not in text


# -- the ports ----------------------------------------------------------------------------------------------------


async def test_the_same_application_is_on_every_port() -> None:
    async with served(ports=2) as hub:
        assert len(set(hub.ports)) == 2
        for port in hub.ports:
            async with hub.http.get(f"http://127.0.0.1:{port}/") as response:
                assert response.status == 200


async def tell() -> None:
    raise AssertionError("nobody asks")


async def test_a_port_in_use_is_named_with_the_cure() -> None:
    parts = WebParts(Texts(), "9.9", tell, lambda link: asyncio.sleep(0), lambda check_in: None)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HubError) as failure:
            async with serve(build_app(parts), "127.0.0.1", [0, port]):
                pass
        assert failure.value.code == "port-in-use"
        assert str(port) in str(failure.value) and "--port" in failure.value.hint
        with pytest.raises(HubError, match="server: ip"):
            async with serve(build_app(parts), "203.0.113.7", [0]):
                pass
