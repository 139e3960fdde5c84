"""What kind of file it is, by its first bytes. Nothing is loaded."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

_MOST_JSON = 64 * 2**20


def is_gguf(path: Path) -> bool:
    """A language model for llama.cpp: the file begins with ``GGUF`` and a version (ggml's docs/gguf.md)."""
    head = _head(path, 8)
    return len(head) == 8 and head[:4] == b"GGUF" and 1 <= struct.unpack("<I", head[4:])[0] < 100


def is_ctranslate2(path: Path) -> bool:
    """The ``model.bin`` of CTranslate2: a version, then the length and the name of the kind of model, such as WhisperSpec."""
    head = _head(path, 64)
    if len(head) < 8:
        return False
    version, length = struct.unpack("<IH", head[:6])
    name = head[6 : 6 + length].rstrip(b"\0")
    return 1 <= version < 100 and 3 <= length < 58 and name.isalnum() and name.endswith(b"Spec")


def is_whisper(path: Path) -> bool:
    """A ``model.bin`` that recognises speech."""
    return is_ctranslate2(path) and b"WhisperSpec" in _head(path, 64)


def is_onnx(path: Path) -> bool:
    """An ONNX graph: a protocol buffer whose first field is the version of the format (onnx.proto3, ModelProto)."""
    head = _head(path, 2)
    return len(head) == 2 and head[0] == 0x08 and 1 <= head[1] < 100


def voice_settings(path: Path) -> dict[str, Any] | None:
    """The settings of a piper voice, when *path* has them: a sample rate, and numbers for its phonemes."""
    settings = read_json(path)
    if not isinstance(settings, dict):
        return None
    audio = settings.get("audio")
    rate = audio.get("sample_rate") if isinstance(audio, dict) else None
    return settings if isinstance(rate, int) and isinstance(settings.get("phoneme_id_map"), dict) else None


def read_json(path: Path) -> Any:
    """What the file holds, or None when it is no JSON."""
    try:
        if path.stat().st_size > _MOST_JSON:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def check_form(path: Path) -> str:
    """What is wrong with the form of a model's file, for people; empty when nothing is, or nothing is known of its kind."""
    name = path.name
    if name.endswith(".gguf"):
        return "" if is_gguf(path) else "it is no GGUF file"
    if name == "model.bin":
        return "" if is_whisper(path) else "it is no Whisper model of CTranslate2"
    if name.endswith(".onnx.json"):
        return "" if voice_settings(path) is not None else "it has no settings of a voice"
    if name.endswith(".json"):
        return "" if read_json(path) is not None else "it is no JSON"
    if name.endswith(".onnx"):
        return "" if is_onnx(path) else "it is no ONNX file"
    return ""


def _head(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


__all__ = ["check_form", "is_ctranslate2", "is_gguf", "is_onnx", "is_whisper", "read_json", "voice_settings"]
