"""The child side of `xiaozhi_hub.core.workers.ProcessWorker`. Run as a script, so that it imports nothing of the hub.

Reads pickled ``(method, arguments)`` from standard input and writes pickled ``(ok, result or exception)`` to what was standard
output; anything that native code prints goes to standard error instead.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import struct
import sys
from pathlib import Path
from types import ModuleType

_HEADER = struct.Struct(">I")


def _load(path: Path) -> ModuleType:
    """Import a file, or the package in a folder, by its place: neither needs to be on the path of modules."""
    file = path / "__init__.py" if path.is_dir() else path
    spec = importlib.util.spec_from_file_location(path.stem, file)
    assert spec is not None and spec.loader is not None
    sys.modules[path.stem] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the hub, which then ends us
    sys.path.pop(0)  # the folder of this file: its module names would hide others
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    target = _load(Path(sys.argv[1])).create()
    while header := requests.read(_HEADER.size):
        method, arguments = pickle.loads(requests.read(_HEADER.unpack(header)[0]))
        try:
            answer = (True, getattr(target, method)(*arguments))
        except Exception as error:  # carried to the caller, whatever it is
            answer = (False, RuntimeError(f"{type(error).__name__}: {error}"))
        body = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(_HEADER.pack(len(body)) + body)
        answers.flush()


if __name__ == "__main__":
    main()
