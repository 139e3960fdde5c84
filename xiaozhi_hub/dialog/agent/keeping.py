"""Dialogues over a restart of the hub: written when it stops, read when it starts, and then the file is gone.

What is read is what was written, to the byte: an engine that has kept what it evaluated goes on from there. After a crash, or where
nothing can be written, dialogues begin anew; so do those that ended longer ago than a conversation is kept. Blocking: for threads.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xiaozhi_hub.dialog.agent.dialogue import Dialogue, Exchange, from_json, to_json
from xiaozhi_hub.engines.llm import ToolSpec

log = logging.getLogger(__name__)

MOST_BYTES = 16 * 2**20
_VERSION = 1
_ERRORS = "surrogatepass"
"""Models write halves of characters now and then: those are kept, too."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A dialogue that nobody goes on with at present."""

    device_id: str
    dialogue: Dialogue
    ended_at: float
    """Seconds since the epoch."""


def write(path: Path, kept: list[Kept]) -> None:
    """Write the dialogues to *path*, readable for the hub's user only. Logs what goes wrong."""
    told = [item for item in kept if item.dialogue.exchanges]
    if not told:
        return
    text = json.dumps({"version": _VERSION, "dialogues": [_to_json(item) for item in told]}, ensure_ascii=False)
    if len(text) > MOST_BYTES:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors=_ERRORS) as file:
            file.write(text)
    except OSError as error:
        log.warning("conversations begin anew after the restart: %s", error.strerror)


def take(path: Path) -> list[Kept]:
    """Read what `write` wrote, and delete it. Empty where there is nothing, or nothing that can be used."""
    try:
        if path.stat().st_size > MOST_BYTES * 4:
            raise ValueError("too large")
        told = json.loads(path.read_text(encoding="utf-8", errors=_ERRORS))
        kept = [_from_json(item) for item in told["dialogues"]] if told["version"] == _VERSION else []
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        log.warning("conversations begin anew: what was kept cannot be read (%s)", type(error).__name__)
        kept = []
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be deleted: %s", path, error.strerror)
    return kept


def _to_json(kept: Kept) -> dict[str, Any]:
    dialogue = kept.dialogue
    return {
        "device": kept.device_id,
        "ended_at": kept.ended_at,
        "key": dialogue.key,
        "language": dialogue.language,
        "system": dialogue.system,
        "tools": [
            {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in dialogue.tools
        ],
        "exchanges": [
            {"messages": [to_json(message) for message in exchange.messages], "told": dict(exchange.told)}
            for exchange in dialogue.exchanges
        ],
        "commands": dialogue.commands,
        "notes": dialogue.notes,
        "done": sorted(dialogue.done),
    }


def _from_json(told: Mapping[str, Any]) -> Kept:
    tools = [ToolSpec(str(tool["name"]), str(tool["description"]), dict(tool["parameters"])) for tool in told["tools"]]
    dialogue = Dialogue()
    dialogue.begin(str(told["key"]), str(told["language"]), str(told["system"]), tools)
    for exchange in told["exchanges"]:
        said = {str(key): str(value) for key, value in exchange["told"].items()}
        dialogue.exchanges.append(Exchange([from_json(message) for message in exchange["messages"]], said))
    dialogue.commands = [str(command) for command in told["commands"]]
    dialogue.notes = [str(note) for note in told["notes"]]
    dialogue.done = {str(tool) for tool in told["done"]}
    return Kept(str(told["device"]), dialogue, float(told["ended_at"]))
