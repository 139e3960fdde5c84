"""Putting models on the shelf and taking them off, so that at no moment half a model lies there under its name.

A model grows in ``<engine>/<name>.part/`` and gets its name in one step when all its files are there and right. With them lies
``origin.yaml``: where they came from and what their bytes added up to. All functions here block.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import yaml

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.catalogue import Catalogue, ModelFile
from xiaozhi_hub.models.checks import Digests, digests_of
from xiaozhi_hub.models.progress import Progress
from xiaozhi_hub.models.shelf import UNFINISHED, InstalledModel, ModelShelf
from xiaozhi_hub.models.whole import check_whole

ORIGIN = "origin.yaml"
OLD = ".old"
"""How the name of a folder ends, before `UNFINISHED`, whose model is being replaced."""
LOCK = "lock"
_TRIES = 5
"""To take a lock that others give back by finishing."""
RESUME = ".resume"
"""How the name of the note beside an unfinished file ends, which says how to go on with it."""
_LOOKED_AT = (".gguf", ".onnx", ".bin", ".json")
SPARE_BYTES = 200 * 2**20
"""Left free for the hub's own database and for the system."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a model on the shelf came from."""

    model: str
    source: str
    """``repository@revision``, or the path that it was imported from."""
    licence: str
    files: Mapping[str, Digests]


def ensure_room(folder: Path, needed: int) -> None:
    """`HubError` when the disk of *folder* has less than *needed* bytes, and some for everybody else."""
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed + SPARE_BYTES:
        raise HubError(
            f"The disk of {place} is too full: {shown_bytes(needed)} are needed and {shown_bytes(SPARE_BYTES)} should stay "
            f"free, but only {shown_bytes(free)} are.",
            code="disk-full",
            hint="Free some, or set hub: data_dir: to a folder on a larger disk. xiaozhi-hub models list shows what "
            "could go: xiaozhi-hub models remove NAME",
        )


@contextmanager
def growing(shelf: ModelShelf, engine: str, name: str) -> Iterator[Path]:
    """The folder in which the model grows, ours alone while the block is entered; what is in it stays for the next time."""
    part = shelf.folder / engine / (name + UNFINISHED)
    busy = HubError(f"{name} is being fetched already, by another command.", code="model-busy", hint="Let it finish.")
    for left in reversed(range(_TRIES)):
        try:
            part.mkdir(parents=True, exist_ok=True)
            lock = (part / LOCK).open("w")
        except OSError as error:
            if left and isinstance(error, FileNotFoundError):
                continue  # another command has finished in between
            raise disk_trouble(part, error) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise busy from error
            if _lies_there(lock, part / LOCK):  # else it was that of another command, which has finished
                yield part
                return
    raise busy


