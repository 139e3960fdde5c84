"""The child's work: take jobs from the hub, one after the other, and send answers as they come."""

from __future__ import annotations

import base64
import os
import queue
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import llama_cpp

from .answering import Answering
from .disk import Disk, identity
from .eyes import Eyes
from .failure import Failure, Stopped
from .frames import Answers, read_frame
from .library import Library, Stop
from .prompt import Prompts
from .states import States
from .template import Template

_NICE = 5
"""The hub paces sound, this only thinks: where both want a core, the hub gets it."""
_WAITING_JOBS = 64
_REST_AFTER = 1.0
"""Seconds without a question after which there is time for other things."""


class Child:
    """What the child knows while it runs."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._jobs: queue.Queue[dict[str, Any] | None] = queue.Queue(_WAITING_JOBS)
        self._stop = Stop()
        self._lock = threading.Lock()
        self._current = 0
        self._questions = 0
        """Jobs that somebody waits for, the present one included."""
        self._ahead: str | None = None
        """The conversation of the present job where nobody waits for it."""
        self._gives_way = False
        self._stopped: set[int] = set()
        self._closing = False
        self._keep = True
        """Conversations, over a restart."""
        self._answering: Answering | None = None
        self._eyes: Eyes | None = None

    def listen(self, requests: BinaryIO) -> None:
        """Read what the hub sends, in a thread of its own: the main thread is inside the library most of the time."""
        while (message := read_frame(requests)) is not None:
            if message["do"] == "stop":
                with self._lock:
                    if message["id"] == self._current:
                        self._stop.set()
                    elif message["id"] > self._current:
                        self._stopped.add(message["id"])
            elif message["do"] == "keep":
                self._keep = message["conversations"]
            else:
                if message["do"] != "prepare":
                    self._asked(message)
                self._jobs.put(message)
        with self._lock:
            self._closing = True  # the hub is gone, or has no more use for this process
            self._stop.set()
        self._jobs.put(None)

    def _asked(self, question: dict[str, Any]) -> None:
        """Somebody waits: what is only read ahead gives way, at once for other conversations. For its own it stops where nothing
        of what it has read is lost."""
        with self._lock:
            self._questions += 1
            if self._ahead is not None:
                self._gives_way = True
                if self._ahead != question.get("conversation"):
                    self._stop.set()

    def work(self) -> None:
        while (job := self._next()) is not None:
            if self._takes(job):
                self._answers.send({"id": job["id"], **self._do(job)})
            with self._lock:
                self._ahead = None
                self._questions -= job["do"] != "prepare"

    def _takes(self, job: dict[str, Any]) -> bool:
        """Turn to *job*, unless nobody wants it any more."""
        with self._lock:
            self._current = job["id"]
            if self._closing or job["id"] in self._stopped:
                self._stopped.discard(job["id"])
                return False
            self._stop.clear()
            self._gives_way = False
            if job["do"] == "prepare":
                self._ahead = job["conversation"]
                self._gives_way = self._questions > 0
            return True

    def _next(self) -> dict[str, Any] | None:
        try:
            return self._jobs.get(timeout=_REST_AFTER)
        except queue.Empty:
            if self._answering is not None:
                self._aside(self._answering.rest)
            return self._jobs.get()

    def end(self) -> None:
        """The hub asks for nothing more: keep what the next start can use."""
        if self._answering is not None:
            self._aside(partial(self._answering.end, conversations=self._keep))

    def _aside(self, work: Callable[[], None]) -> None:
        """Do what nobody waits for; when it fails that costs time later, nothing else."""
        try:
            work()
        except Exception as error:  # the border of this process, as below
            print(f"warning: states could not be kept: {type(error).__name__}: {error}", file=sys.stderr, flush=True)

    def _do(self, job: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"done": _WORK[job["do"]](self, job)}
        except Stopped:
            return {"done": {}, "stopped": True}
        except Failure as failure:
            return {
                "error": {
                    "code": failure.code,
                    "message": failure.message,
                    "hint": failure.hint,
                    "permanent": failure.permanent,
                }
            }
        except Exception as error:  # the border of this process: the hub is told, whatever it is
            return {"error": {"code": "llm-failed", "message": f"{type(error).__name__}: {error}", "hint": ""}}

    def _load(self, job: dict[str, Any]) -> dict[str, Any]:
        options = job["options"]
        library = Library(Path(job["path"]), options, self._stop)
        beginning = library.beginning()
        template = Template(library.template(), beginning[1] if beginning else "", library.ending())
        prompts = Prompts(library, template)
        limit = options["disk_mb"] * 2**20
        name = identity(library.path, llama_cpp.__version__, library.traits) if limit else ""
        disk = Disk(Path(job["cache"]), name, limit)
        prompts.answers.update(disk.answers)
        states = States(library, disk, options["memory_mb"] * 2**20)
        self._eyes = Eyes(library, Path(job["projector"]), options) if job["projector"] else None
        self._answering = Answering(library, template, prompts, states, options)
        return {
            "name": library.meta("general.name") or Path(job["path"]).stem,
            "licence": library.meta("general.license") or "",
            "context": library.context_size,
            "trained_for": library.trained_for,
            "template": not template.missing,
            "sees": self._eyes is not None,
        }

    def _chat(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._answering is None:
            raise Failure("llm-failed", "no model has been loaded")
        identity = job["id"]
        return self._answering.answer(
            job["conversation"],
            job["messages"],
            job["tools"],
            job["may_call"],
            lambda piece: self._answers.send({"id": identity, **piece}),
        )

    def _prepare(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._answering is None or self._gives_way:
            return {"evaluated": 0}
        return self._answering.prepare(job["conversation"], job["messages"], job["tools"], lambda: self._gives_way)

    def _forget(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._answering is not None:
            self._answering.forget(job["owners"], job["before"])
        return {}

    def _describe(self, job: dict[str, Any]) -> dict[str, Any]:
        if self._answering is None or self._eyes is None:
            raise Failure("vision-failed", "the model cannot see")
        identity = job["id"]
        return self._answering.describe(
            self._eyes,
            job["prompt"],
            job["question"],
            base64.b64decode(job["picture"]),
            lambda piece: self._answers.send({"id": identity, **piece}),
        )


_WORK: dict[str, Callable[[Child, dict[str, Any]], dict[str, Any]]] = {
    "load": Child._load,
    "chat": Child._chat,
    "prepare": Child._prepare,
    "forget": Child._forget,
    "describe": Child._describe,
}


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Work until the hub closes its end."""
    os.nice(_NICE)
    child = Child(Answers(answers))
    threading.Thread(target=child.listen, args=(requests,), name="requests", daemon=True).start()
    child.work()
    child.end()
    os._exit(0)  # the library may be slow to take itself apart, and nothing is left to be kept
