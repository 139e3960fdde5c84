"""A model is checked and loaded, without asking anybody on the internet. All of it runs in the engine's thread."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import numpy as np

from xiaozhi_hub.plugins.api import InstalledModel, NeedsAttention, NotInstalled

from .guards import RATE
from .model import WINDOWS, Model, Task

NICE = 5
"""How far its threads stand back behind the others of this machine."""


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
