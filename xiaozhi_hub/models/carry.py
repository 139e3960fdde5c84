"""Models that people bring on a stick or in a folder: recognised by what is in the files, copied to the shelf. All of it blocks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.catalogue import EARS, Catalogue, CatalogueModel
from xiaozhi_hub.models.checks import Digests, read_through
from xiaozhi_hub.models.form import is_gguf, is_onnx, is_whisper, voice_settings
from xiaozhi_hub.models.progress import Progress
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.models.stock import Origin, disk_trouble, ensure_room, growing, settle, unfinished
from xiaozhi_hub.models.whole import check_whole

DEEPEST = 6
MOST_FILES = 20_000
LARGEST_WORD = 20 * 2**20
"""A wake word is a small classifier; a larger ONNX file without settings is a voice that lost them, or something else."""
_GLIMPSE = 2**16
_GGUF_ENDS = re.compile(r"(\.gguf)?(\.part|\.bin)?$", re.IGNORECASE)
_ONNX_END = re.compile(r"\.onnx(?=(\.json)?$)", re.IGNORECASE)
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """A model among the files of a person."""

    engine: str
    name: str
    """What it will be called on the shelf."""
    files: tuple[Path, ...]
    listed: CatalogueModel | None = None
    """What it should be according to the catalogue, by the size of its main file."""
    sure: bool = False
    """It also bears that name. Otherwise its bytes decide: models made from one another are often equally large."""
    lacks: str = ""
    """Why it cannot be used, for people: what is not there, or not whole."""

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files)


def recognise(path: Path, known: Catalogue, shelf: ModelShelf) -> tuple[Found, ...]:
    """The models in *path*, a file or a folder with all below it. `HubError` when there is nothing there to use."""
    try:
        if not path.exists():
            raise HubError(f"There is nothing at {path}.", code="path-missing", hint="Is the stick mounted?")
        if path.is_file():
            found = _in_folder(path.parent, [path], known, shelf)
        else:
            found = [each for folder, files in _folders(path) for each in _in_folder(folder, files, known, shelf)]
        found = _under_names_of_their_own(found)
    except OSError as error:
        raise _unreadable(path, error, "Is the stick in order?") from error
    if not found:
        raise HubError(
            f"There is no model in {path} that the hub can use.",
            code="model-unknown",
            hint="It takes GGUF files, folders with the model.bin of a Whisper model (CTranslate2), piper voices (.onnx with "
            ".onnx.json), and wake words of openWakeWord (.onnx).",
        )
    return tuple(map(_looked_at, found))


def _under_names_of_their_own(found: list[Found]) -> list[Found]:
    """Each model once. Different ones of the same name, such as two files ``model.gguf``, take that of their folder to it."""
    taken: dict[tuple[str, str], Found] = {}
    lost: list[Found] = []
    for each in found:
        other = taken.setdefault((each.engine, each.name), each)
        if other is each or _is_copy(other, each):
            continue
        name = _plain(f"{each.files[0].resolve().parent.name}-{each.name}")
        own = replace(each, name=name, listed=None, sure=False)
        other = taken.setdefault((own.engine, own.name), own)
        if other is not own and not _is_copy(other, own):
            lost.append(replace(own, lacks="another model has the same name: import it alone, with --name"))
    return [*taken.values(), *lost]


def _is_copy(one: Found, other: Found) -> bool:
    """Have they the same files, as far as a look tells? Models made from one another are as large, but differ in their weights, which
    stand at the end."""
    return sorted(map(_glimpse, one.files)) == sorted(map(_glimpse, other.files))


def _glimpse(path: Path) -> tuple[int, bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _GLIMPSE))
        return size, file.read(_GLIMPSE)


def _looked_at(found: Found) -> Found:
    """The same, with what is wrong with its files, where nobody knows what they should add up to."""
    if found.listed is None and not found.lacks:
        for path in found.files:
            if wrong := check_whole(path):
                return replace(found, lacks=f"{path.name} is damaged, {wrong}; bring it once more")
    return found


def bring(found: Found, shelf: ModelShelf, progress: Progress) -> InstalledModel:
    """Copy a model to the shelf. `HubError` when it is not all there, or not what the catalogue knows under its name."""
    if found.lacks:
        raise HubError(f"{found.name} cannot be used: {found.lacks}.", code="model-incomplete")
    try:
        needed = found.size
    except OSError as error:
        raise _unreadable(found.files[0], error, "Is the stick still there?") from error
    ensure_room(shelf.folder, needed - _written_over(found, shelf))
    with growing(shelf, found.engine, found.name) as part:
        names = {source: _name_of(found, source) for source in found.files}
        digests = {name: _copy(source, part / name, progress) for source, name in names.items()}
        listed = found.listed
        if listed is not None and (
            wrong := _main_of(names[_largest(found)], listed, digests).differs(listed.main_file)
        ):
            if found.sure:
                for name in names.values():
                    (part / name).unlink()
                raise HubError(
                    f"{listed.main_file.name} in {found.files[0].parent} is damaged: {wrong}.",
                    code="model-damaged",
                    hint="Copy it to the stick once more. If it is another model, give it a name: --name NAME",
                )
            listed = None
        if listed is not None and listed.main_file.name not in digests:
            given = names[_largest(found)]
            (part / given).rename(part / listed.main_file.name)
            digests[listed.main_file.name] = digests.pop(given)
        for file in listed.files if listed is not None else ():
            if file.name in digests and (wrong := digests[file.name].differs(file)):
                progress.note(f"{file.name} is not the one of the catalogue ({wrong}); taken as it is")
        origin = Origin(
            listed.name if listed is not None else "",
            str(found.files[0].parent),
            listed.licence if listed is not None else "unknown",
            digests,
        )
        return settle(part, found.engine, origin, listed.name if listed is not None else found.name)


def _written_over(found: Found, shelf: ModelShelf) -> int:
    """Bytes that an import has left behind which broke off: they make room for the same files."""
    part = unfinished(shelf, found.engine, found.name)
    left = [part / _name_of(found, source) for source in found.files] if part is not None else []
    return sum(path.stat().st_size for path in left if path.is_file())


def _name_of(found: Found, source: Path) -> str:
    """What *source* is called on the shelf, where engines look for ``.gguf`` and ``.onnx``: some systems write them large, and some
    programs keep their models under other names."""
    if found.engine == "llama_cpp":
        return _GGUF_ENDS.sub("", source.name) + ".gguf"
    return _ONNX_END.sub(".onnx", source.name)


def _main_of(largest: str, listed: CatalogueModel, digests: dict[str, Digests]) -> Digests:
    """What the largest file adds up to, whatever it is called here."""
    return digests.get(listed.main_file.name) or digests[largest]


def _largest(found: Found) -> Path:
    return max(found.files, key=lambda path: path.stat().st_size)


def renamed(found: Found, name: str) -> Found:
    """The same under a *name* of the person's choice, with no claim to be one of the catalogue."""
    return replace(found, name=_plain(name), listed=None, sure=False)


