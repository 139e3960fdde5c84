"""The model: which file, its process, and getting it back after that ended."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozhi_hub.plugins.api import InstalledModel, NeedsAttention, StageError, TaskScope

from .native.disk import forget_files
from .process import Lost, Process

log = logging.getLogger(__name__)

START_SECONDS = 20.0
"""How long the hub's start waits for the model; a large one on a slow card goes on loading after that."""
LOAD_SECONDS = 600.0
_MOST_WAITING = 32
_CRASHES, _CRASH_WINDOW, _REST = 3, 300.0, 60.0
"""After so many ends within so many seconds it is left alone for a while."""


@dataclass(frozen=True, slots=True)
class Files:
    """What is loaded."""

    model: Path
    projector: Path | None
    """What turns pictures into the model's input, for models that see."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the loaded model says of itself."""

    name: str
    licence: str
    context: int
    sees: bool


def files_of(installed: InstalledModel, wanted: str) -> Files:
    """The files of a model on the shelf; raises `NeedsAttention` when one is missing or is something else."""
    every = sorted(path for path in installed.folder.glob("*.gguf") if path.is_file())
    projectors = [path for path in every if "mmproj" in path.name.lower()]
    named = Path(wanted).expanduser() if wanted else None
    models = [path for path in every if path not in projectors]
    if named is not None and named.is_file():
        models = [named]
    if not models:
        installed.file("*.gguf")  # says what is missing, when there is nothing at all
        raise NeedsAttention(
            f"The model {installed.name} in {installed.folder} has a projector for pictures but no language model.",
            code="model-incomplete",
            hint=f"Run: xiaozhi-hub models verify {installed.name}",
        )
    for path in (models[0], *projectors[:1]):
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise NeedsAttention(
                    f"{path} is not a GGUF file.",
                    code="model-broken",
                    hint=f"Run: xiaozhi-hub models verify {installed.name}",
                )
    return Files(models[0], projectors[0] if projectors else None)


