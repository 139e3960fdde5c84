"""Which tools a model sees: a few always, at the beginning and in the same order; others when a question sounds like them. Pure.

The beginning of a prompt must not change from question to question, and all tools of a home are too much for it. So the tools that
are useful most often are told there, with one more to use the others, which names them; those that fit a question are told at its end,
in one line each.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xiaozhi_hub.dialog.agent.tokens import Count, cost_of_tools
from xiaozhi_hub.engines.llm import ToolSpec
from xiaozhi_hub.tools.base import Tool

USE = "tools.use"
"""The tool that stands for all others; it is none of the registry's."""
CORE = (
    "home.turn_on", "home.turn_off", "home.get_state", "home.set_light", "clock.start_timer", "home.run", "home.get_weather",
    "home.get_temperature", "home.list_add", "clock.set_alarm", "home.set_temperature", "device.change_volume",
)  # fmt: skip
"""The tools that go first into the beginning, where there are more than it can hold."""
USUALLY = 900
"""Tokens of tools in the beginning: it is evaluated once, at 20 to 120 tokens a second on small machines."""
MOST_NAMED = 4
"""Tools that are named with one question."""
OTHERS = "There are: "
_DIRECTORY = 3
"""One in so many of the tokens for tools may go on top, for the names of the others."""
_ENOUGH = 2.0
"""A tool is named when the words that it shares with the question weigh so much; a rare one weighs 2 to 4."""
_DESCRIPTION = 160
_WORD = re.compile(r"[a-z]+|[0-9]+|[\u3400-\u9fff]+")
_COMMON = frozenset(
    "a an and any are as at be by can could do does for from get give go has have how i in is it its let like make me my of on or"
    " out please put say set so some tell that the their them then there they thing things this to up use want was we what when"
    " which who will with would you your name room area kind leave such one person called another".split()
)
_COMMON_WIDE = frozenset("请帮我一下把的了吗呢吧你您给在是有个和就要想可以能不能什么怎么一个现在")


@dataclass(frozen=True, slots=True)
class Offer:
    """What a dialogue begins with."""

    tools: tuple[ToolSpec, ...]
    names: frozenset[str]
    """The registry's tools among them."""


