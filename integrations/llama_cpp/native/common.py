"""What two sequences of tokens share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    size = min(len(one), len(other))
    if not size:
        return 0
    differ = np.nonzero(np.asarray(one[:size], np.int32) != np.asarray(other[:size], np.int32))[0]
    return int(differ[0]) if len(differ) else size


MOVED = 32
"""Tokens that must be equal behind a gap before the gap is cut out."""


def behind_gap(known: Sequence[int], prompt: Sequence[int], here: int) -> tuple[int, int]:
    """Where in *known* the prompt goes on after *here* common tokens, when something between was left out of it, and for how long."""
    wanted = np.asarray(prompt[here : here + MOVED], np.int32)
    rest = np.asarray(known[here + 1 :], np.int32)
    if len(wanted) < MOVED or len(rest) < MOVED:
        return 0, 0
    best = (0, 0)  # phrases repeat: the longest of all matches is the one
    for place in np.nonzero(rest[: len(rest) - MOVED + 1] == wanted[0])[0]:
        if np.array_equal(rest[place : place + MOVED], wanted):
            start = here + 1 + int(place)
            best = max(best, (start, common(known[start:], prompt[here:])), key=lambda match: match[1])
    return best
