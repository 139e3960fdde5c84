"""The child process: pocketsphinx, which holds the interpreter's lock while it decodes, and the pronunciations it needs.

Run by the hub's `ProcessWorker`, which calls the methods of what `create` returns. It imports nothing of the hub.

pocketsphinx searches the automaton of all sentences ("finite state grammar"), and beside it a loop of common words that
takes up everything else. Measured against a trigram model of the same sentences, followed by a check that the result is
one of them: 96 % instead of 80 % right, in half the time, because what
is no sentence is never followed. Its best-path search over the word lattice must be off: it cost 6 % of the sentences,
most of them an "on" that became "off".
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pocketsphinx import Decoder, get_model_path

RATE = 16000
LONGEST = 10 * RATE
"""No sentence is longer."""
SHORTEST = RATE // 5
POLITE = 0.03
"""How often "please" and the like are said before a sentence, and after it."""
AFTER = (("please",), ("for", "me"), ("thanks",), ("thank", "you"))
"""What of it people say at the end."""
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
MOST_WAYS = 4
"""Pronunciations of one word."""

Pronunciation = tuple[str, ...]
Arc = tuple[int, int, str, float]
Graph = tuple[int, int, Sequence[Arc], Sequence[tuple[int, float]], Sequence[str]]
"""First state, number of states, arcs (from, to, word, share), ends (state, share), and what may be said before and after."""


def create() -> Recogniser:
    """Called by the worker."""
    return Recogniser()


class Recogniser:
    """Knows one set of sentences and recognises them."""

    def __init__(self) -> None:
        self._model = Path(get_model_path("en-us"))
        self._lexicon = Lexicon(self._model / "cmudict-en-us.dict")
        self._version = ""
        self._decoder: Decoder | None = None
        self._said: dict[str, tuple[Pronunciation, ...]] = {}
        """What `_decoder` knows of how words are said."""
        self._lessons = 0
        self._sentences: dict[bool, Sentences] = {}

    def version(self) -> str:
        """Say which sentences are known: the version they were learned with."""
        return self._version

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
            for known in before.values():
                decoder.remove_search(known.name)
        self._decoder = decoder
        self._lessons += 1
        for answering, graph in graphs:
            # A name is never used again: pocketsphinx would take the old sentences for the new ones.
            sentences = Sentences(f"sentences-{self._lessons}-{answering}", graph, ways.keys())
            decoder.add_fsg(sentences.name, decoder.create_fsg(sentences.name, *sentences.search_graph()))
            self._sentences[answering] = sentences
        self._version = version
        return tuple(sorted(words - ways.keys()))

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

    def recognise(self, version: str, answering: bool, pcm: bytes) -> tuple[str, float, bool] | None:
        """Return the sentence, how likely it is that just this was said, and whether it was only the beginning of one; None when
        *version* is not what is known.

        *pcm* is 16-bit sound at 16 kHz. The text is empty when it was none of the sentences.
        """
        if version != self._version or self._decoder is None:
            return None
        if not SHORTEST <= len(pcm) // 2 <= LONGEST:
            return ("", 0.0, False)
        sentences, decoder = self._sentences[answering], self._decoder
        decoder.activate_search(sentences.name)
        # Its noise suppression would go on from what another device heard in another room.
        decoder.reinit_feat()
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        found = decoder.hyp()
        if found is None:  # amid a sentence, which nothing else fits better
            return ("", 0.0, True)
        if not sentences.is_whole(found.hypstr.split()):  # other speech
            return ("", 0.0, False)
        words = [segment for segment in decoder.seg() if segment.word[0] not in "<[("]
        frames = sum(segment.end_frame - segment.start_frame + 1 for segment in words)
        return (found.hypstr, confidence(sum(_log(segment.ascore) for segment in words) / frames), False)


class Sentences:
    """One set of sentences, as far as its words can be said."""

    def __init__(self, name: str, graph: Graph, sayable: Collection[str]) -> None:
        self.name = name
        self._start, self._states, arcs, self._ends, polite = graph
        self._arcs = [arc for arc in arcs if arc[2] in sayable]
        self._polite = [tuple(phrase.split()) for phrase in polite if all(word in sayable for word in phrase.split())]
        self._next = {(origin, word): to for origin, to, word, _ in self._arcs}
        self._last = frozenset(state for state, _ in self._ends)

    def search_graph(self) -> tuple[int, int, list[tuple[Any, ...]]]:
        """First state, last state and transitions of what the decoder searches: the sentences with politeness around
        them, and beside them the loop of other words."""
        begin, over, end, others = range(self._states, self._states + 4)
        free = others + 1
        steps: list[tuple[Any, ...]] = [(origin, to, max(share, 1e-6), word) for origin, to, word, share in self._arcs]
        steps += [(begin, self._start, 1 - POLITE), (over, end, 1 - POLITE)]
        steps += [(state, over, share) for state, share in self._ends]
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
        begins = [len(phrase) for phrase in self._polite if tuple(words[: len(phrase)]) == phrase]
        return any(self._is_sentence(words[begin:]) for begin in (0, *begins))

    def _is_sentence(self, words: Sequence[str]) -> bool:
        state = self._start
        for place, word in enumerate(words):
            if state in self._last and tuple(words[place:]) in self._polite:
                return True
            following = self._next.get((state, word))
            if following is None:
                return False
            state = following
        return state in self._last


# -- how certain ------------------------------------------------------------------------------------------------------


def confidence(fit: float) -> float:
    """The probability that a sentence was said whose words fit the sound so well.

    *fit* is the acoustic score per frame: the logarithm of how much less likely its sounds are than the best ones that were
    looked at. People's commands have -1.3…-4.7, other speech that was taken for a sentence -3.2…-5.6.
    """
    return 1 / (1 + math.exp(-(1.84 * fit + 7.73)))


def _log(score: float) -> float:
    """pocketsphinx gives scores as exponentials of a 1024th of the logarithm."""
    return 1024 * math.log(score) if score > 0 else -1e6


# -- pronunciations ---------------------------------------------------------------------------------------------------

LETTERS = {
    "a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY", "h": "EY CH", "i": "AY", "j": "JH EY",
    "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N", "o": "OW", "p": "P IY", "q": "K Y UW", "r": "AA R", "s": "EH S",
    "t": "T IY", "u": "Y UW", "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S", "y": "W AY", "z": "Z IY",
}  # fmt: skip
SPELLED = frozenset({"am", "pm", "tv"})
"""Said letter by letter in every house."""
IPA = {
    "aɪə": "AY AH", "aɪɚ": "AY ER", "eɪ": "EY", "aɪ": "AY", "aʊ": "AW", "ɔɪ": "OY", "oʊ": "OW", "əʊ": "OW", "əl": "AH L", "ɪə": "IY AH",
    "tʃ": "CH", "dʒ": "JH", "i": "IY", "ɪ": "IH", "ᵻ": "IH", "e": "EH", "ɛ": "EH", "æ": "AE", "a": "AE", "ɑ": "AA", "ɒ": "AA",
    "ɔ": "AO", "o": "OW", "ʊ": "UH", "u": "UW", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɚ": "ER", "ɜ": "ER", "ɝ": "ER", "y": "IY", "ø": "ER",
    "p": "P", "b": "B", "t": "T", "d": "D", "k": "K", "ɡ": "G", "g": "G", "f": "F", "v": "V", "θ": "TH", "ð": "DH", "s": "S", "z": "Z",
    "ʃ": "SH", "ʒ": "ZH", "h": "HH", "x": "HH", "ç": "HH", "m": "M", "n": "N", "ɲ": "N", "ŋ": "NG", "l": "L", "ɫ": "L", "ɬ": "L",
    "ɹ": "R", "r": "R", "ʁ": "R", "w": "W", "j": "Y", "ɾ": "T", "ʔ": "T", "n̩": "AH N", "l̩": "AH L",
}  # fmt: skip
"""What eSpeak writes and the nearest sounds of the acoustic model."""
_UNHEARD = re.compile(r"\([^)]*\)|[ˈˌː͡ˑ\s]")
"""Stress, length and changes of language, which the acoustic model does not know."""


class Lexicon:
    """How words are said: as the owner says, from the dictionary, letter by letter, or as eSpeak would read them."""

    def __init__(self, dictionary: Path) -> None:
        self._dictionary = dictionary
        self._known: dict[str, tuple[Pronunciation, ...]] = {}
        self._reader: Any = None

    def look_up(
        self, words: Iterable[str], spelled: frozenset[str], overrides: Mapping[str, Pronunciation]
    ) -> dict[str, tuple[Pronunciation, ...]]:
        """Return the ways to say each of *words*; one that cannot be said is left out."""
        respelled = {part for sounds in overrides.values() if not sounds[0].isupper() for part in sounds}
        self._learn({*words, *respelled} - self._known.keys())
        found: dict[str, tuple[Pronunciation, ...]] = {}
        for word in words:
            ways = self._known[word]
            if word in overrides:
                ways = (self._sounds(overrides[word]),)
            elif word in SPELLED or word in spelled:
                ways = (letter_by_letter(word), *(ways if word not in SPELLED else ()))
            ways = tuple(dict.fromkeys(way for way in ways if way))[:MOST_WAYS]
            if ways:
                found[word] = ways
        return found

    def _sounds(self, override: Pronunciation) -> Pronunciation:
        if override[0].isupper():
            return override
        return tuple(phone for word in override for way in self._known[word][:1] for phone in way)

    def _learn(self, words: set[str]) -> None:
        if not words:
            return
        ways: dict[str, list[Pronunciation]] = {word: [] for word in words}
        # Read line by line and forgotten again: the whole dictionary would take 40 MB.
        with self._dictionary.open(encoding="utf-8") as lines:
            for line in lines:
                head = line.split(" ", 1)[0].split("(", 1)[0]
                if head in ways:
                    ways[head].append(tuple(line.split()[1:]))
        for word, known in ways.items():
            self._known[word] = tuple(known) or (self._read(word),)

    def _read(self, word: str) -> Pronunciation:
        if self._reader is None:
            self._reader = espeak_reader()
        return phones_of("".join(clause for clause, *_ in self._reader.get_phonemes(word)))


def letter_by_letter(word: str) -> Pronunciation:
    """Spell *word*; empty when it holds anything but letters."""
    if not all(letter in LETTERS for letter in word):
        return ()
    return tuple(phone for letter in word for phone in LETTERS[letter].split())


def phones_of(ipa: str) -> Pronunciation:
    """Turn eSpeak's phonemes into the 39 sounds of the acoustic model; what has no counterpart is left out."""
    ipa = _UNHEARD.sub("", ipa)
    phones: list[str] = []
    place = 0
    while place < len(ipa):
        for length in (3, 2, 1):
            sounds = IPA.get(ipa[place : place + length])
            if sounds is not None and place + length <= len(ipa):
                phones += sounds.split()
                place += length
                break
        else:
            place += 1
    return tuple(phones)


def espeak_reader() -> Any:
    """Load eSpeak from piper-tts, without the rest of that package, which would bring a hundred megabytes."""
    package = importlib.util.find_spec("piper")
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        for library in Path(folder).glob("espeakbridge*"):
            if library.name.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES)):
                spec = importlib.util.spec_from_file_location("espeakbridge", library)
                assert spec is not None and spec.loader is not None
                reader = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(reader)
                reader.initialize(str(Path(folder) / "espeak-ng-data"))
                reader.set_voice("en-us")
                return reader
    raise RuntimeError("piper-tts, which brings eSpeak, is not installed")
