"""P-26 … P-30, P-33 … P-36: turns, and what interrupts them (§4, §5)."""

from __future__ import annotations

import asyncio

from xiaozhi_hub.conformance.bench import Bench, Watched
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.talk import answers_since, listen, microphone, no_traffic, still_answers
from xiaozhi_hub.conformance.timeline import Answer
from xiaozhi_hub.conformance.verdict import Broken
from xiaozhi_hub.protocol.device_messages import ListenMode
from xiaozhi_hub.testing import TurnResult

ABORT_SOUND_MS = 100.0
ABORT_STOP_MS = 200.0
AFTERMATH_SECONDS = 2.0
STOP_LATE_SECONDS = 1.0
TIMER_MS = 5.0
"""What two clocks of one machine may differ by."""
WAKE_WORD = "你好小智"


async def asked(bench: Bench, watched: Watched, *, long: bool = False) -> tuple[TurnResult, Answer]:
    """Ask as a person does; return what the device made of the answer, and the answer."""
    voice = bench.voice
    speech = voice.utterance(voice.long if long else voice.short)
    began = watched.timeline.now
    result = await watched.fake.ask(speech, bench.times.reply + (150 if long else 30))
    answers = answers_since(watched.timeline, began)
    expect(bool(answers), "no answer")
    return result, answers[-1]


def _heard_first(watched: Watched, answer: Answer) -> None:
    shown = watched.timeline.heard("stt")
    expect(bool(shown), "no stt: the person does not see what was understood")
    expect(shown[-1].at <= answer.start_at, "stt comes after tts start")


@check("P-26", "Auto: after speech and silence the hub emits stt, then tts start … tts stop without any listen stop.")
async def auto(bench: Bench) -> str:
    async with bench.device() as watched:
        result, answer = await asked(bench, watched)
        _heard_first(watched, answer)
        expect(not watched.timeline.told("listen", "stop"), "the device itself said listen stop")
        expect(bool(answer.packets), "the answer has no sound")
        expect("first_voice" in result.stamps, "the answer is silent, or comes while the device is not speaking")
        expect(not watched.fake.complaints, "; ".join(watched.fake.complaints))
        return f"starts {result.stamps['tts_start']:.0f} ms after the last word"


@check("P-27", "Manual: listen stop ends the utterance, even if no audio follows; silence alone does not.")
async def manual(bench: Bench) -> str:
    async with bench.device("manual") as watched:
        timeline = watched.timeline
        began = timeline.now
        result = await watched.fake.ask(bench.voice.hesitating(), bench.times.reply + 30)
        released = timeline.told("listen", "stop", began)
        expect(bool(released), "the button was never released")
        for seen in timeline.received(began):
            early = seen.at < released[0].at and (seen.says("stt") or seen.says("tts"))
            expect(not early, "the hub answers a pause although the button is still held")
        after = [seen for seen in timeline.frames if seen.sent and seen.is_audio and seen.at > released[0].at]
        expect(not after, "the device sent sound after listen stop")
        answer = answers_since(timeline, began)[-1]
        return f"{(answer.start_at - released[0].at) * 1000:.0f} ms after listen stop, {len(result.packets)} packets"


@check("P-28", "Realtime: the second and later utterances work without another listen start.")
async def realtime(bench: Bench) -> None:
    async with bench.device("realtime") as watched:
        for number in (1, 2, 3):
            try:
                await asked(bench, watched)
            except Broken as error:
                raise Broken(f"question {number}: {error}") from error
        count = len(watched.timeline.told("listen", "start"))
        expect(count == 1, f"the device said listen start {count} times")


@check("P-30", "Every tts start is followed by exactly one tts stop, also when something fails.")
async def one_stop(bench: Bench) -> str:
    async with bench.greeted() as socket:
        timeline = socket.timeline
        turns = 0
        for _ in range(2):
            if not socket.alive:
                break  # a server that fails again and again may hang up
            began = timeline.now
            await listen(socket)
            async with microphone(socket, bench.voice.utterance(bench.voice.short)):
                await timeline.until_message("tts", "start", since=began, within=bench.times.reply + 5)
            await timeline.until_message("tts", "stop", since=began, within=60)
            await timeline.quiet(0.5)
            turns += 1
        timeline.answers()  # start and stop alternate
        starts, stops = len(timeline.heard("tts", "start")), len(timeline.heard("tts", "stop"))
        expect(starts == stops, f"{starts} tts start, {stops} tts stop")
        expect(turns > 0, "the server never began to speak")
        return f"{turns} answers"


