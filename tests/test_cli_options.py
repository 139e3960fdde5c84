"""What commands have in common is taken wherever people write it."""

from __future__ import annotations

import argparse
import asyncio
import importlib
from pathlib import Path

import pytest

from xiaozhi_hub.cli import COMMANDS, main
from xiaozhi_hub.testing import running_hub

QUIET = "integrations: {silero_vad: false, phrases: false, espeak: false, clock: false}\nvoice: {llm: none}\n"
OTHERS = {"device", "conformance"}
"""They ask a hub by its address."""


def parser_of(name: str) -> argparse.ArgumentParser:
    subparsers = argparse.ArgumentParser().add_subparsers()
    importlib.import_module(f"xiaozhi_hub.cli.{name.replace('-', '_')}").add_parser(subparsers)
    return subparsers.choices[name]


def actions_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: action
        for each in parser._actions
        if isinstance(each, argparse._SubParsersAction)
        for name, action in each.choices.items()
    }


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - OTHERS))
def test_every_command_takes_the_folder_before_and_after_its_action(name: str) -> None:
    parser = parser_of(name)
    assert "-c DIR, --config DIR" in parser.format_help()
    actions = actions_of(parser)
    taken = {option for each in parser._actions for option in each.option_strings if option not in ("-h", "--help")}
    for action, inner in actions.items():
        words = ["x"] * sum(each.nargs in (None, "+") for each in inner._actions if not each.option_strings)
        assert parser.parse_args(["-c", "here", action, *words]).config == Path("here"), action
        assert parser.parse_args([action, *words, "-c", "here"]).config == Path("here"), action
        assert parser.parse_args([action, "--config", "here", *words]).config == Path("here"), action
        assert parser.parse_args([action, *words]).config == Path("config"), action
        assert taken <= {option for each in inner._actions for option in each.option_strings}, action


@pytest.mark.parametrize(
    "command",
    [
        ["models", "list"],
        ["firmware", "list"],
        ["models", "verify"],
        ["devices", "list"],
        ["memory", "list"],
        ["assistants", "list"],
    ],
    ids=" ".join,
)
async def test_the_folder_and_the_port_are_taken_wherever_they_stand(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    for folder in (elsewhere, home):
        folder.mkdir()
    monkeypatch.chdir(elsewhere)
    async with running_hub(home, QUIET) as hub:
        options = ["-c", str(home)] + (["--port", str(hub.port)] if command[0] not in ("models", "firmware") else [])
        said = []
        for words in ([command[0], *options, command[1]], [*command, *options]):
            assert await asyncio.to_thread(main, words) == 0, words
            said.append(capsys.readouterr().out)
        assert said[0] == said[1] != ""
    assert not list(elsewhere.iterdir())
