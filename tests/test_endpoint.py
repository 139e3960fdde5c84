"""When a person has begun and has finished speaking."""

from __future__ import annotations

import pytest

from xiaozhi_hub.audio.endpoint import Endpoint, Moment, Patience
from xiaozhi_hub.core.flow import Completeness

FRAME = 60.0


def play(endpoint: Endpoint, pattern: str) -> list[Moment]:
    """One character is one frame: ``#`` speech, ``+`` doubtful, ``.`` silence."""
    return [endpoint.feed(FRAME, {"#": 0.9, "+": 0.47, ".": 0.02}[char]) for char in pattern]


def frames_until_end(endpoint: Endpoint, limit: int = 100) -> int:
    for count in range(1, limit):
        if endpoint.feed(FRAME, 0.0) is Moment.ENDED:
            return count
    raise AssertionError("it never ended")


def test_a_single_loud_frame_is_no_beginning() -> None:
    assert set(play(Endpoint(Patience()), "..#..#..#..")) == {Moment.WAITING}


def test_speech_begins_at_its_first_frame() -> None:
    endpoint = Endpoint(Patience())
    assert play(endpoint, "..##")[-1] is Moment.STARTED
    assert endpoint.speech_start_ms == 2 * FRAME


@pytest.mark.parametrize(
    ("completeness", "frames"),
    [
        (Completeness.COMPLETE, 4),  # 200 ms are reached with the fourth frame of 60 ms
        (Completeness.EXTENDABLE, 8),
        (Completeness.PARTIAL, 17),
        (Completeness.UNKNOWN, 12),
        (None, 12),
    ],
)
def test_the_silence_that_ends_a_turn_depends_on_the_words(completeness: Completeness | None, frames: int) -> None:
    endpoint = Endpoint(Patience(200, 450, 1000, 700))
    play(endpoint, "####.")
    if completeness is not None:
        assert endpoint.hypothesis(completeness) is Moment.PAUSING
    assert 1 + frames_until_end(endpoint) == frames


def test_a_hypothesis_that_comes_late_ends_the_turn_at_once() -> None:
    endpoint = Endpoint(Patience(200, 450, 700))
    play(endpoint, "####......")
    assert endpoint.hypothesis(Completeness.EXTENDABLE) is Moment.PAUSING
    assert endpoint.hypothesis(Completeness.COMPLETE) is Moment.ENDED
    assert endpoint.ended


def test_speech_after_a_pause_makes_the_words_unknown_again() -> None:
    endpoint = Endpoint(Patience(200, 450, 700))
    play(endpoint, "####..")
    endpoint.hypothesis(Completeness.EXTENDABLE)
    assert play(endpoint, "#")[-1] is Moment.RESUMED
    assert frames_until_end(endpoint) == 12


def test_who_goes_on_softly_after_a_pause_has_not_finished() -> None:
    endpoint = Endpoint(Patience(200, 450, 700))
    play(endpoint, "####..")
    endpoint.hypothesis(Completeness.COMPLETE)
    assert endpoint.feed(FRAME, 0.6) is Moment.RESUMED, "below clear speech, and speech all the same after a pause"
    assert frames_until_end(endpoint) == 12


def test_a_gap_inside_a_sentence_does_not_end_it() -> None:
    endpoint = Endpoint(Patience())
    assert Moment.ENDED not in play(endpoint, "####........####")  # 480 ms; the longest measured was 512 ms


def test_fading_words_are_still_speech_but_doubtful_noise_does_not_resume() -> None:
    endpoint = Endpoint(Patience())
    assert play(endpoint, "##++")[-1] is Moment.FADING
    assert play(endpoint, ".+")[-1] is Moment.PAUSING
    assert play(endpoint, "..+")[-1] is Moment.PAUSING


def test_who_has_said_a_whole_command_need_not_wait_until_the_detector_is_sure() -> None:
    endpoint = Endpoint(Patience(180, 420, 700))
    play(endpoint, "####+")
    assert endpoint.hypothesis(Completeness.COMPLETE) is Moment.PAUSING
    assert play(endpoint, "++") == [Moment.FADING, Moment.ENDED]


def test_words_that_only_fade_are_no_end_of_what_may_go_on() -> None:
    endpoint = Endpoint(Patience(180, 420, 700))
    assert set(play(endpoint, "####" + "+" * 20)) <= {Moment.WAITING, Moment.STARTED, Moment.SPEAKING, Moment.FADING}
    assert frames_until_end(endpoint) == 12


def test_what_may_go_on_is_waited_for_from_the_last_clear_speech() -> None:
    endpoint = Endpoint(Patience(120, 420, 1000, 700))
    play(endpoint, "####++")
    endpoint.hypothesis(Completeness.EXTENDABLE)
    assert frames_until_end(endpoint) == 5


def test_a_learned_wait_goes_before_the_set_one_until_somebody_goes_on() -> None:
    endpoint = Endpoint(Patience(120, 420, 1000, 700))
    play(endpoint, "####.")
    assert endpoint.hypothesis(Completeness.EXTENDABLE, 180) is Moment.PAUSING
    assert endpoint.wait_ms == 180
    assert play(endpoint, ".#..") == [Moment.PAUSING, Moment.RESUMED, Moment.PAUSING, Moment.PAUSING]
    assert endpoint.gap_ms == 120
    assert endpoint.wait_ms == 700, "what was said before it may go on otherwise"
    endpoint.hypothesis(Completeness.EXTENDABLE)
    assert endpoint.wait_ms == 420
    assert 2 + frames_until_end(endpoint) == 7
    assert endpoint.is_silent


def test_a_learned_wait_ends_the_turn_at_its_own_frame() -> None:
    endpoint = Endpoint(Patience(120, 420, 1000, 700))
    play(endpoint, "####.")
    endpoint.hypothesis(Completeness.EXTENDABLE, 180)
    assert 1 + frames_until_end(endpoint) == 3


def test_clear_speech_after_fading_makes_the_words_unknown_again() -> None:
    endpoint = Endpoint(Patience(180, 420, 700))
    play(endpoint, "####+")
    endpoint.hypothesis(Completeness.COMPLETE)
    assert play(endpoint, "#++++")[0] is Moment.SPEAKING
    assert not endpoint.ended


def test_a_television_ends_at_twenty_seconds() -> None:
    endpoint = Endpoint(Patience())
    moments = play(endpoint, "#" * 400)
    assert moments.index(Moment.ENDED) * FRAME == pytest.approx(20_000, abs=2 * FRAME)


def test_a_hypothesis_before_any_speech_changes_nothing() -> None:
    endpoint = Endpoint(Patience())
    assert endpoint.hypothesis(Completeness.COMPLETE) is Moment.WAITING
    assert not endpoint.ended
