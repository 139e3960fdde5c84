"""The log: one line per fact, with the id of its turn, in the terminal and in files, and nothing secret in it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest

from xiaozhi_hub import diagnostics
from xiaozhi_hub.core.config import LogConfig
from xiaozhi_hub.core.secret import Secret
from xiaozhi_hub.core.turn_context import turn_id
from xiaozhi_hub.diagnostics import redacted, set_up_logging

log = logging.getLogger("xiaozhi_hub.dialog.turn")
theirs = logging.getLogger("zeroconf.core")


@pytest.fixture(autouse=True)
def clean_root() -> Iterator[None]:
    """Every test leaves the log of the process as it was."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    yield
    assert (list(root.handlers), root.level) == before


Started = Callable[..., tuple[io.StringIO, Callable[[], None]]]


@pytest.fixture
def started() -> Iterator[Started]:
    """Start logging into a text; what is left running is stopped after the test."""
    running: list[Callable[[], None]] = []

    def start(secrets: tuple[Secret, ...] = (), **settings: object) -> tuple[io.StringIO, Callable[[], None]]:
        stream = io.StringIO()
        stop = set_up_logging(LogConfig(**settings), secrets=secrets, stream=stream)  # type: ignore[arg-type]
        running.append(stop)

        def stop_once() -> None:
            if stop in running:
                running.remove(stop)
                stop()

        return stream, stop_once

    yield start
    for stop in running:
        stop()


def test_a_line_says_when_how_grave_where_and_what(started: Started) -> None:
    stream, _ = started()
    log.info("device %s paired", "a1")
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO    dialog\.turn: device a1 paired\n", stream.getvalue()
    )


async def test_lines_of_a_turn_carry_its_id_in_all_its_tasks_and_no_other(started: Started) -> None:
    stream, _ = started()

    async def stage() -> None:
        log.info("in a task of the turn")

    async def turn() -> None:
        turn_id.set("t42")
        log.info("in the turn")
        await asyncio.create_task(stage())

    await asyncio.create_task(turn())
    log.info("outside")
    first, second, third = stream.getvalue().splitlines()
    assert first.endswith("dialog.turn [t42]: in the turn")
    assert second.endswith("dialog.turn [t42]: in a task of the turn")
    assert third.endswith("dialog.turn: outside")


