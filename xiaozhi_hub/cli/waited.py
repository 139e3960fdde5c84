"""How much silence the hub waited for before it answered, and why so much: for people. Pure."""

from __future__ import annotations

from xiaozhi_hub.core.flow import Completeness, Wait, WaitReason

_WHY = {
    Completeness.COMPLETE: "nothing could follow",
    Completeness.EXTENDABLE: "it might have gone on",
    Completeness.PARTIAL: "it sounded unfinished",
    Completeness.UNKNOWN: "it is no sentence that the hub knows",
    None: "the words were not known in time",
}


def told_wait(wait: Wait, heard: str) -> str:
    """Tell of *wait*, which ended a turn in which *heard* was heard."""
    counted = f"{wait.ended} of {wait.times} times"
    match wait.reason:
        case WaitReason.HABIT:
            why = f"{heard!r} and the like have ended here {counted}"
        case WaitReason.PAUSES:
            why = "people here do not pause for longer in mid-sentence"
        case WaitReason.GOES_ON:
            why = f"people here often go on after {heard!r} and the like, which have ended here {counted}"
        case WaitReason.CHECK:
            why = f"to see whether anybody still never goes on; {heard!r} and the like have ended here {counted}"
        case WaitReason.SETTING:
            why = _WHY[wait.after]
            if wait.times:
                why += f"; {heard!r} and the like have ended here {counted}"
    rather = f", not {wait.usual_ms:.0f}" if wait.usual_ms not in (0, wait.ms) else ""
    return f"{wait.ms:.0f} ms{rather}: {why}"


__all__ = ["told_wait"]
