"""The eSpeak voice, with the real library."""

from __future__ import annotations

import asyncio
import importlib
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import NeedsAttention, StageError
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.loader import import_integration

espeak = import_integration(builtin("integrations") / "espeak")
config, library, program, voices = (
    importlib.import_module(f"{espeak.__name__}.{name}") for name in ("config", "library", "program", "voices")
)
LONG = "The quick brown fox jumps over the lazy dog, and then it goes home to have some tea. " * 20


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[Tts]:
    """The engine as the hub gets it: through the integration's hooks."""
    entry = Entry("espeak", config.SCHEMA(options))
    async with espeak.entry_context(entry=entry):
        engines: list[Tts] = []
        espeak.register_engines(register=engines.append, entry=entry)
        yield engines[0]


async def sound_of(engine: Tts, text: str, language: str = "en", **more: Any) -> np.ndarray[Any, Any]:
    chunks = [chunk async for chunk in engine.speak(SpeechRequest(text, language, **more))]
    assert {chunk.rate for chunk in chunks} <= {22050}
    return np.concatenate([chunk.samples for chunk in chunks]) if chunks else np.zeros(0, np.int16)


@pytest.mark.parametrize(
    ("text", "language", "shortest", "longest"),
    [
        ("It is 9:41 PM.", "en", 1.0, 3.0),
        ("The light in the kitchen is on.", "en", 1.2, 3.5),
        ("现在是晚上9点41分。", "zh-Hans", 1.5, 4.5),
        ("厨房的灯开了。", "zh-Hans", 1.0, 3.5),
    ],
)
async def test_a_sentence_sounds_as_long_as_a_sentence(
    text: str, language: str, shortest: float, longest: float
) -> None:
    async with started() as engine:
        sound = await sound_of(engine, text, language)
    assert shortest < len(sound) / 22050 < longest
    assert 500 < np.sqrt(np.mean(sound.astype(np.float64) ** 2)) < 16000


async def test_chinese_is_not_read_as_english() -> None:
    async with started() as engine:
        chinese = await sound_of(engine, "厨房的灯开了", "zh-Hans")
        english = await sound_of(engine, "厨房的灯开了", "en")
    assert len(chinese) != len(english)


async def test_the_first_sound_comes_long_before_the_last() -> None:
    async with started() as engine:
        async with aclosing(engine.speak(SpeechRequest(LONG, "en"))) as chunks:
            first = await anext(chunks)
            others = [chunk async for chunk in chunks]
    assert first.ms <= 100
    assert sum(chunk.ms for chunk in others) > 60_000
    assert len(others) < 20, "a long text must not wake the loop for every block"


async def test_the_first_sound_does_not_wait_for_the_whole_text() -> None:
    """The text takes several hundred ms to compute; the first piece is there before a hundredth of it is computed."""
    async with started() as engine:
        computed: list[int] = []
        speak = engine._library.speak  # type: ignore[attr-defined]
        worker: Worker = engine._worker  # type: ignore[attr-defined]

        def counting(speaking: Any, take: Any) -> None:
            speak(speaking, lambda block: computed.append(len(block)) or take(block))

        engine._library.speak = counting  # type: ignore[attr-defined]
        async with aclosing(engine.speak(SpeechRequest(LONG * 2, "en"))) as chunks:
            await anext(chunks)
            at_first = sum(computed)
            async for _ in chunks:
                pass
        assert worker is engine._worker  # type: ignore[attr-defined]
    assert at_first < sum(computed) / 2


async def test_leaving_in_the_middle_stops_the_synthesis() -> None:
    async with started() as engine:
        blocks = 0
        speak = engine._library.speak  # type: ignore[attr-defined]

        def counting(speaking: Any, take: Any) -> None:
            def count(block: Any) -> bool:
                nonlocal blocks
                blocks += 1
                return bool(take(block))

            speak(speaking, count)

        engine._library.speak = counting  # type: ignore[attr-defined]
        async with aclosing(engine.speak(SpeechRequest(LONG * 2, "en"))) as chunks:
            await anext(chunks)
        # The one thread takes the next text only when it is done with this one.
        assert len(await sound_of(engine, "Yes.")) > 0
        whole = 2 * len(LONG) / 15 / 0.06  # blocks of the whole text, at 15 characters a second
    assert blocks < whole / 2


