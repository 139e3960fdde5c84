"""What can come of a check."""

from __future__ import annotations

from typing import Literal

from xiaozhi_hub.errors import HubError

Verdict = Literal["pass", "fail", "n/a"]


class Broken(HubError):
    """The server does not do what the claim says."""

    code = "conformance-broken"


class NotApplicable(HubError):
    """The claim says nothing about this server or this firmware, or it cannot be seen from where we stand."""

    code = "conformance-not-applicable"


class NotForFirmware(NotApplicable):
    """Devices of this firmware profile never do what the claim is about."""


__all__ = ["Broken", "NotApplicable", "NotForFirmware", "Verdict"]
