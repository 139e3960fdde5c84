"""Runs Piper. Everything here blocks and belongs to one thread.

Piper's phonemiser is an eSpeak NG with global variables. The package guards it with a lock of its own, and the eSpeak
voice of the hub never touches that copy, so nothing more is needed here.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xiaozhi_hub.plugins.api import NeedsAttention, Samples

from .voices import VoiceFile

if TYPE_CHECKING:
    from piper.voice import PiperVoice

_PAUSES = str.maketrans(
    {"，": ", ", "、": ", ", "；": "; ", "：": ": ", "。": ". ", "！": "! ", "？": "? ", "…": ". ", "—": ", "}
)
"""Piper's phonemiser keeps the pauses of Western marks only."""
_ENDS = tuple(".!?。！？…")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a voice shall speak; None is as it was made."""

    length_scale: float | None = None
    noise_scale: float | None = None
    noise_w_scale: float | None = None
    sentence_silence: float = 0.0


class Studio:
    """The voices that are in memory: the *keep* that spoke last."""

    def __init__(self, keep: int, threads: int) -> None:
        self._keep = keep
        self._threads = threads
        self._loaded: OrderedDict[str, PiperVoice] = OrderedDict()

    @property
    def loaded(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def load(self, voice: VoiceFile) -> PiperVoice:
        """Return the voice, read from the disk if need be; `NeedsAttention` when its files cannot be used."""
        known = self._loaded.get(voice.name)
        if known is None:
            while len(self._loaded) >= self._keep:
                self._loaded.popitem(last=False)
            known = self._loaded[voice.name] = _load(voice, self._threads)
        self._loaded.move_to_end(voice.name)
        return known

    def say(self, voice: VoiceFile, text: str, speed: float, manner: Manner) -> Generator[Samples, None, None]:
        """Yield the sound of *text*, sentence by sentence as Piper computes them."""
        from piper.config import SynthesisConfig

        piper = self.load(voice)
        drawn = manner.length_scale if manner.length_scale is not None else piper.config.length_scale
        config = SynthesisConfig(
            speaker_id=voice.speaker,
            length_scale=drawn / speed,
            noise_scale=manner.noise_scale,
            noise_w_scale=manner.noise_w_scale,
        )
        quiet = np.zeros(round(manner.sentence_silence * piper.config.sample_rate), np.int16)
        before: Samples | None = None
        for chunk in piper.synthesize(prepared(text), config):
            if before is not None:
                yield np.concatenate((before, quiet))
            before = chunk.audio_int16_array
        if before is not None:  # after a clause the sentence goes on
            yield np.concatenate((before, quiet)) if text.rstrip(" \"'”’)）」』").endswith(_ENDS) else before

    def close(self) -> None:
        self._loaded.clear()


def prepared(text: str) -> str:
    """*text* without what Piper would take for phonemes or cannot read, and with pauses that it hears."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return " ".join(text.replace("[[", "[").translate(_PAUSES).split())


def _load(voice: VoiceFile, threads: int) -> PiperVoice:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    from piper.config import PiperConfig
    from piper.voice import PiperVoice

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle hub uses no processor
    try:
        session = onnxruntime.InferenceSession(str(voice.model), options, providers=["CPUExecutionProvider"])
        return PiperVoice(session=session, config=PiperConfig.from_dict(dict(voice.description)))
    except Exception as error:  # each version of onnxruntime has exceptions of its own
        raise NeedsAttention(
            f"The voice {voice.name} cannot be used: {voice.model.name}: {_first_line(error)}",
            code="voice-unusable",
            hint=f"Install the voice anew: xiaozhi-hub models download {voice.name}",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


__all__ = ["Manner", "Studio", "prepared"]
