"""The command line: what it takes is written with keys of the translation files, which become words only when somebody asks for
help. Before a configuration is read, these are in the language of the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from xiaozhi_hub.cli.table import cells
from xiaozhi_hub.cli.words import words_for

_CLOSING = "，。；：、！？）”’》"
"""They begin no line."""
_OPENING = "（“‘《"
"""They end none."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose ``help``, ``description`` and titles are keys, as those of the parsers below it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "add_help": False, "formatter_class": _Help})
        self._positionals.title, self._optionals.title = "cli.options.arguments", "cli.options.options"
        self.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help="cli.options.help")

    def error(self, message: str) -> NoReturn:
        """Say *message* below the usage, and exit with 2."""
        self.print_usage(sys.stderr)
        self.exit(2, words_for()("cli.options.error", command=self.prog, message=message) + "\n")


class Saying(argparse.Action):
    """An option that says its ``const`` as it is, and nothing else is done: argparse would write it as help, whose texts are keys."""

    def __init__(self, **options: Any) -> None:
        super().__init__(nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        print(self.const)
        parser.exit()


class _Help(argparse.HelpFormatter):
    """Puts words in the place of keys."""

    def start_section(self, heading: str | None) -> None:
        super().start_section(words_for()(heading) if heading else heading)

    def add_text(self, text: str | None) -> None:
        super().add_text(words_for()(text) if text and text is not argparse.SUPPRESS else text)

    def _expand_help(self, action: argparse.Action) -> str:
        return words_for()(action.help or "", default=action.default)

    def _format_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None,
    ) -> str:
        if prefix is not None:  # it is no help: the parsers of actions learn from it what to call themselves
            return super()._format_usage(usage, actions, groups, prefix)
        title = words_for()("cli.options.usage")
        blank = " " * cells(title)  # so that further lines begin below the first one
        return super()._format_usage(usage, actions, groups, blank).replace(blank, title, 1)

    def _split_lines(self, text: str, width: int) -> list[str]:
        return super()._split_lines(text, width) if cells(text) == len(text) else wrapped(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if cells(text) == len(text):
            return super()._fill_text(text, width, indent)
        return "\n".join(indent + line for line in wrapped(text, width - len(indent)))


def wrapped(text: str, width: int) -> list[str]:
    """*text* in lines of at most *width* cells, broken at blanks and between Chinese characters."""
    lines, line = [], ""
    for piece in _pieces(" ".join(text.split())):
        if line and cells(line + piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece
    return [*lines, line.rstrip()] if line else lines


def _pieces(text: str) -> Iterator[str]:
    """What stays together in a line: words with the blank behind them, Chinese characters with what belongs to them."""
    piece = ""
    for character in text:
        last = piece[-1:]
        breaks = last == " " or (last not in _OPENING and (cells(character) == 2 or cells(last) == 2))
        if piece and breaks and character != " " and character not in _CLOSING:
            yield piece
            piece = ""
        piece += character
    if piece:
        yield piece


__all__ = ["Parser", "Saying", "wrapped"]
