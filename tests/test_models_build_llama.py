"""llama-cpp-python is built once, with what Python brings alone; the builder of these tests stands where pip would."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import sysconfig
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from xiaozhi_hub.errors import NotInstalled
from xiaozhi_hub.models.build_llama import BuildFailed, cache_folder, ensure_wheel, main, processes, wheel_in
from xiaozhi_hub.plugins import loader
from xiaozhi_hub.plugins.manifest import Manifest

ROOT = Path(__file__).resolve().parent.parent
PLATFORM = sysconfig.get_platform().replace("-", "_").replace(".", "_")
NAME = f"llama_cpp_python-0.3.36-py3-none-{PLATFORM}.whl"

BUILDER = """
import os, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--wheel-dir") + 1])
print("arguments", os.environ["CMAKE_ARGS"], os.environ["CMAKE_BUILD_PARALLEL_LEVEL"], sys.argv[-1], flush=True)
for step in range(1, 141):
    print(f"  [{step}/140] Building CXX object common.cpp.o", flush=True)
%s
(folder / %r).write_bytes(b"wheel")
"""


def builder(folder: Path, then: str = "", name: str = NAME) -> list[str]:
    """A command that takes pip's place."""
    path = folder / "builder.py"
    path.write_text(BUILDER % (then, name))
    return [sys.executable, str(path)]


@pytest.fixture
def compilers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setenv("CXX", "c++")
    monkeypatch.delenv("CMAKE_ARGS", raising=False)


def test_a_wheel_that_is_there_is_used_and_nothing_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    (tmp_path / NAME).touch()
    assert ensure_wheel(tmp_path, ["/nowhere/pip"]) == tmp_path / NAME


@pytest.mark.parametrize(
    "name",
    [
        "llama_cpp_python-0.3.35-py3-none-{}.whl",
        "llama_cpp_python-0.4.0-py3-none-{}.whl",
        "llama_cpp_python-0.3.36-py3-none-linux_riscv64.whl",
        "llama_cpp_python-0.3.36.tar.gz",
        "other-0.3.36-py3-none-{}.whl",
    ],
)
def test_a_wheel_for_something_else_is_not_used(tmp_path: Path, name: str) -> None:
    (tmp_path / name.format(PLATFORM)).touch()
    assert wheel_in(tmp_path) is None


def test_the_newest_wheel_that_fits_is_used(tmp_path: Path) -> None:
    for version in ("0.3.36", "0.3.40", "0.3.9"):
        (tmp_path / f"llama_cpp_python-{version}-py3-none-manylinux_2_17_x86_64.whl").touch()
    found = wheel_in(tmp_path, "linux-x86_64")
    assert found is not None and "0.3.40" in found.name


def test_it_is_built_portably_kept_and_shown_step_by_step(tmp_path: Path, compilers: None) -> None:
    shown = io.StringIO()
    wheel = ensure_wheel(tmp_path / "cache", builder(tmp_path), shown)
    assert wheel == tmp_path / "cache" / NAME and wheel.read_bytes() == b"wheel"
    log = (tmp_path / "cache" / "build.log").read_text()
    assert "-DGGML_NATIVE=OFF" in log and "-DLLAMA_BUILD_TESTS=OFF" in log and "llama-cpp-python>=0.3.36" in log
    assert "70 of 140" in shown.getvalue() and shown.getvalue().count("\n") < 15
    assert sorted(path.name for path in wheel.parent.iterdir()) == ["build.log", NAME, "lock"]
    assert ensure_wheel(tmp_path / "cache", ["/nowhere/pip"]) == wheel


def test_what_the_person_asks_of_the_compiler_comes_last(
    tmp_path: Path, compilers: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_VULKAN=ON")
    ensure_wheel(tmp_path, builder(tmp_path), io.StringIO())
    assert "TESTS=OFF -DGGML_VULKAN=ON" in (tmp_path / "build.log").read_text()


def test_a_terminal_sees_a_bar(tmp_path: Path, compilers: None) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown = Terminal()
    ensure_wheel(tmp_path, builder(tmp_path), shown)
    assert "[###############---------------] 70 of 140" in shown.getvalue()


def test_a_build_that_fails_shows_its_end_and_where_the_rest_is(tmp_path: Path, compilers: None) -> None:
    with pytest.raises(BuildFailed) as caught:
        ensure_wheel(tmp_path, builder(tmp_path, "print('error: no space left'); sys.exit(1)"), io.StringIO())
    assert "error: no space left" in str(caught.value) and str(tmp_path / "build.log") in str(caught.value)
    assert wheel_in(tmp_path) is None and not list(tmp_path.glob("building-*"))


def test_a_build_that_leaves_nothing_useful_is_told(tmp_path: Path, compilers: None) -> None:
    name = "llama_cpp_python-0.3.36-py3-none-linux_riscv64.whl"
    with pytest.raises(BuildFailed, match="left no wheel"):
        ensure_wheel(tmp_path, builder(tmp_path, name=name), io.StringIO())


def test_without_a_compiler_the_package_to_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("CXX", raising=False)
    assert main(["--cache", str(tmp_path / "cache")]) == 1
    assert "sudo apt install build-essential" in capsys.readouterr().err


def test_stopping_the_command_stops_the_compilers(tmp_path: Path, compilers: None) -> None:
    note = tmp_path / "pid"
    then = f"pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(300)"
    program = (
        "import pathlib, signal, sys\nfrom xiaozhi_hub.models.build_llama import ensure_wheel\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell that starts us beside itself has it ignored
        f"ensure_wheel(pathlib.Path({str(tmp_path / 'cache')!r}), {builder(tmp_path, then)!r})"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    ) as command:
        until = time.monotonic() + 180
        while not (note.exists() and note.read_text()) and time.monotonic() < until:
            time.sleep(0.02)
        command.send_signal(signal.SIGINT)
        assert command.wait(180) != 0
    pid = int(note.read_text())
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not Path(f"/proc/{pid}").exists()


def test_it_needs_nothing_but_python_itself() -> None:
    """script/setup calls it before anything is installed."""
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import xiaozhi_hub.models.build_llama as b; print(b.REQUIREMENT)"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_integration_that_lacks_it_names_our_builder_and_not_pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(loader, "distribution", nothing)
    needs = ("llama-cpp-python>=0.3.36", "other>=1")
    with pytest.raises(NotInstalled) as caught:
        loader.check_requirements(Manifest("mine", "Mine", "1", (), False, False, False, needs, tmp_path))
    python = sys.executable
    assert caught.value.hint == (
        f"Run: {python} -m pip install 'other>=1'   and: {python} -m xiaozhi_hub.models.build_llama --install"
    )


def test_the_script_asks_for_it_only_for_those_who_work_on_the_hub() -> None:
    text = (ROOT / "script" / "setup").read_text()
    assert "python -m xiaozhi_hub.models.build_llama --install" in text
    assert 'if [ "$extras" != voice ]' in text
    assert "WILL BE SKIPPED" in text


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/xiaozhi-hub/wheels")
    assert cache_folder({}) == cache_folder({"XDG_CACHE_HOME": "relative"}) == Path.home() / ".cache/xiaozhi-hub/wheels"


@pytest.mark.parametrize(
    ("cores", "free", "at_once"), [(4, 8000, 4), (4, 1700, 2), (4, 500, 1), (2, None, 2), (1, 100_000, 1)]
)
def test_so_many_compilers_run_as_fit_into_the_memory(cores: int, free: int | None, at_once: int) -> None:
    assert processes(cores, free) == at_once
