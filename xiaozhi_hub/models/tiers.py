"""When a stage steps down to a smaller model and when it steps back: a decision over time, without clocks or sensors of its own.

Going down is quick, because people wait; coming back is slow, and slower each time it turns out to have been too early, so that a
hub at its limit does not swing between two models.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rules:
    """What a stage may take, and how patient the policy is."""

    budget: float
    """Seconds of delay; longer is too slow."""
    slow: int = 3
    of: int = 4
    """So many of the last runs are too slow: step down."""
    low_mib: int = 200
    """Less memory than this is free: step down."""
    settle: float = 30.0
    """Seconds after a step until the next one: a model has to be loaded, and memory to be given back."""
    calm: float = 180.0
    """Seconds without trouble until it steps up."""
    longest_calm: float = 3600.0


@dataclass(frozen=True, slots=True)
class Step:
    """The stage goes to another model."""

    level: int
    """Where it stands now; 0 is the largest model."""
    down: bool
    why: str


@dataclass(slots=True)
class Tier:
    """Where one stage stands on its ladder of models, the largest first. *needs* is the memory of each, in MiB.

    Tell it of every run and, every few seconds, of the free memory; it answers with a `Step` to make, or None. Times are seconds
    of any clock that goes on.
    """

    needs: tuple[int, ...]
    rules: Rules
    level: int = 0
    highest: int = 0
    """It steps up to this level and no further: the largest model that suits the board."""
    _runs: deque[bool] = field(init=False)
    _stepped: float | None = None
    _troubled: float | None = None
    _rose: float | None = None
    _calm: float = field(init=False)

    def __post_init__(self) -> None:
        self._runs = deque(maxlen=self.rules.of)
        self._calm = self.rules.calm

    def ran(self, seconds: float, now: float) -> Step | None:
        """A run took so long until something was heard of it."""
        slow = seconds > self.rules.budget
        self._runs.append(slow)
        if slow:
            self._troubled = now
        if sum(self._runs) < self.rules.slow:
            return None
        return self._down(
            now, f"{self.rules.slow} of the last {len(self._runs)} answers took longer than {self.rules.budget:g} s"
        )

    def memory(self, free_mib: int, now: float) -> Step | None:
        """So much memory is free; 0 when nobody knows."""
        if 0 < free_mib < self.rules.low_mib:
            self._troubled = now
            return self._down(now, f"only {free_mib} MiB of memory are free")
        return self._up(free_mib, now)

    def _down(self, now: float, why: str) -> Step | None:
        if self.level + 1 >= len(self.needs) or (self._stepped is not None and now - self._stepped < self.rules.settle):
            return None
        if self._rose is not None and now - self._rose < 2 * self._calm:
            self._calm = min(2 * self._calm, self.rules.longest_calm)  # it was too early
        self._rose = None
        return self._go(self.level + 1, now, down=True, why=why)

    def _up(self, free_mib: int, now: float) -> Step | None:
        if self._rose is not None and now - self._rose > 2 * self._calm:
            self._rose, self._calm = None, self.rules.calm  # it has held
        if self.level <= self.highest:
            return None
        since = max(at for at in (self._stepped, self._troubled, float("-inf")) if at is not None)
        more = self.needs[self.level - 1] - self.needs[self.level]
        # Twice what is little: right after the step there must be some left.
        if now - since < self._calm or (free_mib and free_mib - more < 2 * self.rules.low_mib):
            return None
        self._rose = now
        return self._go(self.level - 1, now, down=False, why="it has been calm for a while")

    def _go(self, level: int, now: float, *, down: bool, why: str) -> Step:
        self.level, self._stepped = level, now
        self._runs.clear()
        return Step(level, down, why)


__all__ = ["Rules", "Step", "Tier"]
