"""What must not become text: silence, noise, and what Whisper makes up about them.

Pure. Whisper was trained on subtitles: given a hiss it writes what stands at the end of films. What it is unsure of, what it repeats,
and sentences that are known to come from nowhere are refused; better to ask again than to act on a ghost.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
RATE = 16000

FAINTEST = 40 / 32768
"""Level (of full scale) below which nothing is speech."""
FRAME = RATE // 25
"""40 ms: two periods of the deepest voice."""
HOP = RATE // 50
DEEPEST, HIGHEST = RATE // 65, RATE // 420
"""Lags of the pitches that people have: 65 to 420 Hz."""
PERIODIC = 0.5
"""Part of a frame that comes again after one period, from which it is voiced; white noise reaches 0.2, vowels 0.6 to 0.95."""
VOICED_FRAMES = 2
"""Voiced pieces of 20 ms that the shortest word has at least: "next" has three."""

UNSURE = -1.1
"""Mean log probability of the words below which they are guesses (0.33 for each)."""
DOUBT = -0.6
"""… below which a sentence is believed only if nothing else speaks against it."""
NOBODY = 0.6
"""Probability of silence from which a doubtful sentence is refused …"""
SURELY_NOBODY = 0.95
"""… and from which any is."""
COMPRESSION = 2.4
"""How much smaller a text can be packed that goes round in circles (as in Whisper itself)."""
ECHO = 24
"""Letters in a row, of the names that it was told to expect, that nobody says by chance."""
LETTERS_PER_SECOND = 35.0
"""Nobody speaks faster; auctioneers reach 30."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of what the model wrote, and what it thinks of it."""

    text: str
    sureness: float
    """Mean log probability of its tokens."""
    nobody: float
    """Probability that nobody spoke."""
    compression: float
    tokens: int = 1


def is_speech(samples: Floats) -> bool:
    """Is there anything in *samples* (16 kHz, full scale 1) that a voice could have made?"""
    count = (len(samples) - FRAME) // HOP + 1
    if count < 1:
        return False
    frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME)[::HOP][:count]
    power = np.mean(np.square(frames), axis=1)
    loud = frames[power > max(FAINTEST**2, float(power.max()) / 400)]
    if not len(loud):
        return False
    # A step of the derivative takes away rumble, which repeats itself at any lag.
    sharp = np.diff(loud, axis=1)
    spectrum = np.fft.rfft(sharp, 2 * FRAME, axis=1)
    echo = np.fft.irfft(spectrum.real**2 + spectrum.imag**2, axis=1)[:, : DEEPEST + 1]
    lags = np.arange(HIGHEST, DEEPEST + 1)
    whole = echo[:, :1] * (1 - lags / FRAME)  # an autocorrelation fades with the overlap
    periodic = (echo[:, lags] / np.maximum(whole, 1e-12)).max(axis=1)
    return int((periodic >= PERIODIC).sum()) >= VOICED_FRAMES


def believed(pieces: Sequence[Piece], seconds: float, language: str, prompted: Sequence[str] = ()) -> tuple[str, float]:
    """What of *pieces* was really said in *seconds* of sound, and how sure that is (0…1).

    *language* is Whisper's code; *prompted* are the texts that the model was given to begin with.
    """
    good = [piece for piece in pieces if piece.text.strip() and why_not(piece, seconds, language, prompted) is None]
    text = ("" if language == "zh" else " ").join(piece.text.strip() for piece in good)
    return text, confidence(good or pieces)


def why_not(piece: Piece, seconds: float, language: str, prompted: Sequence[str] = ()) -> str | None:
    """The reason not to believe *piece*, None when there is none."""
    if piece.sureness < UNSURE:
        return "unsure"
    if piece.nobody > SURELY_NOBODY or (piece.nobody > NOBODY and piece.sureness < DOUBT):
        return "silence"
    if goes_in_circles(piece):
        return "circles"
    if len(piece.text) > LETTERS_PER_SECOND * max(seconds, 0.5):
        return "too fast"
    doubtful = piece.sureness < DOUBT or piece.nobody > NOBODY / 2
    if is_ghost(piece.text, language, doubtful=doubtful):
        return "ghost"
    if is_echo(piece.text, prompted):
        return "echo"
    return None


def goes_in_circles(piece: Piece) -> bool:
    """Does it say the same again and again?"""
    return piece.compression > COMPRESSION or is_repeated(piece.text)


def is_repeated(text: str) -> bool:
    """Is most of *text* one to eight words (Chinese: characters), at least four times in a row?"""
    words = re.findall(r"[\u3400-\u9fff]|[^\W_]+(?:'\w+)*", text.casefold())
    for width in range(1, 9):
        run = best = 0
        for at in range(width, len(words)):
            run = run + 1 if words[at] == words[at - width] else 0
            best = max(best, run)
        if best >= 3 * width and best + width > len(words) * 0.6:
            return True
    return False


def is_ghost(text: str, language: str, *, doubtful: bool) -> bool:
    """Is *text* what Whisper writes about nothing? Things that people do say count as such only if they are *doubtful*."""
    plain = _plain(text)
    ghosts = _ghosts()
    if not plain:
        return True
    if plain in ghosts["always"].get(language, ()) or plain.startswith(ghosts["begins"].get(language, ())):
        return True
    return doubtful and plain in ghosts["doubtful"].get(language, ())


def is_echo(text: str, prompted: Sequence[str]) -> bool:
    """Is *text* what the model was given to begin with, or a part of that too long to be a name?"""
    plain = _plain(text)
    return any(
        plain in _plain(given) and len(plain) >= max(ECHO, len(_plain(given)) / 3) for given in prompted if given
    )


def confidence(pieces: Sequence[Piece]) -> float:
    """How sure the model is of its words: the mean probability of a token, 0…1."""
    tokens = sum(piece.tokens for piece in pieces)
    if not tokens:
        return 0.0
    mean = sum(piece.sureness * piece.tokens for piece in pieces) / tokens
    return round(min(1.0, math.exp(mean)), 4)


def _plain(text: str) -> str:
    """Letters and digits, words parted by one space; nothing between Chinese characters."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("'", "").replace("’", "")
    words = " ".join(re.findall(r"[^\W_]+", folded))
    return re.sub(r"(?<=[\u3400-\u9fff]) | (?=[\u3400-\u9fff])", "", words)


@cache
def _ghosts() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    raw = json.loads(Path(__file__).with_name("ghosts.json").read_text(encoding="utf-8"))
    return {
        kind: {language: tuple(texts) for language, texts in by_language.items()} for kind, by_language in raw.items()
    }
