"""Every text for people exists in both languages, says the same things in both, and commands print nothing else."""

from __future__ import annotations

import argparse
import ast
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Any

import pytest

from xiaozhi_hub.cli import COMMANDS
from xiaozhi_hub.cli.parser import Parser, wrapped
from xiaozhi_hub.cli.table import cells, table
from xiaozhi_hub.cli.words import Words, language_for
from xiaozhi_hub.core.config import load_config
from xiaozhi_hub.core.i18n import LANGUAGES, is_chinese
from xiaozhi_hub.models.catalogue import load_catalogue

ROOT = Path(__file__).resolve().parent.parent
CLI = ROOT / "xiaozhi_hub" / "cli"
FOLDERS = sorted(path.parent for path in ROOT.glob("**/translations/en.json") if "builtin" not in path.parts)

# -- the files ----------------------------------------------------------------------------------------------------


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from flat(item, f"{prefix}{key}.")
        else:
            yield prefix + key, item


@cache
def texts_in(folder: Path, language: str) -> dict[str, str]:
    return dict(flat(json.loads((folder / f"{language}.json").read_text(encoding="utf-8"))))


def blanks(text: str) -> set[str]:
    """The names of what is filled in."""
    return {name for _, name, _, _ in Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.parent.name)
def test_each_text_exists_in_both_languages_and_needs_nothing_that_the_other_does_not(folder: Path) -> None:
    english, chinese = (texts_in(folder, language) for language in LANGUAGES)
    assert list(english) == list(chinese)
    assert {
        key: blanks(text) - blanks(english[key]) for key, text in chinese.items() if blanks(text) > blanks(english[key])
    } == {}


OWN = {language: texts_in(ROOT / "xiaozhi_hub" / "translations", language) for language in LANGUAGES}
COMMAND_TEXTS = {key for key in OWN["en"] if key.startswith(("cli.", "models."))}
SIGNS = re.compile(r"\{[^}]*\}|xiaozhi-hub[\w -]*|\bms\b|\bOK\b")
"""What is the same in every language."""


def test_the_texts_of_commands_say_in_both_languages_the_same_facts() -> None:
    differ = {key for key in COMMAND_TEXTS if blanks(OWN["en"][key]) != blanks(OWN["zh-Hans"][key])}
    assert differ == set()
    named = {key for key in COMMAND_TEXTS if key.startswith("models.about.")}  # names of models, some with a word more
    wordy = {key for key in COMMAND_TEXTS - named if re.search("[A-Za-z]", SIGNS.sub("", OWN["en"][key]))}
    assert {key for key in wordy if not is_chinese(OWN["zh-Hans"][key])} == set()
    assert {key for key in COMMAND_TEXTS if is_chinese(OWN["en"][key])} == set()


# -- the code -----------------------------------------------------------------------------------------------------

SPOKEN = {"SHORT", "LONG", "VOLUME", "LOUD", "REBOOT", "QUESTION", "COMMAND", "PERSONA", "SENTENCES"}
"""What commands say to hubs and models, not to people."""
NO_WORDS = re.compile(
    r"XiaoZhi Hub |(xiaozhi-hub|https?://|/api/|/?xiaozhi/|/reload|xiaozhi_hub\.| -m (pip|xiaozhi_hub)).*| (ms|min|MiB)|\.\w+"
)
"""Names, commands to type, addresses, units."""
KEY = re.compile(r"(cli|page|models|home)(\.[\w-]+)+")
KEYS_OF = re.compile(r"(cli|page|models|home)(\.[\w-]+)*\.(\w+_)?")
"""How the keys of a group begin: ``f"cli.say.{way}"``."""
TOLD, TOLD_BY = {"print", "input", "HubError"}, {"error", "append", "exit", "ArgumentTypeError"}
"""Functions, and methods of anything, that are given texts for people."""


