"""The model itself: found, checked, loaded, and made to look at no more sound than there is. All of it runs in the engine's thread."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xiaozhi_hub.plugins.api import HubError, InstalledModel, NeedsAttention, NotInstalled

from .guards import RATE, Floats, Piece
from .languages import CHINESE_PROMPT, likeliest

FRAMES_PER_SECOND = 100
MARGIN_SECONDS = 2.0
"""Silence that Whisper sees after the last word."""
WINDOWS = (10, 15, 30)
"""Lengths of sound, in seconds, that it is made to look at. It was trained on 30 only: what is reported of shorter ones is good from
about 10 s on, and repeats itself below."""
PARTIAL_WINDOWS = (6, *WINDOWS)
"""While the person speaks a mistake does no harm."""
HOT_TOKENS = 80
"""Tokens that names may take of the prompt. Each costs a little with every recognition, and too many distract."""
NICE = 5
"""How far its threads stand back behind the others of this machine."""
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


# -- loading ------------------------------------------------------------------------------------------------------


def check_files(model: InstalledModel) -> None:
    """Raise `NeedsAttention` when the folder lacks a file; the library would ask a server for some of them."""
    folder = model.folder
    model.file("model.bin")
    if not any(folder.glob("vocabulary.*")):
        raise _incomplete(model, "vocabulary.txt or vocabulary.json")
    if not (folder / "tokenizer.json").is_file():
        raise _incomplete(
            model,
            "tokenizer.json",
            f"Put the tokenizer.json of a Whisper model of the same kind (such as Systran/faster-whisper-base) into {folder}, "
            f"or run: xiaozhi-hub models verify {model.name}",
        )


def _incomplete(model: InstalledModel, file: str, hint: str = "") -> NeedsAttention:
    return NeedsAttention(
        f"The model {model.name} in {model.folder} has no file {file}.",
        code="model-incomplete",
        hint=hint or f"Run: xiaozhi-hub models verify {model.name}",
    )


def load(model: InstalledModel, device: str, compute_type: str, threads: int) -> Model:
    """Load *model*, without asking anybody. `NeedsAttention` when it cannot be used."""
    check_files(model)
    # Never look for anything on the internet, whatever the library thinks is missing; read when it is imported.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from .windowed import WindowedWhisper
    except ImportError as error:
        raise NotInstalled(
            f"faster-whisper cannot be used: {error}",
            code="package-unusable",
            hint='Run: pip install --force-reinstall "faster-whisper>=1.2.1,<1.3"',
        ) from error
    possible = _compute_types(device)
    if compute_type not in possible:
        raise NeedsAttention(
            f"This machine cannot compute {compute_type} on {device}.",
            code="compute-type-unusable",
            hint=f"Set compute_type to one of: {', '.join(sorted(possible))}." if possible else "Set device to cpu.",
        )
    threads = threads or usual_threads()
    _step_back()
    try:
        whisper = WindowedWhisper(
            str(model.folder),
            device=device,
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=1,
            local_files_only=True,
        )
    except Exception as error:  # whatever the native code makes of a broken file
        raise NeedsAttention(
            f"The model {model.name} cannot be loaded: {_first_line(error)}",
            code="model-unusable",
            hint=f"Run: xiaozhi-hub models verify {model.name}   It must be a Whisper model for CTranslate2 in {model.folder}.",
        ) from error
    bands = whisper.feature_extractor.mel_filters.shape[0]
    if whisper.model.n_mels != bands:  # large-v3 takes 128 instead of 80
        raise _incomplete(model, "preprocessor_config.json that fits")
    loaded = Model(whisper, bool(whisper.model.is_multilingual), threads)
    # The first run is slow; and better that it fails here than when somebody speaks.
    silence = np.zeros(RATE, np.float32)
    loaded.recognise(threading.Event(), Task(silence, ("en",), 1, WINDOWS))
    return loaded


def _step_back() -> None:
    """Make this thread, and those that the library starts from it, yield to the rest of the hub: to sound that must go out in
    time, and to the recogniser of known sentences, which may be done before."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _compute_types(device: str) -> set[str]:
    """What *device* can compute; nothing where there is none."""
    import ctranslate2

    try:
        return {*ctranslate2.get_supported_compute_types(device), "default"}
    except (RuntimeError, ValueError):  # no driver, no card
        return set()


def usual_threads() -> int:
    """All cores but one, which is for everything else; more than four are no quicker."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        cores = os.cpu_count() or 1
    return max(1, min(4, cores - 1))


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
