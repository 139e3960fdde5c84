"""The smallest automaton that accepts the same sentences: what a decoder searches.

Two steps of the textbook: make it deterministic (a state is a set of places, so that after each word there is one state), then
join the states from which the same can follow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import log

from xiaozhi_hub.dialog.grammar.network import ANYTHING, Node, WordTree
from xiaozhi_hub.engines.phrasebook import SentenceGraph

_GRAINS = 1.5
"""Shares are compared in steps of 1/1.5 of a natural logarithm: what differs less is the same to a decoder."""


class _Set:
    """A state of the deterministic automaton: places in the network, each with its weight."""

    __slots__ = ("inside", "nodes")

    def __init__(self) -> None:
        self.nodes: dict[Node, float] = {}
        self.inside: dict[tuple[WordTree, Node], float] = {}

    def key(self) -> tuple[frozenset[int], frozenset[tuple[int, int]]]:
        return (
            frozenset(id(node) for node in self.nodes),
            frozenset((id(tree), id(to)) for tree, to in self.inside),
        )

    def enter(self) -> None:
        """Stand before the slots that begin at the nodes."""
        for node, weight in self.nodes.items():
            for filler, to, share in node.fillers:
                if filler is not ANYTHING and to.drawable:
                    place = (filler.tree, to)
                    self.inside[place] = self.inside.get(place, 0.0) + weight * share

    def after_each_word(self) -> dict[str, _Set]:
        """Return the state that follows each word that can come next."""
        after: dict[str, _Set] = {}
        for node, weight in self.nodes.items():
            for word, ways in node.words.items():
                for to, share in ways:
                    if to.drawable:
                        nodes = after.setdefault(word, _Set()).nodes
                        nodes[to] = nodes.get(to, 0.0) + weight * share
        for (tree, to), weight in self.inside.items():
            for word, below in tree.next.items():
                part = weight / tree.mass
                follow = after.setdefault(word, _Set())
                if below.next:
                    place = (below, to)
                    follow.inside[place] = follow.inside.get(place, 0.0) + part * (below.mass - below.end)
                if below.end:
                    follow.nodes[to] = follow.nodes.get(to, 0.0) + part * below.end
        return after


@dataclass(slots=True)
class _State:
    end: float
    arcs: list[tuple[str, int, float]]


def sentence_graph(start: Node) -> SentenceGraph:
    """Return the smallest automaton for the sentences that begin at *start* and need no free text."""
    return _smallest(_deterministic(start))


def _deterministic(start: Node) -> list[_State]:
    first = _Set()
    first.nodes[start] = 1.0
    first.enter()
    numbers = {first.key(): 0}
    sets = [first]
    states: list[_State] = []
    while len(states) < len(sets):
        here = sets[len(states)]
        end = sum(weight * node.end for node, weight in here.nodes.items())
        steps: list[tuple[str, int, float]] = []
        for word, follow in here.after_each_word().items():
            weight = sum(follow.nodes.values()) + sum(follow.inside.values())
            follow.enter()
            key = follow.key()
            if key not in numbers:
                numbers[key] = len(sets)
                sets.append(follow)
            steps.append((word, numbers[key], weight))
        total = end + sum(weight for _, _, weight in steps) or 1.0
        states.append(_State(end / total, [(word, to, weight / total) for word, to, weight in steps]))
    return states


def _smallest(states: list[_State]) -> SentenceGraph:
    merged: dict[int, int] = {}
    kinds: dict[tuple[int | None, tuple[tuple[str, int, int], ...]], int] = {}
    arcs: list[tuple[int, int, str, float]] = []
    ends: list[tuple[int, float]] = []
    for number in _ends_first(states):
        state = states[number]
        kind = (
            _grain(state.end) if state.end else None,
            tuple(sorted((word, merged[to], _grain(share)) for word, to, share in state.arcs)),
        )
        known = kinds.get(kind)
        if known is None:
            known = kinds[kind] = len(kinds)
            arcs += [(known, merged[to], word, share) for word, to, share in state.arcs]
            if state.end:
                ends.append((known, state.end))
        merged[number] = known
    return SentenceGraph(start=merged[0], states=len(kinds), arcs=tuple(arcs), ends=tuple(ends))


def _ends_first(states: list[_State]) -> Iterable[int]:
    """The states in an order in which all that follows a state comes before it."""
    seen = {0}
    order: list[int] = []
    stack = [(0, iter(states[0].arcs))]
    while stack:
        number, rest = stack[-1]
        for _, to, _ in rest:
            if to not in seen:
                seen.add(to)
                stack.append((to, iter(states[to].arcs)))
                break
        else:
            order.append(number)
            stack.pop()
    return order


def _grain(share: float) -> int:
    return round(log(share) * _GRAINS)


__all__ = ["sentence_graph"]
