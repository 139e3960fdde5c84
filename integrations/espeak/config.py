"""Options of the eSpeak NG voice."""

from __future__ import annotations

import re

import voluptuous as vol


def variant(value: object) -> str:
    """Check the name of one of eSpeak's voice variants, such as f3, m2 or belinda."""
    if not isinstance(value, str) or re.fullmatch(r"[A-Za-z0-9_-]*", value) is None:
        raise vol.Invalid("expected the name of an eSpeak voice variant, such as f3 or m2")
    return value


SCHEMA = vol.Schema(
    {
        vol.Optional("english", default="en-us", description="Which English is spoken"): vol.In(["en-us", "en-gb"]),
        # A little slower and lower than eSpeak's own 175 and 50: its consonants run together at speed.
        vol.Optional("rate", default=165, description="Words per minute"): vol.All(int, vol.Range(80, 400)),
        vol.Optional("pitch", default=45, description="Height of the voice"): vol.All(int, vol.Range(0, 99)),
        vol.Optional("variant", default="", description="A voice variant such as f3 or m2"): variant,
        vol.Optional("library", description="Folder that holds the eSpeak NG library and its espeak-ng-data"): str,
    }
)
