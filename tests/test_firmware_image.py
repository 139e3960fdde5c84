"""Which files may be given to a device, and how versions are compared."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from esp_image import assets, description, image
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi_hub.firmware import shelf as shelf_room
from xiaozhi_hub.firmware.assets import read_assets
from xiaozhi_hub.firmware.image import BadImage, read_image
from xiaozhi_hub.firmware.shelf import Changed, firmware_shelf
from xiaozhi_hub.firmware.versions import is_newer, is_sendable

BOARD = "bread-compact-wifi"


# -- versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "current", "newer"),
    [
        ("2.4.3", "2.4.2", True),
        ("2.4.2", "2.4.2", False),
        ("2.4.1", "2.4.2", False),
        ("2.10", "2.9.9", True),
        ("1.2.0", "1.2", True),
        ("1.2", "1.2.0", False),
        ("2.4.3", "2.4.2-dirty", True),
        ("2.4.2", "2.4.2-dirty", False),
        ("2.4.3", "v2.4.2", False),  # the firmware crashes while it compares with such a version of its own
        ("2.4.3", "", False),
        ("latest", "2.4.2", False),
    ],
)
def test_versions_are_compared_as_the_firmware_does(new: str, current: str, newer: bool) -> None:
    assert is_newer(new, current) is newer


@pytest.mark.parametrize("version", ["", "v2.1", "latest", "2.", ".2", "2..1", "2.4.2-dirty", "2.4 ", "２.4", "1" * 12])
def test_a_version_that_makes_devices_crash_is_never_sent(version: str) -> None:
    assert not is_sendable(version)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_of_two_versions_at_most_one_is_newer(one: list[int], other: list[int]) -> None:
    left, right = ".".join(map(str, one)), ".".join(map(str, other))
    assert (is_newer(left, right), is_newer(right, left)) in ((False, False), (True, False), (False, True))
    assert (left == right) == (not is_newer(left, right) and not is_newer(right, left))


# -- images -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hashed", [True, False])
@pytest.mark.parametrize("size", range(5000, 5017))
def test_a_sound_image_is_read_whatever_its_length(hashed: bool, size: int) -> None:
    data = image("2.5.0", chip="esp32c3", size=size, hashed=hashed)
    found = read_image(data)
    assert (found.version, found.project, found.chip, found.bytes) == ("2.5.0", "xiaozhi", "esp32c3", len(data))
    assert (found.idf, found.built) == ("v5.5.2", "Aug  8 2026 08:33:45")


def test_what_follows_the_image_such_as_a_signature_does_no_harm() -> None:
    assert read_image(image() + b"\xe7" * 4096).version == "2.5.0"


def _damaged(at: int) -> bytes:
    data = bytearray(image())
    data[at] ^= 0x10
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "too short"),
        (b"<html>404 not found</html>" * 40, "begins with 0x3C"),
        (b"\xff" * 0x1000 + image(), "begins with 0xFF"),
        (b"\xe9\x00" + image()[2:], "0 segments"),
        (image()[:12] + b"\x77\x77" + image()[14:], "unknown chip"),
        (image()[:-40], "cut short"),
        (image()[:-1], "cut short"),
        (image()[:3000], "cut short"),
        (_damaged(400), "damaged"),
        (_damaged(-1), "hash is wrong"),
        (_damaged(24 + 5), "cut short"),
        (image(segments=(b"\0" * 300,)), "does not say what it is"),
        (image(segments=(description("2.5.0", "xiaozhi", magic=1),)), "does not say what it is"),
        (image(segments=(b"\x32\x54\xcd\xab",), hashed=False), "too short to describe"),
    ],
)
def test_an_unsound_image_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(BadImage, match=why):
        read_image(data)


@given(st.binary(max_size=400))
def test_any_bytes_are_either_an_image_or_refused(data: bytes) -> None:
    with pytest.raises(BadImage):
        read_image(b"\xe9" + data)


@given(st.integers(0, len(image()) - 1), st.integers(1, 255))
def test_no_single_changed_byte_gets_past_the_checks(at: int, change: int) -> None:
    data = bytearray(image())
    data[at] ^= change
    try:
        found = read_image(bytes(data))
    except BadImage:
        return
    # What the hash covers is everything before it; the flag that says there is a hash is the one way round it.
    assert at == 23 and found.version == "2.5.0"


def test_assets_are_checked_as_the_device_checks_them() -> None:
    data = assets({"index.json": b"{}", "font.bin": b"\xff\x80" * 300})
    assert read_assets(data).files == ("index.json", "font.bin")
    for bad in (
        b"",
        data[:-1],
        data[:8] + b"\xff\xff\xff\x7f" + data[12:],
        data[:60] + b"\x00" + data[61:],
        b"\0" * 500,
    ):
        with pytest.raises(BadImage):
            read_assets(bad)


# -- the folder ---------------------------------------------------------------------------------------------------


def put(folder: Path, board: str, name: str, data: bytes) -> Path:
    (folder / board).mkdir(parents=True, exist_ok=True)
    path = folder / board / name
    path.write_bytes(data)
    return path


async def test_only_sound_images_under_their_own_version_can_be_found(tmp_path: Path) -> None:
    outside = put(tmp_path / "elsewhere", "x", "2.7.0.bin", image("2.7.0"))
    folder = tmp_path / "firmware"
    put(folder, BOARD, "2.5.0.bin", image("2.5.0"))
    put(folder, BOARD, "2.6.0.bin", image("2.5.0"))
    put(folder, BOARD, "latest.bin", image("latest"))
    put(folder, BOARD, "2.8.0.bin", b"nothing")
    put(folder, BOARD, "notes.txt", b"mine")
    put(folder, ".git", "2.5.0.bin", image("2.5.0"))
    (folder / BOARD / "2.7.0.bin").symlink_to(outside)
    (folder / "linked-board").symlink_to(outside.parent)
    (folder / BOARD / "3.0.0.bin").mkdir()
    os.mkfifo(folder / BOARD / "3.1.0.bin")
    shelf = firmware_shelf(folder)
    try:
        stock = {item.name: item.problem for item in await shelf.stock()}
        assert [name for name, problem in stock.items() if not problem] == ["2.5.0"]
        assert set(stock) == {"2.5.0", "2.6.0", "latest", "2.8.0", "2.7.0", "3.0.0", "3.1.0"}
        assert "must be named 2.5.0.bin" in stock["2.6.0"]
        assert "links are not followed" in stock["2.7.0"]
        for board, name in (
            (BOARD, "2.7.0"),
            ("linked-board", "2.7.0"),
            ("..", "elsewhere/x/2.7.0"),
            (BOARD, "../../elsewhere/x/2.7.0"),
            ("", "2.5.0"),
            (BOARD.upper(), "2.5.0"),
        ):
            assert await shelf.find(board, name) is None
    finally:
        await shelf.close()


async def test_a_file_that_was_exchanged_after_it_was_checked_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_room, "LOOK_AGAIN_S", 0.0)
    path = put(tmp_path, BOARD, "2.5.0.bin", image("2.5.0"))
    shelf = firmware_shelf(tmp_path)
    try:
        item = await shelf.find(BOARD, "2.5.0")
        assert item is not None
        os.close(await shelf.open(item))
        fresh = path.with_suffix(".new")
        fresh.write_bytes(image("2.5.0", size=6000))
        fresh.replace(path)
        with pytest.raises(Changed):
            await shelf.open(item)
        again = await shelf.find(BOARD, "2.5.0")
        assert again is not None and again.content is not None and again.content.sha256 != item.content.sha256  # type: ignore[union-attr]
        path.unlink()
        path.symlink_to("/etc/passwd")
        with pytest.raises(Changed):
            await shelf.open(again)
    finally:
        await shelf.close()


async def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    shelf = firmware_shelf(tmp_path / "firmware")
    assert await shelf.stock() == ()
    await shelf.close()
