"""Sending at the device's pace."""

from __future__ import annotations

import pytest

from xiaozhi_hub.audio.pacer import TAIL_MS, Pacer


def run(pacer: Pacer, packets: int, now: float = 100.0, ms: float = 60.0) -> list[float]:
    """Send as early as allowed; return the times."""
    times = []
    for _ in range(packets):
        now = pacer.due(now)
        pacer.sent(ms, now)
        times.append(now)
    return times


def test_a_few_packets_go_out_at_once_and_the_rest_in_real_time() -> None:
    times = run(Pacer(lead_ms=300), 105)
    assert times[:6] == pytest.approx([100.0] * 6)
    gaps = [b - a for a, b in zip(times[5:], times[6:], strict=False)]
    assert gaps == pytest.approx([0.06] * len(gaps))


def test_the_device_never_holds_more_than_its_queue() -> None:
    pacer = Pacer(lead_ms=300)
    start = 100.0
    for index, at in enumerate(run(pacer, 1000, start)):
        held = (index + 1) * 0.06 - (at - start)
        assert held <= 0.360 + 1e-9  # the lead and the packet itself; the queue takes 2.4 s, in 1.6.2 0.6 s


def test_delays_do_not_add_up() -> None:
    pacer = Pacer(lead_ms=300)
    start = now = 100.0
    for _ in range(1000):
        now = max(now, pacer.due(now)) + 0.003  # each wake-up comes 3 ms late
        pacer.sent(60, now)
    assert now - start == pytest.approx(1000 * 0.06 - 0.36, abs=0.07)
    assert pacer.late == 0


def test_the_schedule_begins_anew_after_a_gap() -> None:
    pacer = Pacer(lead_ms=300)
    run(pacer, 3, 100.0)
    assert pacer.due(105.0) == 105.0
    pacer.sent(60, 105.0)
    assert pacer.late == 1
    assert pacer.played_at() == pytest.approx(105.06 + TAIL_MS / 1000)


def test_played_is_when_the_last_packet_has_left_the_speaker() -> None:
    pacer = Pacer()
    assert pacer.played_at() is None
    run(pacer, 50, 10.0)
    assert pacer.played_at() == pytest.approx(10 + 50 * 0.06 + TAIL_MS / 1000)
