"""The clock on the wall: moments to local time and back, and what a spoken time means. Pure; time is passed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
REPEATS = {"daily": frozenset(range(7)), "weekdays": frozenset(range(5)), "weekends": frozenset((5, 6))}
"""On which days of the week a repeated alarm rings; Monday is 0."""
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class LocalTime:
    """Local time in a zone; None is the zone of the system, with its rules for summer time."""

    zone: tzinfo | None = None

    def at(self, moment: float) -> datetime:
        return datetime.fromtimestamp(moment, self.zone)

    def moment(self, day: date, hour: int, minute: int) -> float:
        """The moment when a clock here shows *hour*:*minute* on *day*.

        A time that is skipped in spring is an hour later then; one that comes twice in autumn is the first.
        """
        return datetime(day.year, day.month, day.day, hour, minute, tzinfo=self.zone).timestamp()


@dataclass(frozen=True, slots=True)
class Ring:
    """A moment, and what the clock shows then."""

    moment: float
    hour: int
    minute: int


@dataclass(frozen=True, slots=True)
class Said:
    """A time of day as it was said."""

    hour: int
    minute: int = 0
    """May be negative: a quarter to eight is 8 and -15."""
    period: str | None = None
    """``am``, ``pm``, or ``night`` (twelve at night is midnight)."""
    day: str | None = None
    """``today``, ``tomorrow``, or the English name of a day of the week."""
    waking: bool = False
    """The person wants to be woken: most likely in the morning."""

    def times(self) -> Sequence[tuple[int, int]]:
        """The hours and minutes that this may mean. ValueError when it is no time of day."""
        if not (0 <= self.hour <= 24 and -60 < self.minute < 60):
            raise ValueError("not a time of day")
        return [divmod((hour * 60 + self.minute) % _DAY_MINUTES, 60) for hour in self._hours()]

    def is_day(self, day: date, today: date) -> bool:
        """Does *day* fit what was said?"""
        return day in self.days(today)

    def days(self, today: date) -> Sequence[date]:
        """The days that this may mean."""
        tomorrow = today + timedelta(days=1)
        if self.day is None:
            return [today, tomorrow]
        if self.day in ("today", "tomorrow"):
            return [today if self.day == "today" else tomorrow]
        ahead = (WEEKDAYS.index(self.day) - today.weekday()) % 7
        return [today + timedelta(days=ahead), today + timedelta(days=ahead + 7)]

    def _hours(self) -> Sequence[int]:
        hour = self.hour
        if hour == 0 or hour > 12:
            return [hour]
        morning, evening = hour % 12, hour % 12 + 12
        if self.period == "am":
            return [morning]
        if self.period == "pm":
            return [evening]
        if self.period == "night":
            return [morning if morning < 5 else evening]
        if self.waking and 4 <= hour <= 11:
            return [morning]
        if self.day is not None and self.day != "today":  # of another day the usual half is meant, not the next
            return [hour if 5 <= hour <= 12 else evening]
        return [morning, evening]


def first_ring(said: Said, now: float, local: LocalTime, repeat: str | None = None) -> Ring:
    """Return when an alarm for *said* rings first.

    Without "am" or "pm" the next of both is meant, but nobody gets up at seven in the evening. ValueError when it is no
    time of day, or one that is over.
    """
    today = local.at(now).date()
    days = said.days(today)
    if repeat is not None:
        week = [today + timedelta(days=ahead) for ahead in range(8)]
        days = [day for day in week if day.weekday() in REPEATS[repeat]]
    rings = [Ring(local.moment(day, hour, minute), hour, minute) for day in days for hour, minute in said.times()]
    to_come = [ring for ring in rings if ring.moment > now]
    if not to_come:
        raise ValueError("that time is over")
    return min(to_come, key=lambda ring: ring.moment)


def next_ring(hour: int, minute: int, repeat: str, now: float, local: LocalTime) -> float:
    """Return the next moment at which a repeated alarm rings."""
    today = local.at(now).date()
    week = (today + timedelta(days=ahead) for ahead in range(8))
    moments = (local.moment(day, hour, minute) for day in week if day.weekday() in REPEATS[repeat])
    return min(moment for moment in moments if moment > now)
