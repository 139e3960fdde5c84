"""What does not work although the hub does: told to people on the home page, by the banner, and in the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from xiaozhi_hub.plugins.entries import Entry, EntryState

log = logging.getLogger(__name__)

_LACKING = "lacking-"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not work although the hub does."""

    code: str
    message: str
    hint: str = ""


class Problems(Mapping[str, Problem]):
    """The problems of now, by their codes, in the order in which they came up."""

    def __init__(self) -> None:
        self._now: dict[str, Problem] = {}

    def __getitem__(self, code: str) -> Problem:
        return self._now[code]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def __repr__(self) -> str:
        return f"Problems({list(self._now.values())})"

    def show(self, code: str, message: str, hint: str = "") -> None:
        """There is a problem, or more is known of it. It is logged once, until it is solved."""
        if code not in self._now:
            log.warning("%s %s", message, hint)
        self._now[code] = Problem(code, message, hint)

    def solved(self, code: str) -> None:
        """There is none of this code, or no longer."""
        self._now.pop(code, None)

    def of_entry(self, domain: str, entry: Entry | None) -> bool:
        """Show what is the matter with an integration; *entry* is None where it has none. Returns whether something is."""
        if entry is None or entry.state not in (EntryState.FAILED, EntryState.RETRYING):
            self.solved(f"integration-{domain}")
            return False
        self.show(f"integration-{domain}", f"{entry.name or entry.domain}: {entry.reason}", entry.hint)
        return True

    def of_lacking(self, lacking: Mapping[str, tuple[str, str]]) -> None:
        """Show what the owner has asked for and is not there: message and hint, by codes that begin with ``lacking-``. What was
        shown before and is not among them is there now."""
        for code in [code for code in self._now if code.startswith(_LACKING) and code not in lacking]:
            self.solved(code)
        for code, (message, hint) in lacking.items():
            self.show(code, message, hint)


__all__ = ["Problem", "Problems"]
