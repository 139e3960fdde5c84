"""Sentence templates as graphs of words.

hassil's templates are made of pieces of text that may join into words (``light[s]``, ``( |-)minute``). Here they become graphs
whose steps are whole spoken words or references to slot lists, each with its share: what leaves a node, together with the
chance to end there, adds up to 1, all alternatives of a template being equally likely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

from hassil.errors import MissingRuleError
from hassil.expression import (
    Alternative,
    Expression,
    Group,
    ListReference,
    Permutation,
    RuleReference,
    Sentence,
    TextChunk,
)
from hassil.intents import RangeSlotList, SlotList

from xiaozhi_hub.dialog.grammar.spoken_form import spoken_words

_DEPTH = 24
"""Rules may refer to rules this deep; deeper is taken for a circle, as hassil does."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place in a sentence that a list fills."""

    list_name: str
    requires: Mapping[str, Any]
    """What hassil demands of the context; values of the list that say otherwise do not fit here."""
    excludes: Mapping[str, Any]
    local: SlotList | None = None
    """The list, where the template brings its own."""


@dataclass(slots=True)
class Step:
    """One way onwards: a word, or a slot to be filled."""

    said: str | Slot
    to: int
    share: float


@dataclass(slots=True)
class WordGraph:
    """Templates in one graph. Node numbers are indices; there are no circles."""

    steps: list[list[Step]] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """The chance that a sentence which came to this node is over."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a template's names refer to."""

    rules: Mapping[str, Sentence]
    lists: Mapping[str, SlotList] = field(default_factory=dict)
    requires: Mapping[str, Any] = field(default_factory=dict)
    excludes: Mapping[str, Any] = field(default_factory=dict)


_BREAK = " "
_FIRST_CJK = 0x3007


class GraphBuilder:
    """Adds templates to one `WordGraph`."""

    def __init__(self, language: str) -> None:
        self.graph = WordGraph()
        self._language = language
        # The pieces before they are joined into words: per state, (piece, share, next state). A piece is None (nothing), a
        # break between words, a fragment of a word, or a slot.
        self._pieces: list[list[tuple[str | Slot | None, float, int]]] = []
        self._final = self._state()
        self._node_of: dict[int, int] = {}
        self._fragments: dict[str, tuple[str, ...]] = {}

    def add(self, expression: Expression, context: Context) -> int:
        """Add a template; return the node it starts at."""
        start = self._state()
        end = self._state()
        self._link(end, _BREAK, 1.0, self._final)
        self._compile(expression, start, end, context, 0)
        return self._node(start)

    # -- pieces ---------------------------------------------------------------------------------------------------

    def _state(self) -> int:
        self._pieces.append([])
        return len(self._pieces) - 1

    def _link(self, state: int, piece: str | Slot | None, share: float, to: int) -> None:
        self._pieces[state].append((piece, share, to))

    def _compile(self, expression: Expression, start: int, end: int, context: Context, depth: int) -> None:
        """Lay pieces for *expression* from *start* to *end*."""
        if isinstance(expression, TextChunk):
            self._lay_text(expression.text, start, end)
        elif isinstance(expression, Permutation):
            orders = list(permutations(expression.items))
            for order in orders:
                self._lay_row(order, start, end, context, depth, 1 / len(orders))
        elif isinstance(expression, Alternative):
            for item in expression.items:
                way = self._state()
                self._link(start, None, 1 / len(expression.items), way)
                self._compile(item, way, end, context, depth)
        elif isinstance(expression, Group):
            self._lay_row(expression.items, start, end, context, depth, 1.0)
        elif isinstance(expression, ListReference):
            self._lay_slot(expression, start, end, context)
        elif isinstance(expression, RuleReference):
            rule = context.rules.get(expression.rule_name)
            if rule is None or depth > _DEPTH:
                raise MissingRuleError(f"no usable rule <{expression.rule_name}>")
            self._compile(rule.expression, start, end, context, depth + 1)
        else:
            raise TypeError(f"unknown template part {type(expression).__name__}")

    def _lay_row(
        self,
        items: list[Expression] | tuple[Expression, ...],
        start: int,
        end: int,
        context: Context,
        depth: int,
        share: float,
    ) -> None:
        here = start
        if share != 1.0 or not items:
            here = self._state() if items else end
            self._link(start, None, share, here)
        for index, item in enumerate(items):
            there = end if index == len(items) - 1 else self._state()
            self._compile(item, here, there, context, depth)
            here = there

    def _lay_text(self, text: str, start: int, end: int) -> None:
        parts = self._fragments.get(text)
        if parts is None:
            parts = self._fragments[text] = _fragments(text, self._language)
        here = start
        for part in parts:
            there = self._state()
            self._link(here, part, 1.0, there)
            here = there
        self._link(here, None, 1.0, end)

    def _lay_slot(self, reference: ListReference, start: int, end: int, context: Context) -> None:
        local = context.lists.get(reference.list_name)
        if (numbers := reference.get_inline_range()) is not None:
            local = RangeSlotList(None, *numbers)
        slot = Slot(reference.list_name, context.requires, context.excludes, local)
        self._link(start, slot, 1.0, end)

    # -- words ----------------------------------------------------------------------------------------------------

    def _node(self, state: int) -> int:
        """The node for *state*, where a new word begins."""
        known = self._node_of.get(state)
        if known is not None:
            return known
        node = self._node_of[state] = len(self.graph.steps)
        self.graph.steps.append([])
        self.graph.ends.append(0.0)
        words: dict[tuple[str, int], float] = {}
        slots: list[tuple[Slot, int, float]] = []
        ends = 0.0
        # Walk all ways until each has said one word, filled one slot, or ended.
        ways: list[tuple[int, str, float]] = [(state, "", 1.0)]
        while ways:
            at, word, share = ways.pop()
            if at == self._final:
                ends += share
                continue
            for piece, part, to in self._pieces[at]:
                mass = share * part
                if piece is None:
                    ways.append((to, word, mass))
                elif isinstance(piece, Slot):
                    if word:
                        words[word, at] = words.get((word, at), 0.0) + mass
                    else:
                        slots.append((piece, to, mass))
                elif piece == _BREAK:
                    if word:
                        words[word, to] = words.get((word, to), 0.0) + mass
                    else:
                        ways.append((to, "", mass))
                else:
                    ways.append((to, word + piece, mass))
        self.graph.ends[node] = ends
        self.graph.steps[node] = [Step(word, self._node(to), mass) for (word, to), mass in words.items()] + [
            Step(slot, self._node(to), mass) for slot, to, mass in slots
        ]
        return node


def _fragments(text: str, language: str) -> tuple[str, ...]:
    """Cut *text* into fragments of words and breaks: ``" Lights-on"`` → break, ``lights``, break, ``on``."""
    words = list(spoken_words(text, language))
    if not words:
        return (_BREAK,) if text.strip("'") else tuple(text)
    if text[0] == "'":  # as in what('s| is)
        words[0] = f"'{words[0]}"
    if text[-1] == "'":
        words[-1] = f"{words[-1]}'"
    parts: list[str] = [] if _joins(text[0]) else [_BREAK]
    for word in words:
        parts += (word, _BREAK)
    if _joins(text[-1]):
        parts.pop()
    return tuple(parts)


def _joins(char: str) -> bool:
    """Does a word go on beyond this character when a letter follows?"""
    return char == "'" or (char.isalpha() and ord(char) < _FIRST_CJK)


__all__ = ["Context", "GraphBuilder", "Slot", "Step", "WordGraph"]
