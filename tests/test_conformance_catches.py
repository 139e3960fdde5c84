"""The checks of the checklist can fail: each is shown a server that goes wrong in one place, and says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from wrong_server import PACKETS, Wrong, wrong_server

from xiaozhi_hub.audio.pcm import write_wav
from xiaozhi_hub.cli import main
from xiaozhi_hub.cli.conformance import chosen
from xiaozhi_hub.conformance import CHECKS, Server, run_check
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing import PROFILES

NEWEST = PROFILES["2.4.2"]
RIGHT = [
    *("P-01", "P-02", "P-03", "P-04", "P-05", "P-06", "P-07", "P-08", "P-11", "P-17", "P-18", "P-19", "P-20", "P-21"),
    *("P-25", "P-26", "P-29", "P-30", "P-31", "P-33", "P-34", "P-38", "P-39", "P-46"),
]


async def verdict(number: str, server: Server) -> tuple[str, str]:
    check = next(check for check in CHECKS if check.number == number)
    result = await run_check(check, server, NEWEST)
    return result.verdict, result.reason


async def test_a_server_that_does_right_passes() -> None:
    async with wrong_server() as server:
        found = await asyncio.gather(*(verdict(number, server) for number in RIGHT))
    assert [(number, *each) for number, each in zip(RIGHT, found, strict=True) if each[0] != "pass"] == []


# -- the check-in -------------------------------------------------------------------------------------------------

OTA: dict[str, tuple[str, Callable[[dict[str, Any]], Any], str]] = {
    "mqtt is null": ("P-04", lambda answer: {**answer, "mqtt": None}, "null in mqtt"),
    "mqtt beside websocket": ("P-04", lambda answer: {**answer, "mqtt": {"endpoint": "x"}}, "holds mqtt"),
    "no websocket": ("P-03", lambda answer: {"server_time": answer["server_time"]}, "falls back to MQTT"),
    "an address without a port": (
        "P-03",
        lambda answer: {**answer, "websocket": {**answer["websocket"], "url": "ws://hub.local/ws"}},
        "no port",
    ),
    "a version as text": (
        "P-03",
        lambda answer: {**answer, "websocket": {**answer["websocket"], "version": "1"}},
        "websocket.version is '1'",
    ),
    "a long key": (
        "P-05",
        lambda answer: {**answer, "websocket": {**answer["websocket"], "reconnect_interval": 5}},
        "18 characters",
    ),
    "seconds instead of ms": (
        "P-06",
        lambda answer: {**answer, "server_time": {"timestamp": 1_800_000_000, "timezone_offset": 0}},
        "s off",
    ),
    "latest as version": (
        "P-07",
        lambda answer: {**answer, "firmware": {"version": "latest", "url": ""}},
        "'latest' crashes devices",
    ),
    "a higher version without an image": (
        "P-07",
        lambda answer: {**answer, "firmware": {"version": "9.9.9", "url": ""}},
        "version 9.9.9 without an image",
    ),
    "a long answer": ("P-02", lambda answer: {**answer, "motd": "x" * 7000}, "reader hangs"),
    "always one host": ("P-09", lambda answer: answer, "conformance.local"),
    "a device without id is let in": ("P-10", lambda answer: answer, "status 200 for a request without Device-Id"),
}


@pytest.mark.parametrize("name", OTA)
async def test_a_wrong_answer_to_a_check_in_is_noticed(name: str) -> None:
    number, change, reason = OTA[name]
    async with wrong_server(ota=change) as server:
        found, why = await verdict(number, server)
    assert found == "fail", why
    assert reason in why


async def test_a_redirect_is_noticed() -> None:
    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPTemporaryRedirect("/elsewhere")

    async with wrong_server(ota_handler=redirect) as server:
        assert await verdict("P-01", server) == ("fail", f"{str(server.ota_url).rstrip('/')}: status 307")
        assert (await verdict("P-02", server))[1] == "status 307: the device takes a redirect for a failure"


async def test_a_strict_reader_of_bodies_is_noticed() -> None:
    async def strict(request: web.Request) -> web.Response:
        try:
            await request.json()
        except ValueError:
            raise web.HTTPBadRequest from None
        port = request.url.port or 0
        return web.json_response({"websocket": {"url": f"ws://127.0.0.1:{port}/ws", "token": "", "version": 1}})

    async with wrong_server(ota_handler=strict) as server:
        assert await verdict("P-08", server) == ("fail", "an empty body: status 400")


async def test_a_server_that_is_not_there_fails_every_check_with_a_reason() -> None:
    async with wrong_server() as server:
        pass
    for number in ("P-01", "P-17", "P-26"):
        found, why = await verdict(number, server)
        assert found == "fail" and "Cannot connect" in why


# -- the connection -----------------------------------------------------------------------------------------------


class NoTransport(Wrong):
    async def greet(self) -> None:
        await self.tell(type="hello", session_id="s", audio_params={"sample_rate": 24000, "frame_duration": 60})


class LateHello(Wrong):
    async def greet(self) -> None:
        await asyncio.sleep(1.2)
        await super().greet()


class TwoHellos(Wrong):
    async def greet(self) -> None:
        await super().greet()
        await super().greet()


class SpeaksFirst(Wrong):
    async def serve(self) -> None:
        await self.tell(type="welcome")
        await super().serve()


class TalksAfterStop(Wrong):
    async def answer(self) -> None:
        await super().answer()
        await self.ws.send_bytes(PACKETS[-1])


class NeverStops(Wrong):
    async def answer(self) -> None:
        await self.tell(type="tts", state="start")
        await self.tell(type="tts", state="start")
        await self.speak()
        await self.tell(type="tts", state="stop")
        await self.tell(type="tts", state="stop")


class StopsAtOnce(Wrong):
    async def answer(self) -> None:
        await self.tell(type="tts", state="start")
        await self.speak(lead=8)
        await self.tell(type="tts", state="stop")


class NoLeadIn(Wrong):
    async def speak(self, packets: list[bytes] = PACKETS, lead: int = 3) -> None:
        await super().speak(packets[3:], lead)


class LongPackets(Wrong):
    async def greet(self) -> None:
        await self.tell(
            type="hello",
            transport="websocket",
            session_id="s",
            audio_params={"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 20},
        )


class AllAtOnce(Wrong):
    async def speak(self, packets: list[bytes] = PACKETS, lead: int = 3) -> None:
        await super().speak(packets * 6, lead=10_000)
        await asyncio.sleep(len(packets) * 6 * 0.06)


class IgnoresAbort(Wrong):
    async def speak(self, packets: list[bytes] = PACKETS, lead: int = 3) -> None:
        await super().speak(packets * 2, lead)

    async def on_abort(self, answering: asyncio.Task[None] | None) -> None:
        pass


class SaysNull(Wrong):
    async def answer(self) -> None:
        await self.tell(type="stt", text=None)
        await super().answer()


class Smiles(Wrong):
    async def answer(self) -> None:
        await self.tell(type="stt", text="hello 😀")
        await super().answer()


class StrangeFace(Wrong):
    async def answer(self) -> None:
        await self.tell(type="tts", state="start")
        await self.tell(type="llm", emotion="grumpy")
        await self.speak()
        await asyncio.sleep(0.3)
        await self.tell(type="tts", state="stop")


class EarlyFace(Wrong):
    async def answer(self) -> None:
        await self.tell(type="llm", emotion="happy")
        await super().answer()


class AnswersWakeAudio(Wrong):
    async def greet(self) -> None:
        await super().greet()
        self.heard = 0

    async def serve(self) -> None:
        async for frame in self.ws:
            if frame.type.name == "TEXT" and json.loads(frame.data)["type"] == "hello":
                await self.greet()
            elif frame.type.name == "BINARY":
                await self.tell(type="stt", text="a question")


class Fragile(Wrong):
    async def serve(self) -> None:
        try:
            await super().serve()
        except ValueError:
            await self.ws.close()


class NeverHangsUp(Wrong):
    """Nothing: aiohttp waits for the hello for ever."""


LINKS: dict[type[Wrong], tuple[str, str]] = {
    NoTransport: ("P-19", "transport is None"),
    LateHello: ("P-19", "the hub hello comes after 1.2"),
    TwoHellos: ("P-19", "2 hellos"),
    SpeaksFirst: ("P-20", "before the device hello the server sends"),
    AnswersWakeAudio: ("P-25", "the server sends stt"),
    NeverHangsUp: ("P-22", "open after 2 s without hello"),
    TalksAfterStop: ("P-29", "1 packets outside"),
    NoLeadIn: ("P-29", "its first syllable is lost"),
    NeverStops: ("P-30", "a second tts start"),
    LongPackets: ("P-31", "a packet of 60 ms, 20 are announced"),
    AllAtOnce: ("P-32", "ms ahead, 600 are allowed"),
    StopsAtOnce: ("P-33", "ms before the end of the sound"),
    IgnoresAbort: ("P-34", "ms after abort"),
    SaysNull: ("P-38", "stt.text is None"),
    Smiles: ("P-38", "holds an emoji"),
    StrangeFace: ("P-38", "'grumpy' is none of the 21 faces"),
    EarlyFace: ("P-39", "reset at once"),
    Fragile: ("P-40", "hangs up"),
}


async def test_each_wrong_conversation_is_noticed() -> None:
    async def show(link: type[Wrong]) -> tuple[str, str]:
        async with wrong_server(link) as server:
            return await verdict(LINKS[link][0], server)

    found = dict(zip(LINKS, await asyncio.gather(*map(show, LINKS)), strict=True))
    missed = {link.__name__: each for link, each in found.items() if each[0] != "fail" or LINKS[link][1] not in each[1]}
    assert missed == {}


async def test_two_sockets_of_one_device_are_noticed() -> None:
    async with wrong_server() as server:
        assert await verdict("P-45", server) == ("fail", "the first socket stays open beside the second")


async def test_a_server_that_never_ends_a_conversation_is_noticed() -> None:
    async with wrong_server() as server:
        found, why = await verdict("P-44", server)
    assert found == "fail" and "nobody speaks, and after 4 s the channel is still open" in why


class Senseless(Wrong):
    async def greet(self) -> None:
        await self.tell(type="hello", transport="websocket", session_id="s", audio_params=[7])


async def test_answers_without_sense_fail_one_check_and_no_more() -> None:
    def twist(answer: dict[str, Any]) -> Any:
        return {**answer, "activation": ["code"], "websocket": 7, "firmware": "x", "server_time": []}

    numbers = [check.number for check in CHECKS if check.topic == "ota"]
    async with wrong_server(ota=twist) as server:
        found = [await verdict(number, server) for number in numbers]
    assert {each[0] for each in found} <= {"pass", "fail", "n/a"}
    assert dict(zip(numbers, found, strict=True))["P-11"][0] == "fail"
    async with wrong_server(Senseless) as server:
        assert await verdict("P-19", server) == ("fail", "the hello holds no audio_params")
        assert (await verdict("P-31", server))[0] == "fail"


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def question(tmp_path: Path) -> str:
    async def sound() -> bytes:
        async with wrong_server() as server:
            return write_wav(server.voice.short)

    path = tmp_path / "question.wav"
    path.write_bytes(asyncio.run(sound()))
    return str(path)


async def command(server: Server, *arguments: str) -> int:
    assert server.ota_url is not None
    return await asyncio.to_thread(main, ["conformance", server.ota_url, *arguments])


async def test_the_table_shows_claims_and_reasons(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with wrong_server(ota=lambda answer: {**answer, "mqtt": None}) as server:
        assert await command(server, "--wav", question, "--only", "P-01,p-04,P-12") == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("P-01  pass  POST on the OTA path")
    assert shown[1].startswith("P-04  fail  No mqtt key")
    assert shown[2].endswith("→ null in mqtt: some firmware takes that for a value")
    assert shown[3].startswith("P-12  n/a ")
    assert shown[4].endswith("Pairing is off.")
    assert shown[-1] == "1 passed, 1 failed, 1 not applicable"


async def test_json_has_each_check_with_its_verdict(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with wrong_server() as server:
        assert await command(server, "--wav", question, "--only", "P-03,P-22", "--quick", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["profile"], told["summary"]) == ("2.4.2", {"pass": 1, "n/a": 1})
    assert [list(check) for check in told["checks"]] == [["number", "claim", "verdict", "reason", "seconds"]] * 2
    assert told["checks"][1]["reason"] == "Skipped: it takes long (--quick)."


async def test_a_websocket_address_leaves_out_the_check_in(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    async with wrong_server() as server:
        url = str(server.ota_url).replace("http", "ws").replace("/ota/", "/ws")
        only = ("--only", "P-02,P-19", "--wav", question, "--device-id", "02:00:00:00:00:09", "--json")
        assert await asyncio.to_thread(main, ["conformance", url, *only]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [(check["verdict"], check["reason"]) for check in checks[:1]] == [("n/a", "No OTA address was given.")]
    assert checks[1]["verdict"] == "pass"


def test_an_unknown_number_is_refused() -> None:
    with pytest.raises(HubError, match="There is no check P-99"):
        chosen("P-01,P-99")
    assert len(chosen(None)) == 60


def test_an_address_of_another_kind_is_refused(capsys: pytest.CaptureFixture[str], question: str) -> None:
    assert main(["conformance", "ftp://hub", "--wav", question]) == 1
    assert "no address of a server" in capsys.readouterr().err