def test_json_lines_are_json_with_the_same_facts(started: Started) -> None:
    stream, _ = started(json=True)
    token = turn_id.set("t1")
    try:
        raise ValueError("token=abcdefgh")
    except ValueError:
        log.exception("it broke:\nbadly")
    finally:
        turn_id.reset(token)
    log.warning("次")
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first["level"] == "error"
    assert first["logger"] == "xiaozhi_hub.dialog.turn"
    assert first["turn"] == "t1"
    assert first["message"] == "it broke:\nbadly"
    assert "ValueError: token=••••" in first["error"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", first["time"])
    assert second["message"] == "次"
    assert "turn" not in second
    assert "error" not in second


def test_the_level_is_ours_and_other_libraries_are_quiet(started: Started) -> None:
    stream, _ = started(level="debug")
    log.debug("ours")
    logging.getLogger("xiaozhi_hub_integrations.clock").debug("an integration's")
    theirs.info("theirs")
    theirs.warning("theirs, grave")
    assert [line.split(": ")[-1] for line in stream.getvalue().splitlines()] == [
        "ours",
        "an integration's",
        "theirs, grave",
    ]


def test_a_level_hides_what_is_below_it(started: Started) -> None:
    stream, _ = started(level="warning")
    log.info("small")
    log.warning("big")
    assert "small" not in stream.getvalue()
    assert "big" in stream.getvalue()


def test_words_from_outside_cannot_look_like_our_own_lines(started: Started) -> None:
    stream, _ = started()
    log.info("heard %s", "hello\n2026-01-01 00:00:00.000 ERROR   hub: all is lost\r")
    assert len(stream.getvalue().splitlines()) == 1


def test_files_hold_everything_and_the_errors_apart(tmp_path: Path, started: Started) -> None:
    _, stop = started(folder=tmp_path / "logs" / "hub")
    log.info("small")
    token = turn_id.set("t7")
    log.error("big, password: hush-hush")
    turn_id.reset(token)
    stop()
    everything = (tmp_path / "logs" / "hub" / "hub.log").read_text(encoding="utf-8").splitlines()
    errors = (tmp_path / "logs" / "hub" / "error.log").read_text(encoding="utf-8").splitlines()
    assert [line.split(" dialog.turn")[1] for line in everything] == [": small", " [t7]: big, password: ••••"]
    assert [line.split(" dialog.turn")[1] for line in errors] == [" [t7]: big, password: ••••"]


def test_files_are_rotated_and_the_oldest_forgotten(
    tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "FILE_BYTES", 2000)
    _, stop = started(folder=tmp_path)
    for number in range(200):
        log.info("line %d", number)
    stop()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["error.log", "hub.log", "hub.log.1", "hub.log.2", "hub.log.3"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert (tmp_path / "hub.log").read_text().endswith("line 199\n")


def test_a_folder_that_cannot_be_written_is_told_and_the_terminal_goes_on(tmp_path: Path, started: Started) -> None:
    (tmp_path / "file").write_text("")
    stream, _ = started(folder=tmp_path / "file" / "logs")
    log.info("still here")
    first, second = stream.getvalue().splitlines()
    assert "no log files" in first
    assert str(tmp_path / "file" / "logs") in first
    assert second.endswith("still here")


def test_a_disk_that_stands_still_costs_lines_and_not_time(
    tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnostics, "WAITING_LINES", 10)
    stream, stop = started(folder=tmp_path)
    writers = [ref() for ref in logging._handlerList if isinstance(ref(), RotatingFileHandler)]
    for writer in writers:
        writer.acquire()  # what a write that does not return looks like to the others
    for number in range(100):
        log.info("line %d", number)
    for writer in writers:
        writer.release()
    assert "line 99" in stream.getvalue()
    stop()
    dropped = re.search(r"the disk was too slow for (\d+) lines of the log", stream.getvalue())
    assert dropped is not None
    kept = len((tmp_path / "hub.log").read_text().splitlines())
    assert 10 <= kept <= 13
    assert int(dropped[1]) + kept >= 100


def test_secrets_that_are_known_by_their_words_are_blackened(started: Started) -> None:
    stream, _ = started(secrets=(Secret("open sesame"), Secret("a"), Secret()))
    log.info("a door says open sesame")
    assert stream.getvalue().endswith("a door says ••••\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Authorization: Bearer abc.DEF-123_x", "Authorization: Bearer ••••"),
        ("{'Authorization': 'Bearer abcdef123'}", "{'Authorization': ••••}"),
        ("sent bearer ABCDEF12 to it", "sent bearer •••• to it"),
        ("token=abc123&x=1", "token=••••&x=1"),
        ('{"token": "abc 123", "version": 1}', '{"token": ••••, "version": 1}'),
        ("auth_key: hush", "auth_key: ••••"),
        ("api-key", "api-key"),
        ("api_key='k 1' and more", "api_key=•••• and more"),
        ("password=p@ss,word", "password=••••,word"),
        ("mqtt://me:hush@nas:1883/x", "mqtt://••••@nas:1883/x"),
        ("the bearer of this letter", "the bearer of this letter"),
        ("12 tokens in 3 s", "12 tokens in 3 s"),
        ("a secret is kept: no", "a secret is kept: no"),
        ("http://nas:80/a@b", "http://nas:80/a@b"),
    ],
)
def test_what_looks_like_a_secret_is_blackened_and_the_rest_is_not(text: str, expected: str) -> None:
    assert redacted(text) == expected


def test_stopping_gives_the_terminal_back(started: Started) -> None:
    stream, stop = started(level="debug")
    stop()
    log.error("afterwards")
    assert stream.getvalue() == ""
