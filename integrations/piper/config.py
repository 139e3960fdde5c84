"""Options of the Piper voices."""

from __future__ import annotations

import voluptuous as vol

LANGUAGES = ("en", "zh-Hans")


def speaker(value: object) -> str:
    """Check the name or number of one of a voice's speakers."""
    if isinstance(value, bool) or not isinstance(value, (str, int)) or (isinstance(value, int) and value < 0):
        raise vol.Invalid("expected the name or the number of a speaker")
    return str(value)


def _factor(low: float, high: float) -> vol.All:
    return vol.All(vol.Any(int, float), vol.Coerce(float), vol.Range(low, high))


_VOICE = vol.Any(
    vol.All(str, vol.Length(min=1)),
    {
        vol.Required("model", description="Name of an installed model, or a path"): vol.All(str, vol.Length(min=1)),
        vol.Optional("speaker", default="", description="Name or number, where the voice has several"): speaker,
    },
    msg="expected the name of a voice, or model: and speaker:",
)

SCHEMA = vol.Schema(
    {
        vol.Optional("voices", default=dict, description="The voice for each language"): {vol.In(LANGUAGES): _VOICE},
        vol.Optional("speaker", default="", description="Speaker of voices that have several"): speaker,
        vol.Optional("length_scale", description="How drawn out it speaks; 1.2 is a fifth slower"): _factor(0.3, 3),
        vol.Optional("noise_scale", description="How lively it speaks"): _factor(0, 2),
        vol.Optional("noise_w_scale", description="How much the lengths of sounds vary"): _factor(0, 2),
        vol.Optional("sentence_silence", default=0.1, description="Seconds of quiet after a sentence"): _factor(0, 3),
        vol.Optional("threads", default=0, description="Threads that compute; 0 for one for each core"): vol.All(
            int, vol.Range(0, 64)
        ),
        vol.Optional("keep", default=2, description="Voices that are kept in memory"): vol.All(int, vol.Range(1, 16)),
    }
)
