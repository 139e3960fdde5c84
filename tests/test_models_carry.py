"""Models come from sticks and folders, recognised by what is in them."""

from __future__ import annotations

import json
import os
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from model_mirror import GGUF, a_model

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.carry import Found, bring, recognise, renamed
from xiaozhi_hub.models.catalogue import Catalogue, load_catalogue
from xiaozhi_hub.models.progress import Silence
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.models.stock import SPARE_BYTES, growing, origin_of, remove, verify

KNOWN = Catalogue((*load_catalogue().models, a_model()))
WHISPER = struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + bytes(500)
ONNX = b"\x08\x09" + bytes(500)
VOICE = json.dumps({"audio": {"sample_rate": 22050}, "phoneme_id_map": {"a": [1]}}).encode()


@pytest.fixture
def shelf(tmp_path: Path) -> ModelShelf:
    return ModelShelf(tmp_path / "models")


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def put(folder: Path, **files: bytes) -> Path:
    """Write files into *folder*; __ in their names stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    return folder


def a_whisper(folder: Path) -> Path:
    return put(folder, model__bin=WHISPER, config__json=b"{}", tokenizer__json=b"{}", vocabulary__txt=b"a\n")


def names(shelf: ModelShelf, path: Path) -> list[tuple[str, str, str]]:
    return sorted((found.engine, found.name, found.lacks) for found in recognise(path, KNOWN, shelf))


def taken(shelf: ModelShelf, path: Path) -> InstalledModel:
    (found,) = recognise(path, KNOWN, shelf)
    return bring(found, shelf, Silence())


def test_a_whole_stick_is_searched_and_everything_on_it_recognised(shelf: ModelShelf, stick: Path) -> None:
    a_whisper(stick / "my whisper")
    put(stick / "llm", tiny__gguf=GGUF, readme__txt=b"hello", other__gguf=b"GGUF\x03\0\0\0" + bytes(16) + b" mine")
    put(stick / "voices" / "de", anna__onnx=ONNX, anna__onnx__json=VOICE, MODEL_CARD=b"free")
    put(stick / "words", melspectrogram__onnx=ONNX, embedding_model__onnx=ONNX, hello__onnx=ONNX)
    put(stick / ".Trash", old__gguf=GGUF)
    assert names(shelf, stick) == [
        ("faster_whisper", "my-whisper", ""),
        ("llama_cpp", "other", ""),
        ("llama_cpp", "tiny", ""),
        ("openwakeword", "hello", ""),
        ("piper", "anna", ""),
    ]


def test_each_kind_lies_on_the_shelf_with_all_its_files(shelf: ModelShelf, stick: Path) -> None:
    whisper = taken(shelf, a_whisper(stick / "w"))
    assert sorted(p.name for p in whisper.folder.iterdir()) == [
        "config.json", "model.bin", "origin.yaml", "tokenizer.json", "vocabulary.txt",
    ]  # fmt: skip
    voice = taken(shelf, put(stick / "v", anna__onnx=ONNX, anna__onnx__json=VOICE) / "anna.onnx")
    assert voice.file("*.onnx").name == "anna.onnx" and voice.file("*.onnx.json")
    word = taken(shelf, put(stick / "o", melspectrogram__onnx=ONNX, embedding_model__onnx=ONNX, hello__onnx=ONNX))
    assert word.engine == "openwakeword" and word.file("melspectrogram.onnx") and word.file("hello.onnx")
    assert shelf.find("openwakeword", "hello") == word


def test_a_model_of_the_catalogue_gets_its_name_and_is_compared_with_it(shelf: ModelShelf, stick: Path) -> None:
    model = taken(shelf, put(stick, renamed_by_me__gguf=GGUF))
    assert model.name == "tiny" and model.file("*.gguf").name == "tiny.gguf"
    assert [verdict.wrong for verdict in verify(model, KNOWN, Silence())] == [""]
    origin = origin_of(model)
    assert origin is not None and origin.model == "tiny" and origin.licence == "Apache-2.0"


def test_a_damaged_copy_of_a_known_model_is_refused(shelf: ModelShelf, stick: Path) -> None:
    with pytest.raises(HubError, match="damaged") as caught:
        taken(shelf, put(stick, tiny__gguf=GGUF[:-1] + b"?"))
    assert "once more" in caught.value.hint and "--name" in caught.value.hint
    assert shelf.installed("llama_cpp") == ()


def test_a_model_that_is_only_as_large_as_a_known_one_is_taken_as_what_it_is(shelf: ModelShelf, stick: Path) -> None:
    model = taken(shelf, put(stick, my_own__gguf=GGUF[:-1] + b"?"))
    assert model.name == "my_own"
    origin = origin_of(model)
    assert origin is not None and origin.model == "" and origin.licence == "unknown"


def test_a_name_of_one_s_own_takes_it_as_it_is(shelf: ModelShelf, stick: Path) -> None:
    (found,) = recognise(put(stick, tiny__gguf=GGUF[:-1] + b"?"), KNOWN, shelf)
    assert bring(renamed(found, "my own/model"), shelf, Silence()).name == "my-own-model"


def test_what_a_model_lacks_is_said(shelf: ModelShelf, stick: Path) -> None:
    put(stick / "a", model__bin=WHISPER, config__json=b"{}")
    put(stick / "b", hello__onnx=ONNX)
    put(stick / "c", big__onnx=ONNX + bytes(21 * 2**20))
    put(stick / "d", **{"large-00001-of-00002__gguf": GGUF[:100]})
    told = {name: lacks for _, name, lacks in names(shelf, stick)}
    assert "tokenizer.json and vocabulary.txt" in told["a"]
    assert "melspectrogram.onnx and embedding_model.onnx" in told["hello"]
    assert "big.onnx.json" in told["big"]
    assert "join them" in told["large-00001-of-00002"]
    for found in recognise(stick, KNOWN, shelf):
        with pytest.raises(HubError, match="cannot be used"):
            bring(found, shelf, Silence())


def test_the_eye_of_a_model_comes_with_it_where_it_is_clear_whose_it_is(shelf: ModelShelf, stick: Path) -> None:
    eye = {"mmproj-f16__gguf": GGUF[:100]}
    model = taken(shelf, put(stick / "a", seeing__gguf=GGUF[:200], **eye))
    assert sorted(path.name for path in model.folder.glob("*.gguf")) == ["mmproj-f16.gguf", "seeing.gguf"]
    put(stick / "b", one__gguf=GGUF[:300], two__gguf=GGUF[:400], **eye)
    assert [len(found.files) for found in recognise(stick / "b", KNOWN, shelf)] == [1, 1]
    with pytest.raises(HubError, match="no model"):
        recognise(put(stick / "c", **eye), KNOWN, shelf)


@pytest.mark.parametrize("name", ["sha256-d01c30", "Tiny.GGUF", "tiny.part", "tiny.gguf.part", "tiny.bin"])
def test_a_language_model_is_found_by_its_engine_whatever_its_file_was_called(
    shelf: ModelShelf, stick: Path, name: str
) -> None:
    (stick / name).write_bytes(GGUF + b"another")
    installed = taken(shelf, stick)
    assert installed.file("*.gguf").read_bytes() == GGUF + b"another"
    assert [verdict.wrong for verdict in verify(installed, KNOWN, Silence())] == [""]


def test_a_voice_with_large_letters_is_found_by_its_engine(shelf: ModelShelf, stick: Path) -> None:
    (stick / "VOICE.ONNX").write_bytes(ONNX)
    (stick / "VOICE.ONNX.json").write_bytes(VOICE)
    sound = taken(shelf, stick).file("*.onnx")
    assert sound.with_name(sound.name + ".json").read_bytes() == VOICE


def test_what_a_mac_leaves_beside_files_hides_no_eye(shelf: ModelShelf, stick: Path) -> None:
    put(stick, model__gguf=GGUF + b"x", mmproj__gguf=GGUF + b"y", **{"__" + "_model__gguf": b"Mac OS X"})
    assert sorted(path.name for path in taken(shelf, stick).folder.glob("*.gguf")) == ["mmproj.gguf", "model.gguf"]


def test_a_pipe_is_not_waited_for(shelf: ModelShelf, stick: Path) -> None:
    os.mkfifo(stick / "pipe")
    held = os.open(stick / "pipe", os.O_RDWR)  # so that a mistake here does not hang
    try:
        os.write(held, GGUF[:60_000])
        with pytest.raises(HubError) as caught:
            recognise(stick, KNOWN, shelf)
    finally:
        os.close(held)
    assert caught.value.code == "model-unknown"


def test_a_second_wake_word_hears_with_what_the_first_one_brought(shelf: ModelShelf, stick: Path) -> None:
    taken(shelf, put(stick / "o", melspectrogram__onnx=ONNX, embedding_model__onnx=ONNX, hello__onnx=ONNX))
    word = taken(shelf, put(stick / "p", goodbye__onnx=ONNX) / "goodbye.onnx")
    assert word.name == "goodbye" and word.file("embedding_model.onnx")


def test_a_stick_is_searched_so_deep_and_so_long(
    shelf: ModelShelf, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stick / "1/2/3/4/5/6", near__gguf=GGUF)
    put(stick / "1/2/3/4/5/6/7", far__gguf=GGUF)
    assert names(shelf, stick) == [("llama_cpp", "near", "")]
    monkeypatch.setattr("xiaozhi_hub.models.carry.MOST_FILES", 1)
    put(stick, one__txt=b"", two__txt=b"")
    with pytest.raises(HubError, match="too many files"):
        recognise(stick, KNOWN, shelf)


def test_files_that_only_look_like_models_are_not_taken(shelf: ModelShelf, stick: Path) -> None:
    put(stick, a__gguf=b"GGML....", model__bin=b"\0" * 100, b__onnx=b"text", c__onnx=b"")
    with pytest.raises(HubError, match="no model") as caught:
        recognise(stick, KNOWN, shelf)
    assert "GGUF" in caught.value.hint
    with pytest.raises(HubError, match="nothing at") as caught:
        recognise(stick / "nowhere", KNOWN, shelf)
    assert "mounted" in caught.value.hint


def test_importing_again_replaces_the_model_in_one_step(shelf: ModelShelf, stick: Path) -> None:
    first = taken(shelf, put(stick, my__gguf=GGUF[:500]))
    second = taken(shelf, put(stick, my__gguf=GGUF[:600]))
    assert first.folder == second.folder
    assert second.file("*.gguf").stat().st_size == 600
    assert [path.name for path in second.folder.parent.iterdir()] == ["my"]


def test_different_models_of_one_name_are_both_taken_and_a_copy_is_not(shelf: ModelShelf, stick: Path) -> None:
    put(stick / "a", model__gguf=GGUF[:500])
    put(stick / "b", model__gguf=GGUF[:600])
    put(stick / "c", model__gguf=GGUF[:500])
    assert names(shelf, stick) == [("llama_cpp", "b-model", ""), ("llama_cpp", "model", "")]
    put(stick / "z" / "b", model__gguf=GGUF[:700])
    third = recognise(stick, KNOWN, shelf)[-1]
    assert third.files[0].stat().st_size == 700 and "--name" in third.lacks
    assert bring(renamed(recognise(stick / "z", KNOWN, shelf)[0], "mine"), shelf, Silence()).name == "mine"


def test_a_model_that_is_as_large_as_another_of_its_name_is_no_copy(shelf: ModelShelf, stick: Path) -> None:
    put(stick / "a", model__gguf=GGUF[:500])
    put(stick / "b", model__gguf=GGUF[:499] + b"!")
    assert names(shelf, stick) == [("llama_cpp", "b-model", ""), ("llama_cpp", "model", "")]


def test_a_pulled_plug_leaves_the_old_model_or_the_new_one_and_never_a_half(
    shelf: ModelShelf, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(stick / "mine", my__onnx=ONNX, my__onnx__json=VOICE)
    taken(shelf, stick / "mine" / "my.onnx")

    def pulled(folder: Path, **_: object) -> None:
        min(folder.iterdir()).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("shutil.rmtree", pulled)
        taken(shelf, put(stick / "mine", my__onnx=ONNX + b"2") / "my.onnx")
    (model,) = shelf.installed("piper")
    assert {verdict.wrong for verdict in verify(model, KNOWN, Silence())} == {""}
    taken(shelf, stick / "mine" / "my.onnx")
    assert [path.name for path in (shelf.folder / "piper").iterdir()] == ["my"]


def test_an_import_that_broke_off_is_in_nobody_s_way(
    shelf: ModelShelf, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = put(stick, my__gguf=GGUF + bytes(10**6)) / "my.gguf"
    put(shelf.folder / "llama_cpp" / "my.part", my__gguf=bytes(big.stat().st_size - 10**5))
    usage = shutil.disk_usage(stick)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=SPARE_BYTES + 2 * 10**5))
    assert taken(shelf, big).name == "my"


def test_a_stick_that_is_pulled_out_is_told(shelf: ModelShelf, stick: Path) -> None:
    (found,) = recognise(put(stick, my__gguf=GGUF), KNOWN, shelf)
    (stick / "my.gguf").unlink()
    with pytest.raises(HubError) as caught:
        bring(found, shelf, Silence())
    assert caught.value.code == "path-unreadable"
    assert shelf.installed("llama_cpp") == ()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux")
def test_a_stick_that_cannot_be_read_is_not_taken_for_the_hub_s_disk(shelf: ModelShelf, stick: Path) -> None:
    (stick / "bad.gguf").symlink_to("/proc/self/mem")  # whose first page gives an input/output error
    with pytest.raises(HubError) as caught:
        bring(Found("llama_cpp", "bad", (stick / "bad.gguf",)), shelf, Silence())
    assert caught.value.code == "path-unreadable" and str(stick / "bad.gguf") in caught.value.message


def test_nobody_else_gets_at_a_model_until_it_has_its_name(
    shelf: ModelShelf, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To have it all on the disk takes a Pi a minute: time enough for another command."""
    put(stick, my__gguf=GGUF[:5000])
    flush, told = os.fsync, []

    def flushed(handle: int) -> None:
        flush(handle)
        if not shelf.installed("llama_cpp"):
            with pytest.raises(HubError) as caught:
                taken(shelf, stick)
            told.append(caught.value.code)

    monkeypatch.setattr(os, "fsync", flushed)
    installed = taken(shelf, stick)
    assert told == ["model-busy"] * 2, "of the model and its origin"
    assert sorted(path.name for path in installed.folder.iterdir()) == ["my.gguf", "origin.yaml"]


