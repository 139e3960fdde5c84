"""The child process that holds the model, as the hub sees it."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

from xiaozhi_hub.plugins.api import HubError, TaskScope

log = logging.getLogger(__name__)

_HEADER = struct.Struct(">I")
_ENTRY = Path(__file__).parent / "native" / "__main__.py"
_LAST_WORDS = 6
_LEVELS = {"warning": logging.WARNING, "info": logging.DEBUG, "debug": logging.DEBUG}
STOP_SECONDS = 1.5
"""How long a child that is to end may take, before it is killed."""


class Lost(HubError):
    """The process ended, or was ended, in the middle of a job."""

    code = "worker-lost"


class Process:
    """One child at a time; after it has ended another one can be started.

    A job is a JSON object; its answers come back as they are made. Every answer of the child may be awaited by somebody
    else: jobs wait for their turn inside the child.
    """

    def __init__(self, scope: TaskScope) -> None:
        self._scope = scope
        self._process: asyncio.subprocess.Process | None = None
        self._jobs: dict[int, asyncio.Queue[dict[str, Any] | None]] = {}  # bounded by what one job may say
        self._last_id = 0
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._heard_at = 0.0
        self.starts = 0
        """How often a child was started."""

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def waiting(self) -> int:
        """Jobs that are not answered yet."""
        return len(self._jobs)

    async def start(self) -> None:
        """Start a child; there must be none."""
        assert self._process is None
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(_ENTRY),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.starts += 1
        self._last_words.clear()
        _expendable(process.pid)
        self._scope.start(self._hear(process), name="answers")
        self._scope.start(self._note(process), name="log")

    async def ask(self, job: Mapping[str, Any], patience: float) -> AsyncGenerator[dict[str, Any], None]:
        """Send *job* and yield its answers, the last of which holds ``done`` or ``error``.

        Leaving early stops the work. Raises `Lost` when the child ends, or says nothing at all for *patience* seconds.
        """
        process = self._process
        if process is None:
            raise Lost(self.obituary())
        self._last_id += 1
        identity = self._last_id
        answers: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._jobs[identity] = answers
        self._heard_at = max(self._heard_at, time.monotonic()) if len(self._jobs) > 1 else time.monotonic()
        finished = False
        try:
            self._send(process, {**job, "id": identity})
            while not finished:
                answer = await self._next(process, answers, patience)
                finished = "done" in answer or "error" in answer
                yield answer
        finally:
            del self._jobs[identity]
            if not finished:
                self._send(process, {"do": "stop", "id": identity})

    def keep(self, *, conversations: bool) -> None:
        """Tell the child, if there is one, whether it may write *conversations* to the disk when it ends."""
        if self._process is not None:
            self._send(self._process, {"do": "keep", "conversations": conversations})

    async def _next(
        self, process: asyncio.subprocess.Process, answers: asyncio.Queue[dict[str, Any] | None], patience: float
    ) -> dict[str, Any]:
        while True:
            try:
                async with asyncio.timeout(patience):
                    answer = await answers.get()
            except TimeoutError:
                silent = time.monotonic() - self._heard_at
                if silent < patience:
                    continue  # it works on the jobs before this one
                self._last_words.append(f"it said nothing for {silent:.0f} s")
                if process.returncode is None:
                    process.kill()
                raise Lost(self.obituary()) from None
            if answer is None:
                raise Lost(self.obituary(process.returncode))
            return answer

    def obituary(self, code: int | None = None) -> str:
        """What is known of the end of the last child."""
        how = ""
        if code is not None and code < 0:
            try:
                how = f" by {signal.Signals(-code).name}"
            except ValueError:
                how = f" by signal {-code}"
        words = " | ".join(self._last_words)
        return f"the process of the model ended{how}{f': {words}' if words else ''}"

    def _send(self, process: asyncio.subprocess.Process, message: Mapping[str, Any]) -> None:
        if process.stdin is not None and not process.stdin.is_closing():
            body = json.dumps(message, separators=(",", ":")).encode()
            process.stdin.write(_HEADER.pack(len(body)) + body)

    async def _hear(self, process: asyncio.subprocess.Process) -> None:
        """Give each answer to who waits for it, until the child ends."""
        assert process.stdout is not None
        try:
            while True:
                (size,) = _HEADER.unpack(await process.stdout.readexactly(_HEADER.size))
                answer = json.loads(await process.stdout.readexactly(size))
                self._heard_at = time.monotonic()
                if (waiting := self._jobs.get(answer["id"])) is not None:
                    waiting.put_nowait(answer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        await process.wait()
        if self._process is process:
            self._process = None
        for waiting in self._jobs.values():
            waiting.put_nowait(None)

    async def _note(self, process: asyncio.subprocess.Process) -> None:
        """Write what the library says into our log."""
        assert process.stderr is not None
        while True:
            try:
                raw = await process.stderr.readline()
            except ValueError:  # a line without end
                continue
            if not raw:
                return
            line = raw.decode("utf-8", "replace").rstrip()
            level, found, text = line.partition(": ")
            if found and level in _LEVELS:
                log.log(_LEVELS[level], "llama.cpp: %s", text)
            elif line:
                self._last_words.append(line[:200])
                log.debug("llama.cpp: %s", line)

    async def close(self) -> None:
        """Let the child end; kill it when it takes too long."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            log.warning("the language model does not end by itself")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            self._process = None
            # The transport keeps its pipes until the loop has run once more; close them now so that nothing is left.
            process._transport.close()  # type: ignore[attr-defined]  # asyncio offers no public way


def _expendable(pid: int) -> None:
    """Where memory runs out the kernel shall end this process, not the hub."""
    try:
        Path(f"/proc/{pid}/oom_score_adj").write_text("800")
    except OSError:
        log.debug("cannot tell the kernel that the model's process comes first")
