"""Which models a machine can run quickly enough: a decision from figures, without any measuring of its own.

What is known for sure: the figures of the catalogue were measured on `REFERENCE` (where they are not, the catalogue says
"derived"), and the board's own speed was measured by `board.measure`. That a model's time scales with those speeds is an
assumption: recognisers and the reading of questions with the matrix product, the writing of answers with the memory. It can be wrong by
a factor of two, mostly because processors differ in their handling of small integers. What was timed with the model itself on
this very board (`Timed`) always wins over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from xiaozhi_hub.models.board import Board
from xiaozhi_hub.models.catalogue import CatalogueModel

REFERENCE = Board(cores=2, memory_mib=24105, free_mib=23000, gflops=99.0, gbps=10.1)
"""A virtual machine with two cores of a server processor at 2.5 GHz: where the catalogue's figures were measured."""

SYSTEM_MIB = 700
"""Left to the operating system, the hub itself, and the sound of a few devices."""
THREAD_GAIN = 0.75
"""What each further core adds to a recogniser. Two cores gave 1.8 times one (Whisper small); more than two is an assumption."""
MOST_THREADS = 4
QUESTION_TOKENS = 60
"""What a model has to read anew in a turn, when the beginning of the conversation is kept evaluated."""
SENTENCE_TOKENS = 14
"""What it has to write before a voice can begin."""
BUDGET_SECONDS: Mapping[str, float] = {"asr": 1.0, "llm": 3.0, "tts": 0.5, "wake": 0.08}
"""How long a stage may take until something is heard of it: a person waits about so long before asking again. For a wake word: per
80 ms of sound."""


class Basis(StrEnum):
    """Where an expected delay comes from."""

    TIMED = "timed"
    """The model itself, on this board."""
    DERIVED = "derived"
    UNKNOWN = "unknown"


class Verdict(StrEnum):
    BEST = "best"
    """The one to take."""
    FITS = "fits"
    SLOW = "slow"
    MEMORY = "memory"
    """It does not fit into the memory that is left."""


@dataclass(frozen=True, slots=True)
class Fit:
    """What one model would be like on a board."""

    model: CatalogueModel
    delay: float | None
    """Seconds until something is heard of its stage; None when nobody knows."""
    basis: Basis
    verdict: Verdict
    reason: str
    """What speaks for the verdict: the text ``models.why.<reason>``, which says ``values``."""
    values: Mapping[str, float] = field(default_factory=dict)


Timed = Mapping[str, float]
"""Seconds by the name of a model, from real runs on the board."""


def expected_delay(model: CatalogueModel, board: Board) -> float | None:
    """Seconds that a stage would take on *board* with *model*, by scaling; None when there is nothing to scale."""
    speed = model.speed
    if speed is None or board.gflops <= 0 or board.gbps <= 0:
        return None
    multiply, memory = board.gflops / REFERENCE.gflops, board.gbps / REFERENCE.gbps
    if model.role == "asr" and speed.seconds:
        threads = max(1, min(board.cores - 1, MOST_THREADS))  # one core is left to everything else
        return speed.seconds / multiply / (1 + THREAD_GAIN * (threads - 1))
    if model.role == "llm" and speed.reads and speed.writes:
        more_cores = min(board.cores, MOST_THREADS) / REFERENCE.cores  # those figures were taken with both cores
        reading = QUESTION_TOKENS / (speed.reads * multiply * more_cores)
        # One core of a small board nearly fills its memory's line: more of them write no faster.
        return reading + SENTENCE_TOKENS / (speed.writes * memory)
    return None


def fits(
    board: Board, models: tuple[CatalogueModel, ...], languages: tuple[str, ...], timed: Timed | None = None
) -> tuple[Fit, ...]:
    """Judge all *models* for *board*, and choose for each stage and each of *languages* the best that is quick enough.

    The choice is made in the order hearing, speaking, thinking: each takes its memory from what the ones before have left. One
    model that serves all languages is preferred to one for each.
    """
    timed = timed or {}
    left = board.memory_mib - SYSTEM_MIB
    judged: dict[str, Fit] = {}
    for role in ("asr", "tts", "wake", "llm"):
        mine = [model for model in models if model.role == role]
        chosen: list[CatalogueModel] = []
        for language in languages:
            if any(language in model.languages for model in chosen):
                continue
            able = [model for model in mine if language in model.languages]
            best = max(
                (m for m in able if m.memory_mib <= left and _quick(m, board, timed)), default=None,
                key=lambda m: (len(set(languages) & set(m.languages)), m.quality, not m.ask, -m.size),
            )  # fmt: skip
            if best is not None:
                chosen.append(best)
                left -= best.memory_mib
        for model in mine:
            judged[model.name] = _judge(model, board, timed, chosen=model in chosen, left=left)
    return tuple(judged[model.name] for model in models if model.name in judged)


def _delay(model: CatalogueModel, board: Board, timed: Timed) -> tuple[float | None, Basis]:
    if model.name in timed:
        return timed[model.name], Basis.TIMED
    delay = expected_delay(model, board)
    return delay, Basis.UNKNOWN if delay is None else Basis.DERIVED


def _quick(model: CatalogueModel, board: Board, timed: Timed) -> bool:
    delay, _ = _delay(model, board, timed)
    if delay is not None:
        return delay <= BUDGET_SECONDS[model.role]
    # Nothing is known of its speed: a machine that is much slower than the reference gets the smallest.
    return model.quality == 1 or model.role == "wake" or board.gflops >= REFERENCE.gflops / 6


def _judge(model: CatalogueModel, board: Board, timed: Timed, *, chosen: bool, left: int) -> Fit:
    delay, basis = _delay(model, board, timed)
    budget = BUDGET_SECONDS[model.role]
    if chosen:
        return Fit(model, delay, basis, Verdict.BEST, "best" if delay is not None else "best_unknown")
    needed = model.memory_mib
    if needed > board.memory_mib - SYSTEM_MIB:
        return Fit(model, delay, basis, Verdict.MEMORY, "too_large", {"needed": needed, "there": board.memory_mib})
    if not _quick(model, board, timed):
        if delay is None:
            return Fit(model, delay, basis, Verdict.SLOW, "slow_machine")
        return Fit(model, delay, basis, Verdict.SLOW, "slow", {"seconds": budget})
    if needed > left:
        return Fit(model, delay, basis, Verdict.MEMORY, "no_room", {"needed": needed, "there": max(left, 0)})
    return Fit(model, delay, basis, Verdict.FITS, "fits" if delay is not None else "fits_unknown")


__all__ = [
    "BUDGET_SECONDS",
    "REFERENCE",
    "Basis",
    "Fit",
    "Timed",
    "Verdict",
    "expected_delay",
    "fits",
]
