"""openWakeWord models to test with: three real ONNX graphs of its shapes that listen for a whistle.

Spectrum (``melspectrogram.onnx``: sound [1, n] → [1, 1, rows, 32]): the power, in dB, at 32 pitches 200 Hz apart, each row
of 512 samples, 160 apart. Features (``embedding_model.onnx``: [1, 76, 32, 1] → [1, 1, 1, 96]): the mean of the newest 24
rows, three times over. A word ([1, 16, 96] → [1, 1]) compares one pitch of the newest features with `LOUD_DB`: a loud tone of
a third of a second scores near 1, anything else near 0. Nothing is trained or random.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx import helper as h

WIDTH, HOP, BANDS = 512, 160, 32
LOUD_DB = -25.0
"""Relative to a sine at full scale, about."""
NEWEST = 24


def pitch_hz(band: int) -> float:
    return 200.0 * (band + 1)


def write_word(
    folder: Path, name: str, band: int, *, file: str = "", vectors: int = 16, over: int = 1, inputs: int = 96
) -> Path:
    """Write ``folder/name/`` with the two ears and the word for the pitch of *band*; return that folder.

    The word looks at *over* of its newest *vectors* features. Others than 96 *inputs* make a file that is no wake word.
    """
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    _save(place / "melspectrogram.onnx", _spectrum(), ("input", ["n", "samples"]), ("output", ["n", 1, "rows", BANDS]))
    _save(place / "embedding_model.onnx", _features(), ("input_1", ["n", 76, BANDS, 1]), ("features", ["n", 1, 1, 96]))
    _save(place / f"{file or name}.onnx", _word(band, vectors, over), ("x", [1, vectors, inputs]), ("score", [1, 1]))
    return place


Graph = tuple[list[onnx.NodeProto], dict[str, Any]]


def _spectrum() -> Graph:
    at = np.arange(WIDTH) / 16000
    window = np.hanning(WIDTH) * 2 / WIDTH / 32768 * 2
    angles = 2 * np.pi * np.array([[pitch_hz(band)] for band in range(BANDS)]) * at
    waves = np.stack([np.cos(angles), np.sin(angles)], axis=1).reshape(2 * BANDS, WIDTH) * window
    pairs = np.kron(np.eye(BANDS), np.ones((1, 2)))
    nodes = [
        h.make_node("Unsqueeze", ["input", "one"], ["mono"]),
        h.make_node("Conv", ["mono", "waves"], ["parts"], strides=[HOP]),
        h.make_node("Mul", ["parts", "parts"], ["squares"]),
        h.make_node("Conv", ["squares", "pairs"], ["power"]),
        h.make_node("Add", ["power", "floor"], ["audible"]),
        h.make_node("Log", ["audible"], ["nepers"]),
        h.make_node("Mul", ["nepers", "decibel"], ["loudness"]),
        h.make_node("Transpose", ["loudness"], ["rows"], perm=[0, 2, 1]),
        h.make_node("Unsqueeze", ["rows", "one"], ["output"]),
    ]
    return nodes, {
        "one": np.array([1]),
        "waves": waves[:, None].astype(np.float32),
        "pairs": pairs[:, :, None].astype(np.float32),
        "floor": np.array(1e-9, np.float32),
        "decibel": np.array(10 / np.log(10), np.float32),
    }


def _features() -> Graph:
    nodes = [
        h.make_node("Slice", ["input_1", "from", "to", "axis"], ["newest"]),
        h.make_node("ReduceMean", ["newest"], ["mean"], axes=[1], keepdims=1),
        h.make_node("Transpose", ["mean"], ["vector"], perm=[0, 1, 3, 2]),
        h.make_node("Concat", ["vector"] * 3, ["features"], axis=3),
    ]
    return nodes, {"from": np.array([76 - NEWEST]), "to": np.array([76]), "axis": np.array([1])}


def _word(band: int, vectors: int, over: int) -> Graph:
    nodes = [
        h.make_node("Slice", ["x", "from", "to", "axes"], ["seen"]),
        h.make_node("ReduceMean", ["seen"], ["level"], axes=[1, 2], keepdims=0),
        h.make_node("Sub", ["level", "middle"], ["above"]),
        h.make_node("Mul", ["above", "steepness"], ["steep"]),
        h.make_node("Sigmoid", ["steep"], ["sure"]),
        h.make_node("Reshape", ["sure", "shape"], ["score"]),
    ]
    return nodes, {
        "from": np.array([vectors - over, band]),
        "to": np.array([vectors, band + 1]),
        "axes": np.array([1, 2]),
        "middle": np.array(LOUD_DB / 10 + 2, np.float32),
        "steepness": np.array(8.0, np.float32),
        "shape": np.array([1, 1]),
    }


def _save(path: Path, graph: Graph, entry: tuple[str, list[Any]], exit: tuple[str, list[Any]]) -> None:
    nodes, constants = graph
    model = h.make_model(
        h.make_graph(
            nodes,
            path.stem,
            [h.make_tensor_value_info(entry[0], TensorProto.FLOAT, entry[1])],
            [h.make_tensor_value_info(exit[0], TensorProto.FLOAT, exit[1])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[h.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, str(path))
