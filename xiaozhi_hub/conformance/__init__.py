"""The protocol's checklist, P-01 … P-60, as checks that run against any server: this hub in its tests, others by the command
``xiaozhi-hub conformance``."""

from __future__ import annotations

from xiaozhi_hub.conformance import (
    conversation,
    handshake,
    legacy,
    liveness,
    mcp,
    mqtt,
    names,
    ota,
    sound,
    vision,
)
from xiaozhi_hub.conformance.bench import Bench, Known, Server, Times
from xiaozhi_hub.conformance.check import Check
from xiaozhi_hub.conformance.run import Result, run_check, run_checks
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable, NotForFirmware, Verdict
from xiaozhi_hub.conformance.voice import Voice

_TOPICS = (ota, names, handshake, conversation, sound, liveness, mcp, vision, mqtt, legacy)
CHECKS: tuple[Check, ...] = tuple(
    sorted(
        (check for topic in _TOPICS for check in vars(topic).values() if isinstance(check, Check)),
        key=lambda check: check.number,
    )
)
"""One for each number, in order."""

__all__ = [
    "CHECKS",
    "Bench",
    "Broken",
    "Check",
    "Known",
    "NotApplicable",
    "NotForFirmware",
    "Result",
    "Server",
    "Times",
    "Verdict",
    "Voice",
    "run_check",
    "run_checks",
]
