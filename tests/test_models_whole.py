"""Whether a model's file is all there is told by the file itself; the real libraries have written these."""

from __future__ import annotations

import random
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_gguf import write_tiny_gguf
from tiny_piper import write_voice
from tiny_whisper import write_whisper

from xiaozhi_hub.cli import main
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.carry import bring, recognise
from xiaozhi_hub.models.catalogue import Catalogue, load_catalogue
from xiaozhi_hub.models.progress import Silence
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.models.stock import verify
from xiaozhi_hub.models.whole import check_whole

KNOWN = Catalogue(load_catalogue().models)


def a_whisper(folder: Path) -> Path:
    return write_whisper(folder / "mine") / "model.bin"


def a_gguf(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return write_tiny_gguf(folder / "mine.gguf", {"hello": "Good day."})


def a_voice(folder: Path) -> Path:
    return write_voice(folder, "en_US-mine-low")


Maker = Callable[[Path], Path]
MAKERS = pytest.mark.parametrize("maker", [a_whisper, a_gguf, a_voice])


@MAKERS
def test_a_whole_file_is_good_and_one_that_ends_early_is_not(maker: Maker, tmp_path: Path) -> None:
    path = maker(tmp_path)
    whole = path.read_bytes()
    assert check_whole(path) == ""
    for left in (len(whole) - 1, len(whole) * 9 // 10, len(whole) // 2, len(whole) // 5, 80):
        path.write_bytes(whole[:left])
        assert "broke off" in check_whole(path), left


@MAKERS
def test_damage_in_its_directory_is_no_accident(maker: Maker, tmp_path: Path) -> None:
    path = maker(tmp_path)
    whole, chance = path.read_bytes(), random.Random(5)
    for _ in range(300):
        damaged = bytearray(whole[:20_000])
        for _ in range(8):
            damaged[chance.randrange(min(2000, len(damaged)))] = chance.randrange(256)
        path.write_bytes(damaged)
        assert isinstance(check_whole(path), str)  # whatever it says, it says it soon


def test_a_damaged_length_of_a_name_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    claimed = 2**28
    with path.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, claimed))
        file.truncate(2 * claimed)  # nothing of it is on the disk
    tracemalloc.start()
    try:
        assert check_whole(path) == ""  # nothing is known of such a form
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


def test_weights_begin_where_the_file_says_they_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    key, name = b"general.alignment", b"t"
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, len(key)) + key + struct.pack("<II", 4, 4096)
        + struct.pack("<Q", len(name)) + name + struct.pack("<IQIQ", 1, 4, 0, 0)
    )  # fmt: skip
    with path.open("r+b") as file:
        file.truncate(4096 + 16)  # four numbers of four bytes
    assert check_whole(path) == ""
    with path.open("r+b") as file:
        file.truncate(4096 + 8)
    assert "broke off" in check_whole(path)


def test_lists_in_lists_without_end_are_no_form_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 5000
    )
    assert check_whole(path) == ""


@MAKERS
def test_a_model_that_ends_early_is_not_imported_and_the_others_are(
    maker: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = maker(tmp_path / "stick" / "broken")
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    good = a_gguf(tmp_path / "stick")
    good.rename(good.with_name("good.gguf"))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "configuration.yaml").write_text("")
    arguments = ["models", "-c", str(tmp_path / "config"), "--port", "1", "import", str(tmp_path / "stick")]
    assert main(arguments) == 1
    told = capsys.readouterr()
    assert "left out" in told.err and broken.name in told.err and "once more" in told.err
    shelf = ModelShelf(tmp_path / "config" / "data" / "models")
    assert [model.name for model in shelf.installed("llama_cpp")] == ["good"]
    with pytest.raises(HubError, match="damaged"):
        bring(recognise(broken.parent, KNOWN, shelf)[0], shelf, Silence())


@MAKERS
def test_verify_sees_that_a_model_put_there_by_hand_is_not_whole(maker: Maker, tmp_path: Path) -> None:
    path = maker(tmp_path / "model")
    model = InstalledModel("any", "mine", path.parent)
    assert path.name in [verdict.file for verdict in verify(model, KNOWN, Silence()) if not verdict.wrong]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert [verdict.file for verdict in verify(model, KNOWN, Silence()) if verdict.wrong] == [path.name]