@check("P-33", "tts stop comes when everything has been played, and at most 1 s later.")
async def stop_in_time(bench: Bench) -> str:
    late = []
    modes: tuple[ListenMode, ...] = ("auto", "manual")
    for mode in modes:
        async with bench.device(mode) as watched:
            result, answer = await asked(bench, watched)
            sound = answer.sound(1)
            expect(bool(sound), "the answer has no sound")
            assert answer.stop_at is not None
            played_at = sound[0][0] + sum(ms for _, _, ms in sound) / 1000
            over = answer.stop_at - played_at
            expect(
                over * 1000 >= -TIMER_MS, f"{mode}: tts stop comes {-over * 1000:.0f} ms before the end of the sound"
            )
            expect(over <= STOP_LATE_SECONDS, f"{mode}: tts stop comes {over:.1f} s after the end of the sound")
            expect(result.cut_ms <= TIMER_MS, f"{mode}: {result.cut_ms:.0f} ms of the answer were cut off")
            late.append(over * 1000)
    return f"{max(late):.0f} ms after it at most"


@check("P-34", "After abort: no sound after 100 ms, tts stop within 200 ms, and nothing of that turn later.")
async def abort(bench: Bench) -> str:
    async with bench.device() as watched:
        fake, timeline = watched.fake, watched.timeline
        await fake.say(bench.voice.utterance(bench.voice.long))
        await timeline.until("sound", lambda: timeline.audio() or None, bench.times.reply)
        await asyncio.sleep(1)
        answers, _ = timeline.answers()
        expect(answers[-1].stop_at is None, "the long answer is over after a second; a longer one is needed")
        await fake.abort()
        at = timeline.told("abort")[-1].at
        await timeline.quiet(AFTERMATH_SECONDS)
        late = [seen.at for seen in timeline.audio(at)]
        last = max(((each - at) * 1000 for each in late), default=0.0)
        expect(last <= ABORT_SOUND_MS, f"sound is sent until {last:.0f} ms after abort")
        stops = timeline.heard("tts", "stop", at)
        expect(bool(stops), "no tts stop after abort: the device goes on speaking without a word")
        took = (stops[0].at - at) * 1000
        expect(took <= ABORT_STOP_MS, f"tts stop comes {took:.0f} ms after abort")
        for seen in timeline.received(stops[0].at):
            late_words = seen.says("tts", "start") or seen.says("tts", "sentence_start") or seen.says("llm")
            expect(not late_words, f"after the abort comes {str(seen.frame)[:80]}")
        expect(fake.connected, "the server hangs up on abort")
        return f"last sound after {last:.0f} ms, tts stop after {took:.0f} ms"


@check("P-35", "abort while nothing is playing is harmless.")
async def idle_abort(bench: Bench) -> None:
    async with bench.greeted() as socket:
        for _ in range(2):
            await socket.send({"session_id": socket.session_id, "type": "abort"})
        await listen(socket)
        await socket.send({"session_id": socket.session_id, "type": "abort", "reason": "wake_word_detected"})
        await socket.timeline.quiet(0.5)
        expect(socket.alive, "the server hangs up on abort")
        await still_answers(socket, bench)


@check("P-36", "listen detect: a known wake word is at most greeted, other text is an utterance, none is ignored.")
async def detect(bench: Bench) -> str:
    async with bench.greeted() as socket:
        timeline = socket.timeline
        began = timeline.now
        await socket.send({"session_id": socket.session_id, "type": "listen", "state": "detect"})
        await timeline.quiet(1)
        expect(socket.alive, "detect without text ends the connection")
        no_traffic(timeline, began, "detect without text is not ignored")

        began = timeline.now
        await socket.send({"session_id": socket.session_id, "type": "listen", "state": "detect", "text": WAKE_WORD})
        await timeline.quiet(3)
        greetings = len(timeline.heard("tts", "start", began))
        expect(greetings <= 1, f"the wake word is answered {greetings} times")
        if greetings:
            await timeline.until_message("tts", "stop", since=began, within=30)

        began = timeline.now
        await socket.send(
            {"session_id": socket.session_id, "type": "listen", "state": "detect", "text": bench.voice.text}
        )
        await timeline.until_message("tts", "start", since=began, within=bench.times.reply)
        await timeline.until_message("tts", "stop", since=began, within=60)
        await still_answers(socket, bench)
        return "greets" if greetings else "keeps quiet"


@check("P-41", "session_id empty, missing, or stale in device messages is accepted.")
async def any_session(bench: Bench) -> None:
    async with bench.greeted() as socket:
        sessions: dict[str, dict[str, object]] = {
            "empty": {"session_id": ""},
            "stale": {"session_id": "0123456789abcdef"},
            "missing": {},
        }
        for name, session in sessions.items():
            timeline, began = socket.timeline, socket.timeline.now
            try:
                await socket.send({**session, "type": "listen", "state": "start", "mode": "auto"})
                async with microphone(socket, bench.voice.utterance(bench.voice.short)):
                    await timeline.until_message("tts", "start", since=began, within=bench.times.reply + 5)
                await timeline.until_message("tts", "stop", since=began, within=60)
            except Broken as error:
                raise Broken(f"session_id {name}: {error}") from error
