"""Names of voices that programs know from cloud services, and what the hub uses in their place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class VoiceChoice:
    """In which language, and with which voice of an engine, a text is said."""

    language: str
    voice: str = ""
    """Empty: the engine's own choice for the language."""


ALIASES = {
    "zh-cn-xiaoxiaoneural": VoiceChoice("zh-Hans"),
    "zh-cn-yunxineural": VoiceChoice("zh-Hans"),
    "en-us-jennyneural": VoiceChoice("en"),
    "en-us-guyneural": VoiceChoice("en"),
    "en-gb-sonianeural": VoiceChoice("en"),
    "zh_female_wanwanxiaohe_moon_bigtts": VoiceChoice("zh-Hans"),
    "bv001_streaming": VoiceChoice("zh-Hans"),
}
"""Voices whose names do not say everything, or that should have one of their own; in lower case."""
_ANY_LANGUAGE = {"default", "alloy", "ash", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer"}
"""Voices of the cloud that speak whatever language the text is in."""
_BY_LOCALE = re.compile(r"([a-z]{2,3})-[a-z]{2,4}(?:-[a-z]+)?-\w*neural", re.IGNORECASE)
"""``zh-CN-YunyangNeural``, ``zh-CN-liaoning-XiaobeiNeural``, ``en-AU-NatashaNeural``."""
_NAME = re.compile(r"\w[\w+.:-]{0,63}")
_CHINESE = re.compile(r"[\u3400-\u9fff]")


def choose_voice(voice: str, language: str, text: str) -> VoiceChoice:
    """Find the voice for *text*: what is asked for goes first, then what the voice's name says, then how the text is written.

    A name that no cloud service uses is one of an engine's own voices. `ProtocolError` when it cannot be a name at all.
    """
    if voice and not _NAME.fullmatch(voice):
        raise ProtocolError("This is not the name of a voice.", code="voice-invalid")
    name = voice.lower()
    choice = ALIASES.get(name)
    if choice is None and (match := _BY_LOCALE.fullmatch(voice)):
        choice = VoiceChoice(language_of(match[1], match[1].lower()))
    if choice is None:
        own = "" if name in _ANY_LANGUAGE else voice
        choice = VoiceChoice("zh-Hans" if _CHINESE.search(text) else "en", own)
    return VoiceChoice(language_of(language, language), choice.voice) if language else choice


__all__ = ["ALIASES", "VoiceChoice", "choose_voice"]
