"""The eSpeak NG library, called directly: no process, no file, first sound after half a millisecond.

eSpeak keeps all its state in global variables. `Library` therefore lets one text through at a time, and loads a copy of its
own: two users of the same globals would spoil each other's speech, or crash. Others are Piper's phonemiser, which is in the
same file of the package piper-tts, and another hub in the same process.
"""

from __future__ import annotations

import _ctypes
import ctypes
import importlib.util
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xiaozhi_hub.plugins.api import NeedsAttention, Samples, StageError

from .voices import Speaking

log = logging.getLogger(__name__)

DATA = "espeak-ng-data"
CURE = "Run: pip install piper-tts   or: sudo apt install espeak-ng"
BLOCK_MS = 60
"""How much eSpeak computes between two looks at whether it shall stop."""

# From speak_lib.h.
_RETRIEVE = 2  # AUDIO_OUTPUT_SYNCHRONOUS: sound goes to the callback, in the calling thread
_DO_NOT_EXIT = 0x8000  # without it a missing data folder ends the process
_UTF8 = 1
_BY_CHARACTER = 1
_RATE, _PITCH, _WORD_GAP = 1, 3, 7
_IPA = 0x02

_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
Take = Callable[[Samples], bool]
"""Is given each block as it is computed; says whether to go on."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a library and its data are."""

    library: Path
    data: Path


def find_library(folder: str | None = None) -> Place | None:
    """Return the first eSpeak NG library there is: in *folder* and nowhere else when one is given, else inside the
    packages piper-tts and espeakng-loader. Neither is imported. A *folder* without a library raises `NeedsAttention`.
    """
    if folder is not None:
        place = _in_folder(Path(folder).expanduser())
        if place is None:
            raise NeedsAttention(
                f"There is no eSpeak NG library with {DATA} in {folder}.",
                code="library-missing",
                hint=f"Correct 'library' of espeak, or remove it. {CURE}",
            )
        return place
    for package in ("piper", "espeakng_loader"):
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations or ()) if spec is not None else ():
            place = _in_folder(Path(location))
            if place is not None:
                return place
    return None


def _in_folder(folder: Path) -> Place | None:
    data = folder / DATA
    if not (data / "phontab").is_file():
        return None
    for pattern in ("espeakbridge*.so", "libespeak-ng.so*", "libespeak-ng*.dylib", "espeak-ng.dll", "libespeak-ng.dll"):
        for path in sorted(folder.glob(pattern)):
            return Place(path, data)
    return None


class Library:
    """One loaded eSpeak NG. Use it from any one thread at a time; others wait."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lock = threading.Lock()
        self._take: Take | None = None
        self._stopped = False
        self._closed = False
        try:
            self._api = _load_own_copy(place.library)
            self._declare()
        except (OSError, AttributeError) as error:
            raise NeedsAttention(
                f"{place.library} cannot be used as eSpeak NG library: {error}.", code="library-unusable", hint=CURE
            ) from error
        self._callback = _Callback(self._block)
        self.rate: int = self._api.espeak_Initialize(_RETRIEVE, BLOCK_MS, os.fsencode(place.data), _DO_NOT_EXIT)
        """Samples per second of everything it says."""
        if self.rate <= 0:
            raise NeedsAttention(f"eSpeak NG cannot read {place.data}.", code="library-unusable", hint=CURE)
        self._api.espeak_SetSynthCallback(self._callback)

    def _declare(self) -> None:
        api, text, number, flags, pointer = self._api, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p
        api.espeak_Initialize.argtypes = (number, number, text, number)
        api.espeak_SetSynthCallback.argtypes = (_Callback,)
        api.espeak_SetSynthCallback.restype = None
        api.espeak_SetVoiceByName.argtypes = (text,)
        api.espeak_SetParameter.argtypes = (number, number, number)
        api.espeak_Synth.argtypes = (text, ctypes.c_size_t, flags, number, flags, flags, pointer, pointer)
        api.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_char_p), number, number)
        api.espeak_TextToPhonemes.restype = text

    def speak(self, speaking: Speaking, take: Take) -> None:
        """Say a text, block by block; returns when it is said or *take* has had enough. Blocks the calling thread.

        `StageError` when there is no such voice.
        """
        with self._lock:
            if self._closed:
                raise StageError("tts", "eSpeak NG has been let go")
            self._choose(speaking.voice)
            self._api.espeak_SetParameter(_RATE, speaking.rate, 0)
            self._api.espeak_SetParameter(_PITCH, speaking.pitch, 0)
            text = speaking.text.encode()
            self._take, self._stopped = take, False
            try:
                failed = self._api.espeak_Synth(text, len(text) + 1, 0, _BY_CHARACTER, 0, _UTF8, None, None)
            finally:
                self._take = None
            if failed and not self._stopped:
                raise StageError("tts", f"eSpeak NG failed with code {failed}")

    def phonemes(self, text: str, voice: str) -> str:
        """Return the IPA that *voice* would speak for *text*."""
        with self._lock:
            self._choose(voice)
            rest = ctypes.c_char_p(text.encode())
            clauses = []
            while rest.value:  # it moves on by one clause, and becomes null after the last
                clauses.append(self._api.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA).decode())
        return " ".join(clause for clause in clauses if clause)

    def close(self) -> None:
        """Give its memory back; afterwards it speaks no more. Safe to call more than once."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._api.espeak_Terminate()
            _ctypes.dlclose(self._api._handle)

    def _choose(self, voice: str) -> None:
        if self._api.espeak_SetVoiceByName(voice.encode()) != 0:
            raise StageError("tts", f"eSpeak NG has no voice {voice!r}", code="voice-unknown", permanent=True)

    def _block(self, wave: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
        """Called by eSpeak. Returning 1 makes it stop."""
        if not wave or count <= 0 or self._take is None:
            return 0
        block: NDArray[np.int16] = np.frombuffer(ctypes.string_at(wave, count * 2), np.int16)
        if self._take(block):
            return 0
        self._stopped = True
        return 1


def _load_own_copy(path: Path) -> ctypes.CDLL:
    """Load *path* so that nobody else gets the same globals; `OSError` where the system runs no copies of programs."""
    # Each copy has a name of its own: the loader takes files of the same name for one, even if the first is long closed.
    with tempfile.TemporaryDirectory(prefix="xiaozhi-hub-") as folder:  # once loaded, it needs its name no more
        copy = Path(folder) / path.name
        try:
            return _load_from_memory(path, copy)
        except OSError as error:  # not Linux, or a kernel that runs nothing that is in memory only
            log.debug("no copy of %s in memory: %s", path, error)
        copy.unlink(missing_ok=True)
        shutil.copyfile(path, copy)
        return ctypes.CDLL(str(copy))


def _load_from_memory(path: Path, name: Path) -> ctypes.CDLL:
    if not hasattr(os, "memfd_create"):
        raise OSError("this system has no files in memory")
    memory = os.memfd_create(path.stem, os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as copy:
            copy.write(path.read_bytes())
        name.symlink_to(f"/proc/self/fd/{memory}")
        return ctypes.CDLL(str(name))
    finally:
        os.close(memory)
