"""``xiaozhi-hub models recommend``: measure this board, run what is here, and say which models fit."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from xiaozhi_hub.cli.table import print_table
from xiaozhi_hub.cli.words import Words

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config
    from xiaozhi_hub.models.board import Board
    from xiaozhi_hub.models.catalogue import Catalogue
    from xiaozhi_hub.models.fit import Fit
    from xiaozhi_hub.models.shelf import ModelShelf

STAGES = ("asr", "llm", "tts", "wake")
_MARKS = {"best": "→", "fits": " ", "slow": " ", "memory": " "}


def recommend(config: Config, shelf: ModelShelf, known: Catalogue, words: Words, *, as_json: bool, run: bool) -> int:
    """Print what would be what on this board; the models to take are marked with an arrow."""
    from xiaozhi_hub.cli.model_runs import time_installed
    from xiaozhi_hub.core.i18n import LANGUAGES
    from xiaozhi_hub.models.board import keep, measure
    from xiaozhi_hub.models.catalogue import RUNNERS
    from xiaozhi_hub.models.fit import fits

    board = measure()
    timed = time_installed(config, shelf, words) if run else {}
    if any(shelf.installed(engine) for engine in RUNNERS):
        keep(shelf.folder, board, timed)  # the hub chooses by it at its next start
    judged = fits(board, known.models, tuple(LANGUAGES), timed)
    own = {name: seconds for name, seconds in timed.items() if known.get(name) is None}
    if as_json:
        print(json.dumps({**_facts(board, judged), "own": own}, ensure_ascii=False, indent=1))
        return 0
    _print(board, judged, shelf, words)
    for name, seconds in own.items():
        print(words("cli.models.own_ran", model=name, seconds=seconds))
    return 0


def _print(board: Board, judged: tuple[Fit, ...], shelf: ModelShelf, words: Words) -> None:
    from xiaozhi_hub.models.fit import REFERENCE, Basis
    from xiaozhi_hub.models.stock import shown_bytes

    machine = {"cores": board.cores, "memory": board.memory_mib, "free": board.free_mib}
    speed = {"gflops": board.gflops, "gbps": board.gbps}
    reference = {"reference_gflops": REFERENCE.gflops, "reference_gbps": REFERENCE.gbps}
    print(words("cli.models.machine", **machine, **speed, **reference))
    columns = ("name", "languages", "size", "memory", "delay", "why")
    for role in STAGES:
        rows = [("", *(words(f"cli.models.column.{column}") for column in columns))]
        for fit in judged:
            if fit.model.role != role:
                continue
            here = any(model.name == fit.model.name for model in shelf.installed(fit.model.engine))
            why = words(f"models.why.{fit.reason}", **fit.values)
            if here:
                why = words("cli.models.here", why=why)
            delay = "?" if fit.delay is None else f"{'' if fit.basis is Basis.TIMED else '~'}{fit.delay:.1f} s"
            languages = ", ".join(fit.model.languages)
            memory = f"{fit.model.memory_mib} MiB"
            size = shown_bytes(fit.model.size)
            rows.append((_MARKS[fit.verdict], fit.model.name, languages, size, memory, delay, why))
        print(f"\n{words(f'cli.models.stage.{role}')}")
        print_table(rows)
        if all(fit.verdict != "best" for fit in judged if fit.model.role == role):
            print(words("cli.models.none_fit", without=words(f"cli.models.without.{role}")))
    print("\n" + words("cli.models.reckoned"))
    missing = [fit.model for fit in judged if fit.verdict == "best" and fit.model.role != "wake"
               and all(model.name != fit.model.name for model in shelf.installed(fit.model.engine))]  # fmt: skip
    if missing:
        size = shown_bytes(sum(model.size for model in missing))
        command = f"xiaozhi-hub models download {' '.join(model.name for model in missing)}"
        print(words("cli.models.fetch", size=size, command=command))
        print(words("cli.models.from_stick"))
    sys.stdout.flush()


def _facts(board: Board, judged: tuple[Fit, ...]) -> dict[str, object]:
    from dataclasses import asdict

    english = Words("en")  # programs read it
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
                "why": english(f"models.why.{fit.reason}", **fit.values),
            }
            for fit in judged
        ],
    }


__all__ = ["recommend"]
