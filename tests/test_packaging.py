"""A hub from the wheel is as complete as a hub from the checkout."""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from free_ports import free_port

from xiaozhi_hub.testing import running_hub

ROOT = Path(__file__).resolve().parent.parent
MADE_BY_TOOLS = {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", "builtin"}
OWNERS = ("config/data/", "config/integrations/", "config/blueprints/")
"""What a hub that runs from the checkout puts there; it is nobody else's."""


def files_of(folder: Path) -> set[str]:
    """The files below *folder*, as paths relative to the checkout."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not MADE_BY_TOOLS & set(path.relative_to(ROOT).parts)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the checkout with the tools that are installed: no network is needed."""
    source, target = tmp_path_factory.mktemp("source") / "with a blank", tmp_path_factory.mktemp("wheel")
    source.mkdir()
    for name in ("xiaozhi_hub", "integrations", "blueprints", "config", "script"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*MADE_BY_TOOLS, "data"))
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "NOTICE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    # What must not come along: a leftover of an earlier build, and what the owner of the checkout keeps there.
    (source / "build" / "lib" / "xiaozhi_hub").mkdir(parents=True)
    (source / "build" / "lib" / "xiaozhi_hub" / "gone.py").write_text("")
    (source / "config" / "data").mkdir(exist_ok=True)
    (source / "config" / "data" / "hub.db").write_text("conversations")
    (source / "config" / "secrets.yaml").write_text("# comment\nauth_key: my own\n")
    run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-q",
            "-w",
            target,
            ".",
        ],
        source,
    )
    (built,) = target.glob("*.whl")
    return built


def run(command: list[str | Path], folder: Path, **environment: str) -> str:
    """Run a command that must succeed, in a clean environment; return what it printed."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} said:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment that has the wheel, and borrows everything else from this one."""
    home = tmp_path_factory.mktemp("installed")
    venv.create(home, with_pip=False)
    paths = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", "venv", paths))
    pip = [sys.executable, "-m", "pip", "--python", home / "bin" / "python"]
    run([*pip, "install", "--no-deps", "--no-index", "-q", wheel], home)
    # Last in line, and without its .pth files, so that an editable install of the checkout there is not found.
    (site / "borrowed.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) + "\n")
    return home / "bin"


def test_the_wheel_has_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert files_of(ROOT / "xiaozhi_hub") - inside == set()


def test_the_wheel_has_every_built_in_integration_blueprint_and_configuration(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.removeprefix("xiaozhi_hub/builtin/") for name in archive.namelist() if "/builtin/" in name}
    wanted = files_of(ROOT / "integrations") | files_of(ROOT / "blueprints")
    wanted |= {"config/configuration.yaml", "config/secrets.yaml"}
    assert inside == wanted


def test_the_wheel_has_nothing_beside_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"xiaozhi_hub"}


def test_the_wheel_has_no_leftovers_and_nobody_s_secrets(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        secrets = archive.read("xiaozhi_hub/builtin/config/secrets.yaml").decode()
    assert not [name for name in names if "gone.py" in name or "hub.db" in name or "__pycache__" in name]
    assert secrets == "# comment\n"


def test_the_wheel_says_what_it_is_and_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        facts = archive.read(name).decode()
        licences = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    assert "Requires-Python: >=3.11" in facts
    assert {"LICENSE", "NOTICE"} <= licences
    assert set(re.findall(r"Provides-Extra: (\w+)", facts)) == {
        "voice",
        "asr",
        "tts",
        "wake",
        "llm",
        "all",
        "aec",
        "wyoming",
        "fast",
        "dev",
    }


def test_the_installed_hub_works_far_from_any_checkout(installed: Path, tmp_path: Path) -> None:
    where = run([installed / "python", "-c", "import xiaozhi_hub; print(xiaozhi_hub.__file__)"], tmp_path)
    assert where.startswith(str(installed.parent)), "the wheel is not what was imported"
    assert run([installed / "xiaozhi-hub", "--version"], tmp_path).startswith("XiaoZhi Hub ")
    assert run([installed / "xiaozhi-hub", "check-config"], tmp_path).startswith("OK")
    assert list(tmp_path.iterdir()) == []


def test_the_installed_hub_finds_its_built_in_parts(installed: Path, tmp_path: Path) -> None:
    program = (
        "from xiaozhi_hub.core.places import builtin\n"
        "from xiaozhi_hub.plugins.loader import find_integrations\n"
        "found, wrong = find_integrations()\n"
        "assert not wrong, wrong\n"
        "print(builtin('config') / 'configuration.yaml', *sorted(found))\n"
    )
    config, *domains = run([installed / "python", "-c", program], tmp_path).split()
    assert Path(config).read_bytes() == (ROOT / "config" / "configuration.yaml").read_bytes()
    assert domains == sorted(path.parent.name for path in ROOT.glob("integrations/*/manifest.json"))


# -- the descriptions -----------------------------------------------------------------------------------------------


def test_pyproject_holds_the_build_system_and_the_linter_only() -> None:
    facts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(facts) == {"build-system", "tool"}
    assert set(facts["tool"]) == {"ruff"}


def test_every_dependency_has_a_lower_bound() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = [
        line.strip()
        for text in (setup["options"]["install_requires"], setup["options.extras_require"]["voice"])
        for line in text.splitlines()
        if line.strip()
    ]
    assert [line for line in lines if ">=" not in line] == []


@pytest.mark.parametrize("name", ["setup", "run", "test", "lint"])
def test_the_scripts_can_be_run_and_are_right(name: str) -> None:
    path = ROOT / "script" / name
    assert os.access(path, os.X_OK)
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    run(["bash", "-n", path], ROOT)


def test_the_check_of_every_change_calls_script_test_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["#!/usr/bin/env bash", "set -euo pipefail"]
    assert [line.split()[0] for line in lines[2:]] == ["exec"]
    assert "/../script/test" in lines[2]


def test_the_image_copies_what_the_wheel_is_built_from() -> None:
    """What .dockerignore lets through must be enough for the build: it begins by leaving out everything."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "**"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in >= {"xiaozhi_hub", "integrations", "blueprints", "script/wheel.py", "setup.cfg", "pyproject.toml"}
    assert {name for name in let_in if not (ROOT / name).exists()} <= {"README.md", "blueprints"}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.search(r"^USER (?!root)\w+$", dockerfile, re.MULTILINE)
    assert "HEALTHCHECK" in dockerfile
    assert "EXPOSE 8003 8000" in dockerfile


async def test_the_images_health_check_tells_a_hub_that_answers_from_one_that_does_not(tmp_path: Path) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])$", dockerfile, re.MULTILINE | re.DOTALL)
    assert found is not None
    program, *arguments = json.loads(found[1])
    assert program == "python"

    async def check(port: int) -> int:
        told = [word.replace(":8003/", f":{port}/") for word in arguments]
        process = await asyncio.create_subprocess_exec(sys.executable, *told, stderr=asyncio.subprocess.DEVNULL)
        return await process.wait()

    quiet = "integrations: {silero_vad: false, phrases: false, espeak: false, echo: }\n"
    async with running_hub(tmp_path, quiet) as hub:
        assert await check(hub.port) == 0
    assert await check(free_port()) != 0
