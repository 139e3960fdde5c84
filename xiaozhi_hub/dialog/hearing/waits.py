"""Learns from each voice turn how people here end their sentences (`Habits`), and says in the next ones how long to wait.

Nothing is learned where the history is off: then nothing of conversations outlives them, and what was learned before goes too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.flow import Channel, Completeness, Pause, Transcript, TurnRecord, Wait
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.hearing.habits import Habits
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.habits import MOST_DEVICES

if TYPE_CHECKING:
    from xiaozhi_hub.dialog.intents.matcher import Found
    from xiaozhi_hub.store.habits import HabitRows

REST_SECONDS = 5.0
"""Who was cut off says the rest so soon after the hub's answer, or says it all again."""
_PROBLEM = "habits"


@dataclass(frozen=True, slots=True)
class _Ended:
    """A turn that was taken to be over after a sentence that might have gone on."""

    at: float
    """When its answer was over, seconds since the epoch."""
    shape: str
    text: str
    language: str


class Waits:
    """What turns ask, and what learns from them. *meaning* says what a text of a language asks for, *judge* what may still become
    of it."""

    def __init__(
        self,
        config: Config,
        meaning: Callable[[str, str], Found | None],
        judge: Callable[[str, str], Completeness],
        scope: TaskScope,
        problem: Callable[[str, str, str], None],
        solved: Callable[[str], object],
    ) -> None:
        self.habits = Habits()
        self._config = config
        self._meaning = meaning
        self._judge = judge
        self._scope = scope
        self._problem = problem
        self._solved = solved
        self._store: HabitRows | None = None
        self._ended: dict[str, _Ended] = {}
        """The newest one on each device."""
        self._writing: asyncio.Task[None] | None = None

    async def open(self, store: HabitRows) -> None:
        """Take in what was learned before."""
        self._store = store
        try:
            if self._config.history.enabled:
                self.habits.load(*await store.all())
            else:
                await store.forget()
        except StoreError as error:
            self._problem(_PROBLEM, f"How people here speak is not known: {error.message}", error.hint)

    def configure(self, config: Config) -> None:
        """The owner has set something else."""
        before, self._config = self._config, config
        if before.history.enabled and not config.history.enabled and not self._scope.is_closed():
            self._scope.start(self.forget(Forget()), name="forget-habits")

    @property
    def enabled(self) -> bool:
        return self._config.voice.silence.learn and self._config.history.enabled

    # -- in a turn ------------------------------------------------------------------------------------------------

    def after(self, device_id: str, guess: Transcript, patience: Patience) -> Wait | None:
        """How long to wait after *guess*, which is whole and may go on; None: as it is set."""
        if not self.enabled or (found := self._meaning(guess.text, guess.language)) is None:
            return None
        usual = max(patience.complete_ms, patience.extendable_ms)
        longest = max(usual, patience.unknown_ms)
        return self.habits.wait(device_id, shape_of(found, guess.language), patience.complete_ms, usual, longest)

    # -- after it -------------------------------------------------------------------------------------------------

    def turn_finished(self, event: TurnFinished) -> None:
        """Learn from a turn; quick, nothing is waited for."""
        record = event.record
        if record.channel is not Channel.VOICE or not record.device_id or not self.enabled:
            return
        found = self._meaning(record.heard, record.language)
        before = self._ended.pop(record.device_id, None)
        if before is not None and self._is_rest(before, record, found):
            self.habits.was_cut(record.device_id, before.shape, record.started_at)
        for pause in record.pauses:
            if pause.went_on:
                self._learn_pause(record, pause, found)
            elif found is not None:
                self._learn_end(record, pause, found)
        self._write()

    def _learn_end(self, record: TurnRecord, pause: Pause, found: Found) -> None:
        """*found* is what all of it has asked for."""
        device_id, text, language, completeness = record.device_id, pause.text, pause.language, pause.completeness
        if completeness is None and pause.ms >= self._config.voice.silence.extendable_ms:
            # The words came late, on a slow board, or while much else went on; they are known by now.
            text, language = record.heard, record.language
            completeness = self._judge(text, language)
        if completeness is not Completeness.EXTENDABLE or self._meaning(text, language) != found:
            return
        shape = shape_of(found, language)
        early = record.wait is not None and pause.ms < record.wait.usual_ms
        self.habits.ended(device_id, shape, record.started_at, early=early)
        if found.tool not in (call.name for call in record.tool_calls):
            return  # the hub has asked back: what comes next is the answer
        self._ended[device_id] = _Ended(_end_of(record), shape, text, language)
        if len(self._ended) > MOST_DEVICES:
            del self._ended[next(iter(self._ended))]

    def _learn_pause(self, record: TurnRecord, pause: Pause, found: Found | None) -> None:
        device_id, at, shortest = record.device_id, record.started_at, self._config.voice.silence.complete_ms
        then = self._meaning(pause.text, pause.language)
        if pause.ms < shortest or (then is not None and then == found):
            return  # no wait would have cut that off, or nothing would have been lost
        is_command = found is not None  # else it may be a television
        if pause.completeness is Completeness.EXTENDABLE and then is not None:
            self.habits.went_on(device_id, shape_of(then, pause.language), at, surely=is_command)
        if is_command:
            self.habits.paused(device_id, pause.ms, at)

    def _is_rest(self, before: _Ended, record: TurnRecord, found: Found | None) -> bool:
        """Has somebody said the rest of a sentence that was taken for a whole one, or all of it again?"""
        began = record.started_at + record.stamps.get("speech_start", 0.0) / 1000
        was = self._meaning(before.text, before.language)
        if began - before.at > REST_SECONDS or not record.heard or was is None:
            return False
        if found is None:
            space = "" if before.language.startswith("zh") else " "
            found = self._meaning(f"{before.text}{space}{record.heard}", before.language)
        return found is not None and found.tool == was.tool and _holds(found.arguments, was.arguments)

    # -- on the disk ----------------------------------------------------------------------------------------------

    def _write(self) -> None:
        if (self._writing is None or self._writing.done()) and not self._scope.is_closed():
            self._writing = self._scope.start(self._write_all(), name="habits")

    async def _write_all(self) -> None:
        store = self._store
        while store is not None and any(changed := self.habits.changed()):
            try:
                await store.put(*changed)
            except StoreError as error:
                self.habits.unwritten(*changed)
                self._problem(_PROBLEM, f"How people here speak is not remembered: {error.message}", error.hint)
                return
            self._solved(_PROBLEM)

    async def written(self, seconds: float) -> None:
        """Wait until what was learned so far is on the disk, but no longer than *seconds*."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=seconds)

    async def forget(self, what: Forget) -> None:
        """Forget what was learned on devices; with a date, what has not changed since."""
        for device_id in what.devices if what.devices is not None else (None,):
            self.habits.forget(device_id, what.before)
            for owner, ended in list(self._ended.items()):
                if device_id in (None, owner) and (what.before is None or ended.at < what.before):
                    del self._ended[owner]
            if self._store is not None:
                await self._store.forget(device_id, what.before)


def shape_of(found: Found, language: str) -> str:
    """What a sentence asks for and which kinds of detail it holds: its name for the habits."""
    return " ".join((language, found.tool, *sorted(found.arguments)))


def _holds(more: Mapping[str, Any], less: Mapping[str, Any]) -> bool:
    """Is all of *less* in *more*, and something else too?"""
    return len(more) > len(less) and all(more.get(name) == value for name, value in less.items())


def _end_of(record: TurnRecord) -> float:
    return record.started_at + max(record.stamps.values(), default=0.0) / 1000


__all__ = ["Waits", "shape_of"]
