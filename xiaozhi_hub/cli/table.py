"""Columns on a terminal, where a Chinese character takes two cells."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def cells(text: str) -> int:
    """How many cells of a terminal *text* takes."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int) -> str:
    """*text* with as many blanks behind it as it lacks of *width* cells."""
    return text + " " * max(0, width - cells(text))


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A line for each row, with columns as wide as what is in them."""
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print `table`."""
    for line in table(rows):
        print(line)


__all__ = ["cells", "pad", "print_table", "table"]