def test_what_is_being_fetched_anew_is_not_deleted_by_another_command(shelf: ModelShelf, stick: Path) -> None:
    model = taken(shelf, put(stick, my__gguf=GGUF[:5000]))
    with growing(shelf, "llama_cpp", "my") as part:
        (part / "my.gguf").write_bytes(GGUF[:1000])
        with pytest.raises(HubError) as caught:
            remove(model)
        assert caught.value.code == "model-busy" and (part / "my.gguf").is_file() and shelf.installed("llama_cpp")
    remove(model)
    assert list((shelf.folder / "llama_cpp").iterdir()) == []


def test_no_room_is_told_before_the_copying(shelf: ModelShelf, stick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(stick, my__gguf=GGUF)
    usage = shutil.disk_usage(stick)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(HubError) as caught:
        taken(shelf, stick)
    assert caught.value.code == "disk-full"


def test_a_voice_is_known_by_its_name_because_voices_are_equally_large(shelf: ModelShelf, stick: Path) -> None:
    put(stick, **{"zh_CN-mine__onnx": ONNX, "zh_CN-mine__onnx__json": VOICE})
    size = (stick / "zh_CN-mine.onnx").stat().st_size
    huayan = KNOWN.find("zh_CN-huayan-medium")
    only = Catalogue((replace(huayan, files=(replace(huayan.files[0], size=size), huayan.files[1])),))
    (found,) = recognise(stick, only, shelf)
    assert found.listed is None and found.name == "zh_CN-mine"


# -- verify and remove ----------------------------------------------------------------------------------------------


def test_verify_finds_what_was_damaged_later_and_what_is_missing(shelf: ModelShelf, stick: Path) -> None:
    model = taken(shelf, a_whisper(stick / "w"))
    assert [verdict.wrong for verdict in verify(model, KNOWN, Silence())] == [""] * 4
    (model.folder / "model.bin").write_bytes(WHISPER[:-1] + b"?")
    (model.folder / "vocabulary.txt").unlink()
    wrong = {verdict.file: verdict.wrong for verdict in verify(model, KNOWN, Silence()) if verdict.wrong}
    assert "sha256" in wrong["model.bin"] and "missing" in wrong["vocabulary.txt"]
    assert set(wrong) == {"model.bin", "vocabulary.txt"}


def test_verify_compares_with_the_catalogue_where_the_model_was_put_there_by_hand(shelf: ModelShelf) -> None:
    put(shelf.folder / "llama_cpp" / "tiny", tiny__gguf=GGUF[:-1] + b"?")
    model = shelf.find("llama_cpp", "tiny")
    (verdict,) = verify(model, KNOWN, Silence())
    assert verdict.by == "sha256" and verdict.wrong
    put(model.folder, tiny__gguf=GGUF)
    assert [verdict.wrong for verdict in verify(model, KNOWN, Silence())] == [""]


def test_removing_frees_what_it_says(shelf: ModelShelf, stick: Path) -> None:
    model = taken(shelf, put(stick, my__gguf=GGUF))
    assert remove(model) >= len(GGUF)
    assert list((shelf.folder / "llama_cpp").iterdir()) == []
