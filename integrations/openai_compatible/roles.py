"""What a server's models are good for. Servers list their names and little else, so the names must say it. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_HEARS = re.compile(
    r"whisper|transcri|parakeet|sense-?voice|moonshine|canary|zipformer|qwen3-asr|\basr\b|\bstt\b", re.I
)
_SPEAKS = re.compile(r"\btts\b|kokoro|piper|orpheus|cosyvoice|chatterbox|f5-|speecht5|vibevoice|\bbark\b", re.I)
_SEES = re.compile(
    r"[-_.0-9]vl\b|\bvl\b|vision|llava|gemma-?[34]|omni|pixtral|minicpm-?[vo]|moondream|smolvlm|internvl|gpt-4o|gpt-4\.1|gpt-5",
    re.I,
)
_NEITHER = re.compile(r"embed|rerank|\bbge\b|\be5\b|guard|moderation|dall-e|flux|diffusion", re.I)


def is_for(role: str, model: str) -> bool:
    """Does the name of *model* say that it is made for *role*?"""
    name = model.replace("/", " ").replace("_", "-")
    match role:
        case "asr":
            return bool(_HEARS.search(name))
        case "tts":
            return bool(_SPEAKS.search(name)) and not _HEARS.search(name)
        case "vision":
            return bool(_SEES.search(name)) and not _NEITHER.search(name)
        case _:
            return not (_HEARS.search(name) or _SPEAKS.search(name) or _NEITHER.search(name))


def choose(options: Mapping[str, Any], models: Sequence[str] | None) -> dict[str, str]:
    """Return the roles that a server takes, each with the name of its model; empty where the server is to choose.

    *models* is what the server has, None where it does not tell. Roles that are named in *options* are taken in any case.
    """
    named = set(options["roles"]) or set(options["named"])
    known = models or ()
    found: dict[str, str] = {}
    for role in ("llm", "asr", "tts", "vision"):
        if options[role] is False or (options["roles"] and role not in options["roles"]):
            continue
        talks = role in ("llm", "vision")
        wanted = options[role]["model"] or (options["model"] if talks else "")
        fitting = wanted or next((model for model in known if is_for(role, model)), "")
        if role in named or fitting:
            found[role] = fitting or (known[0] if talks and known else "")
        elif role == "llm" and not known and not named:
            found[role] = ""  # a server that tells nothing: most are there to answer
    return found
