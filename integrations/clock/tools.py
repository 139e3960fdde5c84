"""The tools of the clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from xiaozhi_hub.plugins.api import MissingSlot, Tool, ToolError, ToolResult, TurnInfo, make_tool

from .keeper import Keeper
from .local_time import Said, first_ring
from .timers import Alarm, Choice, Timer, choose

LONGEST_SECONDS = 100 * 3600

Hours = Annotated[float, "how many hours"]
Minutes = Annotated[float, "how many minutes"]
Seconds = Annotated[float, "how many seconds"]
TimerName = Annotated[str, "the timer's name, such as pasta"]
OfHours = Annotated[float, "hours that the timer was set for"]
OfMinutes = Annotated[float, "minutes that the timer was set for"]
OfSeconds = Annotated[float, "seconds that the timer was set for"]
Hour = Annotated[int, "0 to 24"]
Minute = Annotated[int, "0 to 59"]
Period = Literal["am", "pm", "night"]
Day = Literal["today", "tomorrow", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
Repeat = Literal["daily", "weekdays", "weekends"]


class ClockTools:
    """The handlers of the ``clock.*`` tools."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._words = keeper.wording

    # -- time and date --------------------------------------------------------------------------------------------

    async def get_time(self, turn: TurnInfo) -> ToolResult:
        """Say what time it is."""
        now = self._keeper.local.at(self._keeper.now().wall)
        text = self._words.text("now", turn.language, time=self._words.time_at(now, turn.language))
        return ToolResult(text, {"time": f"{now:%H:%M}"})

    async def get_date(self, turn: TurnInfo) -> ToolResult:
        """Say today's date and day of the week."""
        now = self._keeper.local.at(self._keeper.now().wall)
        text = self._words.text("today", turn.language, date=self._words.date(now, turn.language))
        return ToolResult(text, {"date": f"{now:%Y-%m-%d}"})

    # -- timers ---------------------------------------------------------------------------------------------------

    async def start_timer(
        self, turn: TurnInfo, hours: Hours = 0, minutes: Minutes = 0, seconds: Seconds = 0, name: TimerName = ""
    ) -> ToolResult:
        """Start a countdown that rings on the device the person is speaking to."""
        total = self._total(turn, hours, minutes, seconds)
        if self._keeper.is_full:
            raise ToolError(self._words.text("too_many", turn.language), code="clock-full")
        due_at = self._keeper.now().steady + total
        timer = Timer(self._keeper.new_id(), turn.device_id, turn.language, name.strip(), total, due_at)
        await self._keeper.keep_timer(timer)
        called = self._words.timer(timer, turn.language)
        if timer.name:
            duration = self._words.duration(total, turn.language)
            text = self._words.text("named_timer_set", turn.language, timer=called, duration=duration)
        else:
            text = self._words.text("timer_set", turn.language, timer=called)
        return ToolResult(text, {"timer": timer.id, "seconds": total})

    async def cancel_timer(
        self, turn: TurnInfo, name: TimerName = "", of_hours: OfHours = 0, of_minutes: OfMinutes = 0,
        of_seconds: OfSeconds = 0,
    ) -> ToolResult:  # fmt: skip
        """Cancel one timer: by its name or by the time it was set for; leave both out when there is only one."""
        timer = self._the_timer(turn, name, of_hours, of_minutes, of_seconds)
        await self._keeper.drop(timer)
        text = self._words.text("timer_cancelled", turn.language, timer=self._words.timer(timer, turn.language))
        return ToolResult(text, {"timer": timer.id})

    async def cancel_all_timers(self, turn: TurnInfo) -> ToolResult:
        """Cancel every timer of the house."""
        count = await self._keeper.drop_all(Timer)
        key = "all_timers_cancelled" if count else "no_timers"
        return ToolResult(self._words.text(key, turn.language), {"count": count})

    async def pause_timer(
        self, turn: TurnInfo, name: TimerName = "", of_hours: OfHours = 0, of_minutes: OfMinutes = 0,
        of_seconds: OfSeconds = 0,
    ) -> ToolResult:  # fmt: skip
        """Pause a timer."""
        timer = self._the_timer(turn, name, of_hours, of_minutes, of_seconds)
        return await self._keep("timer_paused", timer.paused(self._keeper.now().steady), turn)

    async def resume_timer(
        self, turn: TurnInfo, name: TimerName = "", of_hours: OfHours = 0, of_minutes: OfMinutes = 0,
        of_seconds: OfSeconds = 0,
    ) -> ToolResult:  # fmt: skip
        """Let a paused timer go on."""
        timer = self._the_timer(turn, name, of_hours, of_minutes, of_seconds)
        return await self._keep("timer_resumed", timer.resumed(self._keeper.now().steady), turn)

    async def extend_timer(
        self, turn: TurnInfo, hours: Hours = 0, minutes: Minutes = 0, seconds: Seconds = 0, name: TimerName = "",
        of_hours: OfHours = 0, of_minutes: OfMinutes = 0, of_seconds: OfSeconds = 0,
    ) -> ToolResult:  # fmt: skip
        """Add time to a timer."""
        more = self._total(turn, hours, minutes, seconds)
        timer = self._the_timer(turn, name, of_hours, of_minutes, of_seconds)
        steady = self._keeper.now().steady
        if timer.remaining(steady) + more > LONGEST_SECONDS:
            raise ToolError(self._words.text("too_long", turn.language), code="tool-arguments")
        return await self._keep("timer_changed", timer.changed_by(more, steady), turn)

    async def shorten_timer(
        self, turn: TurnInfo, hours: Hours = 0, minutes: Minutes = 0, seconds: Seconds = 0, name: TimerName = "",
        of_hours: OfHours = 0, of_minutes: OfMinutes = 0, of_seconds: OfSeconds = 0,
    ) -> ToolResult:  # fmt: skip
        """Take time off a timer."""
        fewer = self._total(turn, hours, minutes, seconds)
        timer = self._the_timer(turn, name, of_hours, of_minutes, of_seconds)
        return await self._keep("timer_changed", timer.changed_by(-fewer, self._keeper.now().steady), turn)

    async def timer_status(
        self, turn: TurnInfo, name: TimerName = "", of_hours: OfHours = 0, of_minutes: OfMinutes = 0,
        of_seconds: OfSeconds = 0,
    ) -> ToolResult:  # fmt: skip
        """Say how much time is left on a timer, or on all of them."""
        choice = Choice(name, _seconds(of_hours, of_minutes, of_seconds))
        timers = self._keeper.timers
        if not choice.says_nothing:
            timers = tuple(choose(timers, choice, turn.device_id))
        if not timers:
            raise self._no_timer(turn, choice)
        steady = self._keeper.now().steady
        sentences = [self._left(timer, steady, turn.language) for timer in timers]
        data = [{"timer": timer.id, "name": timer.name, "left": round(timer.remaining(steady))} for timer in timers]
        return ToolResult(" ".join(sentences), {"timers": data})

    # -- alarms ---------------------------------------------------------------------------------------------------

    async def set_alarm(
        self, turn: TurnInfo, hour: Hour | None = None, minute: Minute = 0, period: Period | None = None,
        day: Day | None = None, repeat: Repeat | None = None,
        waking: Annotated[bool, "the person wants to be woken"] = False,
    ) -> ToolResult:  # fmt: skip
        """Set an alarm for a time of day, for once or repeated."""
        if hour is None:
            raise MissingSlot("alarm_time", self._words.text("what_time", turn.language))
        if self._keeper.is_full:
            raise ToolError(self._words.text("too_many", turn.language), code="clock-full")
        now = self._keeper.now()
        local = self._keeper.local
        try:
            at = first_ring(Said(hour, minute, period, day, waking), now.wall, local, repeat)
        except ValueError:
            raise ToolError(self._words.text("no_time", turn.language), code="tool-arguments") from None
        alarm = Alarm(self._keeper.new_id(), turn.device_id, turn.language, at.hour, at.minute, at.moment, repeat)
        await self._keeper.keep_alarm(alarm)
        text = self._words.text("alarm_set", turn.language, alarm=self._called(alarm, turn.language))
        return ToolResult(text, {"alarm": alarm.id, "at": at.moment})

    async def cancel_alarm(
        self, turn: TurnInfo, hour: Hour | None = None, minute: Minute = 0, period: Period | None = None,
        day: Day | None = None,
    ) -> ToolResult:  # fmt: skip
        """Cancel one alarm: by its time; leave that out when there is only one."""
        alarms = self._keeper.alarms
        if not alarms:
            raise ToolError(self._words.text("no_alarms", turn.language), code="clock-nothing")
        if hour is not None or day is not None:
            alarms = tuple(alarm for alarm in alarms if self._matches(alarm, hour, minute, period, day))
        if not alarms:
            raise ToolError(self._words.text("no_such_alarm", turn.language), code="clock-nothing")
        if len(alarms) > 1:
            called = [self._called(alarm, turn.language) for alarm in alarms]
            names = self._words.several(called, turn.language, or_=True)
            raise MissingSlot("alarm_time", self._words.text("which_alarm", turn.language, alarms=names))
        text = self._words.text("alarm_cancelled", turn.language, alarm=self._called(alarms[0], turn.language))
        await self._keeper.drop(alarms[0])
        return ToolResult(text, {"alarm": alarms[0].id})

    async def cancel_all_alarms(self, turn: TurnInfo) -> ToolResult:
        """Cancel every alarm of the house."""
        count = await self._keeper.drop_all(Alarm)
        key = "all_alarms_cancelled" if count else "no_alarms"
        return ToolResult(self._words.text(key, turn.language), {"count": count})

    async def list_alarms(self, turn: TurnInfo) -> ToolResult:
        """Say which alarms are set."""
        alarms = self._keeper.alarms
        if not alarms:
            return ToolResult(self._words.text("no_alarms", turn.language), {"alarms": []})
        names = self._words.several([self._called(alarm, turn.language) for alarm in alarms], turn.language)
        data = [{"alarm": alarm.id, "at": alarm.at, "repeat": alarm.repeat or ""} for alarm in alarms]
        return ToolResult(self._words.text("alarms", turn.language, alarms=names), {"alarms": data})

    # -- how ------------------------------------------------------------------------------------------------------

    def _total(self, turn: TurnInfo, hours: float, minutes: float, seconds: float) -> float:
        total = _seconds(hours, minutes, seconds)
        if total <= 0:
            raise MissingSlot("duration", self._words.text("how_long", turn.language))
        if total > LONGEST_SECONDS:
            raise ToolError(self._words.text("too_long", turn.language), code="tool-arguments")
        return total

    def _the_timer(self, turn: TurnInfo, name: str, hours: float, minutes: float, seconds: float) -> Timer:
        choice = Choice(name, _seconds(hours, minutes, seconds))
        found = choose(self._keeper.timers, choice, turn.device_id)
        if not found:
            raise self._no_timer(turn, choice)
        if len(found) > 1:
            called = [self._words.the_timer(timer, turn.language) for timer in found]
            names = self._words.several(called, turn.language, or_=True)
            raise MissingSlot("timer", self._words.text("which_timer", turn.language, timers=names))
        return found[0]

    def _no_timer(self, turn: TurnInfo, choice: Choice) -> ToolError:
        key = "no_such_timer" if self._keeper.timers and not choice.says_nothing else "no_timers"
        return ToolError(self._words.text(key, turn.language), code="clock-nothing")

    async def _keep(self, key: str, timer: Timer, turn: TurnInfo) -> ToolResult:
        await self._keeper.keep_timer(timer)
        left = timer.remaining(self._keeper.now().steady)
        text = self._words.text(
            key,
            turn.language,
            timer=self._words.timer(timer, turn.language),
            duration=self._words.duration(left, turn.language),
        )
        return ToolResult(text, {"timer": timer.id, "left": round(left)})

    def _left(self, timer: Timer, steady: float, language: str) -> str:
        return self._words.text(
            "timer_left_paused" if timer.due_at is None else "timer_left",
            language,
            timer=self._words.timer(timer, language),
            duration=self._words.duration(timer.remaining(steady), language),
        )

    def _called(self, alarm: Alarm, language: str) -> str:
        local, now = self._keeper.local, self._keeper.now().wall
        return self._words.alarm(alarm, local.at(now), local.at(alarm.at), language)

    def _matches(self, alarm: Alarm, hour: int | None, minute: int, period: str | None, day: str | None) -> bool:
        local, now = self._keeper.local, self._keeper.now().wall
        if day is not None and not Said(0, day=day).is_day(local.at(alarm.at).date(), local.at(now).date()):
            return False
        try:
            return hour is None or (alarm.hour, alarm.minute) in Said(hour, minute, period).times()
        except ValueError:  # no time of day: no alarm is set for it
            return False


def _seconds(hours: float, minutes: float, seconds: float) -> float:
    return hours * 3600 + minutes * 60 + seconds


def clock_tools(keeper: Keeper) -> tuple[Tool, ...]:
    """All tools of the clock."""
    clock = ClockTools(keeper)
    acting: dict[str, Callable[..., Any]] = {
        "start_timer": clock.start_timer,
        "cancel_timer": clock.cancel_timer,
        "cancel_all_timers": clock.cancel_all_timers,
        "pause_timer": clock.pause_timer,
        "resume_timer": clock.resume_timer,
        "extend_timer": clock.extend_timer,
        "shorten_timer": clock.shorten_timer,
        "set_alarm": clock.set_alarm,
        "cancel_alarm": clock.cancel_alarm,
        "cancel_all_alarms": clock.cancel_all_alarms,
    }
    asking: dict[str, Callable[..., Any]] = {
        "get_time": clock.get_time,
        "get_date": clock.get_date,
        "timer_status": clock.timer_status,
        "list_alarms": clock.list_alarms,
    }
    return (
        *(make_tool(f"clock.{verb}", handler) for verb, handler in acting.items()),
        *(make_tool(f"clock.{verb}", handler, effect=False) for verb, handler in asking.items()),
    )