def _folders(top: Path) -> Iterator[tuple[Path, list[Path]]]:
    count = 0
    for folder, below, names in os.walk(top):
        here = Path(folder)
        below[:] = sorted(name for name in below if not name.startswith("."))
        if len(here.relative_to(top).parts) >= DEEPEST:
            below.clear()
        count += len(names)
        if count > MOST_FILES:
            raise HubError(f"{top} holds too many files to look at.", hint="Name the folder of the model itself.")
        files = [here / name for name in sorted(names) if not name.startswith(".")]
        yield here, [path for path in files if path.is_file()]  # to read a pipe would last for ever


def _in_folder(folder: Path, files: list[Path], known: Catalogue, shelf: ModelShelf) -> list[Found]:
    found = []
    for path in files:
        if path.name == "model.bin" and is_whisper(path):
            found.append(_whisper(folder, path, known))
        elif path.suffix.lower() == ".onnx" and is_onnx(path):
            found += _onnx(folder, path, known, shelf)
        elif path.suffix.lower() in (".gguf", ".part", "", ".bin") and is_gguf(path) and not _is_eye(path):
            found.append(_gguf(path, known))
    return found


def _whisper(folder: Path, model: Path, known: Catalogue) -> Found:
    listed = known.of_file(model.name, model.stat().st_size)
    vocabularies = [folder / name for name in ("vocabulary.json", "vocabulary.txt") if (folder / name).is_file()]
    needed = [folder / "config.json", folder / "tokenizer.json"]
    missing = [path.name for path in needed if not path.is_file()]
    if not vocabularies:
        missing.append("vocabulary.txt (or vocabulary.json)")
    extra = [path for path in (folder / "preprocessor_config.json",) if path.is_file()]
    lacks = (
        f"{' and '.join(missing)} must lie beside {model}; the publisher has it in the same folder" if missing else ""
    )
    files = (model, *(path for path in needed if path.is_file()), *vocabularies[:1], *extra)
    # A copy of a hub's own cache has the name some folders higher.
    sure = listed is not None and any(listed.name in part for part in folder.resolve().parts)
    name = listed.name if listed is not None and sure else _plain(folder.resolve().name)
    return Found("faster_whisper", name, files, listed, sure, lacks)


