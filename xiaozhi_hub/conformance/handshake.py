"""P-17 … P-24: the upgrade, the hellos, and how audio is framed (§3)."""

from __future__ import annotations

from xiaozhi_hub.conformance.bench import Bench
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.talk import answers_since, ask, mcp_requests, no_traffic
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable
from xiaozhi_hub.conformance.wire import NoUpgrade

HELLO_SECONDS = 1.0
WATCH_SECONDS = 1.5
CLOSE_SECONDS = 30.0


@check("P-17", "The upgrade succeeds with Host without port, no Origin, no extensions, header names in any case.")
async def upgrade(bench: Bench) -> None:
    plain = await bench.upgrade_headers()
    cases = {
        "as the firmware writes them": plain,
        "lower case": [(name.lower(), value) for name, value in plain],
        "upper case": [(name.upper(), value) for name, value in plain],
    }
    for name, headers in cases.items():
        try:
            async with bench.socket(headers=headers) as socket:
                expect("sec-websocket-extensions" not in socket.head, "the server switches on an extension unasked")
        except NoUpgrade as error:
            raise Broken(f"headers in {name}: {error}") from error


async def _status(bench: Bench, authorization: str | None) -> int:
    headers = [(name, value) for name, value in await bench.upgrade_headers() if name != "Authorization"]
    if authorization is not None:
        headers.insert(1, ("Authorization", authorization))
    try:
        async with bench.socket(headers=headers):
            return 101
    except NoUpgrade as error:
        return error.status


@check("P-18", "The token of the OTA answer is accepted, a wrong one gets 401; without auth none is needed.")
async def token(bench: Bench) -> str:
    address = await bench.address()
    if not address.token:
        status = await _status(bench, None)
        expect(status == 101, f"no token was given, and without one the upgrade gets status {status}")
        if bench.known.pairing:
            raise Broken("pairing is on, but the device is given no token")
        return "no token needed"
    status = await _status(bench, f"Bearer {address.token}")
    expect(status == 101, f"the token of the OTA answer gets status {status}")
    for wrong in ("Bearer wrong", f"Bearer {address.token}x", "Bearer", "wrong"):
        status = await _status(bench, wrong)
        expect(status == 401, f"a wrong token gets status {status}, not 401")
    return "checked"


@check("P-19", "Exactly one hub hello, at most 1 s after the device's: transport websocket, session_id, audio_params.")
async def hub_hello(bench: Bench) -> str:
    async with bench.socket() as socket:
        await socket.send(bench.hello())
        told = socket.timeline.now
        hello = await socket.timeline.until_message("hello", within=10)
        seconds = hello.at - told
        expect(seconds <= HELLO_SECONDS, f"the hub hello comes after {seconds:.2f} s")
        message = hello.message
        transport = message.get("transport")
        expect(transport == "websocket", f"transport is {transport!r}: without the text websocket the device crashes")
        session = message.get("session_id")
        expect(isinstance(session, str) and bool(session), f"session_id is {session!r}")
        audio = message.get("audio_params")
        if not isinstance(audio, dict):
            raise Broken("the hello holds no audio_params")
        rate, frame = audio.get("sample_rate"), audio.get("frame_duration")
        expect(rate in (8000, 12000, 16000, 24000, 48000), f"audio_params.sample_rate is {rate!r}")
        expect(frame in (5, 10, 20, 40, 60, 80, 100, 120), f"audio_params.frame_duration is {frame!r}")
        await socket.timeline.quiet(WATCH_SECONDS)
        count = len(socket.timeline.heard("hello"))
        expect(count == 1, f"{count} hellos: the device would not wait for the next connection's")
        return f"{seconds * 1000:.0f} ms, {rate} Hz, {frame} ms"


@check("P-20", "Nothing is sent before the device hello.")
async def nothing_before_hello(bench: Bench) -> None:
    async with bench.socket() as socket:
        await socket.timeline.quiet(WATCH_SECONDS)
        first = next(socket.timeline.received(), None)
        if first is not None:
            raise Broken(f"before the device hello the server sends {str(first.frame)[:80]}")
        expect(socket.alive, f"the server closes within {WATCH_SECONDS} s instead of waiting for the hello")


@check("P-21", "A hello without features is accepted; no MCP traffic is sent then.")
async def no_features(bench: Bench) -> None:
    async with bench.greeted(features=None) as socket:
        await socket.timeline.quiet(2 * WATCH_SECONDS)
        expect(socket.alive, "the server closes the connection")
        requests = mcp_requests(socket.timeline)
        expect(not requests, f"the server sends {requests[0][1].get('method') if requests else ''}")


@check("P-22", "No hello from the client within 30 s: the hub closes.", slow=True)
async def no_hello(bench: Bench) -> str:
    async with bench.socket() as socket:
        began = socket.timeline.now
        await socket.timeline.quiet(bench.times.no_hello)
        closed = socket.timeline.closed_at
        if closed is None:
            raise Broken(
                f"open after {bench.times.no_hello:.0f} s without hello: the next wake-up of the device is lost"
            )
        return f"after {closed - began:.1f} s"


@check("P-23", "Framing follows Protocol-Version 1, 2, 3 both ways; unknown versions are taken for 1.")
async def framing(bench: Bench) -> str:
    speech = bench.voice.utterance(bench.voice.short)
    for version in ("1", "2", "3", "9"):
        async with bench.greeted(framing=version) as socket:
            try:
                answer = await ask(socket, speech, bench)
                packets = answer.sound(socket.framing)
            except Broken as error:
                raise Broken(f"version {version}: {error}") from error
            expect(bool(packets), f"version {version}: no sound comes back")
            for _, opus, ms in packets:
                expect(0 < ms <= 120 and len(opus) > 0, f"version {version}: a frame that holds no Opus packet")
    return "1, 2, 3; 9 taken for 1"


@check("P-24", "Uplink frame_duration 20, 40, 60 of the hello is honoured.")
async def uplink_frames(bench: Bench) -> None:
    for frame_ms in (20, 40, 60):
        audio = {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": frame_ms}
        speech = bench.voice.utterance(bench.voice.short, frame_ms)
        async with bench.greeted(audio_params=audio) as socket:
            try:
                await ask(socket, speech, bench)
            except Broken as error:
                raise Broken(f"packets of {frame_ms} ms: {error}") from error
            heard = socket.timeline.heard("stt")
            expect(bool(heard), f"packets of {frame_ms} ms are not understood")


@check("P-25", "Binary frames before the first listen start cause no transcription.")
async def wake_audio(bench: Bench) -> None:
    speech = bench.voice.utterance(bench.voice.short)
    async with bench.greeted() as socket:
        began = socket.timeline.now
        for packet in speech.packets[:33]:  # two seconds, in one burst
            await socket.send_binary(packet)
        await socket.timeline.quiet(2 * WATCH_SECONDS)
        no_traffic(socket.timeline, began, "the sound before listen start was taken for a question")
        expect(not answers_since(socket.timeline, began), "the sound before listen start was answered")
        if not socket.alive:
            raise NotApplicable("The server ended the connection.")
