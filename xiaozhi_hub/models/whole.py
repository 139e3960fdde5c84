"""Is a model's file all there? Its own directory says how long it must be. For files that nothing is known of to compare them with: a
stick that was pulled out too early, a download by hand that broke off. Only the directories are read, and nothing is loaded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from xiaozhi_hub.models.form import check_form, is_ctranslate2, is_gguf, is_onnx

_MOST_ENTRIES = 2_000_000
"""Of a directory; more are no directory."""
_DEEPEST = 4
_LONGEST_NAME = 2**16
_FIXED = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of GGUF's values by their type (ggml's docs/gguf.md); 8 is a text, 9 a list."""
_TEXT, _LIST = 8, 9
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 24: (1, 1), 25: (1, 2), 26: (1, 4),
    27: (1, 8), 28: (1, 8), 30: (1, 2),
}  # fmt: skip
"""Weights in a block and its bytes, by the type of a tensor (ggml.h). Of others the least is assumed."""
_ALIGNMENT = 32


class _Short(Exception):
    """The file ends before it should."""


class _Strange(Exception):
    """Nothing is known of this form."""


def check_whole(path: Path) -> str:
    """What is wrong with a model's file, for people: its form, or that it ends too early. Empty when nothing is, or nothing is
    known of its kind. Blocks, for a second at most."""
    if wrong := check_form(path):
        return wrong
    reader = next((reader for is_it, reader in _READERS if is_it(path)), None)
    if reader is None:
        return ""
    try:
        with path.open("rb") as file:
            length = path.stat().st_size
            needed = reader(_Directory(file, length))
    except _Short:
        return "it ends in the middle: a copy or download that broke off"
    except (_Strange, struct.error):
        return ""
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "" if needed <= length else f"it ends after {length} of {needed} bytes: a copy or download that broke off"


class _Directory:
    """Reads numbers and texts one after the other."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self._file = file
        self.length = length

    @property
    def at(self) -> int:
        return self._file.tell()

    def take(self, form: str) -> tuple[int, ...]:
        size = struct.calcsize(form)
        data = self._file.read(size)
        if len(data) < size:
            raise _Short
        return struct.unpack(form, data)

    def number(self, form: str) -> int:
        return self.take(form)[0]

    def text(self, form: str) -> bytes:
        size = self.number(form)
        if size > _LONGEST_NAME:
            raise _Short if size > self.length else _Strange
        data = self._file.read(size)
        if len(data) < size:
            raise _Short
        return data

    def skip(self, size: int) -> None:
        if self.at + size > self.length:
            raise _Short
        self._file.seek(size, 1)


def _gguf(directory: _Directory) -> int:
    """Header, settings, then where each tensor begins behind them, and of which kind and shape it is."""
    directory.skip(4)
    if directory.number("<I") not in (2, 3):
        raise _Strange
    tensors, settings = directory.take("<QQ")
    if max(tensors, settings) > _MOST_ENTRIES:
        raise _Strange
    alignment = _ALIGNMENT
    for _ in range(settings):
        key, kind = directory.text("<Q"), directory.number("<I")
        if key == b"general.alignment" and kind == 4:
            alignment = max(1, directory.number("<I"))
        else:
            _skip_value(directory, kind)
    end = 0
    for _ in range(tensors):
        directory.text("<Q")
        ranks = directory.number("<I")
        if ranks > 8:
            raise _Strange
        count = 1
        for size in directory.take(f"<{ranks}Q"):
            count *= size
        kind, begin = directory.take("<IQ")
        weights, size = _BLOCKS.get(kind, (max(1, count), 1))
        end = max(end, begin + -(-count // weights) * size)
    return directory.at + -directory.at % alignment + end if tensors else directory.at


def _skip_value(directory: _Directory, kind: int, depth: int = 0) -> None:
    if kind in _FIXED:
        directory.skip(_FIXED[kind])
    elif kind == _TEXT:
        directory.skip(directory.number("<Q"))
    elif kind == _LIST and depth < _DEEPEST:
        inner, count = directory.take("<IQ")
        if inner in _FIXED:
            directory.skip(_FIXED[inner] * count)
            return
        if count > _MOST_ENTRIES:
            raise _Strange
        for _ in range(count):
            _skip_value(directory, inner, depth + 1)
    else:
        raise _Strange


def _ctranslate2(directory: _Directory) -> int:
    """Version, name and revision of the model's kind; then each variable with its name, shape, type, length and weights, and other
    names of variables (CTranslate2's model_spec.py)."""
    if not 4 <= directory.number("<I") <= 6:
        raise _Strange
    directory.text("<H")
    directory.number("<I")
    count = directory.number("<I")
    if count > _MOST_ENTRIES:
        raise _Strange
    for _ in range(count):
        directory.text("<H")
        directory.skip(4 * directory.number("<B"))
        directory.skip(1)
        directory.skip(directory.number("<I"))
    for _ in range(min(directory.number("<I"), _MOST_ENTRIES)):
        directory.text("<H")
        directory.text("<H")
    return directory.at


def _onnx(directory: _Directory) -> int:
    """A protocol buffer: the fields of the outermost message, one after the other, the graph among them with its length."""
    while directory.at < directory.length:
        tag = _varint(directory)
        kind = tag & 7
        if not 1 <= tag >> 3 < 100:
            raise _Strange
        if kind == 0:
            _varint(directory)
        elif kind == 2:
            size = _varint(directory)
            if directory.at + size > directory.length:
                return directory.at + size
            directory.skip(size)
        elif kind in (1, 5):
            directory.skip(8 if kind == 1 else 4)
        else:
            raise _Strange
    return directory.at


def _varint(directory: _Directory) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = directory.number("<B")
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise _Strange


_READERS: tuple[tuple[Callable[[Path], bool], Callable[[_Directory], int]], ...] = (
    (is_gguf, _gguf),
    (is_ctranslate2, _ctranslate2),
    (lambda path: path.suffix.lower() == ".onnx" and is_onnx(path), _onnx),
)

__all__ = ["check_whole"]
