"""``xiaozhi-hub models recommend``: measure this board, run what is here, and say which models fit."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from xiaozhi_hub.cli.table import print_table

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config
    from xiaozhi_hub.models.board import Board
    from xiaozhi_hub.models.catalogue import Catalogue
    from xiaozhi_hub.models.fit import Fit
    from xiaozhi_hub.models.shelf import ModelShelf

STAGES = {"asr": "Hearing", "llm": "Thinking", "tts": "Speaking", "wake": "Wake word"}
_ELSEWHERE = "another machine can do it for this one: see xiaozhi_hub/docs/second-machine.md."
_WITHOUT = {
    "asr": f"Commands in English are understood without; {_ELSEWHERE}",
    "llm": f"Commands work without; {_ELSEWHERE}",
    "tts": f"The hub speaks with eSpeak; {_ELSEWHERE}",
    "wake": "Devices have wake words of their own and need none.",
}
"""What there is in each stage without a model."""
_MARKS = {"best": "→", "fits": " ", "slow": " ", "memory": " "}


def recommend(config: Config, shelf: ModelShelf, known: Catalogue, *, as_json: bool, run: bool) -> int:
    """Print what would be what on this board; the models to take are marked with an arrow."""
    from xiaozhi_hub.cli.model_runs import time_installed
    from xiaozhi_hub.core.i18n import LANGUAGES
    from xiaozhi_hub.models.board import keep, measure
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.fit import fits

    board = measure()
    timed = time_installed(config, shelf) if run else {}
    if any(shelf.installed(engine) for engine in RUNNERS):
        keep(shelf.folder, board, timed)  # the hub chooses by it at its next start
    judged = fits(board, known.models, tuple(LANGUAGES), timed)
    own = {name: seconds for name, seconds in timed.items() if known.get(name) is None}
    if as_json:
        print(json.dumps({**_facts(board, judged), "own": own}, ensure_ascii=False, indent=1))
        return 0
    _print(board, judged, shelf)
    for name, seconds in own.items():
        print(f"Your own {name} ran here: {seconds:.2f} s")
    return 0


def _print(board: Board, judged: tuple[Fit, ...], shelf: ModelShelf) -> None:
    from xiaozhi_hub.models.fit import REFERENCE, Basis
    from xiaozhi_hub.models.stock import shown_bytes

    print(
        f"This machine: {board.cores} cores, {board.memory_mib} MiB of memory ({board.free_mib} free); one core multiplies at "
        f"{board.gflops:.0f} Gflop/s and copies at {board.gbps:.1f} GB/s (the machine of the figures: {REFERENCE.gflops:.0f} and "
        f"{REFERENCE.gbps:.0f})."
    )
    for role, title in STAGES.items():
        rows = [("", "NAME", "LANGUAGES", "SIZE", "MEMORY", "DELAY", "WHY")]
        for fit in judged:
            if fit.model.role != role:
                continue
            here = any(model.name == fit.model.name for model in shelf.installed(fit.model.engine))
            why = f"{fit.why}{' (is here)' if here else ''}"
            delay = "?" if fit.delay is None else f"{'' if fit.basis is Basis.TIMED else '~'}{fit.delay:.1f} s"
            languages = ", ".join(fit.model.languages)
            memory = f"{fit.model.memory_mib} MiB"
            size = shown_bytes(fit.model.size)
            rows.append((_MARKS[fit.verdict], fit.model.name, languages, size, memory, delay, why))
        print(f"\n{title}")
        print_table(rows)
        if all(fit.verdict != "best" for fit in judged if fit.model.role == role):
            print(f"None of these is for this machine as it is now. {_WITHOUT[role]}")
    print(
        "\n~ is reckoned from this machine's speed and may be wrong by a factor of two; without it, the model ran here."
    )
    missing = [fit.model for fit in judged if fit.verdict == "best" and fit.model.role != "wake"
               and all(model.name != fit.model.name for model in shelf.installed(fit.model.engine))]  # fmt: skip
    if missing:
        size = shown_bytes(sum(model.size for model in missing))
        print(
            f"To fetch what is marked ({size}): xiaozhi-hub models download {' '.join(model.name for model in missing)}"
        )
        print("From a stick: xiaozhi-hub models import PATH")
    sys.stdout.flush()


def _facts(board: Board, judged: tuple[Fit, ...]) -> dict[str, object]:
    from dataclasses import asdict

    return {
        "board": asdict(board),
        "models": [
            {
                "name": fit.model.name,
                "role": fit.model.role,
                "languages": list(fit.model.languages),
                "bytes": fit.model.size,
                "memory_mib": fit.model.memory_mib,
                "delay_s": None if fit.delay is None else round(fit.delay, 3),
                "basis": str(fit.basis),
                "verdict": str(fit.verdict),
                "why": fit.why,
            }
            for fit in judged
        ],
    }


__all__ = ["recommend"]