def _gguf(path: Path, known: Catalogue) -> Found:
    listed = known.of_file(path.name, path.stat().st_size)
    lacks = "it is one part of several; join them with llama-gguf-split first" if _SPLIT.search(path.name) else ""
    sure = listed is not None and listed.main_file.name.lower() == path.name.lower()
    name = listed.name if listed is not None and sure else _plain(path.stem)
    # Macs leave a ``._model.gguf`` beside each file.
    there = [other for other in sorted(path.parent.glob("*.gguf")) if not other.name.startswith(".")]
    eyes = [other for other in there if _is_eye(other) and is_gguf(other)]
    alone = all(other == path or _is_eye(other) for other in there)
    # Where several models lie together nobody knows whose eye it is.
    return Found("llama_cpp", name, (path, *eyes[:1]) if alone else (path,), listed, sure, lacks)


def _is_eye(path: Path) -> bool:
    """A projector, with which a language model sees pictures: it goes with its model."""
    return "mmproj" in path.name.lower()


def _onnx(folder: Path, path: Path, known: Catalogue, shelf: ModelShelf) -> list[Found]:
    settings = path.with_name(path.name + ".json")
    listed = known.of_file(path.name, path.stat().st_size)
    if listed is not None and listed.main_file.name != path.name:
        listed = None  # voices of one quality are equally large, and so are wake words
    if voice_settings(settings) is not None:
        card = [each for each in (folder / "MODEL_CARD",) if each.is_file()]
        return [Found("piper", _plain(path.stem), (path, settings, *card), listed, listed is not None)]
    if path.name in EARS:
        return []
    if path.stat().st_size > LARGEST_WORD:
        return [Found("piper", _plain(path.stem), (path,), lacks=f"its settings, {settings.name}, must lie beside it")]
    ears = _ears(folder, shelf)
    lacks = "" if ears else f"{' and '.join(EARS)} must lie beside it: all wake words of openWakeWord hear with them"
    name = listed.name if listed is not None else _plain(path.stem)
    return [Found("openwakeword", name, (*ears, path), listed, listed is not None, lacks)]


def _ears(folder: Path, shelf: ModelShelf) -> tuple[Path, ...]:
    """What wake words hear with: beside the word, or with a word that is on the shelf already."""
    for place in (folder, *(model.folder for model in shelf.installed("openwakeword"))):
        ears = tuple(place / name for name in EARS)
        if all(is_onnx(path) for path in ears):
            return ears
    return ()


def _plain(name: str) -> str:
    """A name that may stand on the shelf."""
    plain = re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-._+")[:100]
    return plain.removesuffix(".part") or "model"


def _unreadable(path: Path, error: OSError, hint: str) -> HubError:
    return HubError(f"{error.filename or path} cannot be read: {error.strerror}.", code="path-unreadable", hint=hint)


def _copy(source: Path, target: Path, progress: Progress) -> Digests:
    try:
        with source.open("rb") as given, target.open("wb") as taken:
            return read_through(given, source.name, progress, taken)
    except OSError as error:
        if error.filename == str(source):
            raise _unreadable(source, error, "Is the stick still there?") from error
        raise disk_trouble(target, error) from error


__all__ = ["Found", "bring", "recognise", "renamed"]
