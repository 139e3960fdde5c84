"""Calling tools: arguments are checked, time is limited, every failure is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated, Any, Literal

import pytest
from house import CHINESE, ENGLISH

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.errors import HubError, MissingSlot, ToolError, UnknownTool
from xiaozhi_hub.tools.arguments import Misfit, check_arguments
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool, tool
from xiaozhi_hub.tools.registry import ToolRegistry


@tool("test.paint")
async def paint(
    turn: TurnInfo,
    room: str,
    layers: int = 1,
    height: Annotated[float, "metres"] | None = None,
    color: Literal["red", "blue"] = "red",
    wet: bool = False,
    tools: list[str] | None = None,
) -> ToolResult:
    """Paint a room."""
    return ToolResult(f"{room} {layers} {height} {color} {wet} {tools}", {"layers": layers})


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("as it is", {"room": "hall", "layers": 2}, {"room": "hall", "layers": 2}),
        ("a number in a text", {"room": "hall", "layers": "50"}, {"room": "hall", "layers": 50}),
        ("a percent sign", {"room": "hall", "layers": "50%"}, {"room": "hall", "layers": 50}),
        ("a whole float", {"room": "hall", "layers": 50.0}, {"room": "hall", "layers": 50}),
        ("a number is a text too", {"room": 7}, {"room": "7"}),
        ("an integer where a float may be", {"room": "hall", "height": 2}, {"room": "hall", "height": 2}),
        ("another case", {"room": "hall", "color": "BLUE"}, {"room": "hall", "color": "blue"}),
        ("a word for true", {"room": "hall", "wet": "yes"}, {"room": "hall", "wet": True}),
        ("one where several may be", {"room": "hall", "tools": "brush"}, {"room": "hall", "tools": ["brush"]}),
        ("a list in a text", {"room": "hall", "tools": '["brush"]'}, {"room": "hall", "tools": ["brush"]}),
        ("null stands for nothing", {"room": "hall", "height": None}, {"room": "hall"}),
        ("half a character", {"room": "hall \ud83d"}, {"room": "hall ?"}),
        ("JSON in a text", '{"room": "hall"}', {"room": "hall"}),
    ],
)
def test_unambiguous_mistakes_are_repaired(name: str, given: Any, taken: Any) -> None:
    assert check_arguments(paint.parameters, given) == taken


@pytest.mark.parametrize(
    ("name", "given", "complaint"),
    [
        ("half a layer", {"room": "hall", "layers": 1.5}, "argument_wrong"),
        ("words for a number", {"room": "hall", "layers": "two"}, "argument_wrong"),
        ("true is no number", {"room": "hall", "layers": True}, "argument_wrong"),
        ("infinity", {"room": "hall", "height": "inf"}, "argument_wrong"),
        ("not a choice", {"room": "hall", "color": "green"}, "argument_wrong"),
        ("an object for a text", {"room": {"name": "hall"}}, "argument_wrong"),
        ("unknown", {"room": "hall", "colour": "red"}, "argument_unknown"),
        ("missing", {"layers": 2}, "argument_missing"),
        ("missing because null", {"room": None}, "argument_missing"),
        ("broken JSON", '{"room": ', "argument_wrong"),
        ("a list for all", ["hall"], "argument_wrong"),
    ],
)
def test_anything_else_is_refused(name: str, given: Any, complaint: str) -> None:
    with pytest.raises(Misfit) as caught:
        check_arguments(paint.parameters, given)
    assert caught.value.key == complaint


def test_a_text_stays_a_text_where_it_may_be_a_number_too() -> None:
    schema = {"properties": {"value": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}}
    assert check_arguments(schema, {"value": "50"}) == {"value": "50"}
    assert check_arguments(schema, {"value": 50}) == {"value": 50}


def test_no_arguments_at_all_are_fine_where_none_are_needed() -> None:
    assert check_arguments({"properties": {}}, None) == check_arguments({"properties": {}}, "") == {}


def registry_with(*tools: Tool, seconds: float = 5.0) -> ToolRegistry:
    registry = ToolRegistry(call_seconds=seconds)
    for each in tools:
        registry.add(each, "test")
    return registry


async def test_a_call_is_recorded_with_its_checked_arguments() -> None:
    call, result = await registry_with(paint).call("test.paint", {"room": "hall", "layers": "2"}, ENGLISH)
    assert (call.name, call.arguments, call.error) == ("test.paint", {"room": "hall", "layers": 2}, "")
    assert call.data == {"layers": 2}
    assert call.result == result.text == "hall 2 None red False None"
    assert call.ms >= 0


async def test_a_refused_argument_is_told_in_the_language_of_the_turn() -> None:
    registry = registry_with(paint)
    with pytest.raises(ToolError, match="layers should be integer, not many") as caught:
        await registry.call("test.paint", {"room": "hall", "layers": "many"}, ENGLISH)
    assert caught.value.code == "tool-arguments"
    with pytest.raises(ToolError, match="layers应该是integer，不是many"):
        await registry.call("test.paint", {"room": "hall", "layers": "many"}, CHINESE)


async def test_an_unknown_tool_names_the_nearest_ones() -> None:
    with pytest.raises(UnknownTool) as caught:
        await registry_with(paint).call("test.pain", {}, ENGLISH)
    assert "test.paint" in caught.value.hint


async def test_a_broken_tool_is_a_tool_error_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    @tool("test.broken")
    async def broken(turn: TurnInfo) -> str:
        """Break."""
        raise ZeroDivisionError("secret detail")

    with caplog.at_level(logging.ERROR), pytest.raises(ToolError) as caught:
        await registry_with(broken).call("test.broken", {}, ENGLISH)
    assert caught.value.code == "tool-broken"
    assert "secret detail" not in caught.value.message
    assert "test.broken" in caplog.text


async def test_a_tool_that_answers_nonsense_is_broken(caplog: pytest.LogCaptureFixture) -> None:
    async def nonsense(turn: TurnInfo) -> Any:
        """Answer a number."""
        return 42

    with pytest.raises(ToolError) as caught:
        await registry_with(make_tool("test.nonsense", nonsense)).call("test.nonsense", {}, ENGLISH)
    assert caught.value.code == "tool-broken"


async def test_a_slow_tool_is_stopped() -> None:
    stopped = asyncio.Event()

    @tool("test.slow")
    async def slow(turn: TurnInfo) -> str:
        """Take for ever."""
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return ""

    with pytest.raises(ToolError) as caught:
        await registry_with(slow, seconds=0.02).call("test.slow", {}, ENGLISH)
    assert caught.value.code == "tool-slow"
    assert stopped.is_set()


async def test_a_timeout_of_the_tools_own_is_not_taken_for_ours(caplog: pytest.LogCaptureFixture) -> None:
    @tool("test.own")
    async def own(turn: TurnInfo) -> str:
        """Time out inside."""
        raise TimeoutError

    with pytest.raises(ToolError) as caught:
        await registry_with(own).call("test.own", {}, ENGLISH)
    assert caught.value.code == "tool-broken"


async def test_cancelling_a_call_is_no_error() -> None:
    began = asyncio.Event()

    @tool("test.wait")
    async def wait(turn: TurnInfo) -> str:
        """Wait."""
        began.set()
        await asyncio.Event().wait()
        return ""

    async with asyncio.TaskGroup() as group:
        call = group.create_task(registry_with(wait).attempt("test.wait", {}, ENGLISH))
        await began.wait()
        call.cancel()
    assert call.cancelled()


async def test_a_question_carries_what_was_given_already() -> None:
    @tool("test.ask")
    async def ask(turn: TurnInfo, room: str = "", layers: int = 0) -> str:
        """Ask back."""
        raise MissingSlot("room", "Which room?")

    with pytest.raises(MissingSlot) as caught:
        await registry_with(ask).call("test.ask", {"layers": "3"}, ENGLISH)
    assert (caught.value.slot, caught.value.arguments) == ("room", {"layers": 3})


async def test_a_tool_that_wants_to_be_confirmed_does_nothing_before() -> None:
    done: list[str] = []

    @tool("test.explode", confirm=True)
    async def explode(turn: TurnInfo) -> str:
        """Explode."""
        done.append("bang")
        return "Bang."

    registry = registry_with(explode)
    with pytest.raises(MissingSlot) as caught:
        await registry.call("test.explode", {}, ENGLISH)
    assert caught.value.slot == "confirmed"
    assert done == []
    await registry.call("test.explode", {}, ENGLISH, confirmed=True)
    assert done == ["bang"]


async def test_a_failed_attempt_is_recorded_too() -> None:
    call, answer = await registry_with(paint).attempt("test.paint", {}, ENGLISH)
    assert isinstance(answer, ToolError)
    assert (call.error, call.result) == ("tool-arguments", answer.message)


def test_a_name_is_given_once() -> None:
    with pytest.raises(HubError, match=r"test\.paint exists already, from test"):
        registry_with(paint, paint)


def test_a_source_takes_all_its_tools_with_it() -> None:
    registry = registry_with(paint)
    registry.remove_source("other")
    assert registry.get("test.paint") is paint
    registry.remove_source("test")
    assert registry.get("test.paint") is None
    assert registry.all() == ()


def always(name: str, answer: str, **rights: Any) -> Tool:
    """A tool that says *answer*."""

    async def handler(turn: TurnInfo) -> str:
        """Say something."""
        return answer

    return make_tool(name, handler, **rights)


async def test_tools_of_one_turn_are_there_for_that_turn_only() -> None:
    registry = registry_with(always("test.a", "everybody's"))
    registry.add_for_turns(
        lambda turn: (always("test.a", "its own"), always("test.b", "here")) if turn.language == "en" else (), "device"
    )
    assert [tool.name for tool in registry.all()] == ["test.a"]
    assert [tool.name for tool in registry.all_for(ENGLISH)] == ["test.a", "test.b"]
    assert [tool.name for tool in registry.all_for(CHINESE)] == ["test.a"]
    assert (await registry.call("test.a", {}, ENGLISH))[1].text == "everybody's", "nobody takes a name from the others"
    assert (await registry.call("test.b", {}, ENGLISH))[1].text == "here"
    with pytest.raises(UnknownTool):
        await registry.call("test.b", {}, CHINESE)
    registry.remove_source("device")
    with pytest.raises(UnknownTool):
        await registry.call("test.b", {}, ENGLISH)


async def test_for_a_model_there_are_no_tools_of_the_owner_even_by_their_names() -> None:
    registry = registry_with(always("test.reset", "reset", owner_only=True), always("test.reset_clock", "set"))
    registry.add_for_turns(lambda turn: (always("test.resets", "reset", owner_only=True),), "device")
    for name in ("test.reset", "test.resets"):
        assert (await registry.call(name, {}, ENGLISH))[1].text == "reset"
        with pytest.raises(UnknownTool) as refused:
            await registry.call(name, {}, ENGLISH, by_model=True)
        assert refused.value.hint == "Nearest: test.reset_clock."


async def test_a_tool_may_be_given_more_time_than_others() -> None:
    async def wait(turn: TurnInfo) -> str:
        """Wait."""
        await asyncio.sleep(0.2)
        return "done"

    registry = registry_with(make_tool("test.patient", wait, seconds=5.0), make_tool("test.hasty", wait), seconds=0.05)
    assert (await registry.call("test.patient", {}, ENGLISH))[1].text == "done"
    with pytest.raises(ToolError) as slow:
        await registry.call("test.hasty", {}, ENGLISH)
    assert slow.value.code == "tool-slow"