def offer(tools: Sequence[Tool], use: ToolSpec, room: int, count: Count) -> Offer:
    """Choose the tools for the beginning: all where they fit into *room* tokens, otherwise the most useful; and *use*, for those that
    a device brings or that come later.

    The same tools, in whatever order, give the same beginning.
    """
    ranked = sorted(tools, key=lambda tool: (CORE.index(tool.name) if tool.name in CORE else len(CORE), tool.name))
    everything = (*lean(ranked), use)
    if cost_of_tools(everything, count) <= room:
        return Offer(everything, frozenset(tool.name for tool in ranked))
    chosen: list[Tool] = []
    for tool in ranked:
        if tool.name in CORE and cost_of_tools((*lean((*chosen, tool)), use), count) <= room:
            chosen.append(tool)
    names = frozenset(tool.name for tool in chosen)
    others = directory((tool.name for tool in tools if tool.name not in names), room // _DIRECTORY, count)
    use = replace(use, description=f"{use.description} {OTHERS}{others}.") if others else use
    return Offer((*lean(chosen), use), names)


def directory(names: Iterable[str], most: int, count: Count) -> str:
    """Names of tools by what they are about, in at most *most* tokens: ``clock: add_timer, …; device: mute, set_volume``. Where that is
    not enough, the longest parts end early."""
    parts: dict[str, list[str]] = {}
    for name in sorted(names):
        area, _, what = name.rpartition(".")
        parts.setdefault(area, []).append(what)
    cut: set[str] = set()

    def told() -> str:
        return "; ".join(
            f"{area}: {', '.join(whats)}{', …' if area in cut else ''}" for area, whats in parts.items() if whats
        )

    while parts and count(told()) > most:
        area = max(parts, key=lambda area: (len(parts[area]), area))
        cut.add(area)
        parts[area].pop()
        if not parts[area]:
            del parts[area]
    return told()


def lean(tools: Iterable[Tool]) -> tuple[ToolSpec, ...]:
    """Tools as a model reads them: what an argument means is said where it comes first, and nothing that only a check needs."""
    explained: set[tuple[str, str]] = set()
    specs = []
    for tool in tools:
        properties: dict[str, Any] = {}
        for name, schema in tool.parameters.get("properties", {}).items():
            short = {key: value for key, value in schema.items() if key not in ("default", "additionalProperties")}
            said = (name, str(short.get("description", "")))
            if said in explained:
                del short["description"]
            elif said[1]:
                explained.add(said)
            properties[name] = short
        parameters: dict[str, Any] = {"type": "object", "properties": properties}
        if required := list(tool.parameters.get("required", ())):
            parameters["required"] = required
        specs.append(ToolSpec(tool.name, tool.description.split("\n", 1)[0][:_DESCRIPTION], parameters))
    return tuple(specs)


def signature(tool: Tool) -> str:
    """A tool in one line: ``clock.pause_timer{name?, minutes?: number}: Pause a timer.``"""
    required = set(tool.parameters.get("required", ()))
    arguments = []
    for name, schema in tool.parameters.get("properties", {}).items():
        kind = schema.get("type", "string")
        shown = "|".join(map(str, schema["enum"])) if "enum" in schema else "" if kind == "string" else kind
        arguments.append(f"{name}{'' if name in required else '?'}{f': {shown}' if shown else ''}")
    return f"{tool.name}{{{', '.join(arguments)}}}: {tool.description.split(chr(10), 1)[0][:_DESCRIPTION]}"


def words_of(text: str) -> Counter[str]:
    """The words that a text is compared by: English ones without their usual endings, Chinese ones as pairs of characters."""
    found: Counter[str] = Counter()
    for word in _WORD.findall(text.casefold().replace("_", " ").replace("’", "'")):
        if word[0] >= "\u3400":
            pairs = [word[at : at + 2] for at in range(len(word) - 1)] or [word]
            found.update(pair for pair in pairs if not set(pair) <= _COMMON_WIDE)
        elif word not in _COMMON and len(word) > 1:
            found[_stem(word)] += 1
    return found


def _stem(word: str) -> str:
    for ending in ("ies", "ing", "ed", "es", "er", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending)
            break
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


class Index:
    """Finds tools by words. Built once for a set of tools."""

    def __init__(self, tools: Sequence[Tool], wording: Mapping[str, str]) -> None:
        """*wording* holds, by a tool's name, what people say who want it."""
        self.tools = {tool.name: tool for tool in tools}
        self._words = {tool.name: _describing(tool, wording.get(tool.name, "")) for tool in tools}
        spread: Counter[str] = Counter()
        for words in self._words.values():
            spread.update(words.keys())
        self._weight = {word: math.log(1 + len(self.tools) / times) for word, times in spread.items()}

    def best(self, text: str, most: int = MOST_NAMED, more: str = "", but: frozenset[str] = frozenset()) -> list[Tool]:
        """The tools that *text* sounds like, best first, at most *most*, none of *but*; *more* are words that count less."""
        asked = dict.fromkeys(words_of(more), 0.7) | dict.fromkeys(words_of(text), 1.0)
        scores = {}
        for name, words in self._words.items():
            score = sum(asked[word] * self._weight[word] * words[word] for word in asked if word in words)
            if score >= _ENOUGH:
                scores[name] = score
        ranked = sorted(scores, key=lambda name: (-scores[name], name))
        if not ranked:
            return []
        least = scores[ranked[0]] / 5  # far behind the best is beside the point
        return [self.tools[name] for name in ranked if name not in but and scores[name] >= least][:most]


def _describing(tool: Tool, wording: str) -> dict[str, float]:
    """The words that stand for a tool and how much each says: its name most, what people say, its description, its arguments."""
    told: dict[str, float] = {}
    arguments = " ".join(
        f"{name} {schema.get('description', '')} {' '.join(map(str, schema.get('enum', ())))}"
        for name, schema in tool.parameters.get("properties", {}).items()
    )
    for text, worth in ((arguments, 0.4), (tool.description, 0.8), (wording, 0.8), (tool.name.replace(".", " "), 1.0)):
        told.update(dict.fromkeys(words_of(text), worth))
    return told
