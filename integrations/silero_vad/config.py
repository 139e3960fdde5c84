"""Options of the Silero voice activity detection."""

from __future__ import annotations

import voluptuous as vol


def model_file(value: object) -> str:
    """Check the path of a model file; it is looked for when the entry starts."""
    if not isinstance(value, str) or not value.endswith(".onnx"):
        raise vol.Invalid("expected the path of a silero_vad_v6.onnx file")
    return value


SCHEMA = vol.Schema(
    {
        vol.Optional("model", description="Path of a silero_vad_v6.onnx of your own"): model_file,
        vol.Optional("gate", default=True, description="Skip the model while nothing but noise is heard"): bool,
    }
)
