"""Options of the Whisper recogniser."""

from __future__ import annotations

import voluptuous as vol

LANGUAGES = ("en", "zh-Hans")
BEAMS = vol.All(int, vol.Range(1, 10))
SHARE = vol.All(vol.Coerce(float), vol.Range(0.01, 0.9))

SCHEMA = vol.Schema(
    {
        vol.Optional(
            "model", default="", description="Name of a model, or the path of its folder; empty: the first there is"
        ): str,
        vol.Optional("device", default="cpu", description="What it computes on"): vol.In(("cpu", "cuda", "auto")),
        vol.Optional("compute_type", default="int8", description="How exactly it computes"): vol.In(
            (
                "int8",
                "int8_float32",
                "int8_float16",
                "int8_bfloat16",
                "int16",
                "float16",
                "bfloat16",
                "float32",
                "default",
            )
        ),
        vol.Optional("threads", default=0, description="Processor cores to use; 0: all but one, four at most"): vol.All(
            int, vol.Range(0, 64)
        ),
        vol.Optional(
            "language", default="device", description="The device's own, one of the two for all, or told by the voice"
        ): vol.In(("device", "detect", *LANGUAGES)),
        vol.Optional(
            "window", default="fitted", description="How much it looks at: as long as the sentence, or always 30 s"
        ): vol.In(("fitted", "whole")),
        vol.Optional("beam", default=5, description="Hypotheses that are followed for the final text"): BEAMS,
        vol.Optional("partials", default=True, description="It recognises while the person still speaks"): bool,
        vol.Optional("partial_beam", default=1, description="Hypotheses that are followed meanwhile"): BEAMS,
        vol.Optional("partial_share", default=0.25, description="Part of the time that it may spend on that"): SHARE,
        vol.Optional("hot_words", default=True, description="It expects the names of rooms and things"): bool,
        vol.Optional(
            "prompt", default="", description="A sentence in the style and spelling that it should write"
        ): vol.All(str, vol.Length(max=200)),
    }
)
"""``threads: 0`` leaves a core to the rest of the hub."""
