"""The protocol's checklist, P-01 … P-60, against this hub, as six generations of firmware.

All checks that were selected run together, in one go, when the first of their tests does: most of them wait for the pace of
speech. One that fails in company runs once more alone, because what is measured in company includes the company. With
``XIAOZHI_CONFORMANCE_JSON`` set to a path, what was measured is written there.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest
from conformance_houses import houses, places

from xiaozhi_hub.conformance import CHECKS, Check, Result, Server, run_check
from xiaozhi_hub.testing import PROFILES

AT_ONCE = 10
SLOW_ONLY_IN = ("1.6.2", "2.4.2")
"""Checks of half a minute and more look at the oldest and the newest firmware."""
SOON_OVER = ("P-44",)
"""Slow anywhere but here: this hub is set to hang up after 5 s."""

EXPECTED_TO_FAIL: dict[str, str] = {}
"""What this hub cannot do yet. Strict: an entry whose feature has come makes its test fail until it is taken out."""
NEEDS_MCP = frozenset(f"P-{number}" for number in range(47, 57))
"""What only devices with tools do; they learn of the vision endpoint over MCP, too."""


def cases() -> list[object]:
    found: list[object] = []
    for profile, firmware in PROFILES.items():
        for check in CHECKS:
            if check.slow and profile not in SLOW_ONLY_IN and check.number not in SOON_OVER:
                continue
            if check.number in NEEDS_MCP and not firmware.speaks_mcp:
                continue
            marks = []
            if why := EXPECTED_TO_FAIL.get(check.number):
                marks = [pytest.mark.xfail(strict=True, reason=why)]
            found.append(pytest.param(profile, check, id=f"{profile}-{check.number}", marks=marks))
    return found


Key = tuple[str, str, str]
"""Profile, number, and in which hub."""
_results: dict[Key, Result | str] = {}


def wanted(request: pytest.FixtureRequest) -> list[tuple[str, Check, str]]:
    """What the tests of this run are about."""
    chosen = [
        (item.callspec.params["profile"], item.callspec.params["check"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_conformance"
    ]
    return [(profile, check, place) for profile, check in chosen for place in places(check.number)]


async def look(folder: Path, jobs: list[tuple[str, Check, str]]) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(profile: str, check: Check, place: str, server: Server | str) -> None:
        key = profile, check.number, place
        if isinstance(server, str):
            _results[key] = server
        elif check.slow:
            _results[key] = await run_check(check, server, PROFILES[profile])
        else:
            async with room:
                _results[key] = await run_check(check, server, PROFILES[profile])

    async with houses(folder, sorted({place for _, _, place in jobs})) as servers:
        async with asyncio.TaskGroup() as group:
            for profile, check, place in jobs:
                group.create_task(one(profile, check, place, servers[place]))
        for profile, check, place in jobs:
            before, server = _results[profile, check.number, place], servers[place]
            failed = isinstance(before, Result) and before.verdict == "fail" and isinstance(server, Server)
            if failed and check.number not in EXPECTED_TO_FAIL:
                print(f"again, alone: {profile} {check.number} in {place}: {before}")
                await one(profile, check, place, server)
    if path := os.environ.get("XIAOZHI_CONFORMANCE_JSON"):
        Path(path).write_text(json.dumps([[*key, _told(result)] for key, result in _results.items()], indent=1))


def _told(result: Result | str) -> object:
    return result if isinstance(result, str) else result.as_json()


@pytest.mark.parametrize(("profile", "check"), cases())
async def test_conformance(
    profile: str, check: Check, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    keys = [(profile, check.number, place) for place in places(check.number)]
    if any(key not in _results for key in keys):
        await look(tmp_path_factory.mktemp("conformance"), wanted(request))
    for key in keys:
        result, place = _results[key], key[2]
        if isinstance(result, str):
            pytest.fail(result)
        assert result.verdict == "pass", f"{check.number} ({check.claim}) in {place}: {result.verdict}: {result.reason}"


def test_there_is_a_check_for_each_number() -> None:
    assert [check.number for check in CHECKS] == [f"P-{number:02}" for number in range(1, 61)]


def test_what_is_expected_to_fail_is_on_the_list() -> None:
    assert set(EXPECTED_TO_FAIL) <= {check.number for check in CHECKS}
