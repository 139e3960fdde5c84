"""P-29, P-31, P-32, P-37 … P-40: packets, their pace, and the form of messages (§3.7, §4, §5.6)."""

from __future__ import annotations

import re
from statistics import median

import numpy as np

from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.conformance.bench import Bench, Watched
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.conversation import asked
from xiaozhi_hub.conformance.talk import still_answers
from xiaozhi_hub.conformance.timeline import Answer
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable
from xiaozhi_hub.core.flow import EMOTIONS
from xiaozhi_hub.errors import ProtocolError

LEAD_IN_MS = 100.0
TIMER_MS = 5.0
HARD_LEAD_MS = 2000.0
DRIFT_MS = 60.0
SHORTEST_SECONDS = 10.0
"""Nothing can be said about the pace of a shorter answer."""
_SILENT = 0.003 * 32768
_STEREO = 0x04
_TEXTS = ("text", "emotion", "state", "status", "message")
_EMOJI = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f]")


@check(
    "P-29", "tts start comes 100 ms before the first sound, or the sound begins with 100 ms of silence; none outside."
)
async def lead_in(bench: Bench) -> str:
    async with bench.device() as watched:
        _, answer = await asked(bench, watched)
        sound = answer.sound(1)
        expect(bool(sound), "the answer has no sound")
        _, stray = watched.timeline.answers()
        expect(not stray, f"{len(stray)} packets outside tts start … tts stop")
        early = (sound[0][0] - answer.start_at) * 1000
        silent = _silence_ms([opus for _, opus, _ in sound], watched.fake.rate)
        expect(
            early >= LEAD_IN_MS - TIMER_MS or silent >= LEAD_IN_MS - TIMER_MS,
            f"the voice begins {early + silent:.0f} ms after tts start: its first syllable is lost",
        )
        return f"first packet after {early:.0f} ms, {silent:.0f} ms of silence"


def _silence_ms(packets: list[bytes], rate: int) -> float:
    with OpusDecoder(rate) as decoder:
        silent = 0.0
        for opus in packets[:20]:
            samples = decoder.decode(opus).astype(np.float64)
            window = rate // 100
            for at in range(0, len(samples) - window + 1, window):
                if np.sqrt(np.mean(np.square(samples[at : at + window]))) > _SILENT:
                    return silent
                silent += 10.0
    return silent


