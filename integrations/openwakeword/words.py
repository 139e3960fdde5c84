"""Which words there are: the models that lie on the shelf, and what the owner says of them."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozhi_hub.plugins.api import InstalledModel, ModelShelf, NeedsAttention

log = logging.getLogger(__name__)

ENGINE = "openwakeword"
MEL, EMBEDDING = "melspectrogram.onnx", "embedding_model.onnx"
"""What all words hear with, by openWakeWord's names (its release v0.5.1); each model's folder has a copy."""


@dataclass(frozen=True, slots=True)
class EarFiles:
    """The first two stages, which words can share."""

    mel: Path
    embedding: Path
    digest: str
    """Equal for equal contents: then they are computed once."""


@dataclass(frozen=True, slots=True)
class WordFile:
    """One word, not loaded yet."""

    model: str
    path: Path
    ears: EarFiles
    called: tuple[str, ...]
    """What people say, and then other texts by which devices call it."""
    threshold: float
    patience: int

    @property
    def word(self) -> str:
        return self.called[0]


def find_words(models: ModelShelf, options: Mapping[str, Any]) -> tuple[WordFile, ...]:
    """Look for the configured words, or else for all that are installed. Blocks as long as the disk takes.

    `NotInstalled` when one is missing, or there is none; `NeedsAttention` when a configured one, or the only one, cannot be
    used. Others that cannot be used are left out, which the log says.
    """
    found: list[WordFile] = []
    for name, own in options["words"].items():
        found += _words_of(models.find(ENGINE, name), name, own, options)
    problem: NeedsAttention | None = None
    for installed in () if options["words"] else models.installed(ENGINE):
        try:
            found += _words_of(installed, "", {}, options)
        except NeedsAttention as error:
            problem = error
            log.warning("a wake word is left out: %s", error)
    if not found:
        if problem is not None:
            raise problem
        models.find(ENGINE)  # tells what to do
    return tuple({word.word: word for word in reversed(found)}.values())[::-1]


def _words_of(
    model: InstalledModel, wanted: str, own: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[WordFile]:
    ears = _ears(model.file(MEL), model.file(EMBEDDING))
    path = Path(wanted).expanduser()
    if "/" in wanted and path.is_file():  # that one, whatever else lies beside it
        files = [path]
    else:
        files = [path for path in sorted(model.folder.glob("*.onnx")) if path.name not in (MEL, EMBEDDING)]
    if not files:
        raise NeedsAttention(
            f"The model {model.name} in {model.folder} has no wake word, only what hears it.",
            code="model-incomplete",
            hint=f"Run: xiaozhi-hub models verify {model.name}",
        )
    for file in files:
        yield WordFile(
            model.name,
            file,
            ears,
            tuple(own.get("called") or [spoken_name(file.stem)]),
            own.get("threshold", options["threshold"]),
            own.get("patience", options["patience"]),
        )


def _ears(mel: Path, embedding: Path) -> EarFiles:
    try:
        content = hashlib.sha256(mel.read_bytes())
        content.update(embedding.read_bytes())
    except OSError as error:
        raise NeedsAttention(f"{mel.parent} cannot be read: {error.strerror}.", code="model-unusable") from error
    return EarFiles(mel, embedding, content.hexdigest())


def spoken_name(stem: str) -> str:
    """``hey_jarvis_v0.1`` is called "hey jarvis"."""
    return " ".join(re.sub(r"_v\d+(\.\d+)*$", "", stem).replace("_", " ").split()).lower() or stem


__all__ = ["EMBEDDING", "ENGINE", "MEL", "EarFiles", "WordFile", "find_words", "spoken_name"]
