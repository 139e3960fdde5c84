"""The catalogue says what it should of every model, and mistakes in it are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xiaozhi_hub.errors import ConfigError, HubError
from xiaozhi_hub.models.catalogue import EARS, OWN, RUNNERS, Catalogue, catalogue_for, load_catalogue


@pytest.fixture(scope="module")
def shipped() -> Catalogue:
    return load_catalogue()


@pytest.mark.parametrize("role", ["asr", "tts", "llm"])
@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_there_is_a_model_for_each_stage_and_language(shipped: Catalogue, role: str, language: str) -> None:
    assert [model for model in shipped.models if model.role == role and language in model.languages]


def test_there_are_wake_words_with_all_that_they_hear_with(shipped: Catalogue) -> None:
    words = [model for model in shipped.models if model.role == "wake"]
    assert len(words) >= 3
    for model in words:
        assert set(EARS) < {file.name for file in model.files}
        assert model.main_file.name not in EARS


def test_every_large_file_can_be_checked(shipped: Catalogue) -> None:
    unknown = [
        f"{model.name}: {file.name}" for model in shipped.models for file in model.files if file.checksum is None
    ]
    assert all(name.endswith(".onnx.json") for name in unknown), unknown


def test_what_is_not_plainly_free_asks_first(shipped: Catalogue) -> None:
    free = {model.licence for model in shipped.models if not model.ask}
    assert free == {"MIT", "Apache-2.0"}


def test_no_address_of_a_model_hub_is_written_in_the_catalogue() -> None:
    text = "\n".join(line.partition("#")[0] for line in OWN.read_text(encoding="utf-8").splitlines())
    assert "://" not in text
    assert not re.search(r"\b[a-z0-9-]+\.(com|co|org|net|io|cn|ai)\b", text)


def test_figures_say_whether_they_were_measured(shipped: Catalogue) -> None:
    assert {model.memory_basis for model in shipped.models} == {"measured", "derived"}
    for model in shipped.models:
        assert model.engine in RUNNERS
        if model.role == "asr":
            assert model.speed is not None and model.speed.seconds > 0
        if model.role == "llm":
            assert model.speed is not None and model.speed.reads > model.speed.writes > 0


def test_a_model_is_known_by_its_main_file_even_under_another_name(shipped: Catalogue) -> None:
    model = shipped.find("qwen3-0.6b")
    assert shipped.of_file("Qwen3-0.6B-Q8_0.gguf", 639446688) is model
    assert shipped.of_file("my-model.gguf", 639446688) is model
    assert shipped.of_file("Qwen3-0.6B-Q8_0.gguf", 1) is None
    assert shipped.of_file("other.onnx", 63201294) is None, "three voices have this size"


def test_a_mistyped_name_gets_the_nearest_ones(shipped: Catalogue) -> None:
    with pytest.raises(HubError) as caught:
        shipped.find("Qwen3-0.6")
    assert "qwen3-0.6b" in caught.value.hint
    with pytest.raises(HubError) as caught:
        shipped.find("xyzzy")
    assert "models list" in caught.value.hint


GOOD = """
mine:
  engine: llama_cpp
  role: llm
  languages: [en]
  about: my own
  quality: 1
  licence: mine
  source: {repository: me/mine}
  memory: {mib: 100, basis: measured}
  files: {mine.gguf: {size: 10}}
"""


def test_the_owner_s_own_list_adds_to_ours_and_wins(tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text(GOOD + GOOD.replace("mine:", "qwen3-0.6b:", 1))
    known = catalogue_for(tmp_path)
    assert known.find("mine").about == "my own"
    assert known.find("qwen3-0.6b").about == "my own"
    assert known.find("gemma-3-1b").ask


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("engine: llama_cpp", "engine: ollama", "mine → engine"),
        ("{size: 10}", "{size: 10, sha256: 1234abcd}", "mine → files → mine.gguf → sha256"),
        ("mine.gguf", "../mine.gguf", "mine → files"),
        ("me/mine", "me/../../mine", "mine → source → repository"),
        ("  licence: mine\n", "", "mine → licence"),
        ("mine:", "../mine:", "no name for a model"),
        ("files: {mine.gguf: {size: 10}}", "files: {}", "mine → files"),
        ("{mine.gguf: {size: 10}}", "{melspectrogram.onnx: {size: 10}}", "mine → files"),
        ("mine:", "mine: [", "cannot be read"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    (tmp_path / "models.yaml").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        catalogue_for(tmp_path)
    assert told in str(caught.value) and "models.yaml" in str(caught.value)
