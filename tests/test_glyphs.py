"""Characters that a device's font lacks reach it as pictures, together with the text that needs them."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from test_doctor import found

from xiaozhi_hub.core.config import DisplayConfig, load_config
from xiaozhi_hub.display import fonts
from xiaozhi_hub.display.fonts import Face, find_face
from xiaozhi_hub.display.lettering import MESSAGE_BYTES, Lettering
from xiaozhi_hub.display.raster import Raster
from xiaozhi_hub.doctor.finding import Finding, Level
from xiaozhi_hub.doctor.machine import look_at_machine
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.glyphs import GlyphPush, TextFont, lacking, text_font_of
from xiaozhi_hub.protocol.hub_messages import Stt
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile, running_hub
from xiaozhi_hub.testing.glyphs import PushedGlyph, take_glyphs

FULL, CORNER, BELOW, HUGE = "\u4e00", "\u9f98", "\u3106", "\u3107"
"""A full em square, a quarter of one at the lower left, one that lies below the baseline, one much too large."""
LCD = {"bundle": "noto-v1", "charset": "common", "size": 20, "bpp": 4}
OLED = {"bundle": "noto-v1", "charset": "basic", "size": 14, "bpp": 1}
QUIET = "integrations:\n  phrases: false\n  silero_vad: false\n  espeak: false\n  echo:\n"


def square(x: int, y: int, side: int) -> Any:
    pen = TTGlyphPen(None)
    pen.moveTo((x, y))
    for corner in ((x, y + side), (x + side, y + side), (x + side, y)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


@pytest.fixture(scope="session")
def font_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A font of squares, 1000 units to the em, so that every pixel of a drawing is known."""
    path = tmp_path_factory.mktemp("font") / "squares.ttf"
    many = {0x20000 + n: f"many{n}" for n in range(100)}
    shapes = {
        ".notdef": square(100, 0, 300),
        "full": square(0, 0, 1000),
        "corner": square(0, 0, 500),
        "below": square(500, -500, 250),
        "huge": square(0, 0, 4000),
        **{name: square(0, 0, 900) for name in many.values()},
    }
    cmap = {ord(FULL): "full", ord(CORNER): "corner", ord(BELOW): "below", ord(HUGE): "huge", **many}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(shapes))
    builder.setupCharacterMap(cmap)
    builder.setupGlyf(shapes)
    builder.setupHorizontalMetrics({name: (1000, shape.coordinates[0][0]) for name, shape in shapes.items()})
    builder.setupHorizontalHeader(ascent=1000, descent=-500)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


@asynccontextmanager
async def hub_and_device(
    folder: Path, font: Path, text_font: dict[str, Any] | None = None, more: str = ", glyph_push: true"
) -> AsyncIterator[tuple[Hub, FakeDevice]]:
    async with running_hub(folder, f"{QUIET}display: {{font: {font}{more}}}\n") as hub:
        device = FakeDevice(ota_url=hub.local_url + "/xiaozhi/ota/", profile=FirmwareProfile(text_font=text_font))
        try:
            yield hub, device
        finally:
            await device.switch_off()


def drawn(glyph: PushedGlyph) -> tuple[int, ...]:
    return (glyph.advance, glyph.width, glyph.height, glyph.left, glyph.bottom)


# -- what a device sees -------------------------------------------------------------------------------------------


async def test_a_device_gets_the_characters_it_lacks_with_what_it_said_and_with_the_answer(
    tmp_path: Path, font_file: Path
) -> None:
    async with hub_and_device(tmp_path, font_file, LCD) as (_, device):
        frames: list[str] = []
        device.link.watch = lambda _, sent, frame: None if sent or isinstance(frame, bytes) else frames.append(frame)
        await device.ask_text(f"a {CORNER}{BELOW} {CORNER}的")
        assert device.complaints == []
        assert sorted(device.glyphs) == sorted(map(ord, (CORNER, BELOW)))  # 的 is in every "common" font
        assert drawn(device.glyphs[ord(CORNER)]) == (320, 10, 10, 0, 0)
        assert drawn(device.glyphs[ord(BELOW)]) == (320, 5, 5, 10, -10)
        assert set(device.glyphs[ord(CORNER)].levels) == {15}
        pushed = [message for frame in frames if "glyph_push" in (message := json.loads(frame))]
        assert [(each["type"], each.get("state")) for each in pushed] == [("stt", None), ("tts", "sentence_start")]


async def test_a_black_and_white_display_gets_one_bit_for_a_pixel(tmp_path: Path, font_file: Path) -> None:
    async with hub_and_device(tmp_path, font_file, OLED) as (_, device):
        await device.ask_text(CORNER + FULL)
        assert device.complaints == []
        assert device.glyphs[ord(CORNER)].rows() == ["#" * 7] * 7
        assert device.glyphs[ord(FULL)].rows() == ["#" * 14] * 14


