"""The Silero network, version 6, on numpy: many microphones in one computation.

The file's own graph takes one microphone at a time, because its recurrent state has room for one. Computed here with
matrices over all windows of all microphones, a window costs about a third of what it costs there. The results agree.

    window: 64 samples of context and 512 new ones → four overlapping spectra of 256 samples → four convolutions, each
    with a rectifier → one LSTM cell → one number, squashed to 0…1
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from .weights import Floats, Weights

WINDOW = 512
"""New samples per window; 32 ms at 16 kHz."""
CONTEXT = 64
"""Samples of the window before, put in front of each."""
WIDTH = CONTEXT + WINDOW
STATE = 128
"""Numbers in each of the two halves of the recurrent state."""

_SLICE = 128
"""Windows per pass through the encoder: its matrices then stay in the processor's cache."""
_FRAMES, _FRAME, _HOP = 4, 256, 128
_BINS = _FRAME // 2 + 1
_FULL_SCALE = np.float32(1 / 32768)


class Network:
    """The weights, laid out for matrix products. Holds no state: safe to use for any number of microphones."""

    def __init__(self, weights: Weights) -> None:
        self._basis = np.ascontiguousarray(weights["encoder.feature_extractor.forward_basis_buffer"][:, 0].T)
        first, second, third, fourth = (weights[f"encoder.conv_layers.{layer}.weight"] for layer in range(4))
        self._biases = tuple(weights[f"encoder.conv_layers.{layer}.bias"] for layer in range(4))
        self._first = _rows(first)
        self._second = _rows(second)
        # Two frames are left for the third layer, one for the fourth: their other taps only ever meet padding.
        self._third = _rows(third[:, :, 1:])
        self._fourth = _rows(fourth[:, :, 1:2])
        self._into = np.ascontiguousarray(weights["onnx::LSTM_209"][0].T)
        self._onward = np.ascontiguousarray(weights["onnx::LSTM_210"][0].T)
        self._bias = weights["onnx::LSTM_211"][0].reshape(2, -1).sum(axis=0)
        self._out = weights["decoder.conv1d.weight"].reshape(STATE)
        self._out_bias = weights["decoder.conv1d.bias"]

    def encode(self, windows: NDArray[np.int16]) -> Floats:
        """Return what the recurrent cell needs of each window (n × 576 samples → n × 512)."""
        if len(windows) <= _SLICE:
            return self._encode(windows)
        return np.concatenate([self._encode(windows[at : at + _SLICE]) for at in range(0, len(windows), _SLICE)])

    def _encode(self, windows: NDArray[np.int16]) -> Floats:
        count = len(windows)
        sound = np.empty((count, _HOP * (_FRAMES - 1) + _FRAME), np.float32)
        np.multiply(windows, _FULL_SCALE, out=sound[:, :WIDTH])
        sound[:, WIDTH:] = sound[:, WIDTH - 2 : WIDTH - 2 - CONTEXT : -1]  # the last spectrum's end, mirrored
        spectra = _overlapping(sound, _FRAMES, _FRAME, _HOP) @ self._basis
        np.square(spectra, out=spectra)
        padded = np.zeros((count, _FRAMES + 2, _BINS), np.float32)
        power = (spectra[:, :_BINS] + spectra[:, _BINS:]).reshape(count, _FRAMES, _BINS)
        np.sqrt(power, out=padded[:, 1:-1])
        bias = self._biases
        layer = _overlapping(padded.reshape(count, -1), _FRAMES, 3 * _BINS, _BINS) @ self._first
        layer += bias[0]
        padded = np.zeros((count, _FRAMES + 1, STATE), np.float32)
        np.maximum(layer.reshape(count, _FRAMES, STATE), 0, out=padded[:, 1:])
        layer = _overlapping(padded.reshape(count, -1), 2, 3 * STATE, 2 * STATE) @ self._second
        layer = _rectified(layer, bias[1]).reshape(count, -1)
        layer = _rectified(layer @ self._third, bias[2])
        layer = _rectified(layer @ self._fourth, bias[3])
        gates: Floats = layer @ self._into
        gates += self._bias
        return gates

    def step(self, encoded: Floats, state: Floats) -> Floats:
        """Advance the recurrent *state* (2 × n × 128, changed in place) by one window each; return n probabilities."""
        hidden, cell = state
        gates = hidden @ self._onward
        gates += encoded
        opened = _squashed(gates[:, : 3 * STATE])  # in the file's order: input, output, forget
        cell *= opened[:, 2 * STATE :]
        cell += opened[:, :STATE] * np.tanh(gates[:, 3 * STATE :])
        np.multiply(opened[:, STATE : 2 * STATE], np.tanh(cell), out=hidden)
        return _squashed(np.maximum(hidden, 0) @ self._out + self._out_bias)


def _rows(kernel: Floats) -> Floats:
    """Turn a convolution (out × in × taps) into the matrix that multiplies consecutive frames."""
    return np.ascontiguousarray(kernel.transpose(2, 1, 0).reshape(-1, kernel.shape[0]))


def _overlapping(rows: Floats, count: int, width: int, hop: int) -> Floats:
    """Cut each row into *count* pieces of *width* that begin *hop* apart, one below the other."""
    each, item = rows.strides
    pieces = as_strided(rows, (len(rows), count, width), (each, hop * item, item))
    return pieces.reshape(-1, width)


def _rectified(layer: Floats, bias: Floats) -> Floats:
    layer += bias
    np.maximum(layer, 0, out=layer)
    return layer


def _squashed(values: Floats) -> Floats:
    """The logistic function, by way of tanh, which cannot overflow."""
    squashed: Floats = np.tanh(values * np.float32(0.5))
    squashed *= np.float32(0.5)
    squashed += np.float32(0.5)
    return squashed
