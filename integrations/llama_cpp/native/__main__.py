"""The child's entry: run as a script, so that it needs neither the hub nor its import paths."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path

_PACKAGE = "llama_child"


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the hub, which then ends us
    folder = Path(__file__).resolve().parent
    sys.path.pop(0)  # this folder: its module names would hide others
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints belongs to the log
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)
    importlib.import_module(f"{_PACKAGE}.serve").serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
