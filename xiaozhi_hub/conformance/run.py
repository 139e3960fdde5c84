"""Running checks, several at a time, and what came of each."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from xiaozhi_hub.conformance.bench import Bench, Server
from xiaozhi_hub.conformance.check import Check
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable, NotForFirmware, Verdict
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing import FirmwareProfile

CHECK_SECONDS = 150.0
"""No check that is not slow takes longer; what does is a failure."""
SLOW_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check."""

    check: Check
    verdict: Verdict
    reason: str = ""
    """Why it failed or says nothing; for what passed, what was measured."""
    seconds: float = 0.0
    by_firmware: bool = False
    """It says nothing because of the firmware profile, not because of the server."""

    def as_json(self) -> dict[str, Any]:
        return {
            "number": self.check.number,
            "claim": self.check.claim,
            "verdict": self.verdict,
            "reason": self.reason,
            "seconds": round(self.seconds, 1),
        }


async def run_check(check: Check, server: Server, profile: FirmwareProfile) -> Result:
    """Run one check. Never raises for what the server does."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    def result(verdict: Verdict, reason: str = "", by_firmware: bool = False) -> Result:
        return Result(check, verdict, " ".join(reason.split()), loop.time() - began, by_firmware)

    limit = SLOW_SECONDS if check.slow else CHECK_SECONDS
    try:
        async with asyncio.timeout(limit):
            note = await check.run(Bench(server, profile, device_id(check.number, profile)))
    except NotApplicable as error:
        return result("n/a", str(error), isinstance(error, NotForFirmware))
    except Broken as error:
        return result("fail", str(error))
    except TimeoutError:
        return result("fail", f"not done within {limit:.0f} s")
    except (HubError, OSError, aiohttp.ClientError, asyncio.IncompleteReadError) as error:
        return result("fail", f"{type(error).__name__}: {error}")
    except Exception as error:  # a server may answer anything; what a check stumbles over, a device would, too
        return result("fail", f"the answer makes no sense: {type(error).__name__}: {error}")
    return result("pass", note or "")


def device_id(number: str, profile: FirmwareProfile) -> str:
    """A device of its own for each check and profile, locally administered."""
    digest = zlib.crc32(f"{profile.version} {profile.board}".encode())
    return f"02:f1:{digest >> 8 & 255:02x}:{digest & 255:02x}:00:{int(number.partition('-')[2]):02x}"


async def run_checks(
    checks: Sequence[Check],
    server: Server,
    profile: FirmwareProfile,
    *,
    at_once: int = 8,
    tell: Callable[[Result], None] = lambda _: None,
) -> list[Result]:
    """Run *checks*, at most *at_once* ordinary ones together and all slow ones beside them; in the order of numbers."""
    if server.device_id:
        at_once = 1  # one device has one connection
    room = asyncio.Semaphore(at_once)

    async def one(check: Check) -> Result:
        if check.slow and not server.device_id:
            result = await run_check(check, server, profile)
        else:
            async with room:
                result = await run_check(check, server, profile)
        tell(result)
        return result

    return list(await asyncio.gather(*(one(check) for check in sorted(checks, key=lambda each: each.number))))


__all__ = ["Result", "device_id", "run_check", "run_checks"]
