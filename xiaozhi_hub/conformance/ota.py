"""P-01 … P-15: the check-in, pairing, and downloads (§1, §2)."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from xiaozhi_hub.conformance.bench import Bench, Reply
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable

MOST_BYTES = 6144
LONGEST_KEY = 15
_VERSION = re.compile(r"^\d+(\.\d+)*$")
_CODE = re.compile(r"^[0-9]+$")
NEVER_SEEN = "02:f1:00:00:00:ff"


def _accepted(reply: Reply) -> dict[str, Any]:
    """The answer, where a device would accept it."""
    expect(not 300 <= reply.status < 400, f"status {reply.status}: the device takes a redirect for a failure")
    expect(reply.status == 200, f"status {reply.status}; a device takes only 200")
    return reply.json()


def _websocket(answer: dict[str, Any]) -> dict[str, Any]:
    """The part that tells where to connect; `Broken` where a device could not use it."""
    section = answer.get("websocket")
    if not isinstance(section, dict):
        raise Broken("the answer holds no websocket: the device falls back to MQTT")
    url, token, version = section.get("url"), section.get("token"), section.get("version")
    expect(isinstance(url, str), f"websocket.url is {url!r}, not a text")
    parts = urlsplit(str(url))
    expect(parts.scheme == "ws", f"websocket.url begins with {parts.scheme!r}, not ws")
    expect(parts.port is not None, f"{url} has no port: the device may misread it")
    expect(isinstance(token, str), f"websocket.token is {token!r}, not a text: the device goes on using an old one")
    number = isinstance(version, int) and not isinstance(version, bool)
    expect(number and version in (1, 2, 3), f"websocket.version is {version!r}, not 1, 2 or 3")
    return section


async def _asked(bench: Bench) -> dict[str, Any]:
    return _accepted(await bench.check_in())


async def _let_in(bench: Bench) -> dict[str, Any]:
    """The answer to a device that need not wait outside."""
    answer = await _asked(bench)
    if "activation" in answer:
        await bench.address()  # approves it, or says why it cannot
        answer = await _asked(bench)
    return answer


@check("P-01", "POST on the OTA path with and without trailing slash returns 200, never 3xx.")
async def both_paths(bench: Bench) -> None:
    bare = bench.ota_url.rstrip("/")
    for url in (bare, f"{bare}/"):
        reply = await bench.check_in(url=url)
        expect(reply.status == 200, f"{url}: status {reply.status}")


@check("P-02", "The reply is application/json with a Content-Length, and shorter than 6144 bytes.")
async def short_json(bench: Bench) -> str:
    reply = await bench.check_in()
    _accepted(reply)
    kind = reply.headers.get("content-type", "")
    expect(kind.partition(";")[0].strip() == "application/json", f"Content-Type is {kind!r}")
    expect("transfer-encoding" not in reply.headers, "the body is chunked")
    length = reply.headers.get("content-length")
    expect(length == str(len(reply.body)), f"Content-Length is {length}, the body has {len(reply.body)} bytes")
    expect(len(reply.body) < MOST_BYTES, f"{len(reply.body)} bytes: the device's reader hangs")
    return f"{len(reply.body)} bytes"


@check("P-03", "The reply holds websocket.url (ws, explicit port), token (a text) and version (a number).")
async def websocket_part(bench: Bench) -> str:
    return str(_websocket(await _let_in(bench))["url"])


@check("P-04", "No mqtt key unless MQTT is on for the device; no null at top level.")
async def nothing_that_is_not_meant(bench: Bench) -> None:
    answer = await _asked(bench)
    nulls = [name for name, value in answer.items() if value is None]
    expect(not nulls, f"null in {', '.join(nulls)}: some firmware takes that for a value")
    if not bench.known.mqtt:
        expect("mqtt" not in answer, "the answer holds mqtt: the device ignores the WebSocket")


@check("P-05", "All keys below websocket and mqtt have at most 15 characters.")
async def short_keys(bench: Bench) -> None:
    answer = await _let_in(bench)
    for name in ("websocket", "mqtt"):
        for key in answer.get(name) or {}:
            expect(len(key) <= LONGEST_KEY, f"{name}.{key} has {len(key)} characters: the device crashes at each start")


@check("P-06", "server_time.timestamp is right to 2 s, timezone_offset is the zone's in minutes.")
async def right_time(bench: Bench) -> str:
    clock = (await _asked(bench)).get("server_time")
    if not isinstance(clock, dict):
        raise Broken("the answer holds no server_time: the device shows 1970")
    stamp, offset = clock.get("timestamp"), clock.get("timezone_offset")
    if isinstance(stamp, bool) or not isinstance(stamp, int | float):
        raise Broken(f"server_time.timestamp is {stamp!r}")
    off = stamp / 1000 - time.time()
    expect(abs(off) <= 2, f"the time is {off:+.1f} s off (or not in ms)")
    if isinstance(offset, bool) or not isinstance(offset, int | float):
        raise Broken(f"server_time.timezone_offset is {offset!r}, not minutes")
    expect(offset % 15 == 0 and -720 <= offset <= 840, f"no zone is {offset} minutes from UTC")
    if zone := bench.known.time_zone:
        now = datetime.now(ZoneInfo(zone)).utcoffset()
        assert now is not None
        expect(offset == now.total_seconds() / 60, f"{zone} is not {offset} minutes from UTC now")
    return f"{off * 1000:+.0f} ms, zone {offset:+g} min"


@check("P-07", "firmware.version is made of numbers; without an image, url is empty and the version the device's.")
async def no_accidental_update(bench: Bench) -> str:
    firmware = (await _let_in(bench)).get("firmware")
    if firmware is None:
        return "no firmware part"
    if not isinstance(firmware, dict):
        raise Broken(f"firmware is {firmware!r}")
    version, url = firmware.get("version"), firmware.get("url")
    expect(isinstance(version, str) and bool(_VERSION.match(version)), f"firmware.version {version!r} crashes devices")
    expect(isinstance(url, str), f"firmware.url is {url!r}")
    if not url:
        expect(version == bench.profile.version, f"version {version} without an image; the device has another")
        return "no image"
    expect(urlsplit(str(url)).scheme == "http", f"{url} cannot be fetched by a device")
    return f"offers {version}"


@check("P-08", "A body that is empty, cut off, or has an unescaped quote still gets an address.")
async def any_body(bench: Bench) -> None:
    await _let_in(bench)
    whole = json.dumps(bench.ota_report)
    bodies = {
        "an empty body": b"",
        "a body that is cut off": whole[: len(whole) // 2].encode(),
        "a quote in the network's name": whole.replace('"home"', '"my "home" net"').encode(),
    }
    for name, body in bodies.items():
        reply = await bench.check_in(body=body)
        expect(reply.status == 200, f"{name}: status {reply.status}")
        try:
            _websocket(reply.json())
        except Broken as error:
            raise Broken(f"{name}: {error}") from error


@check("P-09", "The host in websocket.url is the one the device asked with.")
async def same_host(bench: Bench) -> str:
    await _let_in(bench)
    own = urlsplit(bench.ota_url)
    hosts = {own.hostname or "": own.netloc, "conformance.local": f"conformance.local:{own.port or 80}"}
    for name, host in hosts.items():
        url = str(_websocket(_accepted(await bench.check_in(more={"Host": host})))["url"])
        wanted = bench.known.host or name
        told = urlsplit(url).hostname
        expect(told == wanted, f"asked as {host}, the device is sent to {told} instead of {wanted}")
    return "as asked" if not bench.known.host else f"always {bench.known.host}"


@check("P-10", "Without Device-Id: 4xx, JSON, and no device is made.")
async def nobody(bench: Bench) -> None:
    before = list(await bench.known.device_ids()) if bench.known.device_ids is not None else []
    headers = {name: value for name, value in bench.ota_headers.items() if name != "Device-Id"}
    reply = await bench.check_in(headers=headers)
    expect(400 <= reply.status < 500, f"status {reply.status} for a request without Device-Id")
    kind = reply.headers.get("content-type", "")
    expect("json" in kind, f"the refusal is {kind or 'of no type'}, not JSON")
    reply.json()
    if bench.known.device_ids is not None:
        made = {id_ for id_ in await bench.known.device_ids() if id_ not in before and not id_.startswith("02:")}
        expect(not made, f"a device was made: {', '.join(map(repr, made))}")


@check(
    "P-11", "Pairing off: no activation. On: an unknown device gets code, message and challenge, always the same code."
)
async def activation_code(bench: Bench) -> str:
    first = await _asked(bench)
    pairing = bench.known.pairing
    if "activation" not in first:
        expect(pairing is not True, "pairing is on, but an unknown device gets no activation")
        return "no activation"
    expect(pairing is not False, "pairing is off, but the answer holds activation: the device does not start")
    for name in ("code", "message", "challenge"):
        value = first["activation"].get(name)
        expect(isinstance(value, str) and bool(value), f"activation.{name} is {value!r}")
    code = first["activation"]["code"]
    expect(bool(_CODE.match(code)), f"the code {code!r} has something that no device can pronounce")
    again = (await _asked(bench)).get("activation") or {}
    expect(again.get("code") == code, f"the code changes: {code}, then {again.get('code')}")
    return "the code stays"


def _activation_bodies(bench: Bench, challenge: str) -> dict[str, bytes]:
    signed = {
        "algorithm": "hmac-sha256",
        "serial_number": bench.ota_headers.get("Serial-Number", "0" * 32),
        "challenge": challenge,
        "hmac": "0" * 64,
    }
    return {
        "{}": b"{}",
        "version 2": json.dumps(signed).encode(),
        "wrapped": json.dumps({"Payload": signed}).encode(),
        "an empty body": b"",
        "no JSON": b'{"a',
        "a list": b"[1,2]",
        "not UTF-8": b"\xff\xfe\x00",
    }


def _activate_url(bench: Bench) -> str:
    return f"{bench.ota_url.rstrip('/')}/activate"


@check("P-12", "POST /activate returns 202 until approval, then 200, whatever the body; never 5xx.")
async def activation_poll(bench: Bench) -> str:
    activation = (await _asked(bench)).get("activation")
    challenge = str(activation.get("challenge")) if isinstance(activation, dict) else "x"
    accepted = ("{}", "version 2", "wrapped")
    waiting = activation is not None
    for name, body in _activation_bodies(bench, challenge).items():
        reply = await bench.check_in(url=_activate_url(bench), body=body)
        expect(reply.status < 500, f"{name}: status {reply.status}")
        if name in accepted and waiting:
            expect(reply.status == 202, f"{name}: status {reply.status} before approval, not 202")
    if not waiting:
        if bench.known.pairing:
            raise Broken("pairing is on, but an unknown device gets no activation")
        raise NotApplicable("Pairing is off.")
    if bench.server.approve is None:
        raise NotApplicable("202 until then; nobody can approve the device here.", hint="See --approve.")
    await bench.server.approve(str(activation["code"]) if activation else "")
    for name in accepted:
        reply = await bench.check_in(url=_activate_url(bench), body=_activation_bodies(bench, challenge)[name])
        expect(reply.status == 200, f"{name}: status {reply.status} after approval, not 200")
    return "202, then 200"


@check("P-13", "After approval the next check-in has no activation.")
async def activated(bench: Bench) -> None:
    activation = (await _asked(bench)).get("activation")
    if activation is None:
        if bench.known.pairing:
            raise Broken("pairing is on, but an unknown device gets no activation")
        raise NotApplicable("Pairing is off.")
    if bench.server.approve is None:
        raise NotApplicable("Nobody can approve the device here.", hint="See --approve.")
    await bench.server.approve(str(activation["code"]))
    answer = await _asked(bench)
    expect("activation" not in answer, "the device is approved, and still gets activation")
    _websocket(answer)


@check("P-14", "OTA answers within 2 s while speech components are still loading.")
async def early_answer(bench: Bench) -> str:
    reply = await bench.check_in()
    expect(reply.status == 200, f"status {reply.status}")
    expect(reply.seconds <= 2, f"the answer took {reply.seconds:.1f} s")
    if not bench.known.loading:
        raise NotApplicable(f"Answered in {reply.seconds * 1000:.0f} ms, but the server has started already.")
    return f"{reply.seconds * 1000:.0f} ms"


@check("P-15", "Downloads carry Content-Length, are neither chunked nor compressed, and are not redirected.")
async def plain_downloads(bench: Bench) -> str:
    report = bench.ota_report
    report["application"]["version"] = "0.0.1"
    agent = f"{bench.profile.board}/0.0.1"
    answer = _accepted(await bench.check_in(body=json.dumps(report).encode(), more={"User-Agent": agent}))
    url = (answer.get("firmware") or {}).get("url")
    if not url:
        raise NotApplicable("No firmware image is offered to the device.")
    reply = await bench.get(url)
    expect(reply.status == 200, f"{url}: status {reply.status}")
    for name in ("transfer-encoding", "content-encoding"):
        expect(name not in reply.headers, f"{url}: {name} {reply.headers.get(name)}")
    length = reply.headers.get("content-length", "")
    expect(length.isdigit() and int(length) > 0, f"{url}: Content-Length {length!r}")
    expect(int(length) == len(reply.body), f"{url}: {len(reply.body)} of {length} bytes came")
    return f"{length} bytes"
