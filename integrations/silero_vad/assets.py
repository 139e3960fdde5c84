"""Where the model file is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from xiaozhi_hub.plugins.api import NeedsAttention

MODEL = "silero_vad_v6.onnx"
PACKAGE = "faster_whisper"
DISTRIBUTION = "faster-whisper"
CURE = 'pip install "faster-whisper>=1.2.1,<1.3"'


def find_model(path: str | None = None) -> Path:
    """Return the model file: *path*, or the one inside the installed faster-whisper, which is not imported for it.

    `NeedsAttention` says what is missing and how to get it.
    """
    if path is not None:
        own = Path(path).expanduser()
        if not own.is_file():
            raise NeedsAttention(
                f"There is no file {own}.",
                code="model-missing",
                hint=f"Correct 'model' of silero_vad, or remove it and run: {CURE}",
            )
        return own
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise NeedsAttention(
            "The package faster-whisper, which brings the Silero model, is not installed.",
            code="package-missing",
            hint=f"Run: {CURE}",
        )
    assets = Path(next(iter(spec.submodule_search_locations))) / "assets"
    model = assets / MODEL
    if not model.is_file():
        others = ", ".join(sorted(file.name for file in assets.glob("*.onnx"))) or "no model at all"
        raise NeedsAttention(
            f"faster-whisper {_version()} does not bring {MODEL}; its assets hold {others}.",
            code="model-missing",
            hint=f"Run: {CURE}",
        )
    return model


def _version() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "(of unknown version)"
