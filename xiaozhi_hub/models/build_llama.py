"""Builds llama-cpp-python, which has no wheel, once for this machine, and keeps the wheel.

    python -m xiaozhi_hub.models.build_llama              build it unless it is there, print the path of the wheel
    python -m xiaozhi_hub.models.build_llama --install    and install it into this Python

It uses nothing beyond Python itself and pip, so that script/setup can call it before anything is installed. The code is built
for processors of this kind, not for this very one: a build for this very one crashes where a virtual machine hides a part of
its processor, as was seen.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

PACKAGE = "llama-cpp-python"
REQUIREMENT = f"{PACKAGE}>=0.3.36,<0.4"
OLDEST, BEFORE = (0, 3, 36), (0, 4)
CMAKE_ARGS = "-DGGML_NATIVE=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF"
COMPILER_MIB = 800
"""What one compiler process takes at its worst (0.68 GB was seen)."""
TAIL_LINES = 15
BAR = 30
_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")
_WHEEL = re.compile(r"llama_cpp_python-(\d+(?:\.\d+)*)-(py3|cp\d+)-(none|abi3|cp\d+)-(.+)\.whl")


class BuildFailed(Exception):
    """It could not be built; the text says why and what helps."""


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where wheels are kept: ``$XDG_CACHE_HOME/xiaozhi-hub/wheels``."""
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "xiaozhi-hub" / "wheels"


def wheel_in(folder: Path, platform: str = "") -> Path | None:
    """The newest wheel in *folder* that this machine can use."""
    machine = (platform or sysconfig.get_platform()).replace("-", "_").replace(".", "_").split("_", 1)[-1]
    best: tuple[tuple[int, ...], Path] | None = None
    for path in folder.glob("llama_cpp_python-*.whl") if folder.is_dir() else ():
        match = _WHEEL.fullmatch(path.name)
        if match is None or match[2] != "py3" or not match[4].endswith(machine):
            continue
        version = tuple(map(int, match[1].split(".")))
        if OLDEST <= version < BEFORE and (best is None or version > best[0]):
            best = version, path
    return best[1] if best is not None else None


def ensure_wheel(cache: Path, pip: Sequence[str] | None = None, out: IO[str] | None = None) -> Path:
    """The wheel in *cache*, built first when it is not there; `BuildFailed` when that does not work.

    *pip* is the command to call instead of this Python's pip; *out* is where progress is shown.
    """
    if (wheel := wheel_in(cache)) is not None:
        return wheel
    _look_for_compiler()
    out = out if out is not None else sys.stderr
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise BuildFailed(f"{cache} cannot be written: {error.strerror}.") from error
    with lock:
        _wait_for(lock, out)
        if (wheel := wheel_in(cache)) is not None:  # somebody else has built it meanwhile
            return wheel
        with tempfile.TemporaryDirectory(prefix="building-", dir=cache) as folder:
            _build([*(pip or (sys.executable, "-m", "pip"))], Path(folder), cache / "build.log", out)
            built = wheel_in(Path(folder))
            if built is None:
                raise BuildFailed(
                    f"The build ended well but left no wheel for this machine. Its output: {cache / 'build.log'}"
                )
            return built.rename(cache / built.name)


def _look_for_compiler() -> None:
    wanted = {"CXX": ("c++", "g++", "clang++"), "CC": ("cc", "gcc", "clang")}
    missing = [
        variable
        for variable, names in wanted.items()
        if not (os.environ.get(variable) or any(shutil.which(name) for name in names))
    ]
    if missing:
        raise BuildFailed(
            f"There is no C{'++' if 'CXX' in missing else ''} compiler on this machine. Install one and try again:\n"
            "    sudo apt install build-essential"
        )


def _wait_for(lock: IO[str], out: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print("Another command is building it; waiting for that.", file=out, flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def processes(cores: int, free_mib: int | None) -> int:
    """How many compilers may run at once without the machine running out of memory."""
    return max(1, min(cores, (free_mib // COMPILER_MIB) if free_mib is not None else cores))


def _free_mib() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable:")), None)


def _build(pip: list[str], folder: Path, log: Path, out: IO[str]) -> None:
    at_once = processes(os.cpu_count() or 1, _free_mib())
    environment = {
        "CMAKE_BUILD_PARALLEL_LEVEL": str(at_once),
        **os.environ,
        # What the person has set comes last, so that it wins.
        "CMAKE_ARGS": f"{CMAKE_ARGS} {os.environ.get('CMAKE_ARGS', '')}".strip(),
    }
    command = [*pip, "wheel", "--verbose", "--no-deps", "--no-input", "--disable-pip-version-check",
               "--progress-bar", "off", "--wheel-dir", str(folder), REQUIREMENT]  # fmt: skip
    print(f"Building {REQUIREMENT} with {at_once} compilers at once; five minutes on a PC, half an hour on a Pi.",
          file=out, flush=True)  # fmt: skip
    tail: list[str] = []
    with log.open("w", encoding="utf-8") as record:
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", start_new_session=True,
        ) as work:  # fmt: skip
            assert work.stdout is not None
            bar = _Bar(out)
            try:
                for line in work.stdout:
                    record.write(line)
                    tail = [*tail[1 - TAIL_LINES :], line.rstrip()]
                    bar.see(line)
            except BaseException:  # also when the person presses Ctrl-C: compilers must not go on alone
                with suppress(ProcessLookupError):
                    os.killpg(work.pid, signal.SIGTERM)
                raise
            finally:
                bar.close()
    if work.returncode != 0:
        raise BuildFailed(
            "\n".join((*tail, "", f"It could not be built; the end of its output is above, all of it in {log}."))
        )


class _Bar:
    """Draws the steps of the build on a terminal, or says every tenth of them where there is none."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._began = time.monotonic()
        self._told = -1
        self._drawn = False

    def see(self, line: str) -> None:
        match = _STEP.match(line)
        if match is None:
            return
        done, total = int(match[1]), max(int(match[2]), 1)
        if self._terminal:
            filled = min(BAR, round(done / total * BAR))
            clock = f"{int(time.monotonic() - self._began) // 60} min"
            self._out.write(f"\r  [{'#' * filled}{'-' * (BAR - filled)}] {done} of {total}  {clock}   ")
            self._drawn = True
        elif (tenth := done * 10 // total) > self._told:
            self._told = tenth
            self._out.write(f"  {done} of {total}\n")
        self._out.flush()

    def close(self) -> None:
        if self._drawn:
            self._out.write("\n")
            self._out.flush()


def install(wheel: Path, pip: Sequence[str] | None = None) -> None:
    """Put *wheel* and what it needs into this Python."""
    command = [*(pip or (sys.executable, "-m", "pip")), "install", "--quiet", "--no-input", "--disable-pip-version-check",
               str(wheel)]  # fmt: skip
    if subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode != 0:
        raise BuildFailed(f"pip could not install {wheel}; its message is above.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 with a message when it cannot be built or installed."""
    parser = argparse.ArgumentParser(prog="python -m xiaozhi_hub.models.build_llama", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--install", action="store_true", help="install the wheel into this Python")
    parser.add_argument(
        "--cache", type=Path, default=cache_folder(), help="where the wheel is kept (default: %(default)s)"
    )
    args = parser.parse_args(arguments)
    try:
        wheel = ensure_wheel(args.cache.expanduser())
        if args.install:
            install(wheel)
    except BuildFailed as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(wheel)
    return 0


if __name__ == "__main__":
    sys.exit(main())
