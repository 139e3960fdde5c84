"""Options of the wake words."""

from __future__ import annotations

from typing import Any

import voluptuous as vol

_SCORE = vol.All(vol.Any(int, float), vol.Coerce(float), vol.Range(0.01, 0.999))
_FRAMES = vol.All(int, vol.Range(1, 25))
_TEXT = vol.All(str, vol.Strip, vol.Length(min=1, max=60))

_WORD = vol.Schema(
    {
        vol.Optional("threshold", description="Score from which it counts as heard"): _SCORE,
        vol.Optional("patience", description="Pieces of 80 ms that must reach it one after the other"): _FRAMES,
        vol.Optional("called", description="What people say, and other texts by which devices call it"): vol.All(
            lambda value: value if isinstance(value, list) else [value], [_TEXT], vol.Length(min=1, max=10)
        ),
    }
)


def words(value: object) -> dict[str, dict[str, Any]]:
    """Names of models, in a list or each with options of its own."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        value = (
            {name: {} for name in value if isinstance(name, str)} if all(isinstance(n, str) for n in value) else None
        )
    if not isinstance(value, dict) or not all(isinstance(name, str) and name.strip() for name in value):
        raise vol.Invalid("expected the names of wake words")
    return {name.strip(): _WORD(options or {}) for name, options in value.items()}


SCHEMA = vol.Schema(
    {
        vol.Optional("words", default=dict, description="Which to listen for; all that are here when left out"): words,
        vol.Optional("threshold", default=0.5, description="Score from which a word counts as heard"): _SCORE,
        vol.Optional("patience", default=1, description="Pieces of 80 ms that must reach it"): _FRAMES,
        vol.Optional("streams", default=16, description="Microphones that are listened to at once"): vol.All(
            int, vol.Range(1, 200)
        ),
    }
)
