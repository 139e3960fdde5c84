"""What the hub did about a question, as it tells the device that asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from aiohttp import ClientError, ClientSession, ClientTimeout

from xiaozhi_hub.cli.words import Words

ANSWER_SECONDS = 5.0
TRIES, PAUSE_SECONDS = 30, 0.1
"""A turn is written down a moment after its last sound, or three seconds after it where the disk or the machine is slow."""


async def what_was_done(ota_url: str, device_id: str, session_id: str, heard: str, words: Words) -> list[str]:
    """Return the tool calls of the newest turn, if *heard* was what it understood: ``clock.start_timer(minutes=5)``.

    *session_id* is that of the conversation, which goes on. Empty where nothing was done, and where the hub does not say: it keeps
    no history, or is of another kind.
    """
    url = urlsplit(ota_url)
    own = urlunsplit((url.scheme, url.netloc, f"/api/v2/conversations/{quote(device_id, safe='')}", "", ""))
    try:
        async with ClientSession(timeout=ClientTimeout(total=ANSWER_SECONDS)) as http:
            for _ in range(TRIES):
                async with http.get(own, headers={"Session-Id": session_id}) as answer:
                    if answer.status != 200:
                        return []
                    turns = (await answer.json())["turns"]
                if turns and turns[-1]["message"] == heard:
                    return [_shown(call, words) for call in turns[-1]["tool_calls"]]
                await asyncio.sleep(PAUSE_SECONDS)
    except (ClientError, TimeoutError, ValueError, KeyError, TypeError):
        pass  # it is another hub, or an older one: what was done stays unknown
    return []


def _shown(call: Mapping[str, Any], words: Words) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in call["arguments"].items())
    shown = f"{call['name']}({arguments})"
    return words("cli.device.call_failed", call=shown, why=call["error"]) if call["error"] else shown


__all__ = ["what_was_done"]
