"""The rules of conftest.py are real: each is broken once, in a pytest of its own, and seen to notice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BREAKERS = {
    "a task is left": (
        "import asyncio\nkeep = []\nasync def test_it():\n    keep.append(asyncio.create_task(asyncio.sleep(60), name='stray'))\n",
        "left running: ['stray']",
    ),
    "a timer is left": (
        "import asyncio\nasync def test_it():\n    asyncio.get_running_loop().call_later(60, print, 'stray')\n",
        'timers ["<TimerHandle when=',
    ),
    "a thread is left": (
        "import threading, time\ndef test_it():\n    threading.Thread(target=time.sleep, args=(8,), name='stray', daemon=True).start()\n",
        "left running: threads ['stray']",
    ),
    "a process is left": (
        "import subprocess\nkeep = []\ndef test_it():\n    keep.append(subprocess.Popen(['sleep', '8']))\n",
        "left running: threads [], processes {",
    ),
    "a packet goes out": (
        "import socket\ndef test_it():\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
        "    try:\n        s.sendto(b'x', ('192.0.2.1', 9))\n    except BaseException:\n        pass\n    s.close()\n",
        "it reached beyond this machine",
    ),
    "a wait has no end": (
        "import asyncio\nasync def test_it():\n    await asyncio.Event().wait()\n",
        "it waited for ever: 2 s",
    ),
    "a name is looked up": (
        "import socket\ndef test_it():\n    try:\n        socket.getaddrinfo('example.org', 80)\n"
        "    except BaseException:\n        pass\n",
        "it reached beyond this machine",
    ),
}


def run_of(code: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a test file that holds *code*, under these rules."""
    shutil.copy(Path(__file__).with_name("conftest.py"), folder / "conftest.py")
    (folder / "test_it.py").write_text(code)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n")
    return subprocess.run(
        [sys.executable, *options, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XIAOZHI_TEST_PATIENCE": "1", "XIAOZHI_TEST_SECONDS": "2"},
    )


@pytest.mark.parametrize("name", BREAKERS)
def test_a_broken_rule_is_noticed(name: str, tmp_path: Path) -> None:
    code, complaint = BREAKERS[name]
    run = run_of(code, tmp_path)
    assert run.returncode == 1, run.stdout
    assert complaint in run.stdout


def test_python_has_nothing_to_complain_of_at_the_end_of_a_run(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    # The library opens files when it is imported, and nobody else would close them.
    run = run_of("def test_it():\n    import llama_cpp\n", tmp_path, "-X", "dev")
    assert run.returncode == 0 and "ResourceWarning" not in run.stdout + run.stderr, run.stderr
