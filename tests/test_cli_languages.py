"""What commands say to a person who reads Chinese, beside a hub that runs; and that programs read the same in every language."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from xiaozhi_hub.cli import main
from xiaozhi_hub.cli.table import cells
from xiaozhi_hub.core.i18n import is_chinese
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

KITCHEN, PHONE = "02:00:00:00:00:01", "手机"
CONFIGURATION = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
history: {enabled: true}
devices: {"02:00:00:00:00:01": {name: 小台灯, area: 厨房}}
assistants: {butler: {name: 管家}}
integrations: {silero_vad: false, phrases: false, espeak: false, demo: false, clock: , echo: {tts: {ms: 100}}}
"""
ENGLISH = re.compile(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}")
"""Three words in a row."""
COMMANDS_TO_TYPE = re.compile(r"xiaozhi-hub[ \w-]*")
Told = Callable[..., Awaitable[str]]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    """A hub whose configuration says no language: commands speak that of their terminal."""
    async with running_hub(tmp_path, CONFIGURATION) as running:
        async with FakeDevice(
            ota_url=f"{running.local_url}/xiaozhi/ota/", device_id=KITCHEN, language="zh-CN"
        ) as device:
            await device.ask_text("记住周五倒垃圾")
            await device.ask_text("胡说八道")
        async with asyncio.timeout(20):
            while len(await running.history.turns(10)) < 2:
                await asyncio.sleep(0.01)
        yield running


@pytest.fixture
def told(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """What a command prints in a Chinese terminal."""
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    monkeypatch.chdir(tmp_path)

    async def call(line: str, *more: str, code: int = 0) -> str:
        name, *arguments = line.split()
        where = [] if name in ("turns", "firmware") else ["--port", str(hub.port)]
        given = [name, "-c", str(tmp_path), *where, *arguments, *more]
        assert await asyncio.to_thread(main, given) == code, given
        said = capsys.readouterr()
        return said.out + said.err

    return call


def in_chinese(told: str) -> bool:
    return is_chinese(told) and not ENGLISH.search(COMMANDS_TO_TYPE.sub("", told))


async def test_commands_speak_chinese_in_a_chinese_terminal(hub: Hub, told: Told) -> None:
    for line in (
        "devices",
        "devices open --minutes 5",
        f"devices invite {PHONE} --area 客厅",
        f"devices rename {PHONE} 平板",
        "devices close",
        "devices list",
        f"devices forget {KITCHEN} --only-said",
        "devices revoke 平板",
        "devices forget 平板",
        "assistants",
        f"assistants set {KITCHEN} butler",
        "assistants list",
        "say --everywhere 开饭了",
        "say --everywhere --message 开饭了",
        "say --receipts",
        "memory",
        "memory list 汽车",
        "memory export facts.jsonl",
        "memory forget --everything",
        "memory list",
        "reload",
        "check-config --diff",
        "models verify",
        "firmware list",
    ):
        said = await told(line)
        assert in_chinese(said), (line, said)
    assert "没有中枢应答" in await told("reload", "--port", "1", code=1)
    assert "没有编号为 x 的一轮" in await told("turns x", code=1)


async def test_turns_are_told_in_chinese_below_each_other(hub: Hub, told: Told) -> None:
    newest = (await hub.history.turns(1))[0]
    assert in_chinese(await told("turns"))
    first, *facts = (await told("turns", newest.id)).split("\n\n")[0].splitlines()
    assert "胡说八道" in first
    assert [line.split()[0] for line in facts] == ["结果", "语言"]
    assert len({cells(line[: line.rindex(" ")]) for line in facts}) == 1


async def test_columns_stay_below_each_other_in_chinese(told: Told) -> None:
    head, *rows = [line for line in (await told("models list")).splitlines() if "MIT" in line or "许可证" in line][:4]
    assert {cells(line[: line.index(" MIT")]) for line in rows} == {cells(head[: head.index(" 许可证")])}
    on = [line for line in (await told("integrations")).splitlines() if "内置" in line]
    assert len(on) > 8 and len({cells(line[: line.index("内置")]) for line in on}) == 1
    assert any("启用（配置）" in line for line in on) and any("关闭（默认）" in line for line in on)


async def test_what_the_configuration_says_goes_before_the_terminal(tmp_path: Path, told: Told) -> None:
    assert "按配置" in await told("assistants")
    file = tmp_path / "configuration.yaml"
    file.write_text("hub: {language: en}\n" + file.read_text())
    assert "by configuration" in await told("assistants")


async def test_programs_read_the_same_in_every_language(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (
        "devices --json",
        "assistants --json",
        "memory --json",
        "say --receipts --json",
        "turns --json",
        "models list --json",
        "firmware list --json",
    ):
        monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
        chinese = await told(line)
        monkeypatch.setenv("LC_ALL", "C.UTF-8")
        assert await told(line) == chinese, line
