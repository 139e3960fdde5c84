"""The command ``xiaozhi-hub models``, beside a mirror on this machine."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession
from model_mirror import GGUF, PATH, Deed, Mirror, mirror, sha256

from xiaozhi_hub.cli import local_hub, main
from xiaozhi_hub.cli.progress import TerminalProgress
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.models import board
from xiaozhi_hub.models.board import Board
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.models.stock import growing
from xiaozhi_hub.testing import running_hub

ROOT = Path(__file__).resolve().parent.parent
OWN = """
tiny:
  engine: llama_cpp
  role: llm
  languages: [en]
  about: made for tests
  quality: 1
  licence: {licence}
  ask: {ask}
  source: {{repository: people/tiny}}
  memory: {{mib: 1, basis: measured}}
  files: {{tiny.gguf: {{size: {size}, sha256: {sha256}}}}}
"""


@dataclass
class Told:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


@dataclass
class House:
    folder: Path
    mirror: Mirror
    screen: pytest.CaptureFixture[str]

    def configure(self, text: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "configuration.yaml").write_text(text or f"models: {{mirror: '{self.mirror.url}'}}\n")

    def list_model(self, licence: str = "MIT", ask: str = "false") -> None:
        own = OWN.format(licence=licence, ask=ask, size=len(GGUF), sha256=sha256(GGUF))
        (self.folder / "models.yaml").write_text(own)

    async def process(self, *arguments: str) -> Told:
        """Run the command as people do."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "xiaozhi_hub", *self._words(arguments),
            cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), 180)
        return Told(process.returncode or 0, out.decode(), err.decode())

    async def command(self, *arguments: str) -> Told:
        """Run the command in a thread of this process, which is quicker, and cannot reach beyond this machine."""
        self.screen.readouterr()
        code = await asyncio.to_thread(main, self._words(arguments))
        return Told(code, *self.screen.readouterr())

    def on_a_terminal(self, typed: bytes, *arguments: str) -> str:
        """Run the command on a terminal of its own, where *typed* waits to be read; return what it showed. Blocks."""
        ours, its = pty.openpty()
        try:
            os.write(ours, typed)
            command = [sys.executable, "-m", "xiaozhi_hub", *self._words(arguments)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=its, stdout=its, stderr=its) as process:
                os.close(its)
                shown = bytearray()
                with suppress(OSError):  # the terminal has closed
                    while piece := os.read(ours, 65536):
                        shown += piece
                process.wait(180)
        finally:
            os.close(ours)
        return shown.decode()

    def _words(self, arguments: tuple[str, ...]) -> list[str]:
        return ["models", "-c", str(self.folder), "--port", "1", *arguments]

    @property
    def model(self) -> Path:
        return self.folder / "data" / "models" / "llama_cpp" / "tiny" / "tiny.gguf"


