"""How words are said."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MOST_WAYS = 4
"""Pronunciations of one word."""
Pronunciation = tuple[str, ...]
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
