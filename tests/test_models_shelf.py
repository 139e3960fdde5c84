"""Models on the disk are found, and their absence names the cure."""

from __future__ import annotations

from pathlib import Path

import pytest

from xiaozhi_hub.errors import NeedsAttention, NotInstalled
from xiaozhi_hub.models.shelf import ModelShelf


@pytest.fixture
def shelf(tmp_path: Path) -> ModelShelf:
    for name in ("b-voice", "a-voice", "half.part", ".hidden"):
        (tmp_path / "piper" / name).mkdir(parents=True)
    (tmp_path / "piper" / "a-voice" / "a.onnx").touch()
    return ModelShelf(tmp_path)


def test_models_are_found_by_name_and_the_first_is_taken_when_none_is_named(shelf: ModelShelf) -> None:
    assert [model.name for model in shelf.installed("piper")] == ["a-voice", "b-voice"]
    assert shelf.find("piper").name == "a-voice"
    assert shelf.find("piper", "b-voice").folder.name == "b-voice"


def test_a_path_elsewhere_is_taken_as_it_is(shelf: ModelShelf, tmp_path: Path) -> None:
    found = shelf.find("piper", str(tmp_path / "piper" / "a-voice" / "a.onnx"))
    assert found.file("*.onnx").name == "a.onnx"
    with pytest.raises(NotInstalled, match="no model at"):
        shelf.find("piper", str(tmp_path / "nowhere"))


def test_what_is_missing_names_the_command_that_gets_it(shelf: ModelShelf) -> None:
    with pytest.raises(NotInstalled) as caught:
        shelf.find("piper", "c-voice")
    assert "models download c-voice" in caught.value.hint
    assert "a-voice" in caught.value.hint
    with pytest.raises(NotInstalled) as caught:
        shelf.find("llama_cpp")
    assert "models recommend" in caught.value.hint


def test_a_model_without_its_file_is_told_as_incomplete(shelf: ModelShelf) -> None:
    with pytest.raises(NeedsAttention, match=r"has no file \*\.onnx"):
        shelf.find("piper", "b-voice").file("*.onnx")