def _lies_there(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def settle(part: Path, engine: str, origin: Origin, name: str) -> InstalledModel:
    """Give the finished model in *part* its *name*, instead of what may have had that name."""
    final = part.with_name(name)
    facts = {
        "model": origin.model,
        "source": origin.source,
        "licence": origin.licence,
        "files": {file: {"size": d.size, "sha256": d.sha256} for file, d in sorted(origin.files.items())},
    }
    try:
        (part / ORIGIN).write_text(yaml.safe_dump(facts, allow_unicode=True, sort_keys=False), encoding="utf-8")
        for path in part.iterdir():
            if path.name not in {*origin.files, ORIGIN, LOCK}:
                path.unlink()
            elif path.name != LOCK:  # which keeps others out until the end
                _flush(path)
        old = part.with_name(name + OLD + UNFINISHED)
        if old.exists():  # the plug was pulled
            shutil.rmtree(old)
        if final.exists():
            final.rename(old)
        part.rename(final)
        (final / LOCK).unlink(missing_ok=True)
        _flush(final.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise disk_trouble(final, error) from error
    return InstalledModel(engine, name, final)


def _flush(path: Path) -> None:
    """Have it on the disk: a Pi is switched off by pulling its plug."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def all_installed(shelf: ModelShelf, engines: Iterator[str] | tuple[str, ...]) -> tuple[InstalledModel, ...]:
    """Everything on the shelf."""
    return tuple(model for engine in engines for model in shelf.installed(engine))


def remove(model: InstalledModel) -> int:
    """Take a model off the shelf; return how many bytes that freed. It is hidden before it is deleted. `HubError` while another
    command brings it anew."""
    size = size_of(model)
    gone = model.folder.with_name(model.folder.name + UNFINISHED)
    if gone.exists():
        give_up(ModelShelf(model.folder.parent.parent), model.engine, model.folder.name)
    try:
        model.folder.rename(gone)
        shutil.rmtree(gone)
    except OSError as error:
        raise disk_trouble(model.folder, error) from error
    return size


def give_up(shelf: ModelShelf, engine: str, name: str) -> None:
    """Delete what has come of a model that is not all there; `HubError` while another command brings more of it."""
    with growing(shelf, engine, name) as part:
        try:
            shutil.rmtree(part)
        except OSError as error:
            raise disk_trouble(part, error) from error


def all_unfinished(shelf: ModelShelf, engines: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Engine, name and bytes of everything that is not all there."""
    for engine in engines:
        for part in sorted(path for path in (shelf.folder / engine).glob("*" + UNFINISHED) if path.is_dir()):
            yield engine, part.name.removesuffix(UNFINISHED), size_of(InstalledModel(engine, part.name, part))


def unfinished(shelf: ModelShelf, engine: str, name: str) -> Path | None:
    """The folder of a model that is not all there yet."""
    part = shelf.folder / engine / (name + UNFINISHED)
    return part if part.is_dir() else None


def size_of(model: InstalledModel) -> int:
    return sum(path.stat().st_size for path in model.folder.iterdir() if path.is_file())


def origin_of(model: InstalledModel) -> Origin | None:
    """Where a model came from, if the hub has put it there itself."""
    try:
        facts: Any = yaml.safe_load((model.folder / ORIGIN).read_text(encoding="utf-8"))
        files = {
            str(name): Digests(int(known["size"]), str(known["sha256"]), "") for name, known in facts["files"].items()
        }
        return Origin(str(facts["model"]), str(facts["source"]), str(facts["licence"]), files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of looking at one file of a model."""

    file: str
    wrong: str
    """Empty when all is well."""
    by: str
    """What it was compared with: ``sha256``, ``size only``, ``its form only``."""


def verify(model: InstalledModel, known: Catalogue, progress: Progress) -> tuple[Verdict, ...]:
    """Read every file of *model* and compare it with the catalogue, and with what it was when it came; where neither says anything,
    look whether it is all there."""
    listed = known.get(model.name)
    origin = origin_of(model)
    wanted: dict[str, ModelFile] = {}
    if origin is not None:
        wanted = {name: ModelFile(name, was.size, was.sha256) for name, was in origin.files.items()}
    if listed is not None and listed.engine == model.engine and (origin is None or origin.model == listed.name):
        for file in listed.files:
            if file.checksum is not None or file.name not in wanted:
                wanted[file.name] = file
    verdicts = []
    for name, file in sorted(wanted.items()):
        path = model.folder / name
        try:
            wrong = digests_of(path, progress).differs(file) or ("" if listed is not None else check_whole(path))
        except FileNotFoundError:
            wrong = "it is missing"
        except OSError as error:
            wrong = f"it cannot be read: {error.strerror}"
        verdicts.append(Verdict(name, wrong, file.known_by))
    if not wanted:  # put there by hand
        models = sorted(path for path in model.folder.iterdir() if path.suffix in _LOOKED_AT)
        verdicts = [Verdict(path.name, check_whole(path), "its form only") for path in models]
    return tuple(verdicts)


def disk_trouble(path: Path, error: OSError) -> HubError:
    """What a failing disk means for people."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HubError(
            f"The disk of {path.parent} is full.",
            code="disk-full",
            hint="What has come so far is kept. Free some space and give the same command again.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return HubError(
            f"{path} cannot be written: {error.strerror}.",
            code="disk-refuses",
            hint="Run the command as the user the hub runs as, or set hub: data_dir: to a folder that this user may write.",
        )
    return HubError(f"{path}: {error.strerror or error}.", code="disk-failed")


def shown_bytes(count: int) -> str:
    """A size for people: ``640 MB``."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            number = count / size
            return f"{number:.1f} {unit}" if number < 10 and unit != "kB" else f"{number:.0f} {unit}"
    return f"{count} bytes"


__all__ = [
    "ORIGIN",
    "RESUME",
    "SPARE_BYTES",
    "Origin",
    "Verdict",
    "all_installed",
    "all_unfinished",
    "disk_trouble",
    "ensure_room",
    "give_up",
    "growing",
    "origin_of",
    "remove",
    "settle",
    "shown_bytes",
    "size_of",
    "unfinished",
    "verify",
]
