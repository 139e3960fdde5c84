"""The policy of giving out firmware, as a function of values."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from xiaozhi_hub.firmware.image import Image
from xiaozhi_hub.firmware.rollout import MOST_TIMES, Asker, decide
from xiaozhi_hub.firmware.versions import is_newer
from xiaozhi_hub.store.rollouts import HOLD, Known, Offer, Release, ReleaseState, Result

BOARD = "bread-compact-wifi"
DEVICE = Asker("24:6f:28:aa:bb:01", BOARD, "esp32s3", "2.4.2")
VERSIONS = ("2.4.1", "2.4.2", "2.5.0", "2.10.0")
states = st.sampled_from(list(ReleaseState))
versions = st.sampled_from(VERSIONS)
images = st.lists(
    st.builds(
        Image,
        project=st.sampled_from(["xiaozhi", "other"]),
        version=versions,
        chip=st.sampled_from(["esp32s3", "esp32"]),
        bytes=st.just(1),
        sha256=st.just("0"),
    ),
    max_size=5,
)
releases = st.lists(
    st.builds(
        Release,
        board=st.just(BOARD),
        version=versions,
        state=states,
        canary=st.sampled_from(["", DEVICE.device_id, "x"]),
    ),
    max_size=4,
    unique_by=lambda release: release.version,
)
offers = st.lists(
    st.builds(
        Offer,
        device_id=st.just(DEVICE.device_id),
        board=st.just(BOARD),
        version=versions,
        from_version=versions,
        ticket=versions,
        offered_at=st.just(0.0),
        times=st.integers(1, MOST_TIMES),
        fetched_at=st.none() | st.just(1.0),
        result=st.sampled_from(list(Result)),
    ),
    max_size=4,
    unique_by=lambda offer: offer.version,
)
pins = st.sampled_from(["", HOLD, *VERSIONS])


@given(images, releases, offers, versions, pins, st.booleans())
def test_whatever_is_known_only_what_suits_is_offered(
    there: list[Image], released: list[Release], before: list[Offer], running: str, pin: str, room: bool
) -> None:
    asker = replace(DEVICE, version=running)
    decision = decide(asker, there, Known(tuple(released), tuple(before)), pin, 5.0, room=room)
    offer = decision.offer
    if offer is None:
        return
    assert room and pin != HOLD
    assert is_newer(offer.version, running)
    assert any((each.version, each.chip, each.project) == (offer.version, "esp32s3", "xiaozhi") for each in there)
    after = {each.version: each for each in released} | {
        change.version: change for change in decision.changes if isinstance(change, Release)
    }
    assert all(each.result is not Result.FAILED for each in before if each.version == offer.version)
    if pin:
        assert offer.version == pin
    else:
        release = after[offer.version]
        assert release.state is not ReleaseState.STOPPED
        assert release.state is ReleaseState.RELEASED or release.canary == DEVICE.device_id


@given(images, releases, offers, versions, pins)
def test_deciding_twice_about_the_same_start_changes_nothing_more(
    there: list[Image], released: list[Release], before: list[Offer], running: str, pin: str
) -> None:
    asker = replace(DEVICE, version=running)
    first = decide(asker, there, Known(tuple(released), tuple(before)), pin, 5.0, room=False)
    now = {each.version: each for each in released} | {c.version: c for c in first.changes if isinstance(c, Release)}
    told = {each.version: each for each in before} | {c.version: c for c in first.changes if isinstance(c, Offer)}
    again = decide(asker, there, Known(tuple(now.values()), tuple(told.values())), pin, 5.0, room=False)
    assert again.changes == ()


@given(releases, offers, versions)
def test_a_stopped_release_is_never_started_again_by_a_device(
    released: list[Release], before: list[Offer], running: str
) -> None:
    decision = decide(replace(DEVICE, version=running), [], Known(tuple(released), tuple(before)), "", 5.0)
    stopped = {release.version for release in released if release.state is ReleaseState.STOPPED}
    assert not stopped & {change.version for change in decision.changes if isinstance(change, Release)}