async def test_a_slow_listener_keeps_nobody_waiting() -> None:
    async with started() as engine:
        async with aclosing(engine.speak(SpeechRequest(LONG, "en"))) as slow:
            await anext(slow)
            async with asyncio.timeout(20):
                assert len(await sound_of(engine, "Somebody else speaks.")) > 0
            assert sum([chunk.ms async for chunk in slow]) > 60_000


async def test_many_speak_at_once_and_nothing_is_mixed_up() -> None:
    texts = ["One.", "Two and three.", "Four, five and six.", "打开灯。"]
    languages = ["en", "en", "en", "zh-Hans"]
    async with started() as engine:
        alone = [await sound_of(engine, text, language) for text, language in zip(texts, languages, strict=True)]
        together = await asyncio.gather(
            *(sound_of(engine, text, language) for text, language in zip(texts * 5, languages * 5, strict=True))
        )
    lengths = [len(sound) for sound in alone]
    for number, sound in enumerate(together):
        assert abs(len(sound) - lengths[number % 4]) < 0.15 * lengths[number % 4]


async def test_speed_and_rate_change_the_length() -> None:
    text = "The light in the kitchen is on."
    async with started() as engine:
        normal, fast, slow = [len(await sound_of(engine, text, speed=speed)) for speed in (1.0, 1.5, 0.7)]
    async with started(rate=120) as engine:
        leisurely = len(await sound_of(engine, text))
    assert fast < 0.85 * normal < 0.85 * 0.85 * slow
    assert leisurely > 1.15 * normal


async def test_the_voice_key_names_everything_that_changes_the_sound() -> None:
    keys = set()
    for options in ({}, {"english": "en-gb"}, {"rate": 200}, {"pitch": 60}, {"variant": "f3"}):
        async with started(**options) as engine:
            keys.add(engine.voice_key(SpeechRequest("a", "en")))
    async with started() as engine:
        keys.add(engine.voice_key(SpeechRequest("a", "en", speed=1.2)))
        keys.add(engine.voice_key(SpeechRequest("a", "zh-Hans")))
        assert engine.voice_key(SpeechRequest("a", "en")) == engine.voice_key(SpeechRequest("b", "en"))
    assert len(keys) == 7


@pytest.mark.parametrize("options", [{"english": "en-gb"}, {"variant": "f3"}])
async def test_every_choice_of_voice_speaks(options: dict[str, str]) -> None:
    async with started(**options) as engine:
        assert len(await sound_of(engine, "It is nine.")) > 10_000
        assert len(await sound_of(engine, "九点。", "zh-Hans")) > 10_000


async def test_nothing_to_say_is_silence() -> None:
    async with started() as engine:
        assert len(await sound_of(engine, " \n\t\0")) == 0


async def test_odd_characters_do_not_stop_the_voice() -> None:
    async with started() as engine:
        assert len(await sound_of(engine, "a\0b <speak> \ud800 & [[h@'loU]] 🙂 done")) > 5_000


async def test_an_unknown_voice_is_refused_by_name() -> None:
    async with started() as engine:
        with pytest.raises(StageError, match="no voice 'martian'"):
            await sound_of(engine, "Take me to your leader", voice="martian")
        assert len(await sound_of(engine, "Still here.")) > 0


async def test_a_folder_without_the_library_is_named_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(NeedsAttention) as caught:
        async with started(library=str(tmp_path)):
            pass
    assert str(tmp_path) in caught.value.message
    assert "pip install piper-tts" in caught.value.hint


async def test_a_broken_library_is_named_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "espeak-ng-data").mkdir()
    (tmp_path / "espeak-ng-data" / "phontab").write_bytes(b"")
    (tmp_path / "libespeak-ng.so.1").write_bytes(b"not a library")
    with pytest.raises(NeedsAttention) as caught:
        async with started(library=str(tmp_path)):
            pass
    assert "libespeak-ng.so.1" in caught.value.message


async def test_data_that_cannot_be_read_does_not_end_the_process(tmp_path: Path) -> None:
    place = library.find_library()
    assert place is not None
    shutil.copy(place.library, tmp_path)
    (tmp_path / "espeak-ng-data").mkdir()
    (tmp_path / "espeak-ng-data" / "phontab").write_bytes(b"")
    with pytest.raises(NeedsAttention, match="cannot read"):
        async with started(library=str(tmp_path)):
            pass


