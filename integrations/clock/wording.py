"""How times and durations are said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from xiaozhi_hub.plugins.api import Texts

from .local_time import WEEKDAYS
from .timers import Alarm, Timer

_UNITS = (("hour", 3600), ("minute", 60), ("second", 1))


class Wording:
    """Turns times into words. Keys are those below ``clock.`` in the translations."""

    def __init__(self, texts: Texts) -> None:
        self._texts = texts

    def text(self, key: str, language: str, /, **values: object) -> str:
        """The text ``clock.<key>``, with a capital at its beginning."""
        said = self._texts.text(f"clock.{key}", language, **values)
        return said[:1].upper() + said[1:]

    def duration(self, seconds: float, language: str) -> str:
        """``3 minutes and 20 seconds``."""
        return self._joined(self._parts(seconds, language, lambda number: "one" if number == 1 else "many"), language)

    def timer(self, timer: Timer, language: str) -> str:
        """What people call it: ``pasta timer``, ``5 minute timer``."""
        if timer.name:
            name = timer.name.removesuffix(" timer")
            return self._texts.text("clock.named_timer", language, name=name)
        length = self._joined(self._parts(timer.seconds, language, lambda _: "long"), language)
        return self._texts.text("clock.timer_of", language, length=length)

    def the_timer(self, timer: Timer, language: str) -> str:
        """The same with its article, where the language has one."""
        return self._texts.text("clock.the_timer", language, timer=self.timer(timer, language))

    def several(self, names: Sequence[str], language: str, *, or_: bool = False) -> str:
        last = self._texts.text("clock.or" if or_ else "clock.and", language)
        comma = self._texts.text("clock.comma", language)
        return names[0] if len(names) == 1 else f"{comma.join(names[:-1])}{last}{names[-1]}"

    def time(self, hour: int, minute: int, language: str) -> str:
        """``9:41 PM``."""
        key = "clock.time.full" if minute == 0 else "clock.time.exact"
        return self._texts.text(
            key, language, hour=(hour - 1) % 12 + 1, minute=f"{minute:02d}", period=self._period(hour, language)
        )

    def time_at(self, moment: datetime, language: str) -> str:
        return self.time(moment.hour, moment.minute, language)

    def date(self, moment: datetime, language: str) -> str:
        """``Saturday, November 21, 2026``."""
        return self._texts.text(
            "clock.full_date",
            language,
            weekday=self.weekday(moment.weekday(), language),
            month=self._texts.text(f"clock.month.{moment.month}", language),
            day=moment.day,
            year=moment.year,
        )

    def weekday(self, number: int, language: str) -> str:
        return self._texts.text(f"clock.weekday.{WEEKDAYS[number]}", language)

    def alarm(self, alarm: Alarm, now: datetime, rings: datetime, language: str) -> str:
        """``7:30 AM tomorrow``."""
        time = self.time(alarm.hour, alarm.minute, language)
        if alarm.repeat:
            return self._texts.text(f"clock.repeat.{alarm.repeat}", language, time=time)
        days = (rings.date() - now.date()).days
        if days == 0:
            return self._texts.text("clock.day.today", language, time=time)
        if days == 1:
            return self._texts.text("clock.day.tomorrow", language, time=time)
        weekday = self.weekday(rings.weekday(), language)
        return self._texts.text("clock.day.weekday", language, time=time, weekday=weekday)

    def _parts(self, seconds: float, language: str, form: Callable[[int], str]) -> list[str]:
        rest = max(1, round(seconds))
        parts = []
        for unit, size in _UNITS:
            number, rest = divmod(rest, size)
            if number:
                said = self._texts.text("clock.two", language) if number == 2 else str(number)
                parts.append(self._texts.text(f"clock.unit.{unit}.{form(number)}", language, number=said))
        return parts

    def _joined(self, parts: Sequence[str], language: str) -> str:
        gap = self._texts.text("clock.then", language)
        if len(parts) == 1:
            return parts[0]
        return gap.join(parts[:-1]) + self._texts.text("clock.and_then", language) + parts[-1]

    def _period(self, hour: int, language: str) -> str:
        names = ("night", "morning", "forenoon", "noon", "afternoon", "evening")
        limits = (5, 9, 12, 13, 18, 24)
        name = next(name for name, limit in zip(names, limits, strict=True) if hour < limit)
        return self._texts.text(f"clock.period.{name}", language)
