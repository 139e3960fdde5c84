"""How facts are indexed and looked for: text as words for SQLite's FTS5, and questions as its queries. Pure.

Chinese is written without spaces, and FTS5 knows no words in it; its trigram tokenizer finds nothing shorter than three
characters, while most Chinese words have two. So every character is a word of its own here, and a word of several characters is
a phrase of them.
"""

from __future__ import annotations

import re
import unicodedata

MOST_TERMS = 24
"""Words of a question that are looked for; what is longer is a story."""

_CJK = "\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_TERM = re.compile(rf"[{_CJK}]+|[^\W_{_CJK}]+(?:['’][^\W_{_CJK}]+)*")
_CHARACTER = re.compile(rf"([{_CJK}])")
_FAMILY_WORDS = frozenset(
    """a about all am an and any anything are as at be been being but by can could did do does everything for from had has have he her
    here hers him his how i if in is it its just keep know let like me mine my no not of on or our ours please put remember said say
    she should so some something tell that the their them then there these they thing this those to told us was we were what when
    where which who whom whose why will with would you your yours""".split()
)
_FAMILY_CHARACTERS = frozenset(
    "的了吗呢吧啊呀嘛我你您他她它们在是有这那哪什么里儿和跟与把被就都也还很请问说过告诉知道记得关于谁怎几多少个放"
)
_POSSESSIVE = re.compile(r"['’]s?$")


def indexed(text: str) -> str:
    """Return *text* as FTS5's unicode61 tokenizer should read it."""
    return " ".join(_CHARACTER.sub(r" \1 ", _plain(text)).split())


def all_of(text: str) -> str:
    """Return the query for facts that hold every word of *text* that means something; empty when none does."""
    return " AND ".join(_strict(term) for term in _terms(text))


def any_of(text: str) -> str:
    """Return the query for facts that hold at least one such word; empty when there is none."""
    found = [query for term in _terms(text) for query in _loose(term)]
    return " OR ".join(dict.fromkeys(found))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _terms(text: str) -> list[str]:
    """The words of *text* that mean something: Latin words, and runs of Chinese characters between those that hold a sentence
    together. Characters that stand alone count only where there is nothing better."""
    terms: list[str] = []
    alone: list[str] = []
    for token in _TERM.findall(_plain(text)):
        if not _CHARACTER.match(token):
            word = _POSSESSIVE.sub("", token)
            if word and word not in _FAMILY_WORDS:
                terms.append(word)
            continue
        run = ""
        for character in f"{token}的":
            if character not in _FAMILY_CHARACTERS:
                run += character
            elif run:
                (terms if len(run) > 1 else alone).append(run)
                run = ""
    return list(dict.fromkeys(terms or alone))[:MOST_TERMS]


def _strict(term: str) -> str:
    whole = _phrase(term)
    if not _CHARACTER.match(term) or len(term) < 4:
        return whole
    return f"({whole} OR ({' AND '.join(_pairs(term))}))"


def _loose(term: str) -> list[str]:
    return _pairs(term) if _CHARACTER.match(term) and len(term) > 2 else [_phrase(term)]


def _pairs(run: str) -> list[str]:
    return [_phrase(run[at : at + 2]) for at in range(len(run) - 1)]


def _phrase(term: str) -> str:
    """Quoted, so that nothing in it is taken for a command of the query language: a term holds no quotation marks."""
    return f'"{indexed(term)}"'


__all__ = ["MOST_TERMS", "all_of", "any_of", "indexed"]