def words_in(path: Path) -> Iterator[tuple[str, int, bool]]:
    """The texts in the code of *path* with their lines, and whether each is a part of a longer text or told as it is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored: set[ast.AST] = set()
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            ignored.add(node.value)  # a docstring
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Attribute) and getattr(called.value, "id", "") == "log":
                ignored.update(ast.walk(node))
            elif getattr(called, "id", "") in TOLD or getattr(called, "attr", "") in TOLD_BY:
                parts.update(node.args)
        elif isinstance(node, ast.Assign) and SPOKEN & {getattr(target, "id", "") for target in node.targets}:
            ignored.update(ast.walk(node))
        elif isinstance(node, ast.JoinedStr):
            parts.update(node.values)
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for node in sorted(texts, key=lambda node: node.lineno):
        if node not in ignored:
            yield str(node.value), node.lineno, node in parts


def literal_texts(path: Path) -> list[str]:
    """What is written in the code of *path* for people to read."""
    sentence, word = re.compile(r"[A-Za-z]{2,}\W* \W*[A-Za-z]{2,}"), re.compile(r"[A-Za-z]{2,}|[^\W\d_a-zA-Z]")
    return [
        f"{path.name}:{line}: {text}"
        for text, line, is_part in words_in(path)
        if (sentence.search(text) or is_chinese(text) or (is_part and word.search(text)))
        and not NO_WORDS.fullmatch(text)
        and not KEY.fullmatch(text)
        and not KEYS_OF.fullmatch(text)
    ]


@pytest.mark.parametrize("path", sorted(CLI.glob("*.py")), ids=lambda path: path.stem)
def test_no_text_for_people_stands_in_the_code_of_a_command(path: Path) -> None:
    assert literal_texts(path) == []


def test_the_rule_would_notice(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text(
        '"""A docstring says much."""\n'
        'log.info("so does the log")\n'
        'print("Done")\n'
        'print(f"{count} facts")\n'
        'text = "Nothing is here."\n'
        'lines.append("没有")\n'
        'print(words("cli.say.none"), f"cli.say.{way}", f"{size} MiB", f"xiaozhi-hub models download {name}")\n'
    )
    assert [text.split(":")[1] for text in literal_texts(path)] == ["3", "4", "5", "6"]


def test_each_text_of_the_commands_is_used_and_each_that_is_used_exists() -> None:
    keys, groups = set(), set()
    for path in CLI.glob("*.py"):
        for text, _, is_part in words_in(path):
            if is_part and KEYS_OF.fullmatch(text):
                groups.add(text)
            elif KEY.fullmatch(text):
                keys.add(text)
    lacking = {key for key in keys if not any(text == key or text.startswith(f"{key}.") for text in OWN["en"])}
    assert lacking == set()
    assert {group for group in groups if not any(text.startswith(group) for text in OWN["en"])} == set()
    begun = (*groups, *(f"{key}." for key in keys))
    assert {key for key in COMMAND_TEXTS - keys if not key.startswith(begun)} == set()


def test_each_model_that_the_hub_knows_is_told_of() -> None:
    told = {key.removeprefix("models.about.") for key in COMMAND_TEXTS if key.startswith("models.about.")}
    assert told == {model.name for model in load_catalogue().models}


# -- help ---------------------------------------------------------------------------------------------------------


def parsers() -> Iterator[argparse.ArgumentParser]:
    """Those of all commands and of their actions."""
    subparsers = Parser(prog="xiaozhi-hub").add_subparsers()
    for name in COMMANDS:
        importlib.import_module(f"xiaozhi_hub.cli.{name.replace('-', '_')}").add_parser(subparsers)
    waiting = list(subparsers.choices.values())
    while waiting:
        parser = waiting.pop()
        yield parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting.extend(action.choices.values())


def test_every_option_and_argument_is_explained_in_the_language_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for parser in parsers():
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), (parser.prog, action.dest)
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        english = parser.format_help()
        monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
        chinese = parser.format_help()
        for told in (english, chinese):
            assert not KEY.search(told), told
            assert all(cells(line) <= 80 for line in told.splitlines()), told
        assert not is_chinese(english) and english.startswith("usage: xiaozhi-hub ")
        assert chinese.startswith("用法：xiaozhi-hub ")


@pytest.mark.parametrize("width", [8, 20, 40, 78])
def test_chinese_help_is_broken_where_chinese_may_be(width: int) -> None:
    text = "从 models: mirror: 的地址下载模型（默认：“没有”），中枢启动时用了 --port，就填它的端口。"
    lines = wrapped(text, width)
    assert all(cells(line) <= width for line in lines if len(line.split()) > 1)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert not [line for line in lines if line[0] in "，。；：、！？）”" or line[-1] in "（“"]


# -- the language -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "environment", "language"),
    [
        ("zh-Hans", {}, "zh-Hans"),
        ("zh-Hans", {"LANG": "en_US.UTF-8"}, "zh-Hans"),
        ("en", {"LANG": "zh_CN.UTF-8"}, "en"),
        ("", {"LANG": "zh_CN.UTF-8"}, "zh-Hans"),
        (None, {"LANG": "zh_CN.UTF-8"}, "zh-Hans"),
        (None, {"LC_MESSAGES": "en_GB", "LANG": "zh_CN.UTF-8"}, "en"),
        (None, {"LC_ALL": "zh_TW", "LC_MESSAGES": "en_GB", "LANG": "en_US"}, "zh-Hans"),
        (None, {"LC_ALL": "", "LANG": "zh_CN"}, "zh-Hans"),
        (None, {"LC_ALL": "C", "LANG": "zh_CN"}, "en"),
        (None, {"LANG": "de_DE.UTF-8"}, "en"),
        ("", {}, "en"),
        (None, {}, "en"),
    ],
)
def test_commands_speak_the_language_of_the_configuration_or_else_of_the_terminal(
    written: str | None, environment: dict[str, str], language: str, tmp_path: Path
) -> None:
    config = None
    if written is not None:
        (tmp_path / "configuration.yaml").write_text(f"hub: {{language: {written}}}\n" if written else "log: {}\n")
        config = load_config(tmp_path)
    assert language_for(config, environment) == language


def test_a_code_without_a_name_is_told_as_it_is() -> None:
    words = Words("zh-Hans")
    assert words.named("cli.entry", "ready") == "就绪"
    assert words.named("cli.entry", "of a newer hub") == "of a newer hub"


# -- columns ------------------------------------------------------------------------------------------------------


def test_columns_stand_below_each_other_where_characters_are_wide() -> None:
    rows = [("名字", "SIZE", "说明"), ("qwen3", "12 MB", "小"), ("小智中枢", "1", "x"), ("café", "2", "y")]
    lines = table(rows)
    for column in (1, 2):
        begins = {cells(line[: line.index(row[column])]) for line, row in zip(lines, rows, strict=True)}
        assert len(begins) == 1
    assert table([]) == []
    assert (cells("中枢 ok"), cells("（→）"), cells("e\u0301"), cells("")) == (7, 5, 1, 0)
