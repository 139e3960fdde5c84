"""Piper voices to test with: real ONNX graphs that hum one tone for each sound of the text.

The graph has the inputs and the output of a Piper voice (``input`` int64[1,n], ``input_lengths`` int64[1], ``scales``
float[3] = noise, length, noise of lengths; ``sid`` int64[1] with several speakers; ``output`` float[1,1,1,samples]). Each
phoneme id becomes `SOUND_MS` × the length scale of a sine whose pitch is its id's; the first four ids (padding, begin, end,
space) are silent; each further speaker hums a fifth higher. Nothing is random.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RATE = 16000
SOUND_MS = 30
SILENT_IDS = 4
LOWEST_HZ, STEPS_PER_OCTAVE = 180.0, 36


def write_voice(
    folder: Path, name: str, language: str = "en", speakers: int = 1, *, broken: bool = False, **described: Any
) -> Path:
    """Write ``folder/name/name.onnx`` and its JSON; return the path of the former.

    *language* is ``en`` or ``zh``; *broken* leaves the ONNX file half; *described* replaces keys of the JSON.
    """
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    model = place / f"{name}.onnx"
    symbols = 1 + max(number for ids in DEFAULT_PHONEME_ID_MAP.values() for number in ids)
    content = _hummer(symbols, speakers).SerializeToString()
    model.write_bytes(content[: len(content) // 2] if broken else content)
    description: Mapping[str, Any] = {
        "audio": {"sample_rate": RATE, "quality": "x_low"},
        "espeak": {"voice": {"en": "en-us", "zh": "cmn"}.get(language, language)},
        "language": {"code": {"en": "en_US", "zh": "zh_CN"}.get(language, language), "family": language},
        "phoneme_type": "espeak",
        "inference": {"noise_scale": 0.0, "length_scale": 1.0, "noise_w": 0.0},
        "num_symbols": symbols,
        "num_speakers": speakers,
        "speaker_id_map": {f"hummer{number}": number for number in range(speakers)} if speakers > 1 else {},
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP,
        **described,
    }
    Path(f"{model}.json").write_text(json.dumps(description, ensure_ascii=False), encoding="utf-8")
    return model


def _hummer(symbols: int, speakers: int) -> onnx.ModelProto:
    pitch = np.zeros(symbols, np.float32)
    pitch[SILENT_IDS:] = LOWEST_HZ * 2 ** (np.arange(symbols - SILENT_IDS) / STEPS_PER_OCTAVE)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "pitch_of": pitch,
        "radians": np.array(2 * math.pi / RATE, np.float32),
        "samples": np.array(SOUND_MS * RATE / 1000, np.float32),
        "half": np.array(0.5, np.float32),
        "nothing": np.array(0, np.float32),
        "which_scale": np.array([1], np.int64),
        "last_axis": np.array(1, np.int64),
        "new_axis": np.array([2], np.int64),
        "twice_one": np.array([1, 1], np.int64),
        "row": np.array([1, -1], np.int64),
        "shape": np.array([1, 1, 1, -1], np.int64),
        "fifth": np.array(1.5, np.float32),
    }
    node = helper.make_node
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "n"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    nodes = [node("Gather", ["pitch_of", "input"], ["plain_pitch"])]
    if speakers > 1:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, [1]))
        nodes += [
            node("Cast", ["sid"], ["speaker"], to=TensorProto.FLOAT),
            node("Pow", ["fifth", "speaker"], ["higher"]),
            node("Mul", ["plain_pitch", "higher"], ["pitch"]),
        ]
    else:
        nodes.append(node("Identity", ["plain_pitch"], ["pitch"]))
    nodes += [
        # how many samples each sound lasts
        node("Gather", ["scales", "which_scale"], ["drawn"]),
        node("Mul", ["drawn", "samples"], ["lasting"]),
        node("Cast", ["lasting"], ["lasting_int"], to=TensorProto.INT64),
        node("Concat", ["twice_one", "lasting_int"], ["repeats"], axis=0),
        # the pitch of each sample, and from it the wave
        node("Unsqueeze", ["pitch", "new_axis"], ["columns"]),
        node("Tile", ["columns", "repeats"], ["held"]),
        node("Reshape", ["held", "row"], ["hertz"]),
        node("Mul", ["hertz", "radians"], ["turning"]),
        node("CumSum", ["turning", "last_axis"], ["phase"]),
        node("Sin", ["phase"], ["wave"]),
        node("Greater", ["hertz", "nothing"], ["voiced"]),
        node("Where", ["voiced", "wave", "nothing"], ["hum"]),
        node("Mul", ["hum", "half"], ["soft"]),
        node("Reshape", ["soft", "shape"], ["output"]),
        node("Identity", ["input_lengths"], ["told_length"]),
    ]
    used = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "hummer",
        inputs,
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, 1, "samples"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    return model
