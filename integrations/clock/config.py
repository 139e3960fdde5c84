"""Options of the clock."""

from __future__ import annotations

import voluptuous as vol


def rounds(value: object) -> int:
    """How often something rings before it falls silent."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 20:
        raise vol.Invalid("expected a number of rounds from 1 to 20")
    return value


SCHEMA = vol.Schema(
    {
        vol.Optional("timer_rounds", default=3, description="How often a finished timer rings"): rounds,
        vol.Optional("alarm_rounds", default=6, description="How often an alarm rings"): rounds,
    }
)
