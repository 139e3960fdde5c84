"""The Piper voices on this machine, as their files describe them. Nothing heavy is imported here.

A voice is two files: ``name.onnx`` and ``name.onnx.json``, which tells its language, rate and speakers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from xiaozhi_hub.plugins.api import LANGUAGES, ModelShelf, NeedsAttention, SpeechRequest, StageError, language_of

log = logging.getLogger(__name__)

ENGINE = "piper"
_PHONEMISERS = ("espeak", "text")
"""What needs nothing but the package itself."""
_CHINESE = ("cmn", "yue", "hak", "zh")


@dataclass(frozen=True, slots=True)
class VoiceFile:
    """One voice."""

    name: str
    model: Path
    language: str
    """``en`` or ``zh-Hans``; another language's own code, such as ``de``."""
    identity: str
    """Changes when the files do."""
    description: Mapping[str, Any] = field(repr=False, compare=False)
    """The content of its JSON file."""
    speakers: Mapping[str, int] = field(default_factory=dict, compare=False)
    count: int = 1
    """How many speakers it has."""
    speaker: int | None = None

    def spoken_by(self, speaker: str) -> VoiceFile:
        """The same voice with one of its speakers, by name or number; `StageError` when there is no such one."""
        if self.count <= 1 or not speaker:
            return self
        number = self.speakers.get(speaker, int(speaker) if speaker.isdecimal() else -1)
        if not 0 <= number < self.count:
            raise StageError(
                "tts", f"the voice {self.name} has no speaker {speaker!r}", code="voice-unknown", permanent=True
            )
        return replace(self, speaker=number)


def read_voice(name: str, model: Path) -> VoiceFile:
    """Read what *model*'s JSON file says. `NeedsAttention` when the voice cannot be used."""
    path = Path(f"{model}.json")
    cure = f"Install the voice anew: xiaozhi-hub models download {name}"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        kind = str(described.get("phoneme_type", "espeak"))
        espeak = str(described["espeak"]["voice"])
        language = _language(described, espeak)
        count = int(described["num_speakers"])
        speakers = {str(who): int(number) for who, number in (described.get("speaker_id_map") or {}).items()}
        usable = bool(described["phoneme_id_map"]) and int(described["audio"]["sample_rate"]) > 0
        files = [model.stat(), path.stat()]
    except OSError as error:
        raise NeedsAttention(
            f"The voice {name} cannot be read: {path.name}: {error.strerror}.", code="voice-unreadable", hint=cure
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NeedsAttention(
            f"{path} does not describe a Piper voice ({type(error).__name__}: {error}).",
            code="voice-unreadable",
            hint=cure,
        ) from error
    if kind not in _PHONEMISERS:
        raise NeedsAttention(
            f"The voice {name} reads its text with {kind}, for which Piper would fetch another model from the internet.",
            code="voice-unsupported",
            hint="Take a voice of phoneme type espeak: zh_CN-huayan-medium for Chinese. See: xiaozhi-hub models list",
        )
    if not usable:
        raise NeedsAttention(f"{path} does not describe a Piper voice.", code="voice-unreadable", hint=cure)
    identity = "-".join(f"{file.st_size:x}.{file.st_mtime_ns:x}" for file in files)
    return VoiceFile(name, model, language, identity, described, speakers, count)


def _language(described: Mapping[str, Any], espeak: str) -> str:
    """Newer files say it; for older ones eSpeak's voice does."""
    told = described.get("language") or {}
    code = str(told.get("family") or told.get("code") or espeak).replace("_", "-").lower()
    head = code.split("-")[0]
    return language_of("zh" if head in _CHINESE else head, head)


class Catalogue:
    """The voices that there are, and which of them speaks what."""

    def __init__(self, voices: Mapping[str, VoiceFile], of_language: Mapping[str, VoiceFile]) -> None:
        self.voices = voices
        self.of_language = of_language

    @property
    def languages(self) -> tuple[str, ...]:
        """Those of the hub's languages that a voice speaks."""
        return tuple(language for language in LANGUAGES if language in self.of_language)

    def voice_for(self, request: SpeechRequest) -> VoiceFile:
        """The voice that is asked for, ``name`` or ``name#speaker``, else the one of the language.

        `StageError` with the code ``voice-unknown`` where there is none.
        """
        if request.voice:
            name, _, speaker = request.voice.partition("#")
            voice = self.voices.get(name)
            if voice is None:
                raise StageError("tts", f"Piper has no voice {name!r}", code="voice-unknown", permanent=True)
            return voice.spoken_by(speaker)
        try:
            return self.of_language[request.language]
        except KeyError:
            raise StageError("tts", f"no Piper voice speaks {request.language}", permanent=True) from None


def find_voices(models: ModelShelf, options: Mapping[str, Any]) -> Catalogue:
    """Look for the configured voices and all that are installed. Blocks as long as the disk takes.

    `NotInstalled` when there is none, or a configured one is missing; `NeedsAttention` when a configured one, or the only
    one, cannot be used. Others that cannot be used are left out, which the log says.
    """
    voices: dict[str, VoiceFile] = {}
    chosen: dict[str, VoiceFile] = {}
    problem: NeedsAttention | None = None
    for language, wanted in options["voices"].items():
        model, speaker = (wanted, "") if isinstance(wanted, str) else (wanted["model"], wanted["speaker"])
        voice = _read(models, model)
        voices[voice.name] = voice
        try:
            chosen[language] = voice.spoken_by(speaker or options["speaker"])
        except StageError as error:
            raise NeedsAttention(
                f"{error.message[:1].upper()}{error.message[1:]}.",
                code="speaker-unknown",
                hint=f"It has {voice.count}: {', '.join(list(voice.speakers)[:10]) or f'0 to {voice.count - 1}'}.",
            ) from error
    for installed in models.installed(ENGINE):
        if installed.name in voices:
            continue
        try:
            voices[installed.name] = read_voice(installed.name, installed.file("*.onnx"))
        except NeedsAttention as error:
            problem = error
            log.warning("a Piper voice is left out: %s", error)
    if not voices:
        if problem is not None:
            raise problem
        models.find(ENGINE)  # tells what to do
    for voice in voices.values():
        if voice.language not in chosen:
            try:
                chosen[voice.language] = voice.spoken_by(options["speaker"])
            except StageError:  # the option speaks of another voice
                chosen[voice.language] = voice
    if not any(language in chosen for language in LANGUAGES):
        raise NeedsAttention(
            f"None of the Piper voices speaks English or Chinese: {', '.join(voices)}.",
            code="model-missing",
            hint="Run: xiaozhi-hub models recommend",
        )
    return Catalogue(voices, chosen)


def _read(models: ModelShelf, wanted: str) -> VoiceFile:
    found = models.find(ENGINE, wanted)
    path = Path(wanted).expanduser()
    if "/" in wanted and path.is_file():  # that one, whatever else lies beside it
        return read_voice(path.name.removesuffix(".onnx"), path)
    return read_voice(found.name, found.file("*.onnx"))


__all__ = ["Catalogue", "VoiceFile", "find_voices", "read_voice"]
