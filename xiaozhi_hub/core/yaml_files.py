"""YAML files whose every key knows its file and line.

Beyond plain YAML: ``!secret name`` takes a value from ``secrets.yaml``, ``!include file.yaml`` puts another file in,
``${NAME}`` and ``${NAME:-otherwise}`` stand for environment variables (``$${`` for a literal ``${``). Only ``true`` and
``false`` are booleans and only plain decimal digits are whole numbers: a time such as ``6:30``, a MAC address, the
country ``no`` and the code ``007`` stay the texts that they are. Keys are always text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from xiaozhi_hub.core.documents import UNREADABLE, Document, KeyPath, Unreadable, key_path, shown
from xiaozhi_hub.core.secret import MASK
from xiaozhi_hub.core.yaml_syntax import TYPE_PREFIX, Loader, in_plain_words, typed
from xiaozhi_hub.errors import ConfigError, Place

Stamp = tuple[int, int, int]
"""When a file was changed, its size, and which file of that name it is: another content has another one."""
SECRETS_FILE = "secrets.yaml"
MOST_VALUES = 50_000
"""More than any home has; a file that grows beyond it through aliases is refused before it eats the memory."""

_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")
_VARIABLE_INSIDE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_TAGS = ("!secret", "!include")


def is_there(path: Path) -> bool:
    """Whether there is something to read, or to complain about: a folder that hides its files counts as there."""
    try:
        return path.exists()
    except OSError:
        return True


def stamp_of(path: Path) -> Stamp | None:
    """What tells whether a file has changed; None for one that is not there or that nobody may look at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Reader:
    """Reads files of one configuration folder and gathers what is wrong with them in ``errors``; ``stamps`` tells which files
    were looked for, and their state just before they were read.

    ``!secret`` looks into the folder's ``secrets.yaml``. Places name files relative to the folder.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.errors: list[ConfigError] = []
        self.stamps: dict[Path, Stamp | None] = {}
        self._folder = folder
        self._environment = os.environ if environment is None else environment
        self._secrets: Mapping[str, Any] | None = None
        self._open_files: list[Path] = []
        self._open_nodes: set[int] = set()
        self._values = 0

    def read(self, path: Path) -> Document:
        """Read one file. A file that cannot be read gives `UNREADABLE` and an error."""
        document = Document(None)
        name = self._name(path)
        document.places[()] = Place(name, 1)
        with self._opened(path):
            node = self._compose(path, Place(name))
            if node is not None:
                document.value = UNREADABLE if node is UNREADABLE else self._value(node, (), path, document.places)
        return document

    def _name(self, path: Path) -> str:
        try:
            return path.relative_to(self._folder).as_posix()
        except ValueError:
            return str(path)

    def _wrong(self, message: str, place: Place, hint: str = "") -> Unreadable:
        self.errors.append(ConfigError(f"{message}.", place, hint=hint))
        return UNREADABLE

    @contextmanager
    def _opened(self, path: Path) -> Iterator[None]:
        self._open_files.append(path)
        try:
            yield
        finally:
            self._open_files.pop()

    def _compose(self, path: Path, asked_at: Place) -> Any:
        """Return the root node of a file: None when it is empty, `UNREADABLE` when it is no YAML."""
        name = self._name(path)
        self.stamps[path] = stamp_of(path)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            hint = "" if len(self._open_files) == 1 else f"It is looked for in {path.parent}."
            return self._wrong(f"there is no file {name}", asked_at, hint)
        except OSError as error:
            return self._wrong(f"{name} cannot be read: {error.strerror}", asked_at)
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            return self._wrong("a letter here is not UTF-8", Place(name, line), "Save the file as UTF-8.")
        try:
            return Loader(text).get_single_node()
        except yaml.MarkedYAMLError as error:
            return self._wrong(*in_plain_words(error, text, name))
        except ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            return self._wrong("there is an invisible character that YAML does not allow", Place(name, line))
        except RecursionError:
            return self._wrong("the brackets are nested too deeply", Place(name))

    def _value(self, node: yaml.Node, path: KeyPath, file: Path, places: dict[KeyPath, Place]) -> Any:
        place = Place(self._name(file), node.start_mark.line + 1, key_path(path))
        self._values += 1
        if self._values > MOST_VALUES:
            if self._values == MOST_VALUES + 1:
                self._wrong(
                    "there is far too much in here", place, "Is an alias (*name) used within itself many times?"
                )
            return UNREADABLE
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path, file, places, place)
        if not node.tag.startswith(TYPE_PREFIX):
            return self._unknown_tag(node.tag, place)
        if id(node) in self._open_nodes:
            return self._wrong("an alias (*name) stands inside the very thing that it names", place)
        self._open_nodes.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path, file, places)
            items = []
            for index, item in enumerate(node.value):
                below = (*path, index)
                places[below] = Place(place.file, item.start_mark.line + 1, key_path(below))
                items.append(self._value(item, below, file, places))
            return items
        finally:
            self._open_nodes.discard(id(node))

    def _mapping(
        self, node: yaml.MappingNode, path: KeyPath, file: Path, places: dict[KeyPath, Place]
    ) -> dict[str, Any] | Unreadable:
        name = self._name(file)
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                hint = "Write texts with { } in quotes."
                self._wrong("expected a name before the colon", Place(name, line, key_path(path)), hint)
                continue
            key = key_node.value
            below = (*path, key)
            if key == "<<" and key_node.style is None:
                merged.extend(value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node])
                continue
            place = Place(name, line, key_path(below))
            if key in lines:
                first = f"It stands in line {lines[key]} already: keep one of the two."
                self._wrong(f'the key "{key}" is written twice', place, first)
                continue
            lines[key] = line
            places[below] = place
            result[key] = self._value(value_node, below, file, places)
        for source in merged:
            found: dict[KeyPath, Place] = {}
            value = self._value(source, path, file, found)
            if isinstance(value, dict):
                for key in value.keys() - result.keys():
                    result[key] = value[key]
                    places.update({each: at for each, at in found.items() if each[: len(path) + 1] == (*path, key)})
            elif value is not UNREADABLE:
                at = Place(name, source.start_mark.line + 1, key_path(path))
                self._wrong('expected a group of keys after "<<"', at)
        return result

    def _scalar(
        self, node: yaml.ScalarNode, path: KeyPath, file: Path, places: dict[KeyPath, Place], place: Place
    ) -> Any:
        if node.tag == "!include":
            return self._include(node.value, path, file, places, place)
        key = next((part for part in reversed(path) if isinstance(part, str)), "")
        if node.tag == "!secret":
            places[path] = Place(place.file, place.line, place.key, MASK)
            return self._secret(node.value, place)
        if not node.tag.startswith(TYPE_PREFIX):
            return self._unknown_tag(node.tag, place)
        text = self._substituted(node.value, place) if "${" in node.value and not self._in_secrets(file) else node.value
        if text is None:
            return UNREADABLE
        tag = node.tag
        if text != node.value and node.style is None:
            tag = str(Loader("").resolve(yaml.ScalarNode, text, (True, False)))  # type: ignore[no-untyped-call]
        value = typed(tag, text)
        if value is UNREADABLE:
            return self._wrong(f"this is no {tag.removeprefix(TYPE_PREFIX)}", place)
        written = shown(value, key)
        if text != node.value and written != MASK:
            written = shown(node.value)  # what a variable holds may be secret: its name is enough
        places[path] = Place(place.file, place.line, place.key, written)
        return value

    def _unknown_tag(self, tag: str, place: Place) -> Unreadable:
        near = get_close_matches(tag, _TAGS, 1, 0.5)
        return self._wrong(f'there is no "{tag}"', place, f"Did you mean {near[0]}?" if near else "")

    def _in_secrets(self, file: Path) -> bool:
        return file == self._folder / SECRETS_FILE

    def _substituted(self, text: str, place: Place) -> str | None:
        """Put variables in; None when one of them is wrong."""
        wrong = False

        def put(match: re.Match[str]) -> str:
            nonlocal wrong
            if match[1]:
                return match[0][1:]
            inside = _VARIABLE_INSIDE.fullmatch(match[2])
            if inside is None:
                wrong = True
                self._wrong(
                    f'"{match[0]}" names no environment variable',
                    place,
                    "Write ${NAME} or ${NAME:-value when it is not set}.",
                )
                return ""
            name, otherwise = inside[1], inside[2]
            value = self._environment.get(name)
            if otherwise is not None:
                return value or otherwise
            if value is None:
                wrong = True
                hint = f"Set it, or write ${{{name}:-value when it is not set}}."
                self._wrong(f"the environment variable {name} is not set", place, hint)
            return value or ""

        result = _VARIABLE.sub(put, text)
        return None if wrong else result

    def _secret(self, name: str, place: Place) -> Any:
        path = self._folder / SECRETS_FILE
        if path in self._open_files:
            return self._wrong("a secret cannot name another secret", place)
        if self._secrets is None:
            if not is_there(path):
                hint = f'Make it beside configuration.yaml, with the line "{name}: …".'
                return self._wrong(
                    f'the secret "{name}" is looked for in {SECRETS_FILE}, which does not exist', place, hint
                )
            found = self.read(path).value
            if found is not None and not isinstance(found, (dict, Unreadable)):
                self._wrong("expected lines of the form name: value", Place(SECRETS_FILE, 1))
                found = UNREADABLE
            self._secrets = _AllUnreadable() if found is UNREADABLE else found or {}
        if isinstance(self._secrets, _AllUnreadable):
            return UNREADABLE
        value = self._secrets.get(name)
        if name in self._secrets and value is not None:
            return value
        if name in self._secrets:
            return self._wrong(f'the secret "{name}" is empty', place, f"Write its value into {SECRETS_FILE}.")
        near = get_close_matches(name, list(self._secrets), 1)
        hint = f"Did you mean {near[0]}?" if near else f'Add the line "{name}: …" to it.'
        return self._wrong(f'there is no secret "{name}" in {SECRETS_FILE}', place, hint)

    def _include(self, name: str, path: KeyPath, file: Path, places: dict[KeyPath, Place], place: Place) -> Any:
        target = file.parent / name
        if not name.strip() or target.is_dir():
            return self._wrong("!include needs the name of a file", place)
        # Unlike `Path.resolve`, this takes links in a circle: such a file cannot be read, like any other.
        if any(os.path.realpath(target) == os.path.realpath(each) for each in self._open_files):
            chain = " → ".join(self._name(each) for each in (*self._open_files, target))
            return self._wrong("files include each other in a circle", place, f"{chain}.")
        with self._opened(target):
            node = self._compose(target, place)
            if node is None or node is UNREADABLE:
                return node
            value = self._value(node, path, target, places)
        if isinstance(value, (dict, list)):
            places[path] = place
        return value


class _AllUnreadable(dict[str, Any]):
    """The secrets of a file that is no YAML: told once, not once for each secret."""
