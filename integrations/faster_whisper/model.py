"""A loaded model, and what it is asked. All of it runs in the engine's thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.plugins.api import HubError

from .guards import RATE, Floats, Piece
from .languages import CHINESE_PROMPT, likeliest

FRAMES_PER_SECOND = 100
WINDOWS = (10, 15, 30)
"""Lengths of sound, in seconds, that it is made to look at. It was trained on 30 only: what is reported of shorter ones is good from
about 10 s on, and repeats itself below."""
PARTIAL_WINDOWS = (6, *WINDOWS)
"""While the person speaks a mistake does no harm."""
HOT_TOKENS = 80
"""Tokens that names may take of the prompt. Each costs a little with every recognition, and too many distract."""
TOKENS_PER_SECOND = 12
SPARE_TOKENS = 24
"""Nobody says more in so long; a model that goes in circles would write hundreds."""


class Abandoned(HubError):
    """Nobody wants the result any more."""

    code = "abandoned"


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to recognise."""

    samples: Floats
    languages: tuple[str, ...]
    """Whisper's codes; where there are several the sound decides."""
    beam: int
    windows: tuple[int, ...]
    hot_words: Mapping[str, str] = field(default_factory=dict)
    """Names to expect, by language."""
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote."""

    pieces: tuple[Piece, ...]
    language: str
    window: int
    """Seconds of sound that it looked at."""


@dataclass(slots=True)
class Model:
    """A loaded model. One thread at a time."""

    whisper: Any
    multilingual: bool
    threads: int
    encoded: list[int] = field(default_factory=list)
    """Frames of the windows that were looked at, the newest last; the last hundred."""

    def recognise(self, stop: threading.Event, task: Task) -> Written:
        """Write down *task*; `Abandoned` as soon as *stop* is seen between two steps."""
        whisper = self.whisper
        whisper.begin(stop, task.windows)
        try:
            language = task.languages[0] if task.languages else "en"
            if not self.multilingual:
                language = "en"
            elif len(task.languages) > 1:
                features = whisper.feature_extractor(task.samples)
                content = min(
                    features.shape[-1] - 1, whisper.feature_extractor.nb_max_frames
                )  # as `transcribe` cuts it
                encoded = whisper.encode(features[:, :content])
                language = likeliest(task.languages, whisper.model.detect_language(encoded)[0])
            prompt = task.prompt or (CHINESE_PROMPT if language == "zh" else "")
            segments, _ = whisper.transcribe(
                task.samples,
                language=language,
                beam_size=task.beam,
                temperature=[0.0],  # what is only found by guessing at random is not worth acting on
                without_timestamps=True,
                condition_on_previous_text=False,
                no_speech_threshold=None,  # the guards decide, with everything at hand
                hotwords=task.hot_words.get(language) or None,
                initial_prompt=prompt or None,
                max_new_tokens=min(SPARE_TOKENS + int(TOKENS_PER_SECOND * len(task.samples) / RATE), 200),
            )
            pieces = tuple(_pieces(segments, stop))
            return Written(pieces, language, whisper.window_frames // FRAMES_PER_SECOND)
        finally:
            self.encoded.extend(whisper.end())
            del self.encoded[:-100]

    def fit_hot_words(self, names: Sequence[str], separator: str) -> str:
        """As many of *names*, in their order, as `HOT_TOKENS` hold."""
        chosen: list[str] = []
        for name in names:
            tokens = self.whisper.hf_tokenizer.encode(separator.join((*chosen, name)), add_special_tokens=False).ids
            if len(tokens) > HOT_TOKENS:
                break
            chosen.append(name)
        return separator.join(chosen)

    def close(self) -> None:
        """Give the memory back."""
        self.whisper.model.unload_model()


def _pieces(segments: Iterator[Any], stop: threading.Event) -> Iterator[Piece]:
    for segment in segments:
        if stop.is_set():
            raise Abandoned("nobody waits for this any more")
        yield Piece(
            segment.text, segment.avg_logprob, segment.no_speech_prob, segment.compression_ratio, len(segment.tokens)
        )
