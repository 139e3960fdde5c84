"""The command ``xiaozhi-hub integrations``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import ClientSession

from xiaozhi_hub.cli import main
from xiaozhi_hub.testing import running_hub


def integration(folder: Path, domain: str, **more: object) -> None:
    place = folder / "integrations" / domain
    place.mkdir(parents=True)
    facts = {"domain": domain, "name": f"The {domain}", "version": "1.2", "kinds": ["tools"], "online": False}
    (place / "manifest.json").write_text(json.dumps(facts | more))


def row(output: str, domain: str) -> str:
    return next(line for line in output.splitlines() if line.startswith(f"{domain} "))


def test_it_tells_what_is_on_by_default_and_what_by_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configuration.yaml").write_text("integrations:\n  echo:\n  clock: false\n")
    main(["integrations", "-c", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "on (configuration)" in row(shown, "echo")
    assert "off (configuration)" in row(shown, "clock")
    assert "on (default)" in row(shown, "espeak")
    assert "built in" in row(shown, "espeak") and row(shown, "espeak").endswith("eSpeak NG voice")


def test_what_is_missing_is_told_with_the_command_that_installs_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    integration(tmp_path, "kettle", requirements=["no-such-kettle>=3"])
    (tmp_path / "configuration.yaml").write_text("integrations:\n  kettle:\n")
    assert main(["integrations", "-c", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "1.2" in row(shown, "kettle") and "  own  " in row(shown, "kettle")
    assert "-m pip install 'no-such-kettle>=3'" in shown


def test_what_is_off_may_miss_what_it_likes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    everything_off = "".join(f"  {domain}: false\n" for domain in ("clock", "espeak", "phrases", "silero_vad"))
    (tmp_path / "configuration.yaml").write_text(f"integrations:\n{everything_off}")
    integration(tmp_path, "kettle", requirements=["no-such-kettle"])
    assert main(["integrations", "-c", str(tmp_path)]) == 0
    assert "off (default)" in row(capsys.readouterr().out, "kettle")


def test_an_unknown_one_in_the_configuration_is_told_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "configuration.yaml").write_text("integrations:\n  kettel:\n")
    assert main(["integrations", "-c", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "configuration.yaml:2" in error and "kettel" in error


def test_a_broken_manifest_is_told_with_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    integration(tmp_path, "kettle", version="new")
    assert main(["integrations", "-c", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "manifest.json" in error and "version" in error


async def test_of_a_hub_that_runs_it_tells_how_they_are_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = """
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  wyoming: {services: ["tcp://127.0.0.1:9"], timeout_s: 1}
"""
    async with running_hub(tmp_path, configuration) as hub:
        command = ["integrations", "-c", str(tmp_path), "--port", str(hub.port)]
        await asyncio.to_thread(main, command)
    shown = capsys.readouterr().out
    after = shown.partition("\nwyoming ")[2].splitlines()
    assert after[1].strip().startswith("retrying: 127.0.0.1:9 ") and "is not there" in after[1]
    assert "models recommend" in shown.partition("\nfaster_whisper ")[2].partition("\nllama_cpp")[0]
    assert row(shown, "clock") and "ready" not in shown, "of those that are well nothing is said"


async def test_only_programs_on_this_machine_are_told(tmp_path: Path) -> None:
    async with running_hub(tmp_path, "integrations: {espeak: false, phrases: false}") as hub, ClientSession() as http:
        url = f"{hub.local_url}/api/integrations"
        async with http.get(url) as answer:
            assert "clock" in [entry["domain"] for entry in (await answer.json())["entries"]]
        async with http.get(url, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421