class Model:
    """A model in a process of its own, loaded while it is needed."""

    def __init__(
        self,
        files: Files,
        options: Mapping[str, Any],
        cache: Path,
        scope: TaskScope,
        *,
        keep_conversations: bool = True,
    ) -> None:
        self.files = files
        self.options = options
        self._cache = cache
        self._scope = scope
        self._keep_conversations = keep_conversations
        """Over a restart."""
        self.process = Process(scope)
        self.facts: Facts | None = None
        """Known once it has been loaded."""
        self._loading = asyncio.Lock()
        self._loaded = 0
        """Which start of the process has the model."""
        self._ends: deque[float] = deque(maxlen=_CRASHES)
        self._used_at = time.monotonic()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Model]:
        """Load the model; on a slow machine that goes on inside the block. `NeedsAttention` when it cannot be loaded."""
        try:
            loading = self._scope.start(self._load_first(), name="load")
            await asyncio.wait([loading], timeout=START_SECONDS)
            if not loading.done():
                log.info("the language model is still loading; the hub starts without waiting for it")
            elif (problem := loading.result()) is not None:
                raise problem
            if self.options["unload_after_min"]:
                self._scope.start(self._unload_when_idle(self.options["unload_after_min"] * 60), name="unload")
            yield self
        finally:
            await self.process.close()

    async def _load_first(self) -> NeedsAttention | None:
        try:
            await self.ready()
        except StageError as error:
            log.error("the language model cannot be loaded: %s", error)
            return NeedsAttention(error.message, code=error.code, hint=error.hint)
        return None

    async def ready(self) -> Facts:
        """Load the model unless it is there. Raises `StageError`."""
        async with self._loading:
            if self.process.pid is not None and self._loaded == self.process.starts and self.facts is not None:
                return self.facts
            self._check_crashes()
            await self.process.close()
            await self.process.start()
            self.process.keep(conversations=self._keep_conversations)
            job = {
                "do": "load",
                "path": str(self.files.model),
                "projector": str(self.files.projector or "") if self.options["vision"] else "",
                "cache": str(self._cache),
                "options": {"seed": 2**32 - 1, **self.options},
            }
            try:
                async with aclosing(self.process.ask(job, LOAD_SECONDS)) as answers:
                    async for answer in answers:
                        told = _checked(answer)["done"]
            except Lost as error:
                self._ends.append(time.monotonic())
                raise StageError(
                    "llm", f"{self.files.model.name} cannot be loaded: {error.message}", code="llm-failed"
                ) from error
            except StageError:
                await self.process.close()  # a child without a model is of no use
                raise
            self._loaded = self.process.starts
            self._used_at = time.monotonic()
            self.facts = Facts(told["name"], told["licence"], told["context"], told["sees"])
            if not told["template"]:
                log.warning("%s brings no chat template: ChatML is used", self.files.model.name)
            if told["context"] < self.options["context"]:
                log.warning(
                    "%s was made for %d tokens of context; that is used instead of %d",
                    self.files.model.name,
                    told["context"],
                    self.options["context"],
                )
            return self.facts

    @property
    def busy(self) -> bool:
        """It is not loaded, or works on something."""
        return self.process.pid is None or self.facts is None or bool(self.process.waiting)

    async def ask(self, job: Mapping[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the answers to *job*; the last holds ``done``. Raises `StageError`, and `Lost` when the process ends."""
        if self.process.waiting >= _MOST_WAITING:
            raise StageError("llm", f"{_MOST_WAITING} questions wait for the model already", code="llm-busy")
        await self.ready()
        self._used_at = time.monotonic()
        try:
            async with aclosing(self.process.ask(job, self.options["timeout_s"])) as answers:
                async for answer in answers:
                    yield _checked(answer)
        except Lost:
            self._ends.append(time.monotonic())
            raise
        finally:
            self._used_at = time.monotonic()

    def keep(self, *, conversations: bool) -> None:
        """From now on conversations may be kept on the disk over a restart, or not."""
        self._keep_conversations = conversations
        self.process.keep(conversations=conversations)

    async def forget(self, owners: Sequence[str] | None, before: float | None = None) -> None:
        """Let go of what was said in conversations whose names begin with one of *owners*, or in all; with *before* (seconds since the
        epoch) only in those that were not used since. On the disk at once, in memory when the process has finished what it does. Raises
        `StageError` when only the disk has forgotten."""
        # The process does so, too, but an answer may keep it busy for minutes; a state that is gone is no trouble to it.
        await asyncio.to_thread(forget_files, self._cache, owners, before)
        async with self._loading:
            pass  # what loads now has the states in memory then
        if self.process.pid is not None:
            job = {"do": "forget", "owners": None if owners is None else list(owners), "before": before}
            try:
                # Not through `ask`: this is not refused because many wait, and nothing is loaded for it.
                async with aclosing(self.process.ask(job, self.options["timeout_s"])) as answers:
                    async for answer in answers:
                        _checked(answer)
            except Lost:
                log.debug("what was in its memory went with the process")
            else:
                return
        # What the process may have written as it ended.
        await asyncio.to_thread(forget_files, self._cache, owners, before)

    def _check_crashes(self) -> None:
        now = time.monotonic()
        if len(self._ends) == _CRASHES and now - self._ends[0] < _CRASH_WINDOW and now - self._ends[-1] < _REST:
            raise StageError(
                "llm",
                f"the process of the model ended {_CRASHES} times in short order; it is tried again in a minute",
                code="llm-failed",
                hint="The log has its last words.",
            )

    async def _unload_when_idle(self, seconds: float) -> None:
        while True:
            idle = time.monotonic() - self._used_at
            if idle < seconds or self.process.waiting:
                await asyncio.sleep(max(0.05, seconds - idle))
                continue
            async with self._loading:
                if self.process.pid is not None and not self.process.waiting:
                    await self.process.close()
                    log.info("the language model was not needed for a while and gave its memory back")
            await asyncio.sleep(seconds)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if (error := answer.get("error")) is not None:
        raise StageError(
            "llm",
            error["message"],
            code=error["code"],
            hint=error.get("hint", ""),
            permanent=error.get("permanent", False),
        )
    return answer
