"""Framings of audio."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.binary import VERSIONS, framing_of, pack, unpack


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        (None, 1),
        ("1", 1),
        ("2", 2),
        ("3", 3),
        (3, 3),
        (" 2 ", 2),
        ("0", 1),
        ("4", 1),
        ("-1", 1),
        ("", 1),
        ("two", 1),
        ("9" * 5000, 1),
    ],
)
def test_unknown_framings_fall_back_to_the_first(asked: str | int | None, version: int) -> None:
    assert framing_of(asked) == version


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(VERSIONS), st.binary(max_size=1500), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_out_again(version: int, opus: bytes, timestamp: int) -> None:
    assert unpack(version, pack(version, opus, timestamp)) == (opus, timestamp if version == 2 else 0)


@pytest.mark.parametrize(
    ("version", "frame"),
    [
        (1, "f8ff"),
        (2, "00020000000000000000010200000002f8ff"),
        (3, "00000002f8ff"),
    ],
)
def test_headers_are_big_endian_with_exact_sizes(version: int, frame: str) -> None:
    assert pack(version, b"\xf8\xff", 0x102).hex() == frame


@pytest.mark.parametrize(
    ("name", "version", "frame"),
    [
        ("v2 without header", 2, ""),
        ("v2 cut header", 2, "000200000000"),
        ("v2 wrong version", 2, "00010000000000000000000000000001f8"),
        ("v2 JSON", 2, "000200010000000000000000000000017b"),
        ("v2 size too large", 2, "000200000000000000000000fffffffff8"),
        ("v2 size too small", 2, "00020000000000000000000000000000f8"),
        ("v3 without header", 3, ""),
        ("v3 cut header", 3, "0000"),
        ("v3 other kind", 3, "01000001f8"),
        ("v3 wrong size", 3, "00000005f8"),
    ],
)
def test_a_wrong_header_is_refused_and_the_link_goes_on(name: str, version: int, frame: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        unpack(version, bytes.fromhex(frame))
    assert not caught.value.close


@settings(deadline=None, derandomize=True)
@given(st.sampled_from(VERSIONS), st.binary(max_size=100))
def test_any_bytes_are_unpacked_or_refused(version: int, frame: bytes) -> None:
    try:
        opus, _ = unpack(version, frame)
    except ProtocolError:
        return
    assert len(opus) <= len(frame)
