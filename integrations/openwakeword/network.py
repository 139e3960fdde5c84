"""openWakeWord's three stages: sound → spectrum → features → how surely a word has just been said.

The chain and its figures are those of the openwakeword package (0.6.0, ``utils.AudioFeatures`` and ``model.Model``), so that
its models score here as they do there; ``tests/test_openwakeword.py`` compares the two.

* Sound comes in steps of 80 ms; the spectrum of each is computed with the 30 ms before it, and scaled as ``x / 10 + 2``.
* A feature vector sums up the newest 76 rows of the spectrum; before there are so many, the missing ones are ones.
* A word looks at the newest feature vectors, mostly 16; missing ones are zeros. The first five scores are no scores yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xiaozhi_hub.plugins.api import NeedsAttention

from .words import EarFiles, WordFile

RATE = 16000
STEP = 1280
"""Samples of one step."""
OVERLAP = 480
ROWS, BANDS, FEATURES = 76, 32, 96
DEAF_STEPS = 5
MOST_VECTORS = 120
"""A word that looks at more is no word of openWakeWord."""

Sound = NDArray[np.int16]
Floats = NDArray[np.float32]


@dataclass(slots=True)
class Memory:
    """What the ears remember of one microphone."""

    sound: Sound = field(default_factory=lambda: np.zeros(0, np.int16))
    spectrum: Floats = field(default_factory=lambda: np.ones((ROWS, BANDS), np.float32))
    features: Floats = field(default_factory=lambda: np.zeros((MOST_VECTORS, FEATURES), np.float32))


class Ears:
    """The first two stages."""

    def __init__(self, files: EarFiles) -> None:
        self._mel = _open(files.mel)
        self._embedding = _open(files.embedding)
        self._names = (self._mel.get_inputs()[0].name, self._embedding.get_inputs()[0].name)

    def step(self, memory: Memory, sound: Sound) -> None:
        """Take in `STEP` samples."""
        heard = np.concatenate([memory.sound, sound])
        memory.sound = heard[-OVERLAP:]
        # By its shape and not by squeezing: a step may be a single row.
        rows = self._mel.run(None, {self._names[0]: heard[None].astype(np.float32)})[0].reshape(-1, BANDS)
        memory.spectrum = np.concatenate([memory.spectrum, rows / 10 + 2], dtype=np.float32)[-ROWS:]
        vector = self._embedding.run(None, {self._names[1]: memory.spectrum[None, :, :, None]})[0].reshape(FEATURES)
        memory.features = np.concatenate([memory.features[1:], vector[None]], dtype=np.float32)


class Word:
    """The last stage for one word."""

    def __init__(self, file: WordFile) -> None:
        self.file = file
        self._session = _open(file.path)
        entry = self._session.get_inputs()[0]
        shape = entry.shape
        if len(shape) != 3 or shape[2] != FEATURES or not isinstance(shape[1], int) or not 0 < shape[1] <= MOST_VECTORS:
            raise ValueError(f"its input is {shape}")
        self._name, self._vectors = entry.name, shape[1]

    def score(self, memory: Memory) -> float:
        """How surely (0…1) the word has just been said."""
        return float(self._session.run(None, {self._name: memory.features[None, -self._vectors :]})[0].item())


@dataclass(slots=True)
class Hearing:
    """One microphone: what each pair of ears remembers of it, and how long it has been heard."""

    memories: list[Memory]
    steps: int = 0


class Network:
    """All words, and the ears that they share. Its methods compute: they belong into a worker."""

    def __init__(self, files: Sequence[WordFile]) -> None:
        """Load the models and try them. `NeedsAttention` names the file that cannot be used."""
        groups: dict[str, list[WordFile]] = {}
        for file in files:
            groups.setdefault(file.ears.digest, []).append(file)
        self._groups: list[tuple[Ears, list[Word]]] = []
        for group in groups.values():
            self._groups.append((_usable(Ears, group[0].ears, group[0].ears.mel.parent), []))
            for file in group:
                self._groups[-1][1].append(_usable(Word, file, file.path))
        self.words = tuple(word.file for _, words in self._groups for word in words)
        for ears, words in self._groups:
            _usable(self._try, (ears, words), words[0].file.path.parent)

    def _try(self, group: tuple[Ears, list[Word]]) -> None:
        memory = Memory()
        group[0].step(memory, np.zeros(STEP, np.int16))
        for word in group[1]:
            word.score(memory)

    def open(self) -> Hearing:
        return Hearing([Memory() for _ in self._groups])

    def step(self, hearing: Hearing, sound: Sound) -> tuple[float, ...]:
        """Take in `STEP` samples; return the scores, in the order of `words`."""
        scores: list[float] = []
        for (ears, words), memory in zip(self._groups, hearing.memories, strict=True):
            ears.step(memory, sound)
            scores += [word.score(memory) for word in words]
        hearing.steps += 1
        return tuple(scores) if hearing.steps > DEAF_STEPS else (0.0,) * len(scores)


def _usable(make: Any, of: Any, path: Path) -> Any:
    """``make(of)``; whatever a library says of a file that it cannot use becomes `NeedsAttention`."""
    try:
        return make(of)
    except Exception as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise NeedsAttention(
            f"{path} cannot be used as a wake word of openWakeWord: {reason}.",
            code="model-unusable",
            hint="Run: xiaozhi-hub models verify",
        ) from error


def _open(path: Path) -> Any:
    """Load one stage. onnxruntime is imported here, because only who has models needs it."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    # The stages are small: more threads would wait for each other longer than they compute.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


__all__ = ["RATE", "STEP", "Hearing", "Network"]
