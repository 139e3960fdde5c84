"""The models that the hub knows by name: what they are, how large, under which licence, and where their files come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

import voluptuous as vol
import yaml

from xiaozhi_hub.errors import ConfigError, HubError, Place

OWN = Path(__file__).with_name("catalogue.yaml")
OWNERS = "models.yaml"
"""The owner's own list, in the configuration folder; it looks like ours."""
EARS = ("melspectrogram.onnx", "embedding_model.onnx")
"""What all wake words of openWakeWord have in common, each with a copy of its own in its folder."""
SMALL_BYTES = 2**20
"""What a file of unknown size may have at most: such are settings beside a model."""


@dataclass(frozen=True, slots=True)
class Runner:
    """What runs the models of one engine."""

    module: str
    """The package that must be there, as it is imported."""
    extra: str
    """The extra of the hub's own package that brings it."""


RUNNERS: Mapping[str, Runner] = MappingProxyType(
    {
        "faster_whisper": Runner("faster_whisper", "asr"),
        "llama_cpp": Runner("llama_cpp", "llm"),
        "piper": Runner("piper", "tts"),
        "openwakeword": Runner("onnxruntime", "wake"),
    }
)


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model, as its publisher has it."""

    name: str
    """In the folder of the model, and at the end of its path in the source."""
    size: int | None = None
    """In bytes; None when nobody has published it."""
    sha256: str = ""
    md5: str = ""

    @property
    def checksum(self) -> tuple[str, str] | None:
        """The strongest checksum that is known: its kind, as `hashlib` calls it, and its value."""
        if self.sha256:
            return "sha256", self.sha256
        return ("md5", self.md5) if self.md5 else None

    @property
    def known_by(self) -> str:
        """What its bytes can be compared with, for people."""
        if (checksum := self.checksum) is not None:
            return checksum[0]
        return "size only" if self.size is not None else "its form only"


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model is published. Which address that is, the owner's settings say (`models.mirror`)."""

    repository: str
    revision: str = "main"
    folder: str = ""
    kind: str = "hub"
    """``hub``: a repository of a model hub; ``release``: files beside a release of source code."""

    def path_of(self, file: ModelFile) -> str:
        """The path of *file* in the repository."""
        return f"{self.folder}/{file.name}" if self.folder else file.name


@dataclass(frozen=True, slots=True)
class Speed:
    """How quick a model is on the reference machine (`fit.REFERENCE`)."""

    basis: str
    """``measured``, or ``derived`` from a measured model of another size."""
    seconds: float = 0.0
    """A recogniser: 30 s of sound and 16 tokens on one core."""
    reads: float = 0.0
    """A language model: tokens of a question per second."""
    writes: float = 0.0
    """A language model: tokens of an answer per second."""


