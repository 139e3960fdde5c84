"""The YAML that the hub reads: only ``true`` and ``false`` are booleans and only plain decimal digits are whole numbers.

A time such as ``6:30``, a MAC address, the country ``no`` and the code ``007`` stay the texts that they are. What is no YAML is told in
words for people who have never heard of a parser.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import Composer
from yaml.parser import Parser
from yaml.reader import Reader as CharacterReader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from xiaozhi_hub.core.documents import UNREADABLE
from xiaozhi_hub.errors import Place

TYPE_PREFIX = "tag:yaml.org,2002:"


class _Resolver(BaseResolver):
    """Which plain words are not text."""


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)?(?:\.[0-9]+|\.?[0-9]*[eE][-+]?[0-9]+)", list("-.0123456789")),
):
    _Resolver.add_implicit_resolver(TYPE_PREFIX + _tag, re.compile(rf"^{_pattern}$"), _first)


class Loader(CharacterReader, Scanner, Parser, Composer, _Resolver):
    """Text to nodes; the rest is ours."""

    def __init__(self, text: str) -> None:
        CharacterReader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)


def typed(tag: str, text: str) -> Any:
    match tag.removeprefix(TYPE_PREFIX):
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return {"true": True, "false": False}.get(text.lower(), UNREADABLE)
        case "int" | "float" as kind:
            try:
                return int(text) if kind == "int" else float(text)
            except ValueError:
                return UNREADABLE
        case _:
            return UNREADABLE


def in_plain_words(error: yaml.MarkedYAMLError, text: str, file: str) -> tuple[str, Place, str]:
    """Say what PyYAML means, and where a person should look."""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    problem = error.problem or "it cannot be read"
    at = Place(file, line)
    lines = text.splitlines()
    here = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in here[: len(here) - len(here.lstrip())] or "character '\\t'" in problem:
        return "there is a tab", at, "YAML wants spaces for indentation."
    opened = Place(file, error.context_mark.line + 1) if error.context_mark else at
    if "end of stream" in problem and error.context and "quoted" in error.context:
        return "a quotation mark is opened and never closed", opened, ""
    if error.context and "flow" in error.context:
        return "a bracket is opened and not closed", opened, "Write texts that contain [ ] { } in quotes."
    if "mapping values are not allowed" in problem:
        return "there is one colon too many", at, "Indent like the line above, or put the value in quotes."
    if "could not find expected ':'" in problem:
        return "a colon is missing after the key", opened, 'Write "key: value".'
    if "<block end>" in problem:
        return "the line is indented unlike those above it", at, "Keys of the same group begin in the same column."
    if "undefined alias" in problem:
        return f"there is nothing that {problem.split()[-1].strip(chr(39))} is the name of", at, ""
    if "but found another document" in problem:
        return 'a second document begins (the line "---")', at, "Keep everything in one document."
    if "cannot start any token" in problem:
        found = here[mark.column] if mark and mark.column < len(here) else ""
        return f"a value must not begin with {found}", at, "Put it in quotes."
    return f"this is no valid YAML: {problem}", at, ""


__all__ = ["TYPE_PREFIX", "Loader", "in_plain_words", "typed"]
