"""The command ``xiaozhi-hub device``."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

import pytest
from scripted_hub import VOICE, ScriptedHub, Talk, answers_each, serve, tone

from xiaozhi_hub.audio.ogg import read_ogg
from xiaozhi_hub.audio.pcm import write_wav
from xiaozhi_hub.cli import main
from xiaozhi_hub.cli.device import add_parser, lines, own_client_id, own_id, run
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.testing import AlertShown, TurnResult, running_hub


async def command(hub: ScriptedHub, *arguments: str) -> int:
    """Run the command in a loop of its own, beside the one that serves the hub."""
    ota = f"http://127.0.0.1:{hub.port}/ota/"
    return await asyncio.to_thread(main, ["device", "--ota", ota, *arguments])


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the device keeps its Client-Id."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


async def test_its_client_id_is_random_stays_the_same_and_is_for_its_user_only(state: Path) -> None:
    async with serve(answers_text) as hub:
        for _ in range(2):
            assert await command(hub, "--text", "what time is it") == 0
        first, second = (headers["Client-Id"] for headers, _ in hub.check_ins)
    assert first == second == own_client_id()
    path = state / "xiaozhi-hub" / "client-id"
    assert path.stat().st_mode & 0o077 == 0
    path.unlink()
    assert own_client_id() != first


def test_without_a_place_to_keep_it_there_is_still_a_client_id(state: Path) -> None:
    state.write_text("not a folder")
    assert own_client_id() != own_client_id()


async def test_it_shows_its_code_and_goes_on_when_it_is_approved(capsys: pytest.CaptureFixture[str]) -> None:
    async with serve(answers_text) as hub:
        hub.extra = {"activation": {"code": "482913", "message": "Approve me: 482913", "challenge": "c"}}
        asked = asyncio.create_task(command(hub, "--text", "what time is it"))
        while not hub.activations:
            await asyncio.sleep(0.01)
        hub.extra = {}
        assert await asked == 0
    shown = capsys.readouterr()
    assert "Approve me: 482913" in shown.err and "xiaozhi-hub devices approve 482913" in shown.err
    assert "said    It is nine." in shown.out


async def answers_text(talk: Talk) -> None:
    await talk.listens()
    await talk.tell(type="stt", text="what time is it")
    await talk.answer()


@pytest.fixture
def question(tmp_path: Path) -> str:
    path = tmp_path / "question.wav"
    path.write_bytes(write_wav(tone(0.2)))
    return str(path)


async def test_it_shows_what_was_understood_said_and_how_long_it_took(
    question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with serve(answers_each) as hub:
        assert await command(hub, "--wav", question) == 0
    shown = capsys.readouterr().out
    assert "heard   what time is it" in shown
    assert "said    It is nine." in shown
    assert "face    happy" in shown
    assert "playing" in shown and "█" in shown
    assert "trouble" not in shown


async def test_it_shows_what_was_done(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running_hub(tmp_path, "integrations:\n  phrases: false\n  silero_vad: false\n  echo:\n") as hub:
        arguments = ["device", "--ota", f"{hub.local_url}/xiaozhi/ota/", "--text", "set a timer for 5 minutes"]
        assert await asyncio.to_thread(main, arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:2] == ["heard   set a timer for 5 minutes", "did     clock.start_timer(minutes=5)"]


async def test_json_has_exactly_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    async with serve(answers_text) as hub:
        assert await command(hub, "--text", "what time is it", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == ["heard", "said", "emotion", "stamps", "underruns", "overflows"]
    assert answer["said"] == "It is nine."


async def test_the_answer_can_be_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "answer.ogg"
    async with serve(answers_text) as hub:
        assert await command(hub, "--text", "x", "--save", str(path)) == 0
    assert read_ogg(path.read_bytes()) == VOICE
    assert str(path) in capsys.readouterr().err


async def test_staying_hears_what_else_comes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def script(talk: Talk) -> None:
        await answers_text(talk)
        await talk.listens()
        await talk.answer("Your timer is done.")

    async with serve(script) as hub:
        save = ("--save", str(tmp_path / "a.ogg"))
        assert await command(hub, "--text", "x", "--json", "--stay", "6", *save) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["said"] for answer in answers] == ["It is nine.", "Your timer is done."]
    assert (tmp_path / "a.ogg").is_file() and (tmp_path / "a-2.ogg").is_file()


async def test_no_answer_is_said_and_is_a_failure(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def script(talk: Talk) -> None:
        await talk.listens()
        await talk.tell(type="stt", text="what")
        await talk.ws.close()

    async with serve(script) as hub:
        assert await command(hub, "--wav", question) == 1
    assert "failed  The connection ended before the answer did." in capsys.readouterr().out


async def test_the_device_is_the_one_asked_for() -> None:
    async with serve(answers_text) as hub:
        await command(hub, "--text", "x", "--device-id", "aa:bb:cc:dd:ee:ff", "--language", "zh-CN", "--json")
        headers, body = hub.check_ins[0]
    assert headers["Device-Id"] == "aa:bb:cc:dd:ee:ff"
    assert body["language"] == "zh-CN"


def test_the_default_device_is_always_the_same_and_no_real_hardware() -> None:
    assert own_id() == own_id()
    assert own_id().startswith("02:") and len(own_id()) == 17


def parsed(*arguments: str) -> object:
    parser = ArgumentParser()
    add_parser(parser.add_subparsers())
    return parser.parse_args(["device", *arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--ota", "http://x/"),
        ("--text", "x"),
        ("--ota", "http://x/", "--discover", "--text", "x"),
        ("--ota", "http://x/", "--text", "x", "--wav", "y"),
        ("--ota", "http://x/", "--text", "x", "--mode", "psychic"),
        ("--ota", "http://x/", "--text", "x", "--stay", "long"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: Sequence[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(*arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--wav", "/nowhere/x.wav"), "/nowhere/x.wav cannot be read"),
        (("--wav", __file__), "not a WAV file"),
        (("--text", "x"), "Is the hub running?"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(
    arguments: Sequence[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["device", "--ota", "http://127.0.0.1:1/", *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("address", ["nonsense", "http://", "ftp://127.0.0.1/", "http://127.0.0.1:99999/", ""])
def test_what_is_no_address_is_named(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--ota", address, "--text", "what time is it"]) == 1
    error = capsys.readouterr().err
    assert f"{address} is no OTA address. Give the one that the hub shows: http://" in error
    assert len(error.splitlines()) == 1


async def test_a_text_is_spoken_by_the_voice_that_comes_with_the_hub() -> None:
    pytest.importorskip("piper", reason="the voice extra is not installed")
    async with serve(answers_each) as hub:
        assert await command(hub, "--say", "what time is it", "--json") == 0
        loudest = max(len(packet) for _, packet in hub.talks[0].packets)
    assert loudest > 60, "the microphone sent nothing but silence"


async def test_the_voice_is_told_what_to_say_in_which_language() -> None:
    asked: list[tuple[str, str]] = []

    async def say(text: str, language: str) -> PcmChunk:
        asked.append((text, language))
        return tone(0.2, 22050)

    async with serve(answers_each) as hub:
        ota = f"http://127.0.0.1:{hub.port}/ota/"
        args = parsed("--ota", ota, "--say", "what time is it", "--json")
        assert await asyncio.to_thread(run, args, say) == 0
    assert asked == [("what time is it", "en-US")]


def test_every_trouble_is_told() -> None:
    result = TurnResult(
        underruns=2,
        stall_ms=310,
        overflows=3,
        dropped_early=4,
        unplayable=5,
        cut_short=True,
        alerts=(AlertShown("Hub", "No voice", "sad"),),
    )
    assert lines(result, Words("en")) == [
        "heard   (nothing)",
        "said    (nothing)",
        "alert   Hub: No voice",
        "trouble 2 gaps in the sound, 310 ms together",
        "trouble 3 packets too many for the device's queue",
        "trouble 4 packets while the device was not speaking",
        "trouble 5 packets that cannot be played",
        "trouble the hub did not wait for the end of the question",
    ]


async def test_a_hub_that_says_nothing_by_itself_is_left_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    async with serve(answers_text) as hub, asyncio.timeout(20):
        assert await command(hub, "--text", "x", "--json", "--stay", "0.2") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
