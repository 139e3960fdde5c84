"""Options of the demo home: none."""

from __future__ import annotations

import voluptuous as vol

SCHEMA = vol.Schema({})
