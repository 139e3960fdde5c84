"""Options of the scripted engines. All are optional; without any, each engine works at once and never fails."""

from __future__ import annotations

import voluptuous as vol


def seconds(value: object) -> float:
    """Check a duration."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 3600:
        raise vol.Invalid("expected seconds, from 0 to 3600")
    return float(value)


def failures(value: object) -> int | bool:
    """Check how often something fails: a number of times, or true for always."""
    if isinstance(value, bool) or (isinstance(value, int) and value >= 0):
        return value
    raise vol.Invalid("expected true, false or how many calls fail")


_BEHAVIOUR = {
    vol.Optional("delay", default=0.0, description="Seconds before it answers"): seconds,
    vol.Optional("fail", default=False, description="The first so many calls fail; true: all"): failures,
    vol.Optional("hang", default=False, description="It never answers"): bool,
}

_VAD = vol.Schema(
    {
        **_BEHAVIOUR,
        vol.Optional("threshold_dbfs", default=-45.0, description="What is louder is speech"): vol.All(
            vol.Coerce(float), vol.Range(-100, 0)
        ),
    }
)
_ASR = vol.Schema(
    {
        **_BEHAVIOUR,
        vol.Optional("say", description="This was heard, whatever the sound; else the text hidden in it"): str,
    }
)
_RULE = vol.Schema(
    {
        vol.Exclusive("heard", "when", msg="expected either 'heard' or 'result_of'"): str,
        vol.Exclusive("result_of", "when", msg="expected either 'heard' or 'result_of'"): str,
        vol.Optional("say", default=""): str,
        vol.Optional("call"): vol.Schema({vol.Required("tool"): str, vol.Optional("arguments", default=dict): dict}),
        vol.Optional("fail", default=False): bool,
    }
)
_LLM = vol.Schema(
    {
        **_BEHAVIOUR,
        vol.Optional("word_delay", default=0.0, description="Seconds before each word"): seconds,
        vol.Optional("replies", default=dict, description="What is said for each text, word for word"): {str: str},
        vol.Optional("rules", default=list, description="The first rule that fits is followed"): [_RULE],
        vol.Optional("otherwise", default="You said: {text}", description="What is said when no rule fits"): str,
    }
)
_TTS = vol.Schema(
    {
        **_BEHAVIOUR,
        vol.Optional("ms_per_char", default=0.0, description="A text lasts this long for each character"): vol.All(
            vol.Coerce(float), vol.Range(0, 1000)
        ),
        vol.Optional("ms", default=0.0, description="Every text lasts this long"): vol.All(
            vol.Coerce(float), vol.Range(0, 600_000)
        ),
        vol.Optional("fail_after", description="It fails after this many pieces of sound"): vol.All(int, vol.Range(0)),
    }
)

SCHEMA = vol.Schema(
    {
        vol.Optional("vad", default=dict, description="Voice activity by loudness"): _VAD,
        vol.Optional("asr", default=dict, description="A recogniser that reads text hidden in tones"): _ASR,
        vol.Optional("llm", default=dict, description="A model with scripted replies"): _LLM,
        vol.Optional("tts", default=dict, description="A voice whose tones can be read"): _TTS,
    }
)
