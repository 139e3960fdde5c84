"""How much silence the hub waited for before it answered, and why so much: for people. Pure."""

from __future__ import annotations

from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.flow import Wait, WaitReason


def told_wait(wait: Wait, heard: str, words: Words) -> str:
    """Tell of *wait*, which ended a turn in which *heard* was heard."""
    facts = {"heard": heard, "ended": wait.ended, "times": wait.times}
    match wait.reason:
        case WaitReason.HABIT:
            why = words("cli.waited.habit", **facts)
        case WaitReason.PAUSES:
            why = words("cli.waited.pauses")
        case WaitReason.GOES_ON:
            why = words("cli.waited.goes_on", **facts)
        case WaitReason.CHECK:
            why = words("cli.waited.check", **facts)
        case WaitReason.SETTING:
            why = words(f"cli.waited.after.{wait.after.value if wait.after is not None else 'none'}")
            if wait.times:
                why = words("cli.waited.also", why=why, **facts)
    key = "cli.waited.rather" if wait.usual_ms not in (0, wait.ms) else "cli.waited.for"
    return words(key, ms=wait.ms, usual=wait.usual_ms, why=why)


__all__ = ["told_wait"]
