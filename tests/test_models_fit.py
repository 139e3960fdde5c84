"""Which models are recommended for which machine, and how a machine is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xiaozhi_hub.core.i18n import LANGUAGES, Texts
from xiaozhi_hub.models.board import Board, measure, memory_mib
from xiaozhi_hub.models.catalogue import Speed, load_catalogue
from xiaozhi_hub.models.fit import BUDGET_SECONDS, REFERENCE, Basis, Fit, Timed, Verdict, expected_delay, fits

KNOWN = load_catalogue()

# None of these boards was measured. Derived from clock and width of their cores (additions and multiplications per cycle in
# single precision: Cortex-A72 8, A76 16, Gracemont 16), of which a good matrix product reaches about three quarters; the
# memory's figures are about half of what their memories can do at best, which is what one core gets.
PI4 = Board(cores=4, memory_mib=3790, free_mib=3300, gflops=10.0, gbps=4.0)
PI5 = Board(cores=4, memory_mib=8060, free_mib=7400, gflops=29.0, gbps=10.0)
N100 = Board(cores=4, memory_mib=15800, free_mib=14900, gflops=42.0, gbps=16.0)


def judge(board: Board, timed: Timed | None = None, languages: tuple[str, ...] = LANGUAGES) -> dict[str, Fit]:
    return {fit.model.name: fit for fit in fits(board, KNOWN.models, languages, timed)}


def best(board: Board, timed: Timed | None = None, languages: tuple[str, ...] = LANGUAGES) -> dict[str, list[str]]:
    """The names that are recommended, by role."""
    chosen: dict[str, list[str]] = {"asr": [], "tts": [], "llm": [], "wake": []}
    for fit in judge(board, timed, languages).values():
        if fit.verdict is Verdict.BEST:
            chosen[fit.model.role].append(fit.model.name)
    return chosen


def why(fit: Fit, language: str = "en") -> str:
    return Texts().text(f"models.why.{fit.reason}", language, **fit.values)


def test_the_reference_machine_gets_the_figures_of_the_catalogue_back() -> None:
    alone = replace(REFERENCE, cores=1)
    model = KNOWN.find("faster-whisper-base")
    assert model.speed is not None
    assert expected_delay(model, alone) == pytest.approx(model.speed.seconds)
    llm = KNOWN.find("qwen3-0.6b")
    assert expected_delay(llm, REFERENCE) == pytest.approx(60 / 100 + 14 / 17)


def test_a_pi_4_is_too_slow_for_dictation_and_conversation_and_is_told_so() -> None:
    chosen, judged = best(PI4), judge(PI4)
    assert chosen["asr"] == [] and chosen["llm"] == []
    assert judged["faster-whisper-tiny"].verdict is Verdict.SLOW
    assert "slower than 1 s" in why(judged["faster-whisper-tiny"])
    assert judged["qwen3-0.6b"].verdict is Verdict.SLOW


def test_a_pi_5_hears_with_base_and_thinks_with_the_smallest_model() -> None:
    chosen = best(PI5)
    assert chosen["asr"] in (["faster-whisper-base"], ["faster-whisper-tiny"])
    assert chosen["llm"] == ["qwen3-0.6b"]
    assert len(chosen["tts"]) == 2, "a voice for each language"


def test_an_n100_thinks_with_a_larger_model_than_a_pi_5() -> None:
    chosen = best(N100)
    assert chosen["asr"] == ["faster-whisper-base"]
    assert chosen["llm"] == ["qwen3-1.7b"]


@pytest.mark.parametrize("board", [PI4, PI5, N100, REFERENCE])
def test_what_is_recommended_fits_together_into_memory_and_budget(board: Board) -> None:
    chosen = [fit for fit in judge(board).values() if fit.verdict is Verdict.BEST]
    assert sum(fit.model.memory_mib for fit in chosen) <= board.memory_mib - 700
    assert all(fit.delay is None or fit.delay <= BUDGET_SECONDS[fit.model.role] for fit in chosen)
    assert all(why(fit, language) for fit in judge(board).values() for language in LANGUAGES)


def test_a_quick_machine_with_little_memory_is_not_filled_up() -> None:
    small = replace(N100, memory_mib=2048)
    judged = judge(small)
    assert judged["qwen3-1.7b"].verdict is Verdict.MEMORY
    assert "2390 MiB" in why(judged["qwen3-1.7b"])
    assert best(small)["llm"] in ([], ["qwen3-0.6b"])


def test_a_faster_machine_never_gets_a_smaller_model() -> None:
    quality = {model.name: model.quality for model in KNOWN.models}
    for role in ("asr", "llm"):
        last = 0
        for factor in (0.2, 0.5, 1, 2, 5, 20):
            chosen = best(replace(PI5, gflops=PI5.gflops * factor, gbps=PI5.gbps * factor, memory_mib=32000))[role]
            now = max((quality[name] for name in chosen), default=0)
            assert now >= last
            last = now


def test_one_model_for_both_languages_is_preferred() -> None:
    assert best(N100)["llm"] == ["qwen3-1.7b"]
    only_english = best(PI5, languages=("en",))["llm"]
    assert only_english[0] in ("llama-3.2-1b", "gemma-3-1b", "qwen3-0.6b")


def test_what_was_timed_on_the_board_wins_over_what_was_reckoned() -> None:
    judged = judge(PI5, {"faster-whisper-base": 1.7, "faster-whisper-small": 0.9})
    assert judged["faster-whisper-small"].verdict is Verdict.BEST
    assert judged["faster-whisper-small"].basis is Basis.TIMED
    assert judged["faster-whisper-base"].verdict is Verdict.SLOW
    assert judged["faster-whisper-tiny"].basis is Basis.DERIVED


def test_voices_are_honest_about_what_nobody_has_measured() -> None:
    judged = judge(PI5)
    assert judged["zh_CN-huayan-medium"].basis is Basis.UNKNOWN
    assert judged["zh_CN-huayan-medium"].delay is None
    assert "not known" in why(judged["zh_CN-huayan-medium"])
    assert judge(PI4)["zh_CN-huayan-x_low"].verdict is Verdict.BEST


@pytest.mark.parametrize(
    ("model", "speed"),
    [
        ("qwen3-0.6b", Speed("measured")),
        ("qwen3-0.6b", Speed("measured", reads=100.0)),
        ("faster-whisper-tiny", Speed("measured")),
    ],
)
def test_half_of_a_speed_is_none(model: str, speed: Speed) -> None:
    """An owner's own list may leave out any of its figures."""
    assert expected_delay(replace(KNOWN.find(model), speed=speed), PI5) is None


def test_a_machine_is_measured_for_real() -> None:
    board = measure()
    assert board.cores >= 1 and board.memory_mib > board.free_mib > 0
    assert 0.5 < board.gflops < 1000 and 0.2 < board.gbps < 500


def test_memory_is_read_from_what_the_kernel_tells(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal:  4096000 kB\nMemFree: 1 kB\nMemAvailable:  2048000 kB\n")
    assert memory_mib(tmp_path / "meminfo") == (4000, 2000)
    assert memory_mib(tmp_path / "absent") == (0, 0)
