"""The code of the scripted engines: words as tones, and back."""

from __future__ import annotations

from types import ModuleType

import numpy as np
from house import integration

from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.testing import TurnResult


def tones() -> ModuleType:
    """The code itself: ``write_text``, ``read_text``, ``read_texts``."""
    return integration("echo", "tones")


def spoken(text: str, before_ms: int = 300, after_ms: int = 0) -> PcmChunk:
    """The sound of *text* between quiet, as a microphone would give it."""
    before, after = (np.zeros(16 * ms, np.int16) for ms in (before_ms, after_ms))
    return PcmChunk(np.concatenate([before, tones().write_text(text).samples, after]), 16000)


def read_back(result: TurnResult) -> str:
    """The text in the sound that came out of the speaker."""
    text: str = tones().read_text(decode_all([packet.data for packet in result.packets], result.rate))
    return text
