"""States on the disk, so that a restart does not cost reading everything again.

One file for each: a line of JSON (what was read, and the tokens of the answers in it), then the library's state. A file is written
beside its place and moved there; a sum over its content guards against what happens to disks. Files that are a week old are deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import zlib
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .common import common

DAYS = 7
_FORM = 2
_ENDING = ".state"
_SAMPLE = 2**20
_LONGEST_HEAD = 16 * 2**20
_PIECE = 2**22


@dataclass(frozen=True, slots=True)
class Kept:
    """A state on the disk."""

    path: Path
    conversation: str
    tokens: array[int]
    head: int
    """Bytes before the state."""
    size: int
    sum: int


def identity(model: Path, *traits: object) -> str:
    """A name for states of this file under this library: they fit no other."""
    told = model.stat()
    digest = hashlib.blake2b(repr((_FORM, told.st_size, traits)).encode(), digest_size=12)
    with model.open("rb") as file:
        digest.update(file.read(_SAMPLE))
        file.seek(max(0, told.st_size - _SAMPLE))
        digest.update(file.read(_SAMPLE))
    return digest.hexdigest()


class Disk:
    """The states of one model in a folder; *limit* bytes at most for those of all models together."""

    def __init__(self, folder: Path, name: str, limit: int) -> None:
        self._everything = folder
        self._folder = folder / name
        self._limit = limit
        self._kept: dict[str, Kept] = {}
        self.answers: dict[str, list[int]] = {}
        """The tokens of the answers in what was kept, by their keys."""
        if limit:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._clean()
            for path in sorted(self._folder.glob(f"*{_ENDING}")):
                self._look(path)

    @property
    def kept(self) -> Mapping[str, Kept]:
        """All states by name."""
        return self._kept

    def holds(self, tokens: Sequence[int]) -> bool:
        """Is there a state that has read at least *tokens*?"""
        return any(common(kept.tokens, tokens) == len(tokens) for kept in self._kept.values())

    def read(self, name: str) -> tuple[Kept, bytearray] | None:
        """The state called *name*; None, and it is deleted, when it is not what was written."""
        kept = self._kept[name]
        try:
            with kept.path.open("rb") as file:
                file.seek(kept.head)
                state = bytearray(kept.size)
                whole = file.readinto(state) == kept.size
            os.utime(kept.path)
        except OSError:
            whole = False
        if not whole or zlib.crc32(state) != kept.sum:
            self._forget(name)
            return None
        return kept, state

    def write(
        self, conversation: str, tokens: Sequence[int], state: bytearray, answers: Mapping[str, Sequence[int]]
    ) -> None:
        """Keep a state; of one conversation the newest, and without a conversation one for each beginning."""
        name = _name(conversation, tokens)
        head = json.dumps(
            {
                "conversation": conversation,
                "tokens": list(tokens),
                "answers": {key: list(chosen) for key, chosen in answers.items()},
                "size": len(state),
                "sum": zlib.crc32(state),
            },
            ensure_ascii=False,
        ).encode()
        if len(state) + len(head) > self._limit:
            return
        path = self._folder / f"{name}{_ENDING}"
        beside = path.with_suffix(".new")
        try:
            with open(beside, "wb", opener=lambda file, flags: os.open(file, flags, 0o600)) as file:
                file.write(head + b"\n")
                for start in range(0, len(state), _PIECE):
                    file.write(memoryview(state)[start : start + _PIECE])
            beside.replace(path)
        except OSError as error:
            print(f"warning: a state cannot be kept in {self._folder}: {error.strerror}", file=sys.stderr, flush=True)
            beside.unlink(missing_ok=True)
            return
        self._look(path)
        self._clean(spare=path)

    def _look(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                line = file.readline(_LONGEST_HEAD)
                told = json.loads(line)
                kept = Kept(
                    path, told["conversation"], array("i", told["tokens"]), len(line), told["size"], told["sum"]
                )
                answers = dict(told["answers"])
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
            return
        self._kept[path.stem] = kept
        self.answers.update(answers)

    def forget(self, owners: Sequence[str] | None, before: float | None) -> None:
        """As `forget_files`."""
        forget_files(self._everything, owners, before, beside=self._folder)
        self._kept = {name: kept for name, kept in self._kept.items() if kept.path.exists()}
        self.answers.clear()

    def _clean(self, spare: Path | None = None) -> None:
        """Delete what is old, what was left half written, and the least recently used of what is too much."""
        files = []
        for path in self._everything.glob("*/*"):
            try:
                told = path.stat()
            except OSError:
                continue
            old = time.time() - told.st_mtime > DAYS * 86400
            if path.suffix != _ENDING or old:
                path.unlink(missing_ok=True)
                self._kept.pop(path.stem, None)
            elif path != spare:
                files.append((told.st_mtime, told.st_size, path))
        room = self._limit - (spare.stat().st_size if spare is not None else 0)
        for _, size, path in sorted(files, key=lambda file: file[0], reverse=True):
            room -= size
            if room < 0:
                path.unlink(missing_ok=True)
                if path.parent == self._folder:
                    self._kept.pop(path.stem, None)

    def _forget(self, name: str) -> None:
        self._kept.pop(name).path.unlink(missing_ok=True)


def forget_files(folder: Path, owners: Sequence[str] | None, before: float | None, beside: Path | None = None) -> None:
    """Delete the states in *folder* of conversations whose names begin with one of *owners*, or of all; with *before* only those that
    were not used since. States of other models and versions, outside *beside*, are deleted all the same: nobody will miss them, and
    they may be of other forms. The beginnings, which hold nothing that anybody said, stay."""
    for path in folder.glob("*/*"):
        try:
            if before is not None:
                wanted = path.stat().st_mtime < before
            elif beside is not None and path.parent != beside:
                wanted = True
            else:
                conversation = _conversation(path)
                wanted = conversation != "" and (owners is None or conversation.startswith(tuple(owners)))
        except (OSError, ValueError, KeyError, TypeError):
            wanted = True
        if wanted:
            path.unlink(missing_ok=True)


def _conversation(path: Path) -> str:
    with path.open("rb") as file:
        return str(json.loads(file.readline(_LONGEST_HEAD))["conversation"])


def _name(conversation: str, tokens: Sequence[int]) -> str:
    what = f"conversation {conversation}".encode() if conversation else array("i", tokens).tobytes()
    return hashlib.blake2b(what, digest_size=12).hexdigest()
