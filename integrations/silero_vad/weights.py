"""Reads the weights out of the model file.

An ONNX file is a protocol-buffer message. Of all its fields only these matter here: ``ModelProto.graph`` (7),
``GraphProto.initializer`` (5), and of a ``TensorProto`` its dims (1), data_type (2), name (8) and raw_data (9).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xiaozhi_hub.plugins.api import NeedsAttention

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]

SHAPES: Mapping[str, tuple[int, ...]] = {
    "encoder.feature_extractor.forward_basis_buffer": (258, 1, 256),
    "encoder.conv_layers.0.weight": (128, 129, 3),
    "encoder.conv_layers.0.bias": (128,),
    "encoder.conv_layers.1.weight": (64, 128, 3),
    "encoder.conv_layers.1.bias": (64,),
    "encoder.conv_layers.2.weight": (64, 64, 3),
    "encoder.conv_layers.2.bias": (64,),
    "encoder.conv_layers.3.weight": (128, 64, 3),
    "encoder.conv_layers.3.bias": (128,),
    "onnx::LSTM_209": (1, 512, 128),
    "onnx::LSTM_210": (1, 512, 128),
    "onnx::LSTM_211": (1, 1024),
    "decoder.conv1d.weight": (1, 128, 1),
    "decoder.conv1d.bias": (1,),
}
"""The network that `xiaozhi_hub_integrations.silero_vad.network` computes, as its file names it."""

_FLOAT = 1  # TensorProto.DataType.FLOAT
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_weights(path: Path) -> Weights:
    """Return the network's tensors by name; `NeedsAttention` when the file holds another network."""
    try:
        weights = dict(_tensors(path.read_bytes()))
    except (IndexError, KeyError, ValueError) as error:
        raise _unusable(path, "it cannot be read as a model") from error
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}") from error
    for name, shape in SHAPES.items():
        if name not in weights:
            raise _unusable(path, f"it holds another network (no {name})")
        if weights[name].shape != shape:
            raise _unusable(path, f"it holds another network ({name} is {weights[name].shape}, not {shape})")
    return {name: weights[name] for name in SHAPES}


def _unusable(path: Path, reason: str) -> NeedsAttention:
    return NeedsAttention(
        f"{path} cannot be used: {reason}.",
        code="model-unusable",
        hint='Run: pip install --force-reinstall "faster-whisper==1.2.1"',
    )


def _tensors(model: bytes) -> Iterator[tuple[str, Floats]]:
    graphs = [value for number, value in _fields(memoryview(model)) if number == 7 and isinstance(value, memoryview)]
    for number, value in _fields(graphs[0]):  # IndexError when there is none
        if number != 5 or not isinstance(value, memoryview):
            continue
        dims: list[int] = []
        kind, name, raw = 0, "", b""
        for key, part in _fields(value):
            if isinstance(part, int):
                if key == 1:
                    dims.append(part)
                elif key == 2:
                    kind = part
            elif key == 1:  # packed dims
                dims.extend(_varints(part))
            elif key == 8:
                name = bytes(part).decode()
            elif key == 9:
                raw = bytes(part)
        if kind == _FLOAT:
            yield name, np.frombuffer(raw, "<f4").astype(np.float32).reshape(dims)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the field numbers and values of one message; IndexError or ValueError when it is none."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(message, at)
        elif wire == _FIXED64:
            size = 8
        elif wire == _FIXED32:
            size = 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(message):
            raise ValueError("the message is cut short")
        yield number, message[at : at + size]
        at += size


def _varints(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