@pytest.mark.parametrize(
    "text_font",
    [None, {**LCD, "bundle": "noto-v2"}, {**LCD, "charset": "klingon"}, {**LCD, "size": 4000}, {**LCD, "bpp": 3}],
    ids=["does not ask", "another bundle", "unknown charset", "absurd size", "absurd depth"],
)
async def test_a_device_that_cannot_use_them_gets_texts_only(
    tmp_path: Path, font_file: Path, text_font: dict[str, Any] | None
) -> None:
    async with hub_and_device(tmp_path, font_file, text_font) as (_, device):
        result = await device.ask_text(CORNER)
        assert (result.heard, device.glyphs, device.complaints) == (CORNER, {}, [])


async def test_the_owner_has_to_switch_them_on(tmp_path: Path, font_file: Path) -> None:
    async with hub_and_device(tmp_path, font_file, LCD, more="") as (_, device):
        result = await device.ask_text(CORNER)
        assert (result.heard, device.glyphs) == (CORNER, {})


async def test_without_a_font_the_conversation_goes_on_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with hub_and_device(tmp_path, tmp_path / "none.ttf", LCD) as (_, device):
        result = await device.ask_text(CORNER)
        assert (result.heard, device.glyphs, device.complaints) == (CORNER, {}, [])
    assert "none.ttf cannot be read" in caplog.text


async def test_a_text_full_of_rare_characters_stays_within_what_devices_take(font_file: Path) -> None:
    lettering = Lettering(DisplayConfig(font=font_file))
    text = "".join(chr(0x20000 + n) for n in range(100))
    try:
        for font in (TextFont("noto-v1", "common", 20, 4), TextFont("noto-v1", "basic", 14, 1)):
            await lettering._worker.run(lettering._look)
            push = await lettering.push(text, font)
            assert push is not None
            told = Stt(text, push).json("s")
            assert 10 < len(push.glyphs) <= 64
            assert len(json.dumps(push.fields())) < MESSAGE_BYTES[font.bpp] + 100
            size = {"bundle": font.bundle, "size": font.size, "bpp": font.bpp}
            assert len(take_glyphs(json.loads(told)["glyph_push"], size)) == len(push.glyphs)
    finally:
        await lettering.close()


# -- what is lacking, and how it is drawn -------------------------------------------------------------------------


def test_only_what_a_device_may_lack_is_drawn() -> None:
    basic, common = TextFont("noto-v1", "basic", 20, 4), TextFont("noto-v1", "common", 20, 4)
    assert lacking("abc é 的, 𠮷的\n\u200b", basic) == ["的", "𠮷"]
    assert lacking("abc é 的，！龘𠮷", common) == ["龘", "𠮷"]


def test_a_character_that_the_font_has_not_or_that_is_too_large_is_left_out(font_file: Path) -> None:
    raster = Raster(Face(font_file))
    font = TextFont("noto-v1", "basic", 30, 4)
    assert raster.draw("\u5b57", font) is None
    assert raster.draw(HUGE, font) is None
    assert raster.draw(FULL, font) is not None


@pytest.mark.parametrize(
    "hello",
    [{}, {"features": []}, {"features": {"glyph_push": 1}, "text_font": LCD}, {"features": {"glyph_push": True}}],
)
def test_a_hello_that_does_not_clearly_ask_is_not_asking(hello: dict[str, Any]) -> None:
    assert text_font_of(hello) is None


def test_a_device_would_throw_away_what_is_wrong() -> None:
    good = GlyphPush(TextFont(**LCD), []).fields() | {"glyphs": [{}]}
    for push in (good, {**good, "size": 16}, {**good, "v": 2}, {**good, "glyphs": []}, None):
        with pytest.raises(ValueError, match=r"."):
            take_glyphs(push, LCD)


# -- fonts of the machine -----------------------------------------------------------------------------------------


def installed(root: Path, font_file: Path) -> Path:
    path = root / fonts._KNOWN[-1]
    path.parent.mkdir(parents=True)
    path.write_bytes(font_file.read_bytes())
    return path


def test_an_installed_font_is_found_and_a_broken_one_passed_over(tmp_path: Path, font_file: Path) -> None:
    assert find_face(DisplayConfig(), tmp_path) is None
    path = installed(tmp_path, font_file)
    broken = tmp_path / fonts._KNOWN[0]
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no font")
    face = find_face(DisplayConfig(), tmp_path)
    assert face is not None and face.path == path


async def test_the_doctor_tells_of_the_font(tmp_path: Path, font_file: Path) -> None:
    async def told(root: Path, more: str = "") -> dict[str, Finding]:
        (tmp_path / "configuration.yaml").write_text(f"hub: {{name: home}}\n{more}")
        config = load_config(tmp_path)

        async def findings() -> AsyncIterator[Finding]:
            for finding in look_at_machine(config, root):
                yield finding

        return {code: finding for code, finding in (await found(findings())).items() if code.startswith("font")}

    on = "display: {glyph_push: true}\n"
    assert list(await told(tmp_path / "empty", on)) == ["font_none"]
    path = installed(tmp_path / "full", font_file)
    assert (await told(tmp_path / "full", on))["font"].values == {"path": path}
    wrong = await told(tmp_path / "full", "display: {glyph_push: true, font: nowhere.ttf}\n")
    assert wrong["font_unreadable"].level is Level.ERROR
    assert wrong["font_unreadable"].values["path"] == tmp_path / "nowhere.ttf"
    assert await told(tmp_path, "display: {glyph_push: false}\n") == {}