@check("P-31", "Downlink packets match the announced rate and duration, mono; none is longer than frame_duration.")
async def packets(bench: Bench) -> str:
    async with bench.device() as watched:
        _, answer = await asked(bench, watched)
        hello = watched.timeline.heard("hello")[0].message["audio_params"]
        rate, frame_ms = hello["sample_rate"], hello["frame_duration"]
        found = answer.sound(1)
        expect(bool(found), "the answer has no sound")
        with OpusDecoder(rate) as decoder:
            for _, opus, ms in found:
                expect(0 < ms <= frame_ms, f"a packet of {ms:g} ms, {frame_ms} are announced: the device drops it")
                expect(not opus[0] & _STEREO, "a stereo packet")
                try:
                    samples = decoder.decode(opus)
                except ProtocolError as error:
                    raise Broken(f"a packet that is not Opus: {error}") from error
                expect(len(samples) == round(ms * rate / 1000), f"{len(samples)} samples in a packet of {ms:g} ms")
        odd = sum(ms != frame_ms for _, _, ms in found)
        expect(odd <= max(2, len(found) // 4), f"{odd} of {len(found)} packets do not last {frame_ms} ms")
        return f"{len(found)} packets of {frame_ms} ms, {rate} Hz"


@check("P-32", "Sound is never more than 600 ms ahead over a 60 s answer, and drifts by less than 60 ms.", slow=True)
async def pace(bench: Bench) -> str:
    async with bench.device() as watched:
        result, answer = await asked(bench, watched, long=True)
        leads = _leads(answer)
        seconds = sum(ms for _, _, ms in answer.sound(1)) / 1000
        if seconds < SHORTEST_SECONDS:
            raise NotApplicable(f"The longest answer lasts {seconds:.0f} s; nothing can be said of its pace.")
        most = max(lead for _, lead in leads)
        limit = min(bench.times.lead_ms, HARD_LEAD_MS)
        expect(most <= limit, f"sound is sent up to {most:.0f} ms ahead, {limit:.0f} are allowed")
        drift = _drift(leads)
        expect(abs(drift) < DRIFT_MS, f"the pace drifts by {drift:+.0f} ms over {seconds:.0f} s")
        expect(result.overflows == 0, f"{result.overflows} packets found the device's queue full")
        short = "" if seconds >= bench.times.long_answer else f", only {seconds:.0f} s long"
        return f"{most:.0f} ms ahead at most, drift {drift:+.0f} ms{short}"


def _leads(answer: Answer) -> list[tuple[float, float]]:
    """When each packet came, and how far the sound sent by then is ahead of the time that has passed, in ms."""
    began, sent, leads = None, 0.0, []
    for at, _, ms in answer.sound(1):
        began = at if began is None else began
        sent += ms
        leads.append((at, sent - (at - began) * 1000))
    return leads


def _drift(leads: list[tuple[float, float]]) -> float:
    """How much the lead has changed from the second 5 s to the last."""
    first, last = leads[0][0], leads[-1][0]
    begin = [lead for at, lead in leads if 2.5 <= at - first <= 7.5]
    end = [lead for at, lead in leads if at >= last - 5]
    return median(end) - median(begin) if begin and end else 0.0


@check("P-37", "1–3-byte and empty binary frames do not end the session.")
async def tiny_frames(bench: Bench) -> None:
    async with bench.greeted() as socket:
        await socket.send({"session_id": socket.session_id, "type": "listen", "state": "start", "mode": "auto"})
        for tiny in (b"", b"\x58", b"\x58\x00", b"\x5b\x01\xff", b"", b"\xff", b"\xff\xff\xff"):
            await socket.send_binary(tiny)
        await socket.timeline.quiet(0.5)
        expect(socket.alive, "the server hangs up on them")
        await still_answers(socket, bench)


@check("P-38", "Texts are strings without emoji and newlines; emotion is one of the 21 names.")
async def message_types(bench: Bench) -> str:
    async with bench.device() as watched:
        await asked(bench, watched)
        await asked(bench, watched)
        count = 0
        for seen in watched.timeline.received():
            if seen.is_audio:
                continue
            message = seen.message
            expect(isinstance(message.get("type"), str), f"not a message: {str(seen.frame)[:80]}")
            count += 1
            if message["type"] == "mcp":
                continue
            for name in _TEXTS:
                if name not in message:
                    continue
                value, where = message[name], f"{message['type']}.{name}"
                if not isinstance(value, str):
                    raise Broken(f"{where} is {value!r}: firmware before 1.7.6 crashes")
                if name in ("text", "message"):
                    expect("\n" not in value and "\r" not in value, f"{where} holds a newline: {value!r}")
                    expect(not _EMOJI.search(value), f"{where} holds an emoji: {value!r}")
            if "emotion" in message:
                expect(message["emotion"] in EMOTIONS, f"{message['emotion']!r} is none of the 21 faces")
        return f"{count} messages"


@check("P-39", "llm is sent after tts start of its turn.")
async def face_after_start(bench: Bench) -> str:
    async with bench.device() as watched:
        await asked(bench, watched)
        faces = watched.timeline.heard("llm")
        outside = [seen for seen in faces if not _within_an_answer(watched, seen.at)]
        expect(not outside, "llm is sent while the device listens: the face is reset at once")
        return f"{len(faces)} faces"


def _within_an_answer(watched: Watched, at: float) -> bool:
    answers, _ = watched.timeline.answers()
    return any(a.start_at <= at and (a.stop_at is None or at <= a.stop_at) for a in answers)


@check("P-40", "An unknown type, malformed JSON, iot, and ping do not close the connection.")
async def odd_messages(bench: Bench) -> None:
    async with bench.greeted() as socket:
        for odd in (
            '{"type":"from-later-firmware","state":"x"}',
            '{"type":"listen","state":"detect","text":"a "quoted" word"}',
            '{"type":"listen"',
            "[]",
            "null",
            '{"state":"start"}',
            '{"type":7}',
            '{"session_id":"","type":"iot","update":true,"descriptors":[{"name":"Lamp"}]}',
            '{"session_id":"","type":"iot","update":true,"states":[{"name":"Lamp","state":{"power":true}}]}',
            '{"type":"ping"}',
        ):
            await socket.send(odd)
        await socket.timeline.quiet(1)
        expect(socket.alive, "the server hangs up on them")
        # What was in quotes may have been taken for words, and be answered: let that pass.
        if len(socket.timeline.heard("tts", "start")) > len(socket.timeline.heard("tts", "stop")):
            await socket.timeline.until_message("tts", "stop", within=60)
        await still_answers(socket, bench)