async def test_piper_keeps_the_globals_of_its_own_copy() -> None:
    espeakbridge = pytest.importorskip("piper.espeakbridge", reason="piper-tts is not installed")
    place = library.find_library()
    espeakbridge.initialize(str(place.data))
    espeakbridge.set_voice("de")
    before = espeakbridge.get_phonemes("Zeit")
    async with started() as engine:
        await sound_of(engine, "Something English.")
    assert espeakbridge.get_phonemes("Zeit") == before


async def test_each_start_has_globals_of_its_own_and_gives_them_back() -> None:
    """The loader takes two files of one name for the same library: the names must differ."""
    place = library.find_library()
    first, second = library.Library(place), library.Library(place)
    try:
        assert first._api._handle != second._api._handle
        assert first.phonemes("light", "en-us") == second.phonemes("light", "en-us")
    finally:
        first.close()
        second.close()
    first.close()
    with pytest.raises(StageError, match="let go"):
        first.speak(voices.Speaking("text", "en-us", 165, 45), lambda block: True)


@pytest.fixture
def nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that runs nothing from memory."""

    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(library.os, "memfd_create", refuse)


async def test_where_nothing_runs_from_memory_the_copy_is_a_file(nothing_in_memory: None) -> None:
    place = library.find_library()
    first, second = library.Library(place), library.Library(place)
    assert first._api._handle != second._api._handle
    second.close()
    first.close()


async def test_where_no_copy_can_be_loaded_the_program_speaks(
    nothing_in_memory: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(path: str) -> object:
        raise OSError(f"{path}: failed to map segment")

    monkeypatch.setattr(library.ctypes, "CDLL", refuse)
    monkeypatch.setattr(program, "find_program", lambda: a_program(tmp_path, FAKE_PROGRAM))
    async with started() as engine:
        assert len(await sound_of(engine, "one line")) == 2205
    monkeypatch.setattr(program, "find_program", lambda: None)
    with pytest.raises(NeedsAttention, match="failed to map"):
        async with started():
            pass


async def test_the_program_speaks_where_there_is_no_library() -> None:
    path = program.find_program()
    if path is None:
        pytest.skip("the program espeak-ng is not installed here")
    engine = importlib.import_module(f"{espeak.__name__}.engine").ProgramTts(voices.Voices(), path)
    assert len(await sound_of(engine, "It is nine.")) > 10_000
    async with aclosing(engine.speak(SpeechRequest(LONG, "en"))) as chunks:
        await anext(chunks)


FAKE_PROGRAM = """#!/bin/sh
# Says 0.1 s for each line it is given, after a WAV header, as espeak-ng --stdout does.
printf 'RIFF\\377\\377\\377\\377WAVEfmt \\020\\000\\000\\000\\001\\000\\001\\000'
printf '\\042\\126\\000\\000\\104\\254\\000\\000\\002\\000\\020\\000data\\377\\377\\377\\377'
while IFS= read -r line || [ -n "$line" ]; do head -c 4410 /dev/zero; done
"""


def a_program(folder: Path, script: str) -> str:
    path = folder / "espeak-ng"
    path.write_text(script)
    path.chmod(0o755)
    return str(path)


async def test_the_sound_of_a_program_is_passed_on(tmp_path: Path) -> None:
    path = a_program(tmp_path, FAKE_PROGRAM)
    engine = importlib.import_module(f"{espeak.__name__}.engine").ProgramTts(voices.Voices(), path)
    assert len(await sound_of(engine, "one line")) == 2205


async def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    path = a_program(tmp_path, "#!/bin/sh\necho no such voice >&2\nexit 1\n")
    engine = importlib.import_module(f"{espeak.__name__}.engine").ProgramTts(voices.Voices(), path)
    with pytest.raises(StageError, match="no such voice"):
        await sound_of(engine, "text")


async def test_a_program_ends_with_its_listener(tmp_path: Path) -> None:
    path = a_program(tmp_path, FAKE_PROGRAM + "echo $$ > " + str(tmp_path / "pid") + "\nexec cat /dev/zero\n")
    engine = importlib.import_module(f"{espeak.__name__}.engine").ProgramTts(voices.Voices(), path)
    async with aclosing(engine.speak(SpeechRequest("one line", "en"))) as chunks:
        async for chunk in chunks:
            if not chunk.samples.any() and (tmp_path / "pid").exists():
                break
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
