"""Logging: what the owner can read about the hub's own work.

One line per fact, with the id of the turn it belongs to and without anything secret. Lines go to the terminal, as text
or as JSON, and into rotating files when a folder is set.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import sys
import time
from collections.abc import Callable, Iterable
from logging.handlers import QueueHandler, QueueListener, RotatingFileHandler
from pathlib import Path
from typing import TextIO

from xiaozhi_hub.core.config import LogConfig
from xiaozhi_hub.core.secret import MASK, Secret
from xiaozhi_hub.core.turn_context import turn_id

log = logging.getLogger(__name__)

OURS = ("xiaozhi_hub", "xiaozhi_hub_integrations")
"""The loggers that follow the owner's level."""
FILE_BYTES = 5 * 2**20
FILES_KEPT = 3
WAITING_LINES = 10_000
"""Lines that may wait for a slow disk; more are dropped and counted."""
STOP_SECONDS = 2.0
"""How long the end of the hub waits for room among the waiting lines."""
SHORTEST_SECRET = 6
"""Shorter secrets are not looked for by their words: they would blacken ordinary text."""

_SECRETS = (
    (re.compile(r"\b(bearer|basic)(\s+)[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1\2{MASK}"),
    (
        re.compile(
            r"""((?:\b|_)(?:auth_?key|api_?key|access_?key|token|passw(?:or)?d|passphrase|secret|authorization)["']?\s*[:=]\s*)"""
            r"""(?:"[^"]*"|'[^']*'|(?!(?:bearer|basic)\b)[^\s,;&"'})\]]+)""",
            re.IGNORECASE,
        ),
        rf"\1{MASK}",
    ),
    (re.compile(r"(\w://)[^/\s@]+@"), rf"\1{MASK}@"),
)


def redacted(text: str, words: Iterable[str] = ()) -> str:
    """Return *text* with dots in place of tokens, passwords and *words*."""
    for word in words:
        text = text.replace(word, MASK)
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


class TurnIdFilter(logging.Filter):
    """Gives every record the id of the turn it was logged in. It must run where the record is made."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.turn = turn_id.get()
        return True


class TextFormatter(logging.Formatter):
    """``2026-05-01 21:41:07.123 INFO    dialog.turn [t1a2b3]: …``"""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._words = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        turn = f" [{turn}]" if (turn := getattr(record, "turn", "")) else ""
        name = record.name.removeprefix("xiaozhi_hub.").removeprefix("xiaozhi_hub_")
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {name}{turn}: {_one_line(record.getMessage())}"
        if error := _error_text(self, record):
            line = f"{line}\n{error}"
        return redacted(line, self._words)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time, level, logger, turn, message and error."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._words = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        clock = time.localtime(record.created)
        zone = time.strftime("%z", clock)
        facts = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', clock)}.{int(record.msecs):03d}{zone[:3]}:{zone[3:]}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "turn": getattr(record, "turn", "") or None,
            "message": redacted(record.getMessage(), self._words),
            "error": redacted(_error_text(self, record), self._words) or None,
        }
        return json.dumps({key: value for key, value in facts.items() if value is not None}, ensure_ascii=False)


def _one_line(text: str) -> str:
    """Keep what a device or a model has said from looking like lines of our own."""
    return text.replace("\r", "\\r").replace("\n", "\\n")


def _error_text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return formatter.formatException(record.exc_info)
    return record.exc_text or ""


class _FileQueue(QueueHandler):
    """Hands records to the thread that writes files, and never waits for it."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__(waiting)
        self.dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record  # same process: the formatter of the file does the work

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class _FileWriter(QueueListener):
    """The thread that writes files."""

    def __init__(self, waiting: queue.Queue[logging.LogRecord | None], *files: logging.Handler) -> None:
        super().__init__(waiting, *files, respect_handler_level=True)
        self._waiting = waiting

    def enqueue_sentinel(self) -> None:
        # The base class raises at once when the queue is full. None is what it ends at.
        self._waiting.put(None, timeout=STOP_SECONDS)

    def stop(self) -> None:
        """Write what waits, and close the files; a disk that stands still is left behind."""
        try:
            super().stop()
        except queue.Full:
            return  # the thread is a daemon: it does not keep the process
        for handler in self.handlers:
            handler.close()


def set_up_logging(
    settings: LogConfig, *, secrets: Iterable[Secret] = (), stream: TextIO | None = None
) -> Callable[[], None]:
    """Log as *settings* say, to *stream* (stderr) and into files; call what is returned to stop and to close the files.

    *secrets* are blackened wherever their words appear. Other libraries are heard from warnings on. A folder that
    cannot be written is said once, and the hub goes on without files.
    """
    words = [each.reveal() for each in secrets if len(each.reveal()) >= SHORTEST_SECRET]
    root = logging.getLogger()
    levels = {logger: logger.level for logger in (root, *(logging.getLogger(name) for name in OURS))}
    terminal = logging.StreamHandler(stream or sys.stderr)
    terminal.setFormatter(JsonFormatter(words) if settings.json else TextFormatter(words))
    handlers: list[logging.Handler] = [terminal]
    listener: _FileWriter | None = None
    problem: OSError | None = None
    if settings.folder is not None:
        try:
            files = _open_files(settings.folder, words)
        except OSError as error:
            problem = error
        else:
            waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(WAITING_LINES)
            listener = _FileWriter(waiting, *files)
            handlers.append(_FileQueue(waiting))
    for handler in handlers:
        handler.addFilter(TurnIdFilter())
        root.addHandler(handler)
    for logger in levels:
        logger.setLevel(logging.WARNING if logger is root else settings.level.upper())
    if listener is not None:
        listener.start()
    if problem is not None:
        log.warning("no log files: %s cannot be written (%s)", settings.folder, problem.strerror or problem)

    def stop() -> None:
        dropped = sum(handler.dropped for handler in handlers if isinstance(handler, _FileQueue))
        if dropped:
            log.warning("the disk was too slow for %d lines of the log", dropped)
        for handler in handlers:
            root.removeHandler(handler)
            handler.close()
        if listener is not None:
            listener.stop()
        for logger, level in levels.items():
            logger.setLevel(level)

    return stop


def _open_files(folder: Path, words: Iterable[str]) -> list[logging.Handler]:
    """``hub.log`` with everything and ``error.log`` with what went wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[logging.Handler] = []
    for name, level in (("hub.log", logging.NOTSET), ("error.log", logging.ERROR)):
        try:
            handler = RotatingFileHandler(folder / name, maxBytes=FILE_BYTES, backupCount=FILES_KEPT, encoding="utf-8")
        except OSError:
            for opened in files:
                opened.close()
            raise
        handler.setLevel(level)
        handler.setFormatter(TextFormatter(words))
        files.append(handler)
    return files
