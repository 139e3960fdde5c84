"""Timers and alarms as values, and what can be done with them. Pure; time is passed in.

A countdown runs on a steady clock: setting the time does not change how long an egg has to boil. An alarm follows the
clock on the wall.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

LATE_SECONDS = 30 * 60.0
"""Something that nobody could hear for so long rings no more: it is told as missed."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """Both clocks, read together."""

    wall: float
    """Seconds since the epoch; may be set at any time."""
    steady: float
    """Seconds since the machine was switched on."""
    boot: str
    """Which switching-on `steady` counts from."""


@dataclass(frozen=True, slots=True)
class Timer:
    """A countdown."""

    id: str
    device_id: str
    language: str
    name: str
    seconds: float
    """As it was set: what people call it by."""
    due_at: float | None
    """On the steady clock; None while it is paused."""
    left: float = 0.0
    """Seconds left, while it is paused."""

    def remaining(self, steady: float) -> float:
        return self.left if self.due_at is None else self.due_at - steady

    def paused(self, steady: float) -> Timer:
        return self if self.due_at is None else replace(self, due_at=None, left=max(0.0, self.due_at - steady))

    def resumed(self, steady: float) -> Timer:
        return self if self.due_at is not None else replace(self, due_at=steady + self.left, left=0.0)

    def changed_by(self, seconds: float, steady: float) -> Timer:
        """With *seconds* more (or fewer) to go, but never less than nothing."""
        if self.due_at is None:
            return replace(self, left=max(0.0, self.left + seconds))
        return replace(self, due_at=max(steady, self.due_at + seconds))

    def payload(self, now: Clocks) -> dict[str, Any]:
        """What has to be remembered to go on after a restart, whatever happens to either clock."""
        return {
            "kind": "timer",
            "device": self.device_id,
            "language": self.language,
            "name": self.name,
            "seconds": self.seconds,
            "paused": self.due_at is None,
            "left": self.left,
            "steady": self.due_at,
            "boot": now.boot,
        }

    def wall_at(self, now: Clocks) -> float:
        """When it is due by the clock on the wall."""
        return now.wall + self.remaining(now.steady)

    @staticmethod
    def from_payload(id: str, at: float, payload: Mapping[str, Any], now: Clocks) -> Timer:
        """Go on after a restart: by the steady clock while the machine kept running, else by the wall clock."""
        due_at: float | None = None
        if not payload["paused"]:
            same = payload["boot"] == now.boot and bool(now.boot)
            due_at = float(payload["steady"]) if same else now.steady + (at - now.wall)
        seconds, left = float(payload["seconds"]), float(payload["left"])
        return Timer(id, payload["device"], payload["language"], payload["name"], seconds, due_at, left)


@dataclass(frozen=True, slots=True)
class Alarm:
    """A time of day at which to ring."""

    id: str
    device_id: str
    language: str
    hour: int
    minute: int
    at: float
    """Seconds since the epoch."""
    repeat: str | None = None

    def payload(self) -> dict[str, Any]:
        return {
            "kind": "alarm",
            "device": self.device_id,
            "language": self.language,
            "hour": self.hour,
            "minute": self.minute,
            "repeat": self.repeat,
        }

    @staticmethod
    def from_payload(id: str, at: float, payload: Mapping[str, Any]) -> Alarm:
        return Alarm(
            id, payload["device"], payload["language"], payload["hour"], payload["minute"], at, payload["repeat"]
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """Which timer a person means, as far as it was said."""

    name: str = ""
    seconds: float = 0.0

    @property
    def says_nothing(self) -> bool:
        return not self.name and not self.seconds


def choose(timers: Iterable[Timer], choice: Choice, device_id: str) -> Sequence[Timer]:
    """Return the timers that *choice* may mean: none, the one, or several to ask about.

    Those of the asking device go first. Timers that are alike in everything one could say are one: any of them will do.
    """
    found = [timer for timer in timers if _fits(timer, choice)]
    here = [timer for timer in found if timer.device_id == device_id]
    found = here or found
    if len({(timer.name.casefold(), timer.seconds) for timer in found}) == 1:
        return found[:1]
    return found


def _fits(timer: Timer, choice: Choice) -> bool:
    if choice.seconds and round(choice.seconds) != round(timer.seconds):
        return False
    return not choice.name or _plain(choice.name) == _plain(timer.name)


def _plain(name: str) -> str:
    words = [word for word in name.casefold().split() if word not in ("the", "my", "a", "an", "timer")]
    return " ".join(words).removesuffix("s")
