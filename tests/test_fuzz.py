"""Malformed input of every kind, some hundreds of each: nothing fails, nothing hangs, nothing is left. More: bench/fuzz.py."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import sys
from pathlib import Path
from types import ModuleType

import pytest

KINDS = ("handshake", "ota", "hello", "message", "binary", "frame", "photo", "mqtt", "udp")


def fuzzing() -> ModuleType:
    path = Path(__file__).resolve().parent.parent / "bench" / "fuzz.py"
    spec = importlib.util.spec_from_file_location("bench_fuzz", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_fuzz"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", KINDS)
async def test_malformed_input_harms_nobody(kind: str, tmp_path: Path) -> None:
    found = await fuzzing().fuzz(
        tmp_path, 160 if kind in ("handshake", "ota", "photo") else 400, seed=20, kinds=(kind,)
    )
    assert found.wrong == []
    assert sum(found.inputs.values()) >= 160


async def test_the_fuzzer_would_notice_a_failure(tmp_path: Path) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.5)
        logging.getLogger("xiaozhi_hub.web").error("it failed", exc_info=ValueError("why"))

    failing = asyncio.create_task(fail())
    found = await fuzzing().fuzz(tmp_path, 60, seed=1, kinds=("hello",))
    await failing
    assert any("it failed" in wrong and "ValueError: why" in wrong for wrong in found.wrong)


async def test_the_same_seed_makes_the_same_input() -> None:
    module = fuzzing()
    one, other = module.Maker(7), module.Maker(7)
    assert [one.check_in() for _ in range(50)] == [other.check_in() for _ in range(50)]
