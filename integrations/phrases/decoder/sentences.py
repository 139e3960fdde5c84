"""What may be said, as pocketsphinx searches it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

POLITE = 0.03
"""How often "please" and the like are said before a sentence, and after it."""
AFTER = (("please",), ("for", "me"), ("thanks",), ("thank", "you"))
"""What of it people say at the end."""
OTHER_WORDS = (
    "be to of and in that have it for not on with he you do at this but his by from they we say her she will my one all "
    "would there their what so up out if about who get which go me when make can like time just him know take people into "
    "year your good some could them see than then now look only come its over think also back after use two how our work "
    "first well way even new want because any these give day most us"
).split()
"""The hundred most common words of English that have more than one sound: said in a row, they come near to any speech."""
OTHER_SHARE = 1e-10
"""What each of them counts. Higher: more commands are taken for other speech; lower: the other way round."""
MARK = "~"
"""Begins a word of other speech."""
CHANGES = 2
"""Words that may differ in what counts as near to a sentence. With one, "and a minute" is no neighbour of "and eight minutes"."""
LEAST = 1e-6

Arc = tuple[int, int, str, float]
Graph = tuple[int, int, Sequence[Arc], Sequence[tuple[int, float]], Sequence[str]]
"""First state, number of states, arcs (from, to, word, share), ends (state, share), and what may be said before and after."""
Step = tuple[Any, ...]
"""From, to, share, and the word where one is said."""
Search = tuple[int, int, list[Step]]
"""First state, last state and steps of what the decoder searches."""
Place = tuple[int, int, int]
"""A state of the graph, how many words of a sentence are said there, and how many may still differ."""
Phrase = tuple[str, ...]


class Sentences:
    """One set of sentences, as far as its words can be said."""

    def __init__(self, name: str, graph: Graph, sayable: Collection[str]) -> None:
        self.name = name
        self._start, self._states, arcs, ends, polite = graph
        self._arcs = [arc for arc in arcs if arc[2] in sayable]
        self._ends = dict(ends)
        self._polite = [tuple(phrase.split()) for phrase in polite if all(word in sayable for word in phrase.split())]
        self._next = {(origin, word): to for origin, to, word, _ in self._arcs}
        self._from: defaultdict[int, list[Arc]] = defaultdict(list)
        self._into: defaultdict[int, list[Arc]] = defaultdict(list)
        for arc in self._arcs:
            self._from[arc[0]].append(arc)
            self._into[arc[1]].append(arc)

    def all(self) -> Search:
        """The sentences with politeness around them, and beside them the loop of other words."""
        begin, over, end, others = range(self._states, self._states + 4)
        free = others + 1
        steps: list[Step] = [(origin, to, max(share, LEAST), word) for origin, to, word, share in self._arcs]
        steps += [(begin, self._start, 1 - POLITE), (over, end, 1 - POLITE)]
        steps += [(state, over, share) for state, share in self._ends.items()]
        for phrase in self._polite:
            for here, there in ((begin, self._start), (over, end)) if phrase in AFTER else ((begin, self._start),):
                for place, word in enumerate(phrase):
                    last = place == len(phrase) - 1
                    to = there if last else free
                    steps.append((here, to, POLITE / len(self._polite) if place == 0 else 1.0, word))
                    here, free = to, free + (not last)
        for word in OTHER_WORDS:
            steps += [(begin, others, OTHER_SHARE, MARK + word), (others, others, OTHER_SHARE, MARK + word)]
        steps.append((others, end, 1.0))
        return (begin, end, steps)

    def is_whole(self, words: Sequence[str]) -> bool:
        """Are these words a sentence, with or without politeness before and after it?"""
        return self._parts(tuple(words)) is not None

    def _parts(self, words: Phrase) -> tuple[Phrase, Phrase, Phrase] | None:
        """Politeness, sentence, politeness; None where that is not what the words are."""
        before = [phrase for phrase in self._polite if words[: len(phrase)] == phrase]
        for polite in ((), *before):
            said = words[len(polite) :]
            for end in range(len(said) + 1):
                after = said[end:]
                if (not after or after in self._polite) and self._is_sentence(said[:end]):
                    return polite, said[:end], after
        return None

    def _is_sentence(self, words: Phrase) -> bool:
        state: int | None = self._start
        for word in words:
            state = self._next.get((state, word)) if state is not None else None
        return state in self._ends

    # -- what is near to a sentence -------------------------------------------------------------------------------

    def near(self, words: Sequence[str]) -> Search | None:
        """The sentences that differ from *words* in at most `CHANGES` words, with the same politeness; None when *words* are
        no sentence."""
        parts = self._parts(tuple(words))
        if parts is None:
            return None
        before, sentence, after = parts
        numbers: dict[Any, int] = {}

        def number(place: object) -> int:
            return numbers.setdefault(place, len(numbers))

        steps: list[Step] = []

        def say(phrase: Phrase, here: int, side: str) -> int:
            for count, word in enumerate(phrase):
                there = number((side, count))
                steps.append((here, there, 1.0, word))
                here = there
            return here

        begin, over = number("begin"), number("over")
        steps.append((say(before, begin, "before"), number((self._start, 0, CHANGES)), 1.0))
        last = set()
        for place, to, share, word in self._changed(sentence):
            steps.append((number(place), number(to), share, word) if word else (number(place), number(to), share))
            if to[1] == len(sentence) and to[0] in self._ends:
                last.add(to)
        steps += [(number(place), over, self._ends[place[0]]) for place in sorted(last)]
        return (begin, say(after, over, "after"), steps)

    def _changed(self, sentence: Phrase) -> Iterator[tuple[Place, Place, float, str | None]]:
        """The steps from place to place of all sentences near to this one: as it is, or with a word exchanged, added or left
        out. Only places from which a sentence can still be completed are entered."""
        completing = self._completing(sentence)
        seen = {(self._start, 0, CHANGES)}
        todo = list(seen)
        while todo:
            place = todo.pop()
            state, said, changes = place
            options: list[tuple[Place, float, str | None]] = [((state, said + 1, changes - 1), 1.0, None)]
            for _, to, word, share in self._from[state]:
                same = said < len(sentence) and word == sentence[said]
                options.append(((to, said + 1, changes - (not same)), max(share, LEAST), word))
                if not same:
                    options.append(((to, said, changes - 1), max(share, LEAST), word))
            for reached, share, spoken in options:
                to, said, changes = reached
                if said <= len(sentence) and changes >= 0 and (changes == CHANGES or to in completing[changes][said]):
                    yield place, reached, share, spoken
                    if reached not in seen:
                        seen.add(reached)
                        todo.append(reached)

    def _completing(self, sentence: Phrase) -> list[list[set[int]]]:
        """The states from which the rest of the sentence can be said, by changes left and words said. Who has made no change
        yet is on the sentence itself, which can always be completed."""
        levels: list[list[set[int]]] = []
        for changes in range(CHANGES):
            level: list[set[int]] = [set() for _ in range(len(sentence) + 1)]
            for said in range(len(sentence), -1, -1):
                states = level[said]
                if said == len(sentence):
                    states.update(self._ends)
                else:
                    arcs = (arc for to in level[said + 1] for arc in self._into[to])
                    states.update(origin for origin, _, word, _ in arcs if word == sentence[said])
                if changes:
                    fewer = levels[changes - 1]
                    left = fewer[said] | (fewer[said + 1] if said < len(sentence) else set())
                    states.update(left, (origin for to in left for origin, *_ in self._into[to]))
            levels.append(level)
        return levels


__all__ = ["MARK", "OTHER_WORDS", "Graph", "Search", "Sentences"]