@pytest.fixture
async def house(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[House]:
    async with mirror({PATH: GGUF}) as served:
        house = House(tmp_path / "config", served, capsys)
        house.configure()
        house.list_model()
        yield house


async def test_a_model_is_downloaded_listed_verified_and_removed(house: House) -> None:
    told = await house.process("download", "tiny")
    assert told.code == 0, told.err
    assert house.model.read_bytes() == GGUF
    assert "Licence: MIT" in told.out and "next start" in told.out
    assert "[#" not in told.out + told.err, "no bar where nobody looks"
    listed = json.loads((await house.command("list", "--json")).out)["models"]
    assert {model["name"]: model["state"] for model in listed}["tiny"] == "here"
    assert len(house.mirror.asked) == 1
    again = await house.command("download", "tiny")
    assert again.code == 0 and "here already" in again.out and len(house.mirror.asked) == 1
    assert (await house.command("verify", "tiny")).out == "tiny: good (tiny.gguf: sha256)\n"
    house.model.write_bytes(GGUF[:-1] + b"?")
    broken = await house.command("verify")
    assert broken.code == 1 and "Run: xiaozhi-hub models download tiny" in broken.out
    mended = await house.command("download", "tiny")
    assert mended.code == 0 and "damaged" in mended.out and house.model.read_bytes() == GGUF
    assert "MB are free again" in (await house.command("remove", "tiny")).out
    assert not house.model.parent.exists()


async def test_nothing_is_asked_of_anybody_without_download(house: House, tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(GGUF[:1000])
    for arguments in (
        ["list"],
        ["import", str(tmp_path / "mine.gguf")],
        ["verify"],
        ["recommend", "--no-run"],
        ["remove", "mine"],
    ):
        told = await house.command(*arguments)
        assert told.code == 0, told.err
    assert house.mirror.asked == []


async def test_a_board_that_is_too_slow_is_told_what_there_is_without_models(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Board(cores=4, memory_mib=3790, free_mib=3300, gflops=10.0, gbps=4.0)
    monkeypatch.setattr(board, "measure", lambda: slow)
    (house.folder / "models.yaml").unlink()
    told = (await house.command("recommend", "--no-run")).out
    hearing, thinking, speaking, _ = told.split("\n\n")[1:5]
    assert "Commands in English are understood without" in hearing and "second-machine" in hearing
    assert "Commands work without" in thinking
    assert "→" in speaking and "eSpeak" not in speaking
    assert "download" in told and "faster-whisper" not in told.partition("To fetch")[2]


async def test_a_licence_that_asks_is_agreed_to_before_anything_is_fetched(house: House) -> None:
    house.list_model("Strange Terms", "true")
    told = await house.command("download", "tiny")
    assert told.code == 1 and "Strange Terms" in told.err and "--yes" in told.err
    assert house.mirror.asked == [] and not house.model.exists()
    assert (await house.command("download", "tiny", "--yes")).code == 0
    assert house.model.exists()


async def test_on_a_terminal_a_person_is_asked_and_sees_a_bar(house: House) -> None:
    house.list_model("Strange Terms", "true")
    house.mirror.deeds = [Deed(drop_after=500_000)]
    screen = await asyncio.to_thread(house.on_a_terminal, b"yes\nno\n", "download", "tiny")
    assert "Do you agree to the licence of tiny (Strange Terms)?" in screen
    assert "tiny.gguf  [" in screen and "trying again" in screen and "100 %" in screen
    assert house.model.read_bytes() == GGUF


async def test_on_a_terminal_a_no_is_a_no(house: House) -> None:
    house.list_model("Strange Terms", "true")
    screen = await asyncio.to_thread(house.on_a_terminal, b"y\n", "download", "tiny")
    assert "Nothing was fetched" in screen and house.mirror.asked == []


async def test_on_a_terminal_the_end_of_the_input_is_a_no(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    class Person(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Person())
    monkeypatch.setattr("xiaozhi_hub.cli.models.importlib.util.find_spec", lambda name: None)  # it is not built yet
    told = await house.command("download", "tiny")
    assert told.code == 0 and "next start" in told.out, "the hub is told of the model all the same"


async def test_a_hub_is_told_of_what_came_before_the_next_one_failed(house: House, tmp_path: Path) -> None:
    other = OWN.format(licence="MIT", ask="false", size=len(GGUF), sha256=sha256(GGUF))
    with (house.folder / "models.yaml").open("a") as listed:
        listed.write(other.replace("tiny:", "other:", 1).replace("people/tiny", "people/other").replace("llm", "tts"))
    told = await house.command("download", "tiny", "other")
    assert told.code == 1 and "people/other" in told.err
    assert "llama_cpp models at its next start" in told.out

    told = await house.command("remove", "tiny", "nosuch")
    assert told.code == 1 and "nosuch" in told.err
    assert "llama_cpp models at its next start" in told.out

    (tmp_path / "stick").mkdir()
    (tmp_path / "stick" / "a.gguf").write_bytes(GGUF[:500])
    (tmp_path / "stick" / "b.gguf").write_bytes(GGUF[:600])
    with growing(ModelShelf(house.model.parents[2]), "llama_cpp", "b"):
        told = await house.command("import", str(tmp_path / "stick"))
    assert told.code == 1 and "another command" in told.err
    assert "llama_cpp models at its next start" in told.out


async def test_without_a_mirror_the_setting_is_named(house: House) -> None:
    house.configure("{}\n")
    told = await house.command("download", "tiny")
    assert told.code == 1
    assert "models: mirror:" in told.err and "models import" in told.err and "Traceback" not in told.err


@pytest.mark.parametrize(
    ("deed", "message"),
    [
        (Deed(body=GGUF[:-1] + b"?"), "What 127.0.0.1 sent is not tiny.gguf"),
        (Deed(body=GGUF + b"x"), "has another tiny.gguf"),
        (Deed(status=404), "127.0.0.1 has no /people/tiny"),
    ],
)
async def test_what_goes_wrong_is_told_with_cause_and_cure(house: House, deed: Deed, message: str) -> None:
    house.mirror.deeds = [deed]
    told = await house.process("download", "tiny")
    assert told.code == 1 and message in told.err and "Traceback" not in told.err
    assert not house.model.parent.exists()


async def test_an_unknown_name_gets_the_nearest(house: House) -> None:
    told = await house.command("download", "tiney")
    assert told.code == 1 and "Did you mean tiny" in told.err


async def test_a_stick_is_imported_and_what_cannot_be_used_is_told(house: House, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (stick / "model.gguf").write_bytes(GGUF)
    (stick / "alone.onnx").write_bytes(b"\x08\x09" + bytes(100))
    told = await house.command("import", str(stick))
    assert told.code == 1, "one of the two was left out"
    assert house.model.read_bytes() == GGUF
    assert "alone is left out: melspectrogram.onnx" in told.err


async def test_what_takes_the_place_of_another_model_says_so(house: House, tmp_path: Path) -> None:
    (tmp_path / "mine.gguf").write_bytes(GGUF[:1000])
    assert "replaced" not in (await house.command("import", str(tmp_path / "mine.gguf"))).out
    (tmp_path / "mine.gguf").write_bytes(GGUF[:2000])
    told = await house.command("import", str(tmp_path / "mine.gguf"))
    assert told.code == 0 and "mine is here already: it is replaced" in told.out and "--name" in told.out


async def test_what_a_broken_import_has_left_is_shown_and_can_be_deleted(house: House) -> None:
    left = house.folder / "data" / "models" / "llama_cpp" / "mine.part"
    left.mkdir(parents=True)
    (left / "mine.gguf").write_bytes(GGUF)
    (left.parent / "other.gguf.part").write_bytes(GGUF)  # of a browser
    listed = json.loads((await house.command("list", "--json")).out)["models"]
    assert [(m["state"], m["bytes"]) for m in listed if m["name"] == "mine"] == [("partly", len(GGUF))]
    assert "…  mine" in (await house.command("list")).out
    with growing(ModelShelf(left.parent.parent), "llama_cpp", "mine"):
        told = await house.command("remove", "mine")
        assert told.code == 1 and "another command" in told.err and left.is_dir()
    assert (await house.command("remove", "mine")).code == 0
    assert not left.exists()


async def test_only_models_can_be_deleted(house: House) -> None:
    other = house.folder / "data" / "other.part"
    other.mkdir(parents=True)
    (house.folder / "data" / "models" / "llama_cpp").mkdir(parents=True)
    assert (await house.command("remove", "../../other")).code == 1
    assert other.is_dir()


async def test_a_name_for_two_models_is_refused(house: House, tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(GGUF[:100])
    told = await house.command("import", str(tmp_path / "a.gguf"), str(tmp_path / "b.gguf"), "--name", "c")
    assert told.code == 1 and "there are 2" in told.err


def with_a_runner(house: House, loading_s: float = 0.0) -> str:
    """Give the house an integration that wants a model of llama_cpp, and takes so long to load it; return the configuration."""
    own = house.folder / "integrations" / "llama_cpp"
    own.mkdir(parents=True)
    (own / "manifest.json").write_text(
        '{"domain": "llama_cpp", "name": "Mine", "version": "1", "kinds": ["engines"], "online": false}'
    )
    (own / "__init__.py").write_text(
        "import asyncio\n"
        "from contextlib import asynccontextmanager\n"
        "from xiaozhi_hub.plugins.api import hookimpl\n\n\n"
        "@hookimpl\n"
        "@asynccontextmanager\n"
        "async def entry_context(hub):\n"
        "    hub.models.find('llama_cpp')\n"
        f"    await asyncio.sleep({loading_s})\n"
        "    yield\n"
    )
    off = "clock: false, demo: false, espeak: false, phrases: false, silero_vad: false"
    return f"models: {{mirror: '{house.mirror.url}'}}\nintegrations: {{{off}, llama_cpp: {{}}}}\n"


async def test_a_hub_that_runs_looks_at_its_models_at_once(house: House) -> None:
    configuration = with_a_runner(house)
    async with running_hub(house.folder, configuration) as hub:
        entry = next(entry for entry in hub.plugins.entries if entry.domain == "llama_cpp")
        assert entry.state == "failed" and "models recommend" in entry.hint
        told = await house.command("--port", str(hub.port), "download", "tiny")
        assert told.code == 0, told.err
        assert "looked at its llama_cpp models again: ready" in told.out
        assert entry.state == "ready"
        told = await house.command("--port", str(hub.port), "remove", "tiny")
        assert "failed: There is no model for llama_cpp yet." in told.out


async def test_a_model_that_takes_long_to_load_is_waited_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    configuration = with_a_runner(house, loading_s=1.0)
    monkeypatch.setattr(local_hub, "SECONDS", 0.5)  # loading takes longer than anything else
    async with running_hub(house.folder, configuration) as hub:
        told = await house.command("--port", str(hub.port), "download", "tiny")
        assert "looked at its llama_cpp models again: ready" in told.out
        (house.folder / "configuration.yaml").write_text(configuration.replace("llama_cpp: {}", "llama_cpp: {a: 1}"))
        arguments = ["reload", "-c", str(house.folder), "--port", str(hub.port)]
        assert await asyncio.to_thread(main, arguments) == 0


async def test_an_unknown_integration_is_told_and_nobody_else_may_ask(house: House) -> None:
    quiet = "integrations: {clock: false, demo: false, espeak: false, phrases: false, silero_vad: false}\n"
    async with running_hub(house.folder, quiet) as hub, ClientSession() as http:
        async with http.post(f"{hub.local_url}/api/integrations/nobody/reload", json={}) as answer:
            assert answer.status == 404 and "no integration nobody" in (await answer.json())["error"]
        stranger = {"Origin": "http://elsewhere.example"}
        async with http.post(f"{hub.local_url}/api/integrations/clock/reload", json={}, headers=stranger) as answer:
            assert answer.status == 403


def test_a_terminal_sees_how_far_it_is_and_how_long_it_takes() -> None:
    screen, clock = io.StringIO(), iter([0.0, 0.0, 1.0, 2.0, 2.05, 4.0])
    bar = TerminalProgress(
        screen, count=lambda amount: f"{amount} B", words=Words("en"), now=lambda: next(clock), terminal=True
    )
    bar.begin("model.bin", 400)
    bar.advance(100)
    bar.advance(200)
    bar.advance(210)  # too soon after the last one to be drawn
    bar.advance(400)
    bar.end()
    drawn = [line.rstrip() for line in screen.getvalue().split("\r") if line.strip()]
    assert drawn[1] == "  model.bin  [######------------------]   25 %  of 400 B  100 B/s  3 s"
    assert "50 %" in drawn[2] and "100 %" in drawn[3] and len(drawn) == 4
    assert screen.getvalue().endswith("\r"), "the line is cleared for what comes next"


def test_where_nobody_looks_only_what_happened_is_written() -> None:
    screen = io.StringIO()
    bar = TerminalProgress(screen, count=str, words=Words("en"))
    bar.begin("model.bin", 400)
    bar.advance(200)
    bar.note("the connection broke; trying again in 1 s")
    bar.end()
    assert screen.getvalue() == "  the connection broke; trying again in 1 s\n"
