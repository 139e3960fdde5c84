"""One line on a terminal that shows how far something is; nothing where nobody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from xiaozhi_hub.cli.table import cells, pad
from xiaozhi_hub.cli.words import Words

WIDTH = 24
EVERY_SECONDS = 0.1


class TerminalProgress:
    """Draws ``model.bin  [######------]  38 %  12.3 MB/s  7 s`` while work goes on; only notes where *out* is no terminal."""

    def __init__(
        self,
        out: TextIO | None = None,
        *,
        count: Callable[[int], str],
        words: Words,
        now: Callable[[], float] = time.monotonic,
        terminal: bool | None = None,
    ) -> None:
        """*count* writes an amount for people; *out* is the standard error output unless given."""
        self._out = out if out is not None else sys.stderr
        self._terminal = self._out.isatty() if terminal is None else terminal
        self._count = count
        self._words = words
        self._now = now
        self._what = ""
        self._total: int | None = None
        self._first = 0
        self._began = 0.0
        self._drawn = 0.0
        self._length = 0

    def begin(self, what: str, total: int | None, done: int = 0) -> None:
        self._what, self._total, self._first = what, total, done
        self._began = self._now()
        self._drawn = float("-inf")
        self.advance(done)

    def advance(self, done: int) -> None:
        now = self._now()
        finished = self._total is not None and done >= self._total
        if not self._terminal or (now - self._drawn < EVERY_SECONDS and not finished):
            return
        self._drawn = now
        self._draw(self._line(done, now - self._began))

    def note(self, text: str) -> None:
        self._clear()
        print(f"  {text}", file=self._out, flush=True)

    def end(self) -> None:
        self._clear()

    def _line(self, done: int, seconds: float) -> str:
        parts = [f"  {self._what}"]
        gained = done - self._first
        pace = gained / seconds if seconds > 0.5 else 0.0
        if self._total:
            share = min(done / self._total, 1.0)
            filled = round(share * WIDTH)
            parts += [
                f"[{'#' * filled}{'-' * (WIDTH - filled)}]",
                f"{share * 100:3.0f} %",
                self._words("cli.models.progress_of", size=self._count(self._total)),
            ]
        else:
            parts.append(self._count(done))
        if pace > 0:
            parts.append(f"{self._count(int(pace))}/s")
            if self._total and done < self._total:
                parts.append(_remaining((self._total - done) / pace))
        return "  ".join(parts)

    def _draw(self, line: str) -> None:
        self._out.write("\r" + pad(line, self._length))
        self._out.flush()
        self._length = cells(line)

    def _clear(self) -> None:
        if self._terminal and self._length:
            self._out.write("\r" + " " * self._length + "\r")
            self._out.flush()
        self._length = 0


def _remaining(seconds: float) -> str:
    if seconds >= 90:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.0f} s"


__all__ = ["TerminalProgress"]
