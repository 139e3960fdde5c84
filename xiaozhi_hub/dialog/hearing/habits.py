"""How people in this house end their sentences, and how long it is therefore worth waiting for more. Pure.

A whole command that may go on ("turn on the lights" … "in the kitchen") is waited after. For each *shape* of a sentence, which is what
it asks for and with which kinds of detail but not its words, is counted how often it ended there and how often people paused and went
on; and how long they pause. The wait is the shortest one that cuts them off in at most `RISK` of the cases, expected from that:

    risk(wait) = P(goes on) · P(the pause is at least as long as the wait | goes on)

Nobody is waited for more than usual unless people here go on more often than is expected of those of whom nothing is known.
Both are estimated for the house and for the device that is spoken to, and the worse one counts: who pauses a lot may be one of many.
Counts are halved when there are many, so that habits that have changed are forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xiaozhi_hub.core.flow import Completeness, Wait, WaitReason
from xiaozhi_hub.store.habits import MOST_DEVICES, MOST_ROWS, HabitRow, PausesRow

RISK = 0.01
"""The part of the sentences that may be cut off."""
GOES_ON = 0.2
"""How often a sentence is expected to go on of which nothing is known; counts as one observation (the mean of a Beta(0.2, 0.8)).
Without anything else, 19 sentences that all ended make the wait the shortest one."""
OWN = 10.0
"""As many observations on a device weigh as much as what is expected from the house."""
MOST_TIMES = 50.0
"""From then on the counts of a shape are halved: what was seen once is outweighed after about 70 times."""
UNKNOWN_PAUSES = 10.0
"""As many pauses are taken to have been longer than any wait, beside those that were seen."""
MOST_PAUSES = 400.0
BIN_MS = 60
"""What devices send at a time: pauses are not known more exactly."""
BINS = 17
"""The last one is for all that are longer, 960 ms and more."""
LOOK_AGAIN = 20
"""After so many turns that were ended early, one is not: who is cut off each time cannot show it."""


@dataclass(slots=True)
class Habit:
    """How often a sentence of one shape has ended on one device, and has gone on after a pause."""

    ended: float = 0.0
    went_on: float = 0.0
    at: float = 0.0
    """When that last changed, seconds since the epoch."""

    @property
    def times(self) -> float:
        return self.ended + self.went_on

    def add(self, *, ended: float = 0.0, went_on: float = 0.0) -> None:
        self.ended, self.went_on = max(0.0, self.ended + ended), self.went_on + went_on
        if self.times > MOST_TIMES:
            self.ended, self.went_on = self.ended / 2, self.went_on / 2


@dataclass(slots=True)
class Pauses:
    """How many pauses there were of each length in steps of `BIN_MS`."""

    lengths: Sequence[float] = (0.0,) * BINS
    at: float = 0.0

    @property
    def times(self) -> float:
        return sum(self.lengths)

    def longer(self, ms: float) -> float:
        """How many were at least so long."""
        return sum(self.lengths[min(int(ms // BIN_MS), BINS - 1) :])

    def add(self, ms: float) -> None:
        longest = min(int(ms // BIN_MS), BINS - 1)
        lengths = [count + (length == longest) for length, count in enumerate(self.lengths)]
        share = 0.5 if sum(lengths) > MOST_PAUSES else 1.0
        self.lengths = tuple(count * share for count in lengths)


_NO_PAUSES = Pauses()


class Habits:
    """What is known of one house. Observations go in, waits come out; `changed` says what is to be written down."""

    def __init__(self) -> None:
        self._shapes: dict[str, dict[str, Habit]] = {}
        """By shape and device, the shape that changed longest ago first."""
        self._pauses: dict[str, Pauses] = {}
        self._all_pauses: Pauses | None = None
        """Those of all devices, once they were added up."""
        self._early: dict[tuple[str, str], int] = {}
        """How many turns were ended early since one was not."""
        self._waits: dict[tuple[str, str, float, float, float], Wait] = {}
        self._changed: dict[tuple[str, str | None], None] = {}

    # -- what comes out -------------------------------------------------------------------------------------------

    def wait(self, device_id: str, shape: str, shortest: float, usual: float, longest: float) -> Wait:
        """How long to wait after a sentence of *shape*: never less than *shortest* nor more than *longest* (ms), and the *usual* time
        for those of whom nothing is known."""
        key = (device_id, shape, shortest, usual, longest)
        if (known := self._waits.get(key)) is None:
            if len(self._waits) >= MOST_ROWS:
                self._waits.clear()
            known = self._waits[key] = self._wait(*key)
        return known

    def risk(self, device_id: str, shape: str, ms: float) -> float:
        """The chance that somebody who says this is cut off by a wait of *ms*, as far as can be expected."""
        return self._goes_on(device_id, shape) * self._pauses_for(device_id, ms)

    def habit(self, device_id: str, shape: str) -> Habit | None:
        """What is counted of a shape on a device; None when that is nothing."""
        return self._shapes.get(shape, {}).get(device_id)

    # -- what goes in ---------------------------------------------------------------------------------------------

    def ended(self, device_id: str, shape: str, at: float, *, early: bool) -> None:
        """A sentence ended here; *early*: after less than the usual wait, so that this is only believed."""
        self._change(device_id, shape, at, ended=1)
        self._early[device_id, shape] = self._early.get((device_id, shape), 0) + 1 if early else 0

    def went_on(self, device_id: str, shape: str, at: float, *, surely: bool = True) -> None:
        """Somebody went on after a pause that was longer than the shortest wait. Not *surely* a person, but perhaps a television: that
        makes nobody wait for more than usual, or ever more of it would be heard."""
        if surely or self._goes_on(device_id, shape, more=1) <= GOES_ON:
            self._change(device_id, shape, at, went_on=1)

    def was_cut(self, device_id: str, shape: str, at: float) -> None:
        """What was taken for the end was none: the rest came after it."""
        self._change(device_id, shape, at, ended=-1, went_on=1)
        self.paused(device_id, (BINS - 1) * BIN_MS, at)

    def paused(self, device_id: str, ms: float, at: float) -> None:
        """Somebody paused in mid-sentence for *ms* and went on."""
        pauses = self._pauses[device_id] = self._pauses.pop(device_id, Pauses())
        pauses.add(ms)
        pauses.at = at
        self._changed[device_id, None] = None
        if len(self._pauses) > MOST_DEVICES:
            oldest = next(iter(self._pauses))
            del self._pauses[oldest]
            self._changed.pop((oldest, None), None)
        self._all_pauses = None
        self._waits.clear()

    # -- what is kept ---------------------------------------------------------------------------------------------

    def load(self, habits: Iterable[HabitRow], pauses: Iterable[PausesRow]) -> None:
        """Take in what was written down, the ones that changed longest ago first."""
        for row in habits:
            self._shapes.setdefault(row.shape, {})[row.device_id] = Habit(row.ended, row.went_on, row.changed_at)
        for known in pauses:
            self._pauses[known.device_id] = Pauses(known.lengths, known.changed_at)
        self._all_pauses = None
        self._waits.clear()

    def changed(self) -> tuple[list[HabitRow], list[PausesRow]]:
        """What has changed since this was last asked, as `load` takes it."""
        habits: list[HabitRow] = []
        pauses: list[PausesRow] = []
        for device_id, shape in self._changed:
            if shape is None:
                known = self._pauses[device_id]
                pauses.append(PausesRow(device_id, tuple(known.lengths), known.at))
            else:
                habit = self._shapes[shape][device_id]
                habits.append(HabitRow(device_id, shape, habit.ended, habit.went_on, habit.at))
        self._changed.clear()
        return habits, pauses

    def unwritten(self, habits: Iterable[HabitRow], pauses: Iterable[PausesRow]) -> None:
        """What `changed` has told could not be written down: it will tell it again, but for what was forgotten meanwhile."""
        for row in habits:
            if self.habit(row.device_id, row.shape) is not None:
                self._changed[row.device_id, row.shape] = None
        for known in pauses:
            if known.device_id in self._pauses:
                self._changed[known.device_id, None] = None

    def forget(self, device_id: str | None = None, before: float | None = None) -> None:
        """Forget what was learned on a device or, with None, on all; with *before* only what has not changed since then."""

        def goes(owner: str, at: float) -> bool:
            return device_id in (None, owner) and (before is None or at < before)

        for shape, habits in list(self._shapes.items()):
            for owner in [owner for owner, habit in habits.items() if goes(owner, habit.at)]:
                self._drop(owner, shape)
        for owner in [owner for owner, pauses in self._pauses.items() if goes(owner, pauses.at)]:
            del self._pauses[owner]
            self._changed.pop((owner, None), None)
        self._all_pauses = None
        self._waits.clear()

    # -- how ------------------------------------------------------------------------------------------------------

    def _wait(self, device_id: str, shape: str, shortest: float, usual: float, longest: float) -> Wait:
        goes_on = self._goes_on(device_id, shape)
        most = longest if goes_on > GOES_ON else usual
        steps = (shortest, *(float(step * BIN_MS) for step in range(int(shortest // BIN_MS) + 1, BINS)))
        little = (wait for wait in steps if wait < most and goes_on * self._pauses_for(device_id, wait) <= RISK)
        ms = next(little, most)
        if ms > usual:
            reason = WaitReason.GOES_ON
        elif ms == usual:
            reason = WaitReason.SETTING
        elif self._early.get((device_id, shape), 0) >= LOOK_AGAIN:
            ms, reason = usual, WaitReason.CHECK
        else:
            reason = WaitReason.HABIT if goes_on <= RISK else WaitReason.PAUSES
        ended, times = self._counts(shape)
        return Wait(ms, Completeness.EXTENDABLE, reason, usual, min(round(ended), round(times)), round(times))

    def _counts(self, shape: str) -> tuple[float, float]:
        """How often it ended in this house, of how many times."""
        habits = self._shapes.get(shape, {}).values()
        return sum(habit.ended for habit in habits), sum(habit.times for habit in habits)

    def _goes_on(self, device_id: str, shape: str, more: float = 0.0) -> float:
        """The chance that somebody goes on after this, as it is and as it would be had that happened so many times *more*."""
        ended, times = self._counts(shape)
        house = (GOES_ON + times - ended + more) / (1 + times + more)
        own = self.habit(device_id, shape) or Habit()
        return max(house, (OWN * house + own.went_on + more) / (OWN + own.times + more))

    def _pauses_for(self, device_id: str, ms: float) -> float:
        """The chance that a pause is at least so long."""
        if self._all_pauses is None:
            lengths = [0.0] * BINS
            for pauses in self._pauses.values():
                lengths = [count + more for count, more in zip(lengths, pauses.lengths, strict=True)]
            self._all_pauses = Pauses(lengths)
        house = (UNKNOWN_PAUSES + self._all_pauses.longer(ms)) / (UNKNOWN_PAUSES + self._all_pauses.times)
        own = self._pauses.get(device_id, _NO_PAUSES)
        return max(house, (OWN * house + own.longer(ms)) / (OWN + own.times))

    def _change(self, device_id: str, shape: str, at: float, *, ended: float = 0.0, went_on: float = 0.0) -> None:
        habits = self._shapes[shape] = self._shapes.pop(shape, {})
        habit = habits[device_id] = habits.pop(device_id, Habit())
        habit.add(ended=ended, went_on=went_on)
        habit.at = at
        self._changed[device_id, shape] = None
        if sum(map(len, self._shapes.values())) > MOST_ROWS:
            oldest = next(iter(self._shapes))
            self._drop(next(iter(self._shapes[oldest])), oldest)
        self._waits.clear()

    def _drop(self, device_id: str, shape: str) -> None:
        del self._shapes[shape][device_id]
        if not self._shapes[shape]:
            del self._shapes[shape]
        self._early.pop((device_id, shape), None)
        self._changed.pop((device_id, shape), None)


__all__ = ["Habit", "Habits", "Pauses"]
