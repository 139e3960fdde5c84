"""Sentences with their slots filled: nodes joined by spoken words and by lists of phrases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from hassil.expression import Expression, TextChunk
from hassil.intents import RangeSlotList, SlotList, TextSlotList, WildcardSlotList
from hassil.util import check_excluded_context, check_required_context

from xiaozhi_hub.dialog.grammar.spoken_form import number_words, spoken_words
from xiaozhi_hub.dialog.grammar.templates import Context, GraphBuilder, Slot, WordGraph

MOST_NUMBERS = 5000
"""A range of more numbers takes anything for a number."""
MOST_WAYS = 200
"""More ways to say one value of a list are not looked at."""
USUAL_WAY = 0.8
"""The share of the first way to say a value; the other ways divide the rest."""


class WordTree:
    """The values of a slot list as a tree of words."""

    __slots__ = ("end", "mass", "next", "written")

    def __init__(self) -> None:
        self.next: dict[str, WordTree] = {}
        self.end = 0.0
        """The share of the value that ends here."""
        self.mass = 0.0
        """The share of all values from here on."""
        self.written = ""
        """The value that ends here, as it is written; empty: as it is said."""

    def add(self, words: Sequence[str], share: float, written: str) -> None:
        """Add one value."""
        tree = self
        tree.mass += share
        for word in words:
            tree = tree.next.setdefault(word, WordTree())
            tree.mass += share
        tree.end += share
        tree.written = tree.written or written


@dataclass(frozen=True, slots=True, eq=False)
class Filler:
    """What can fill a slot."""

    tree: WordTree
    phrases: tuple[str, ...]
    shares: tuple[float, ...]
    """Running sums of the phrases' shares; the last one is 1."""


ANYTHING = Filler(WordTree(), (), ())
"""Fills a slot with whatever is said."""


class Node:
    """A place in the sentences."""

    __slots__ = ("_table", "drawable", "end", "fillers", "words")

    def __init__(self) -> None:
        self.end = 0.0
        """The chance that the sentence is over here."""
        self.words: dict[str, list[tuple[Node, float]]] = {}
        """Where each word leads to, with its share."""
        self.fillers: list[tuple[Filler, Node, float]] = []
        self.drawable = False
        """Can a sentence be finished from here without a free text?"""
        self._table: tuple[list[tuple[str | Filler, Node]], list[float]] | None = None

    def close(self) -> None:
        """Make the shares add up to 1: what could not be filled has left a gap."""
        total = self.end
        drawable = self.end > 0
        for ways in self.words.values():
            for to, share in ways:
                total += share
                drawable = drawable or to.drawable
        for filler, to, share in self.fillers:
            total += share
            drawable = drawable or (filler is not ANYTHING and to.drawable)
        self.drawable = drawable
        if abs(total - 1) > 1e-9 and total > 0:
            self.end /= total
            self.words = {word: [(to, share / total) for to, share in ways] for word, ways in self.words.items()}
            self.fillers = [(filler, to, share / total) for filler, to, share in self.fillers]

    def table(self) -> tuple[list[tuple[str | Filler, Node]], list[float]]:
        """The steps that can be drawn at random, and the running sums of their shares; what is left of 1 is the end."""
        if self._table is None:
            drawn: list[tuple[str | Filler, float, Node]] = [
                (word, share, to) for word, ways in self.words.items() for to, share in ways if to.drawable
            ]
            drawn += [(what, share, to) for what, to, share in self.fillers if what is not ANYTHING and to.drawable]
            mass = self.end + sum(share for _, share, _ in drawn)
            sums = list(accumulate(share / mass for _, share, _ in drawn))
            if sums and not self.end:
                sums[-1] = 1.0  # rounding must not end a sentence in its middle
            self._table = ([(what, to) for what, _, to in drawn], sums)
        return self._table


