"""Who says what: fallback, names, other languages, loudness; and what is kept of it."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.audio.pcm import KNEE, amplify, level
from xiaozhi_hub.core.flow import Packet, PcmChunk
from xiaozhi_hub.dialog.speaking.phrase_files import KEEP_DAYS, PhraseFiles
from xiaozhi_hub.dialog.speaking.speaker import Rendering, Speaker
from xiaozhi_hub.dialog.speaking.synthesis import REST_SECONDS, Others, Synthesis, nobody
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import StageError


class Hum(Tts):
    """A voice that hums for each text, 100 ms in pieces of 20, and remembers what it was asked."""

    def __init__(
        self,
        name: str,
        *languages: str,
        hz: float = 300,
        rate: int = 16000,
        names: Sequence[str] = (),
        breaks_at: int = -1,
    ) -> None:
        self.info = EngineInfo(name, Role.TTS, name, languages)
        self.said: list[str] = []
        self._hz, self._rate, self._names, self._breaks_at = hz, rate, names, breaks_at

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        if request.voice and request.voice not in self._names:
            raise StageError("tts", "no such voice", code="voice-unknown")
        self.said.append(request.text)
        time_axis = np.arange(self._rate // 10) / self._rate
        hum = (8000 * np.sin(2 * np.pi * self._hz * time_axis)).astype(np.int16)
        for number, piece in enumerate(np.split(hum, 5)):
            if number == self._breaks_at:
                raise StageError("tts", f"{self.info.id} broke")
            yield PcmChunk(piece, self._rate)


async def who_says(
    synthesis: Synthesis, voices: Sequence[Tts], request: SpeechRequest, others: Others = nobody
) -> set[str]:
    return {attempt[0].info.id async for attempt, _ in synthesis.say(voices, request, others)}


@asynccontextmanager
async def speaker_in(folder: Path | None = None, limit: int = 2**20) -> AsyncIterator[Speaker]:
    speaker = Speaker()
    try:
        if folder is not None:
            await speaker.keep_in(folder, limit)
        yield speaker
    finally:
        await speaker.close()


async def packets_of(rendering: Rendering) -> list[Packet]:
    try:
        return [packet async for packet in rendering.packets()]
    finally:
        rendering.leave()


def sound_of(packets: Sequence[Packet]) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return decode_all([packet.data for packet in packets], 24000).samples


# -- who speaks ---------------------------------------------------------------------------------------------------


async def test_a_voice_gets_what_is_said_not_what_is_written() -> None:
    voice = Hum("a", "en")
    await who_says(Synthesis(), [voice], SpeechRequest("It is 21.5 °C.", "en"))
    assert voice.said == ["It is twenty-one point five degrees Celsius."]


async def test_who_fails_is_replaced_and_who_fails_later_is_relieved() -> None:
    broken, later, good = Hum("broken", breaks_at=0), Hum("later", breaks_at=2), Hum("good")
    request = SpeechRequest("Hello.", "en")
    assert await who_says(Synthesis(), [broken, good], request) == {"good"}
    assert await who_says(Synthesis(), [later, good], request) == {"later", "good"}
    assert good.said == ["Hello.", "Hello."]
    with pytest.raises(StageError, match="later broke"):
        await who_says(Synthesis(), [broken, later], request)
    with pytest.raises(StageError, match="no voice speaks"):
        await who_says(Synthesis(), [], request)


async def test_a_voice_that_failed_rests_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("xiaozhi_hub.dialog.speaking.synthesis.time.monotonic", lambda: now)
    broken, good, synthesis = Hum("broken", breaks_at=2), Hum("good"), Synthesis()
    assert await who_says(synthesis, [broken, good], SpeechRequest("Hello.", "en")) == {"broken", "good"}
    assert await who_says(synthesis, [broken, good], SpeechRequest("Sorry.", "en")) == {"good"}
    assert synthesis.attempts([broken, good], SpeechRequest("对不起", "zh-Hans"))[0][0] is broken, (
        "another language may work"
    )
    now += REST_SECONDS + 1
    assert synthesis.attempts([broken, good], SpeechRequest("Hello.", "en"))[0][0] is broken


async def test_a_name_is_looked_for_in_all_engines() -> None:
    first, second, synthesis = Hum("first"), Hum("second", names=["Anna"]), Synthesis()
    request = SpeechRequest("Hello.", "en", "Anna")
    assert await who_says(synthesis, [first, second], request) == {"second"}
    assert synthesis.attempts([first, second], request)[0][0] is second, "the next time nobody is asked in vain"


async def test_a_name_that_nobody_has_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    voices, synthesis = [Hum("first"), Hum("second")], Synthesis()
    for text in ("One.", "Two.", "Three."):
        assert await who_says(synthesis, voices, SpeechRequest(text, "en", "Nobody")) == {"first"}
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == ["no engine has the voice 'Nobody': first speaks with its own"]


async def test_words_in_another_script_are_said_by_a_voice_that_speaks_them() -> None:
    chinese, english = Hum("chinese", "zh-Hans"), Hum("english", "en", rate=22050)
    others = {"en": [english], "zh-Hans": [chinese]}
    said = await who_says(
        Synthesis(), [chinese], SpeechRequest("打开Wi-Fi，亮度50%。", "zh-Hans"), lambda name: others[name]
    )
    assert said == {"chinese"}, "it is the sentence of the Chinese voice"
    assert (chinese.said, english.said) == (["打开", "亮度百分之五十。"], ["Wi-Fi，"])


async def test_a_voice_that_mixes_and_a_voice_without_help_say_all_of_it() -> None:
    both, alone = Hum("both", "en", "zh-Hans"), Hum("alone", "zh-Hans")
    english = Hum("english", "en")
    text = "打开Wi-Fi，好吗"
    await who_says(Synthesis(), [both], SpeechRequest(text, "zh-Hans"), lambda _: [english])
    await who_says(Synthesis(), [alone], SpeechRequest(text, "zh-Hans"))
    assert both.said == alone.said == [text]
    assert not english.said


async def test_a_helper_that_fails_is_replaced_by_the_voice_itself() -> None:
    chinese, broken = Hum("chinese", "zh-Hans"), Hum("english", "en", breaks_at=0)
    await who_says(Synthesis(), [chinese], SpeechRequest("打开Wi-Fi", "zh-Hans"), lambda _: [broken])
    assert chinese.said == ["打开", "Wi-Fi"]


async def test_two_voices_of_different_rates_are_one_sound() -> None:
    chinese, english = Hum("chinese", "zh-Hans", hz=300), Hum("english", "en", hz=900, rate=22050)
    async with speaker_in() as speaker:
        rendering = speaker.render([chinese], SpeechRequest("打开Wi-Fi", "zh-Hans"), lambda _: [english])
        sound = sound_of(await packets_of(rendering)).astype(np.float64)
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / 24000)
    low, high = (power[(hertz > hz - 40) & (hertz < hz + 40)].sum() / power.sum() for hz in (300, 900))
    assert low > 0.3 and high > 0.3
    assert 0.2 <= len(sound) / 24000 <= 0.3


async def test_the_silence_before_a_voice_keeps_nobody_waiting() -> None:
    class Slow(Hum):
        async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
            for _ in range(8):
                yield PcmChunk(np.zeros(800, np.int16), 16000)
            async for piece in super().speak(request):
                yield piece

    async with speaker_in() as speaker:
        quick, slow = [sound_of(await say(speaker, voice, "Hello.")) for voice in (Hum("quick"), Slow("slow"))]
    assert len(slow) <= len(quick) + 24 * 60
    assert np.abs(slow[: 24 * 60]).max() > 2000, "it sounds in the first packet"


# -- loudness -----------------------------------------------------------------------------------------------------


def test_louder_sound_is_rounded_off_and_never_clips() -> None:
    wave = (20000 * np.sin(np.arange(2400) / 8)).astype(np.int16)
    loud = amplify(wave, 2.0)
    assert level(loud) > level(wave) + 2
    assert np.abs(loud.astype(int)).max() < 32767
    small = np.abs(wave.astype(int)) * 2 < 32768 * KNEE
    assert np.array_equal(loud[small], wave[small] * 2), "what is not too loud is not bent"
    assert np.array_equal(amplify(wave, 1.0), wave)
    assert not amplify(wave, 0).any()


async def test_each_loudness_is_a_sound_of_its_own() -> None:
    voice = Hum("a")
    async with speaker_in() as speaker:
        levels = [
            level(sound_of(await packets_of(speaker.render([voice], SpeechRequest("Hello.", "en", volume=volume)))))
            for volume in (1.0, 0.1, 1.0, 0.1)
        ]
    assert levels[0] - levels[1] == pytest.approx(20, abs=1)
    assert levels[:2] == levels[2:]
    assert len(voice.said) == 2


# -- what is kept -------------------------------------------------------------------------------------------------


async def say(speaker: Speaker, voice: Tts, text: str) -> list[Packet]:
    return await packets_of(speaker.render([voice], SpeechRequest(text, "en")))


async def settled(speaker: Speaker) -> None:
    await speaker._disk.run(lambda: None)


async def test_what_was_said_twice_is_there_after_a_restart(tmp_path: Path) -> None:
    voice = Hum("a")
    async with speaker_in(tmp_path / "phrases") as speaker:
        said = await say(speaker, voice, "Hello.")
        await say(speaker, voice, "Hello.")
        await say(speaker, voice, "Only once.")
    assert len(list((tmp_path / "phrases").iterdir())) == 1
    async with speaker_in(tmp_path / "phrases") as speaker:
        assert await say(speaker, voice, "Hello.") == said
    assert voice.said == ["Hello.", "Only once."]


async def test_without_being_asked_to_nothing_is_written(tmp_path: Path) -> None:
    async with speaker_in() as speaker:
        for _ in range(3):
            await say(speaker, Hum("a"), "Hello.")
        assert speaker._disk._thread is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "another"])
async def test_a_damaged_phrase_is_made_anew(tmp_path: Path, damage: str) -> None:
    voice = Hum("a")
    async with speaker_in(tmp_path) as speaker:
        said = await say(speaker, voice, "Hello.")
        await say(speaker, voice, "Hello.")
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[:-20],
            "changed": content[:-20] + bytes(20),
            "empty": b"",
            "another": content[:4] + bytes(32) + content[36:],
        }[damage]
    )
    async with speaker_in(tmp_path) as speaker:
        assert await say(speaker, voice, "Hello.") == said
        assert len(voice.said) == 2, "it was said, not read"
        await say(speaker, voice, "Hello.")
    assert path.read_bytes() == content


async def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in ("notes.txt", "x.phrase", "ab" * 32):
        (tmp_path / name).write_text("mine")
    (tmp_path / f"{'cd' * 32}.phrase.part").write_text("half")
    async with speaker_in(tmp_path, limit=1) as speaker:
        for _ in range(2):
            await say(speaker, Hum("a"), "Hello.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ab" * 32, "notes.txt", "x.phrase"]


def packets(count: int) -> tuple[Packet, ...]:
    return tuple(Packet(bytes([number % 256] * 100), 60) for number in range(count))


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    files = PhraseFiles(tmp_path, 5000)
    for text in "abcd":
        files.store(("voice", text), packets(10))
    assert files.load(("voice", "a")) == packets(10)
    files.store(("voice", "e"), packets(10))
    assert [text for text in "abcde" if files.has(("voice", text))] == ["a", "c", "d", "e"]
    assert files.used <= 5000
    files.store(("voice", "long"), packets(20))
    assert not files.has(("voice", "long")), "one phrase must not drive out all the others"
    again = PhraseFiles(tmp_path, 2500)
    again.open()
    assert again.used <= 2500


def test_what_nobody_has_asked_for_in_months_is_deleted(tmp_path: Path) -> None:
    files = PhraseFiles(tmp_path, 10_000)
    for text in "ab":
        files.store(("voice", text), packets(3))
    old = time.time() - (KEEP_DAYS + 1) * 86400
    path = next(path for path in tmp_path.iterdir())
    os.utime(path, (old, old))
    again = PhraseFiles(tmp_path, 10_000)
    again.open()
    assert len(list(tmp_path.iterdir())) == 1
    assert again.has(("voice", "a")) != again.has(("voice", "b"))


async def test_a_folder_that_cannot_be_written_is_told_once_and_speech_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "phrases").write_text("a file where the folder should be")
    async with speaker_in(tmp_path / "phrases") as speaker:
        for text in ("One.", "One.", "Two.", "Two."):
            assert await say(speaker, Hum("a"), text)
        await settled(speaker)
    assert sum("cannot be kept" in record.getMessage() for record in caplog.records) == 1


async def test_what_is_usual_is_written_at_once(tmp_path: Path) -> None:
    async with speaker_in(tmp_path) as speaker:
        await packets_of(speaker.render([Hum("a")], SpeechRequest("Goodbye.", "en"), usual=True))
    assert len(list(tmp_path.iterdir())) == 1


async def test_many_readers_of_one_phrase_have_it_made_once(tmp_path: Path) -> None:
    voice = Hum("a")
    async with speaker_in(tmp_path) as speaker:
        heard = await asyncio.gather(*(say(speaker, voice, "Hello.") for _ in range(20)))
    assert voice.said == ["Hello."]
    assert all(each == heard[0] for each in heard)
