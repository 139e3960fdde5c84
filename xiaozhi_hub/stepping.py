"""Chooses among the models that are here: the best for this board at the start, a smaller one while the board is short of breath.

Only stages with several models step, and only if the configuration names none. A step has the integration start again with the other
model, which gives the memory of the first one back; what is heard meanwhile is up to the other engines of the stage.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.flow import Channel, TurnRecord
from xiaozhi_hub.core.i18n import LANGUAGES
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.core.turn_context import turn_id
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.board import Board, kept, memory_mib
from xiaozhi_hub.models.catalogue import Catalogue, CatalogueModel, catalogue_for
from xiaozhi_hub.models.fit import BUDGET_SECONDS, Timed, Verdict, fits
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.models.stock import origin_of, size_of
from xiaozhi_hub.models.tiers import Rules, Step, Tier

log = logging.getLogger(__name__)

STAGES = {"faster_whisper": Role.ASR, "llama_cpp": Role.LLM}
"""The engines whose models can stand in for one another."""
PATIENCE = 1.5
"""A model is chosen by its budget; it has to be so many times slower to be given up."""
WORTH_SECONDS = 0.3
"""What was quicker was not the model: a known sentence, or an answer that was kept."""
LOOK_SECONDS = 10.0
MOST_TURNS = 256
MIB = 2**20
UNKNOWN = "models-unknown"
"""The code of the problem that no model could be chosen."""


@dataclass(slots=True)
class _Stage:
    engine: str
    role: Role
    ladder: tuple[str, ...]
    """Names, the largest model first."""
    tier: Tier

    @property
    def model(self) -> str:
        return self.ladder[self.tier.level]


class Stepping:
    """*reload* has an integration start again; *problem* shows what goes on (code, message, hint), *solved* takes that back."""

    def __init__(
        self,
        config: Config,
        shelf: ModelShelf,
        reload: Callable[[str], Awaitable[object]],
        scope: TaskScope,
        problem: Callable[[str, str, str], None],
        solved: Callable[[str], object],
        *,
        now: Callable[[], float] = time.monotonic,
        free_mib: Callable[[], int] = lambda: memory_mib()[1],
    ) -> None:
        self._config = config
        self._shelf = shelf
        self._reload = reload
        self._scope = scope
        self._problem = problem
        self._solved = solved
        self.now = now
        self.free_mib = free_mib
        self._stages: dict[str, _Stage] = {}
        self._asked: OrderedDict[str, set[Role]] = OrderedDict()

    async def choose(self) -> None:
        """Look at the models that are here and prefer the best for this board. Before engines start, and when models came or went.

        Where they cannot be looked at, that is shown, and all stays as it is: at the start, the first by name is as good as any.
        """
        try:
            stages = await asyncio.to_thread(self._look)
        except HubError as error:
            self._show_unknown(error.message, error.hint)
            return
        except (
            Exception
        ) as error:  # a disk that fails, a system without room for a thread: no reason to do without engines
            log.warning("no model was chosen", exc_info=error)
            self._show_unknown(f"{type(error).__name__}: {error}", "See the log.")
            return
        self._solved(UNKNOWN)
        for engine, stage in stages.items():
            before = self._stages.get(engine)
            if before is not None and before.ladder == stage.ladder:
                continue  # it stands where it stands for a reason
            self._stages[engine] = stage
            self._shelf.prefer(engine, stage.model)
        for engine in set(self._stages) - set(stages):
            del self._stages[engine]
            self._solved(f"tier-{engine}")

    def _show_unknown(self, why: str, hint: str) -> None:
        self._solved(UNKNOWN)  # another reason is logged, too
        self._problem(UNKNOWN, f"Which models suit this machine could not be found out: {why}.", hint)

    def configure(self, config: Config) -> None:
        """The owner may have named models: `choose` again."""
        self._config = config

    async def use(self, engine: str, name: str) -> None:
        """Have *engine* run the model *name* from now on."""
        self._shelf.prefer(engine, name)
        await self._reload(engine)

    def _look(self) -> dict[str, _Stage]:
        several = {engine: models for engine in STAGES if len(models := self._shelf.installed(engine)) > 1}
        several = {engine: models for engine, models in several.items() if not self._is_named(engine)}
        if not several:
            return {}
        known = catalogue_for(self._config.config_dir)
        board, timed = kept(self._shelf.folder)
        return {engine: self._stage(engine, models, known, board, timed) for engine, models in several.items()}

    def _is_named(self, engine: str) -> bool:
        options = self._config.integrations.get(engine)
        return options is False or (isinstance(options, Mapping) and bool(options.get("model")))

    def _stage(
        self, engine: str, models: tuple[InstalledModel, ...], known: Catalogue, board: Board, timed: Timed
    ) -> _Stage:
        listed = {model.name: _listed(model, known) for model in models}
        needs = {model.name: _needs(model, listed[model.name]) for model in models}
        ladder = tuple(sorted(needs, key=lambda name: (-needs[name], name)))
        able = tuple(model for model in listed.values() if model is not None)
        best = [fit.model.name for fit in fits(board, able, tuple(LANGUAGES), timed) if fit.verdict is Verdict.BEST]
        names = {model.name: name for name, model in listed.items() if model is not None}
        # Nothing is quick enough: the smallest is the least bad. Nothing is known of any of them: the largest, which steps down.
        level = ladder.index(names[best[0]]) if best else (len(ladder) - 1 if able else 0)
        role = STAGES[engine]
        rules = Rules(BUDGET_SECONDS[role.value] * PATIENCE)
        return _Stage(engine, role, ladder, Tier(tuple(needs[name] for name in ladder), rules, level, highest=level))

    # -- what happens -------------------------------------------------------------------------------------------------

    def asked(self, role: Role) -> None:
        """A turn has asked for the engines of *role*: it will tell how long they took."""
        turn = turn_id.get()
        if not turn or not self._stages:
            return
        self._asked.setdefault(turn, set()).add(role)
        while len(self._asked) > MOST_TURNS:
            self._asked.popitem(last=False)

    def turn_finished(self, event: TurnFinished) -> None:
        """A turn is over: how long did it wait for each stage?"""
        record = event.record
        roles = self._asked.pop(record.id, set())
        for stage in self._stages.values():
            seconds = _waited(record, stage.role) if stage.role in roles else 0.0
            if seconds >= WORTH_SECONDS:
                self._take(stage, stage.tier.ran(seconds, self.now()))

    async def watch(self) -> None:
        """Look at the memory from time to time, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look_at_memory()

    def look_at_memory(self) -> None:
        """Step down where memory is short, the hungriest stage first; step up where all is calm."""
        if not self._stages:
            return
        free = self.free_mib()
        for stage in sorted(self._stages.values(), key=lambda stage: -stage.tier.needs[stage.tier.level]):
            step = stage.tier.memory(free, self.now())
            self._take(stage, step)
            if step is not None:
                return  # what that changes is seen the next time

    def _take(self, stage: _Stage, step: Step | None) -> None:
        if step is None:
            return
        self._shelf.prefer(stage.engine, stage.model)
        code = f"tier-{stage.engine}"
        if step.level > stage.tier.highest:
            wanted = stage.ladder[stage.tier.highest]
            # Said anew each time, so that the page shows which model it is now.
            self._solved(code)
            self._problem(
                code,
                f"{stage.model} stands in for {wanted}: {step.why}.",
                "The hub goes back by itself when it is calm. xiaozhi-hub models recommend says what fits this machine.",
            )
        else:
            self._solved(code)
        log.log(
            logging.WARNING if step.down else logging.INFO, "%s goes to %s: %s", stage.engine, stage.model, step.why
        )
        self._scope.start(self._start_again(stage.engine), name=f"step-{stage.engine}")

    async def _start_again(self, engine: str) -> None:
        await self._reload(engine)


def _waited(record: TurnRecord, role: Role) -> float:
    """Seconds that a turn waited for a stage; 0 when it did not come so far."""
    stamps = record.stamps
    if role is Role.ASR:
        begin, end = stamps.get("endpoint"), stamps.get("transcript")
    else:  # a written question is there at once
        begin, end = stamps.get("transcript", 0.0 if record.channel is Channel.TEXT else None), stamps.get("reply")
    return (end - begin) / 1000 if begin is not None and end is not None else 0.0


def _listed(model: InstalledModel, known: Catalogue) -> CatalogueModel | None:
    origin = origin_of(model)
    return known.get(origin.model if origin is not None and origin.model else model.name)


def _needs(model: InstalledModel, listed: CatalogueModel | None) -> int:
    """MiB that it takes: by the catalogue, else a little more than its files."""
    return listed.memory_mib if listed is not None else size_of(model) * 5 // 4 // MIB + 50


__all__ = ["STAGES", "Stepping"]