class Binder:
    """Fills the slots of templates. Nodes from which the same can follow become one node."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._fillers: dict[tuple[Any, ...], Filler | None] = {}
        self._kept: list[SlotList] = []  # lists made for the occasion live as long as their ids are keys
        self._same: dict[tuple[Any, ...], Node] = {}

    def bind(
        self, graph: WordGraph, starts: Sequence[tuple[int, float]], lists: Mapping[str, SlotList]
    ) -> list[tuple[Node, float]]:
        """Return where sentences begin, with shares that add up to 1. What lacks a value is left out."""
        bound: dict[int, Node | None] = {}
        usable = [(node, share) for index, share in starts if (node := self._node(graph, index, lists, bound))]
        total = sum(share for _, share in usable)
        return [(node, share / total) for node, share in usable]

    def _node(
        self, graph: WordGraph, index: int, lists: Mapping[str, SlotList], bound: dict[int, Node | None]
    ) -> Node | None:
        if index in bound:
            return bound[index]
        node = Node()
        node.end = graph.ends[index]
        for step in graph.steps[index]:
            to = self._node(graph, step.to, lists, bound)
            if to is None:
                continue
            if isinstance(step.said, str):
                node.words.setdefault(step.said, []).append((to, step.share))
            elif (filler := self._filler(step.said, lists)) is not None:
                node.fillers.append((filler, to, step.share))
        result: Node | None = None
        if node.end or node.words or node.fillers:
            node.close()
            result = self._same.setdefault(_likeness(node), node)
        bound[index] = result
        return result

    def _filler(self, slot: Slot, lists: Mapping[str, SlotList]) -> Filler | None:
        slot_list = slot.local or lists.get(slot.list_name)
        if slot_list is None:
            return None
        key = (id(slot_list), repr(slot.requires), repr(slot.excludes))
        if key not in self._fillers:
            self._kept.append(slot_list)
            self._fillers[key] = _fill(slot_list, slot, self._language)
        return self._fillers[key]


def merge(begins: Sequence[tuple[Node, float]]) -> Node:
    """Return one node that has all the steps of *begins*."""
    start = Node()
    for node, share in begins:
        for word, ways in node.words.items():
            start.words.setdefault(word, []).extend((to, part * share) for to, part in ways)
        start.fillers += [(filler, to, part * share) for filler, to, part in node.fillers]
    start.close()
    return start


def ways_to_say(expression: Expression, language: str) -> list[tuple[tuple[str, ...], str]]:
    """The spoken forms of a list's value, each with its written form (empty when it is no plain text)."""
    if isinstance(expression, TextChunk):
        words = spoken_words(expression.original_text, language)
        return [(words, expression.original_text.strip())] if words else []
    builder = GraphBuilder(language)
    start = builder.add(expression, Context(rules={}))
    ways: dict[tuple[str, ...], None] = {}
    open_ways: list[tuple[int, tuple[str, ...]]] = [(start, ())]
    while open_ways and len(ways) < MOST_WAYS:
        node, words = open_ways.pop()
        if builder.graph.ends[node] and words:
            ways[words] = None
        open_ways += [
            (step.to, (*words, step.said)) for step in builder.graph.steps[node] if isinstance(step.said, str)
        ]
    return [(words, "") for words in ways]


def _likeness(node: Node) -> tuple[Any, ...]:
    """Equal for nodes from which the same can follow with the same shares."""
    words = sorted((word, id(to), round(share, 6)) for word, ways in node.words.items() for to, share in ways)
    if not node.fillers:
        return (round(node.end, 6), *words)
    return (
        round(node.end, 6),
        *words,
        *sorted((id(what), id(to), round(share, 6)) for what, to, share in node.fillers),
    )


def _fill(slot_list: SlotList, slot: Slot, language: str) -> Filler | None:
    """Gather what *slot_list* has for *slot*; None when there is nothing."""
    if isinstance(slot_list, WildcardSlotList):
        return ANYTHING
    values: list[tuple[float, list[tuple[tuple[str, ...], str]]]] = []
    if isinstance(slot_list, TextSlotList):
        for value in slot_list.values:
            if check_required_context(
                dict(slot.requires), value.context, allow_missing_keys=True
            ) and check_excluded_context(dict(slot.excludes), value.context):
                values.append((1.0, ways_to_say(value.text_in, language)))
    elif isinstance(slot_list, RangeSlotList):
        if (slot_list.stop - slot_list.start) // slot_list.step > MOST_NUMBERS:
            return ANYTHING
        for number in slot_list.get_numbers():
            written = f"{number:g}" if isinstance(number, float) else str(number)
            values.append((_roundness(number), [(words, written) for words in number_words(written, language)]))
    tree = WordTree()
    phrases: list[tuple[str, float]] = []
    total = sum(weight for weight, ways in values if ways)
    for weight, ways in values:
        for index, (words, written) in enumerate(ways):
            part = 1.0 if len(ways) == 1 else USUAL_WAY if index == 0 else (1 - USUAL_WAY) / (len(ways) - 1)
            share = weight / total * part
            tree.add(words, share, written)
            phrases.append((" ".join(words), share))
    if not phrases:
        return None
    sums = list(accumulate(share for _, share in phrases))
    sums[-1] = 1.0
    return Filler(tree, tuple(phrase for phrase, _ in phrases), tuple(sums))


def _roundness(number: float) -> float:
    """How often people say a number, roughly: small and round ones more than others."""
    if number != int(number):
        return 0.05
    if number <= 12 or number % 10 == 0:
        return 1.0
    return 0.8 if number % 5 == 0 else 0.3


__all__ = ["ANYTHING", "Binder", "Filler", "Node", "WordTree", "merge", "ways_to_say"]
