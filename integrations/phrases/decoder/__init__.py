"""The child process: pocketsphinx, which holds the interpreter's lock while it decodes, and the pronunciations it needs.

Run by the hub's `ProcessWorker`, which calls the methods of what `create` returns. It imports nothing of the hub.

pocketsphinx searches the automaton of all sentences ("finite state grammar"), and beside it a loop of common words that
takes up everything else. Measured against a trigram model of the same sentences, followed by a check that the result is
one of them: 96 % instead of 80 % right, in half the time, because what
is no sentence is never followed. Its best-path search over the word lattice must be off: it cost 6 % of the sentences,
most of them an "on" that became "off".

An utterance can be *followed* while it is spoken. Its sounds are then judged against the mean of their beginning, where the
mean of the whole utterance is what tells "eight" from "eighteen"; so what was found is searched for once more at the end, with
that mean, but only among the sentences near to it, which takes half of the time. Where following was not certain, everything
is searched, as without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from pocketsphinx import Decoder, get_model_path

from .lexicon import Lexicon, Pronunciation
from .sentences import MARK, OTHER_WORDS, Graph, Sentences

P = ParamSpec("P")
T = TypeVar("T")

RATE = 16000
LONGEST = 10 * RATE
"""No sentence is longer."""
SHORTEST = RATE // 5
LONGEST_FOLLOWED = 6 * RATE
"""Who speaks on has said none of the sentences; a television is not followed for ever."""
SETTINGS: Mapping[str, Any] = {
    "lm": None,
    "bestpath": False,
    "topn": 8,
    "lw": 2.5,
    "wip": 0.65,
    "beam": 1e-48,
    "pbeam": 1e-48,
    "wbeam": 1e-28,
    "loglevel": "FATAL",
}
SURE = 0.5
"""How certain a followed utterance must be for only its neighbours to be searched; among much less certain ones is other speech."""
MEAN = "mean"
"""The search that is active while the mean of a beginning is taken: of one word, since none is wanted."""

Found = tuple[str, float]
"""The sentence, and how likely it is that just this was said."""
NOTHING: Found = ("", 0.0)


def create() -> Recogniser:
    """Called by the worker."""
    return Recogniser()


@dataclass(slots=True)
class Followed:
    """An utterance that is being spoken."""

    utterance: int
    sentences: Sentences
    taken: int = 0
    """Bytes of it that were searched."""


def _or_begin_anew(method: Callable[Concatenate[Recogniser, P], T]) -> Callable[Concatenate[Recogniser, P], T]:
    """After a failure know nothing: amid an utterance the decoder would refuse everything else for ever."""

    @wraps(method)
    def guarded(self: Recogniser, /, *args: P.args, **named: P.kwargs) -> T:
        try:
            return method(self, *args, **named)
        except Exception:
            self._version, self._decoder, self._followed = "", None, None
            raise

    return guarded


class Recogniser:
    """Knows one set of sentences and recognises them."""

    def __init__(self) -> None:
        self._model = Path(get_model_path("en-us"))
        self._lexicon = Lexicon(self._model / "cmudict-en-us.dict")
        self._version = ""
        self._decoder: Decoder | None = None
        self._said: dict[str, tuple[Pronunciation, ...]] = {}
        """What `_decoder` knows of how words are said."""
        self._names = 0
        self._sentences: dict[bool, Sentences] = {}
        self._followed: Followed | None = None

    def version(self) -> str:
        """Say which sentences are known: the version they were learned with."""
        return self._version

    @_or_begin_anew
    def learn(
        self,
        version: str,
        graphs: Sequence[tuple[bool, Graph]],
        spelled: Sequence[str],
        overrides: Mapping[str, Pronunciation],
    ) -> tuple[str, ...]:
        """Take in sentences instead of those known before; return the words that cannot be pronounced.

        There is a graph for ordinary turns (False) and one for answers to the hub's questions (True). *spelled* are words that
        may be said letter by letter; *overrides* says how words are said, as phones or as words.
        """
        words = {word for _, graph in graphs for _, _, word, _ in graph[2]}
        words |= {word for _, graph in graphs for phrase in graph[4] for word in phrase.split()}
        ways = self._lexicon.look_up(words, frozenset(spelled), overrides)
        others = self._lexicon.look_up(OTHER_WORDS, frozenset(), {})
        decoder = self._decoder_for({**ways, **{MARK + word: known[:2] for word, known in others.items()}})
        before, self._sentences = self._sentences, {}
        if self._decoder is not None and decoder is self._decoder:
            self._begin(decoder, MEAN)
            for known in before.values():
                decoder.remove_search(known.name)
        else:
            decoder.add_fsg(MEAN, decoder.create_fsg(MEAN, 0, 1, [(0, 1, 1.0, MARK + OTHER_WORDS[0])]))
            self._decoder, self._followed = decoder, None
        for answering, graph in graphs:
            sentences = Sentences(self._new_name(), graph, ways.keys())
            decoder.add_fsg(sentences.name, decoder.create_fsg(sentences.name, *sentences.all()))
            self._sentences[answering] = sentences
        self._version = version
        return tuple(sorted(words - ways.keys()))

    def _new_name(self) -> str:
        """No name of a search is ever used again: pocketsphinx would take the old sentences for the new ones."""
        self._names += 1
        return f"sentences-{self._names}"

    def _decoder_for(self, ways: Mapping[str, tuple[Pronunciation, ...]]) -> Decoder:
        """A decoder that knows how the words are said. Loading one takes 0.1 s and 20 MB, so the present one is kept if it can
        be: it can learn words, but not how to say them otherwise."""
        decoder = self._decoder
        if decoder is None or any(self._said.get(word, known) != known for word, known in ways.items()):
            self._said = {}
            decoder = Decoder(hmm=str(self._model / "en-us"), dict=None, **SETTINGS)
        for word, pronunciations in ways.items():
            if word not in self._said:
                for number, phones in enumerate(pronunciations, 1):
                    decoder.add_word(word if number == 1 else f"{word}({number})", " ".join(phones), False)
                self._said[word] = pronunciations
        return decoder

    # -- hearing --------------------------------------------------------------------------------------------------

    @_or_begin_anew
    def follow(self, version: str, answering: bool, utterance: int, place: int, pcm: bytes) -> bool:
        """Search a piece of an utterance while it is being spoken: the first, of about a second, or the one that begins *place*
        bytes after it.

        One utterance is followed at a time, the newest. False when it is not this one (any more), or is no sentence by its
        length.
        """
        decoder, followed = self._decoder, self._followed
        if version != self._version or decoder is None or place + len(pcm) > 2 * LONGEST_FOLLOWED:
            return False
        if place == 0:
            mean, sentences = self._mean(decoder, pcm), self._sentences[answering]
            self._begin(decoder, sentences.name)
            decoder.set_cmn(mean)
            decoder.start_utt()
            followed = self._followed = Followed(utterance, sentences)
        elif followed is None or (followed.utterance, followed.taken) != (utterance, place):
            return False
        decoder.process_raw(pcm, full_utt=False)
        followed.taken = place + len(pcm)
        return True

    @_or_begin_anew
    def recognise(self, version: str, answering: bool, pcm: bytes, utterance: int | None = None) -> Found | None:
        """Return what was said; None when *version* is not what is known.

        *pcm* is 16-bit sound at 16 kHz; where *utterance* was followed, it begins with what was given then. The text is empty
        when it was none of the sentences.
        """
        if version != self._version or self._decoder is None:
            return None
        if not SHORTEST <= len(pcm) // 2 <= LONGEST:
            return NOTHING
        followed, sentences = self._followed, self._sentences[answering]
        if followed is not None and followed.utterance == utterance and followed.sentences is sentences:
            found = self._conclude(self._decoder, followed, pcm)
            if found is not None:
                return found
        return self._search(self._decoder, sentences, sentences.name, pcm)

    def _conclude(self, decoder: Decoder, followed: Followed, pcm: bytes) -> Found | None:
        """What the followed utterance is; None when only the search of everything can tell."""
        self._followed = None
        if len(pcm) > followed.taken:  # it refuses nothing at all
            decoder.process_raw(pcm[followed.taken :], full_utt=False)
        decoder.end_utt()
        text, certain = _found(decoder, followed.sentences)
        near = followed.sentences.near(text.split()) if certain >= SURE else None
        if near is None:
            return None
        name = self._new_name()
        decoder.add_fsg(name, decoder.create_fsg(name, *near))
        try:
            exact = self._search(decoder, followed.sentences, name, pcm)
        finally:
            decoder.activate_search(followed.sentences.name)
            decoder.remove_search(name)
        # How well its words fit is relative to what else was looked at, which is next to nothing here.
        return (exact[0], certain) if exact[0] else None

    def _search(self, decoder: Decoder, sentences: Sentences, search: str, pcm: bytes) -> Found:
        self._begin(decoder, search)
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        return _found(decoder, sentences)

    def _mean(self, decoder: Decoder, pcm: bytes) -> str:
        """The mean of the spectrum, as `Decoder.set_cmn` takes it."""
        self._begin(decoder, MEAN)
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        return str(decoder.get_cmn(False))

    def _begin(self, decoder: Decoder, search: str) -> None:
        """Get ready for an utterance; one that is being followed is given up."""
        if self._followed is not None:
            self._followed = None
            decoder.end_utt()
        decoder.activate_search(search)
        # Its noise suppression would go on from what another device heard in another room.
        decoder.reinit_feat()


def _found(decoder: Decoder, sentences: Sentences) -> Found:
    found = decoder.hyp()
    if found is None or not sentences.is_whole(found.hypstr.split()):  # amid a sentence, or other speech
        return NOTHING
    words = [segment for segment in decoder.seg() if segment.word[0] not in "<[("]
    frames = sum(segment.end_frame - segment.start_frame + 1 for segment in words)
    return (found.hypstr, confidence(sum(_log(segment.ascore) for segment in words) / frames))


def confidence(fit: float) -> float:
    """The probability that a sentence was said whose words fit the sound so well.

    *fit* is the acoustic score per frame: the logarithm of how much less likely its sounds are than the best ones that were
    looked at. People's commands have -1.3…-4.7, other speech that was taken for a sentence -3.2…-5.6.
    """
    return 1 / (1 + math.exp(-(1.84 * fit + 7.73)))


def _log(score: float) -> float:
    """pocketsphinx gives scores as exponentials of a 1024th of the logarithm."""
    return 1024 * math.log(score) if score > 0 else -1e6
