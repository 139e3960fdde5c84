"""Options of the recogniser for known sentences."""

from __future__ import annotations

import re

import voluptuous as vol

PHONES = frozenset(
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)
"""The 39 sounds of the acoustic model, as ARPAbet writes them."""
_WORDS = re.compile(r"[a-z']+([ -][a-z']+)*")


def pronunciation(value: object) -> tuple[tuple[str, ...], ...]:
    """Check how a name is said; return it word by word, each word as phones or as English words that sound like it.

    Words of a name are parted by commas: ``EH K OW, B IY`` or ``echo, bee``.
    """
    if not isinstance(value, str):
        raise vol.Invalid("expected a text such as EH K OW B IY or eco bee")
    words: list[tuple[str, ...]] = []
    for part in value.split(","):
        sounds = tuple(part.split())
        if not sounds or not (PHONES.issuperset(sounds) or _WORDS.fullmatch(" ".join(sounds))):
            raise vol.Invalid(
                f"expected ARPAbet sounds such as EH K OW B IY, or English words that sound like the name, not {part.strip()!r}"
            )
        words.append(sounds)
    return tuple(words)


def pronunciations(value: object) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Check the names and how each of their words is said."""
    checked: dict[str, tuple[tuple[str, ...], ...]] = vol.Schema({str: pronunciation})(value)
    for name, words in checked.items():
        if len(name.split()) != len(words):
            raise vol.Invalid(
                f"{name!r} has {len(name.split())} words: part as many pronunciations by commas", path=[name]
            )
    return checked


SCHEMA = vol.Schema(
    {
        vol.Optional("pronunciations", default=dict, description="How names are said"): pronunciations,
        vol.Optional(
            "threshold", default=0.03, description="How certain it must be; higher means more “I didn't catch that”"
        ): vol.All(vol.Coerce(float), vol.Range(0, 1)),
    }
)