@dataclass(frozen=True, slots=True)
class CatalogueModel:
    """A model that can be had."""

    name: str
    engine: str
    role: str
    languages: tuple[str, ...]
    about: str
    """What its owner says of it; what the hub says of those that it knows by itself is the text ``models.about.<name>``."""
    quality: int
    licence: str
    source: Source
    files: tuple[ModelFile, ...]
    memory_mib: int
    memory_basis: str
    speed: Speed | None = None
    ask: bool = False
    """Its licence is not plainly free: people agree to it before it is fetched."""

    @property
    def size(self) -> int:
        """The bytes of all its files, as far as they are known."""
        return sum(file.size or 0 for file in self.files)

    @property
    def main_file(self) -> ModelFile:
        """The largest file that is the model's own: it tells the model apart from all others."""
        return max((file for file in self.files if file.name not in EARS), key=lambda file: file.size or 0)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All models that are known by name."""

    models: tuple[CatalogueModel, ...]
    _by_name: Mapping[str, CatalogueModel] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {model.name: model for model in self.models})

    def get(self, name: str) -> CatalogueModel | None:
        return self._by_name.get(name)

    def find(self, name: str) -> CatalogueModel:
        """The model called *name*; `HubError` with the nearest names when there is none."""
        if (model := self._by_name.get(name)) is not None:
            return model
        by_word = {known.lower(): known for known in self._by_name}
        near = [by_word[word] for word in get_close_matches(name.lower(), list(by_word), 3, 0.5)]
        hint = f"Did you mean {' or '.join(near)}?" if near else "xiaozhi-hub models list shows all."
        raise HubError(f"There is no model called {name} in the catalogue.", code="model-unknown", hint=hint)

    def of_file(self, name: str, size: int) -> CatalogueModel | None:
        """The model whose main file has this name and size; a file called otherwise is known by its size alone, if only
        one model has it."""
        same_size = [model for model in self.models if model.main_file.size == size]
        named = [model for model in same_size if model.main_file.name.lower() == name.lower()]
        if named or len(same_size) != 1:
            return named[0] if named else None
        return same_size[0]


def _matching(pattern: str, message: str) -> Any:
    return vol.All(str, vol.Match(rf"^(?:{pattern})$", msg=message))


_PATH = _matching(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)*", "expected a path without ..")
_FILE = _matching(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*", "expected the name of a file")
_BASIS = vol.In(["measured", "derived"])
_MODEL = vol.Schema(
    {
        vol.Required("engine"): vol.In(list(RUNNERS)),
        vol.Required("role"): vol.In(["asr", "tts", "llm", "wake"]),
        vol.Required("languages"): vol.All([str], vol.Length(min=1)),
        vol.Optional("about", default=""): str,
        vol.Required("quality"): vol.All(int, vol.Range(min=1)),
        vol.Required("licence"): vol.All(str, vol.Length(min=1)),
        vol.Optional("ask", default=False): bool,
        vol.Required("source"): {
            vol.Required("repository"): _PATH,
            vol.Optional("revision"): _PATH,
            vol.Optional("folder"): _PATH,
            vol.Optional("kind"): vol.In(["hub", "release"]),
        },
        vol.Required("memory"): {vol.Required("mib"): vol.All(int, vol.Range(min=1)), vol.Required("basis"): _BASIS},
        vol.Optional("speed"): {
            vol.Required("basis"): _BASIS,
            vol.Optional("seconds"): vol.All(vol.Any(int, float), vol.Range(min=0.001)),
            vol.Optional("reads"): vol.All(vol.Any(int, float), vol.Range(min=0.001)),
            vol.Optional("writes"): vol.All(vol.Any(int, float), vol.Range(min=0.001)),
        },
        vol.Required("files"): vol.All(
            {
                _FILE: {
                    vol.Optional("size"): vol.All(int, vol.Range(min=1)),
                    vol.Optional("sha256"): _matching("[0-9a-f]{64}", "expected a whole SHA-256 of 64 digits"),
                    vol.Optional("md5"): _matching("[0-9a-f]{32}", "expected a whole MD5 of 32 digits"),
                }
            },
            vol.Length(min=1),
        ),
    }
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def load_catalogue(path: Path = OWN) -> Catalogue:
    """Read the catalogue at *path*; `ConfigError` that names the model and the key when something is wrong with it."""
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"the catalogue of models cannot be read: {error}", Place(str(path))) from error
    if not isinstance(written, dict):
        raise ConfigError("expected models by name", Place(str(path)))
    return Catalogue(tuple(_model(path, name, facts) for name, facts in written.items()))


def catalogue_for(config_dir: Path) -> Catalogue:
    """The catalogue that comes with the hub, with what the owner has in ``models.yaml``, which wins; `ConfigError` as above."""
    models = {model.name: model for model in load_catalogue().models}
    own = config_dir / OWNERS
    if own.is_file():
        models |= {model.name: model for model in load_catalogue(own).models}
    return Catalogue(tuple(models.values()))


def _model(path: Path, name: object, facts: object) -> CatalogueModel:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a model", Place(str(path)))
    try:
        checked = _MODEL(facts)
    except vol.Invalid as error:
        key = " → ".join(str(part) for part in (name, *error.path))
        raise ConfigError(error.error_message, Place(str(path), key=key)) from error
    if not checked["files"].keys() - set(EARS):
        raise ConfigError("expected a file of its own, too", Place(str(path), key=f"{name} → files"))
    speed = checked.get("speed")
    return CatalogueModel(
        name=name,
        engine=checked["engine"],
        role=checked["role"],
        languages=tuple(checked["languages"]),
        about=checked["about"],
        quality=checked["quality"],
        licence=checked["licence"],
        source=Source(**checked["source"]),
        files=tuple(ModelFile(file, **known) for file, known in checked["files"].items()),
        memory_mib=checked["memory"]["mib"],
        memory_basis=checked["memory"]["basis"],
        speed=Speed(**speed) if speed is not None else None,
        ask=checked["ask"],
    )


__all__ = [
    "EARS",
    "RUNNERS",
    "SMALL_BYTES",
    "Catalogue",
    "CatalogueModel",
    "ModelFile",
    "Runner",
    "Source",
    "Speed",
    "catalogue_for",
    "load_catalogue",
]
