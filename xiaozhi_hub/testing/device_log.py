"""What a device notes: the conversation for people to read, and where the hub broke the rules."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

_MOST_LINES = 500


class DeviceLog:
    """Lines with seconds since the device was made; the newest are kept."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._born_at = self._loop.time()
        self.lines: deque[str] = deque(maxlen=_MOST_LINES)
        self.complaints: list[str] = []
        """Where the hub broke the rules: each would make some firmware crash, hang, or ignore what was meant."""

    def note(self, who: str, what: str) -> None:
        """*who* is ``→`` for the device, ``←`` for the hub, ``·`` for what happened and ``!`` for a complaint."""
        self.lines.append(f"{self._loop.time() - self._born_at:8.3f} {who} {what}")

    def complain(self, why: str) -> None:
        """The hub broke a rule."""
        self.complaints.append(why)
        self.note("!", why)


def brief(message: Mapping[str, Any]) -> str:
    """A message on one line, without what is the same in all of them."""
    parts = [str(message.get("type", "?"))]
    for name, value in message.items():
        if name not in ("type", "session_id"):
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            parts.append(text if name in ("state", "mode") else f"{name}={text[:120]}")
    return " ".join(parts)


__all__ = ["DeviceLog", "brief"]
