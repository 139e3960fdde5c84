"""Options of the language model."""

from __future__ import annotations

import voluptuous as vol


def number(low: float, high: float) -> vol.All:
    """A number between two others."""
    return vol.All(vol.Any(int, float), vol.Range(low, high))


def count(low: int, high: int) -> vol.All:
    """A whole number between two others."""
    return vol.All(int, vol.Range(low, high))


SCHEMA = vol.Schema(
    {
        vol.Optional("model", default="", description="Name of a model on the shelf, or a path; empty: the first"): str,
        vol.Optional("context", default=4096, description="Tokens that it reads and writes at most"): count(
            256, 2_000_000_000
        ),
        vol.Optional("max_tokens", default=400, description="How long an answer may become, in tokens"): count(8, 8000),
        vol.Optional(
            "max_thinking", default=400, description="Tokens after which a model that thinks first is told to answer"
        ): count(1, 8000),
        vol.Optional("threads", default=0, description="Cores to use; 0: all but one, eight at most"): count(0, 256),
        vol.Optional("batch", default=512, description="Tokens of a prompt that are computed together"): count(8, 4096),
        vol.Optional("gpu_layers", default=0, description="Layers on a graphics card, where the package has support"): (
            count(-1, 1000)
        ),
        vol.Optional("temperature", default=0.6, description="0: always the likeliest word"): number(0, 2),
        vol.Optional("top_p", default=0.95, description="Choose among the likeliest words that make up this share"): (
            number(0, 1)
        ),
        vol.Optional("top_k", default=20, description="Choose among this many words"): count(1, 1000),
        vol.Optional("min_p", default=0.0, description="Leave out words less likely than this share of the best"): (
            number(0, 1)
        ),
        vol.Optional("seed", description="Answer the same every time; leave it out for variety"): count(0, 2**32 - 2),
        vol.Optional("memory_mb", default=512, description="Memory for what it has read in other conversations"): (
            count(0, 1_000_000)
        ),
        vol.Optional("disk_mb", default=512, description="Disk space for that over a restart; 0: none"): count(
            0, 1_000_000
        ),
        vol.Optional("vision", default=True, description="Answer about photos, where the model has an mmproj file"): (
            bool
        ),
        vol.Optional(
            "unload_after_min", default=0, description="Give its memory back after so many minutes of silence; 0: never"
        ): number(0, 10_000),
        vol.Optional("timeout_s", default=120, description="Seconds without any progress after which it has failed"): (
            number(1, 3600)
        ),
    }
)
