"""All sentences that the hub understands in one language, as an automaton over spoken words.

Recognisers draw sentences from it, the end of a turn is decided by what a half-heard sentence may still become, and what was
recognised is checked against it. It is exact: slot lists are automata of their own which templates refer to, numbers
are lists of the words they are said with.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeVar

from hassil.intents import Intents, SlotList, TextSlotList

from xiaozhi_hub.core.flow import Completeness
from xiaozhi_hub.dialog.grammar.automaton import sentence_graph
from xiaozhi_hub.dialog.grammar.network import ANYTHING, Binder, Node, WordTree, merge, ways_to_say
from xiaozhi_hub.dialog.grammar.spoken_form import spoken_words
from xiaozhi_hub.dialog.grammar.templates import Context, GraphBuilder, WordGraph
from xiaozhi_hub.engines.phrasebook import SentenceGraph

K = TypeVar("K")

RARE = 0.05
"""A longer sentence that is less likely than this, given what was heard, is not waited for."""
IDLE_WORDS = frozenset("now right today please like script scene track song item 吧 吗 啊 呢 了 呀".split())
"""What people may add to a whole sentence without changing what it means: losing it costs nothing, so it is not waited for."""
PLACING_WORDS = frozenset("in of at on throughout around across".split())
"""What begins a place. After the name of a thing it adds nothing, because the name says which thing is meant."""
WILDCARD_WORD = 1e-4
"""The chance of one particular word where anything may be said."""
POLITE = 0.03
"""The part of the samples that begins, and ends, with a word that is skipped, such as "please"."""
_NAME_LISTS = ("name", "area", "floor", "assistant")


class Heard(StrEnum):
    """When recognisers listen for sentences."""

    ALWAYS = "always"
    ANSWERING = "answering"
    """Only after the hub has asked something."""
    NEVER = "never"


@dataclass(slots=True, weakref_slot=True)
class GrammarSource:
    """Sentences of one origin. Keep the object while the sentences stay: what is compiled from them is kept in it."""

    intents: Intents
    weight: float = 1.0
    """How often people are expected to use these sentences, against other sources."""
    offered: Collection[str] | None = None
    """The intents that can be served; None: all."""
    heard: Heard = Heard.ALWAYS
    """When recognisers listen for these sentences. The fewer they listen for, the more certain they are of what they hear, so
    sentences that hardly anybody uses are better understood only when they are written."""
    _graph: WordGraph | None = field(default=None, init=False, repr=False)
    _starts: list[tuple[int, float]] = field(default_factory=list, init=False, repr=False)

    def compiled(self) -> tuple[WordGraph, Sequence[tuple[int, float]]]:
        """The templates as a graph, and where sentences begin with what share."""
        if self._graph is None:
            builder = GraphBuilder(self.intents.language)
            offered = [
                intent
                for name, intent in self.intents.intents.items()
                if (self.offered is None or name in self.offered) and any(data.sentence_texts for data in intent.data)
            ]
            for intent in offered:
                blocks = [data for data in intent.data if data.sentence_texts]
                for data in blocks:
                    context = Context(
                        rules={**self.intents.expansion_rules, **data.expansion_rules},
                        lists=data.slot_lists,
                        requires=data.requires_context,
                        excludes=data.excludes_context,
                    )
                    share = 1 / (len(offered) * len(blocks) * len(data.sentences))
                    self._starts += [(builder.add(sentence.expression, context), share) for sentence in data.sentences]
            self._graph = builder.graph
        return self._graph, self._starts


@dataclass(slots=True)
class _Place:
    """Where a reading of some words has come to. Linked to the place before, so that the best reading can be told."""

    share: float
    """The sum of all readings that lead here."""
    best: float
    before: _Place | None
    said: tuple[str, ...]
    """What the best reading adds to `before`, as written."""


class Grammar:
    """What the hub understands in one language; implements `xiaozhi_hub.engines.phrasebook.Phrasebook`."""

    def __init__(
        self,
        language: str,
        sources: Sequence[GrammarSource],
        slot_lists: Mapping[str, SlotList] | None = None,
        version: str = "",
    ) -> None:
        """*slot_lists* (names, areas, …) go before the lists that the sources bring."""
        self.language = language
        self.version = version
        self._lists = dict(slot_lists or {})
        self._skip = sorted(
            {spoken_words(text, language) for source in sources for text in source.intents.skip_words} - {()},
            key=lambda words: (-len(words), words),
        )
        binder = Binder(language)
        begins: dict[Heard, list[tuple[Node, float]]] = {heard: [] for heard in Heard}
        for source in sources:
            graph, starts = source.compiled()
            bound = binder.bind(graph, starts, {**source.intents.slot_lists, **self._lists})
            begins[source.heard] += [(node, share * source.weight) for node, share in bound]
        self._heard = merge(begins[Heard.ALWAYS])
        self._answering = merge(begins[Heard.ALWAYS] + begins[Heard.ANSWERING])
        self._start = merge([begin for some in begins.values() for begin in some])
        self._graphs: dict[bool, SentenceGraph] = {}
        names = Counter(spoken_words(name, language) for name in self._written("name"))
        # Two of a name are told apart by their rooms.
        self._things = {words for words, times in names.items() if times == 1}

    # -- Phrasebook -----------------------------------------------------------------------------------------------

    def names(self) -> Sequence[str]:
        """The names of entities, areas, scenes and assistants as they are written, each once."""
        return tuple(dict.fromkeys(name for list_name in _NAME_LISTS for name in self._written(list_name)))

    def _written(self, list_name: str) -> Iterator[str]:
        slot_list = self._lists.get(list_name)
        if isinstance(slot_list, TextSlotList):
            for value in slot_list.values:
                for _, written in ways_to_say(value.text_in, self.language):
                    if written:
                        yield written

    def samples(self, count: int, seed: int = 0) -> Iterator[str]:
        """Draw *count* sentences, each as often as it is expected to be said. The same seed draws the same."""
        chance = random.Random(seed)
        draw = chance.random
        polite = [" ".join(words) for words in self._skip]
        if not self._heard.drawable:
            return
        for _ in range(count):
            node = self._heard
            said: list[str] = []
            while True:
                ways, sums = node.table()
                index = bisect_left(sums, draw())
                if index == len(ways):
                    break
                what, node = ways[index]
                if isinstance(what, str):
                    said.append(what)
                else:
                    said.append(what.phrases[bisect_left(what.shares, draw())])
            if polite:
                luck = draw()
                if luck < POLITE:
                    said.insert(0, chance.choice(polite))
                elif luck > 1 - POLITE:
                    said.append(chance.choice(polite))
            yield " ".join(said)

    def completeness(self, text: str) -> Completeness:
        """Say what *text*, spoken or written, may still become."""
        words = spoken_words(text, self.language)
        if not words:
            return Completeness.PARTIAL
        best = Completeness.UNKNOWN
        for reading in self._readings(words):
            found = self._completeness_of(reading)
            if _RANK[found] > _RANK[best]:
                best = found
        return best

    def understands(self, text: str) -> bool:
        """Would an intent be found for *text*?"""
        return self.likelihood(text) > 0.0

    def likelihood(self, text: str) -> float:
        """The chance that a person who speaks to the hub says *text*: 0 when it is not understood."""
        words = spoken_words(text, self.language)
        return max((self._ended(self._read(reading)) for reading in self._readings(words) if reading), default=0.0)

    def written(self, text: str) -> str:
        """Return *text* as one would write it: numbers as digits, names as their owner spells them.

        What is not understood comes back as it is.
        """
        words = spoken_words(text, self.language)
        best: tuple[float, tuple[str, ...]] | None = None
        for reading in self._readings(words):
            if reading:
                for node, place in self._read(reading).nodes.items():
                    if node.end and (best is None or place.best * node.end > best[0]):
                        best = (place.best * node.end, _path(place))
        return " ".join(best[1]) if best else text

    def graph(self, answering: bool = False) -> SentenceGraph:
        """The sentences that are listened for, but those with free text, as the smallest automaton."""
        if answering not in self._graphs:
            graph = sentence_graph(self._answering if answering else self._heard)
            self._graphs[answering] = replace(graph, polite=tuple(" ".join(words) for words in self._skip))
        return self._graphs[answering]

    # -- reading --------------------------------------------------------------------------------------------------

    def _readings(self, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        """The words as they are and, as the intents do, without those that may be skipped."""
        yield words
        kept: list[str] = []
        index = 0
        while index < len(words):
            for skip in self._skip:
                if words[index : index + len(skip)] == skip:
                    index += len(skip)
                    break
            else:
                kept.append(words[index])
                index += 1
        if len(kept) != len(words):
            yield tuple(kept)

    def _completeness_of(self, words: tuple[str, ...]) -> Completeness:
        if not words:  # nothing but "please" so far
            return Completeness.PARTIAL
        front = self._read(words)
        over = self._ended(front)
        if not over:  # a sentence that may begin with anything at all makes nothing the beginning of one
            front = self._read(words, free_start=False)
        idle = IDLE_WORDS | PLACING_WORDS if over and self._names_a_thing(words) else IDLE_WORDS
        more = 0.0
        for node, place in front.nodes.items():
            said_in_vain = sum(share for word in idle for _, share in node.words.get(word, ())) if over else 0.0
            more += place.share * max(0.0, 1 - node.end - said_in_vain)
        for (tree, _), place in front.inside.items():
            if tree is ANYTHING.tree:
                more += place.share  # nobody knows where a free text ends
            elif tree.mass:
                in_vain = sum(tree.next[word].mass for word in idle if word in tree.next) if over else 0.0
                more += place.share * max(0.0, tree.mass - tree.end - in_vain) / tree.mass
        if over:
            return Completeness.EXTENDABLE if more > RARE * (over + more) else Completeness.COMPLETE
        return Completeness.PARTIAL if more else Completeness.UNKNOWN

    def _names_a_thing(self, words: tuple[str, ...]) -> bool:
        """Do the words end with the name of an entity or scene, rather than with a kind of thing or a room, or with such a name and
        one word ("is the front door open")?"""
        ends = words, words[:-1]
        return any(said[-size:] in self._things for said in ends for size in range(1, min(len(said), 5) + 1))

    @staticmethod
    def _ended(front: _Front) -> float:
        return sum(place.share * node.end for node, place in front.nodes.items())

    def _read(self, words: Sequence[str], *, free_start: bool = True) -> _Front:
        front = _Front()
        front.arrive(self._start, _Place(1.0, 1.0, None, ()))
        front.enter()
        if not free_start:
            front.inside = {at: place for at, place in front.inside.items() if at[0] is not ANYTHING.tree}
        for word in words:
            front = front.after(word)
            if not front.nodes and not front.inside:
                break
        return front


class _Front:
    """All places that a reading of some words may have come to."""

    __slots__ = ("inside", "nodes")

    def __init__(self) -> None:
        self.nodes: dict[Node, _Place] = {}
        self.inside: dict[tuple[WordTree, Node], _Place] = {}
        """Amid a slot's value: the place in its tree, and where the sentence goes on after it."""

    def after(self, word: str) -> _Front:
        front = _Front()
        for node, place in self.nodes.items():
            for to, share in node.words.get(word, ()):
                front.arrive(to, _Place(place.share * share, place.best * share, place, (word,)))
        for (tree, to), place in self.inside.items():
            said = (*place.said, word)
            if tree is ANYTHING.tree:
                share, best = place.share * WILDCARD_WORD, place.best * WILDCARD_WORD
                front.keep(tree, to, _Place(share, best, place.before, said))
                front.arrive(to, _Place(share / 2, best / 2, place.before, said))
            elif (below := tree.next.get(word)) is not None:
                part = below.mass / tree.mass
                share, best = place.share * part, place.best * part
                if below.next:
                    front.keep(below, to, _Place(share, best, place.before, said))
                if below.end:
                    part = below.end / below.mass
                    front.arrive(
                        to, _Place(share * part, best * part, place.before, (below.written,) if below.written else said)
                    )
        front.enter()
        return front

    def arrive(self, node: Node, place: _Place) -> None:
        _merge(self.nodes, node, place)

    def keep(self, tree: WordTree, to: Node, place: _Place) -> None:
        _merge(self.inside, (tree, to), place)

    def enter(self) -> None:
        """Stand before the slots that begin at the nodes arrived at."""
        for node, place in self.nodes.items():
            for filler, to, share in node.fillers:
                self.keep(filler.tree, to, _Place(place.share * share, place.best * share, place, ()))


def _merge(places: dict[K, _Place], key: K, place: _Place) -> None:
    known = places.get(key)
    if known is None:
        places[key] = place
        return
    known.share += place.share
    if place.best > known.best:
        known.best, known.before, known.said = place.best, place.before, place.said


def _path(place: _Place) -> tuple[str, ...]:
    said: list[str] = []
    here: _Place | None = place
    while here is not None:
        said[:0] = here.said
        here = here.before
    return tuple(said)


_RANK = {
    Completeness.UNKNOWN: 0,
    Completeness.PARTIAL: 1,
    Completeness.COMPLETE: 2,
    Completeness.EXTENDABLE: 3,
}

__all__ = ["Grammar", "GrammarSource", "Heard"]
