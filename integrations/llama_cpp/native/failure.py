"""What can go wrong in the child, as it is told to the hub."""

from __future__ import annotations


class Failure(Exception):
    """Told to the person: a code, what happened, what to do about it, and whether trying again is pointless."""

    def __init__(self, code: str, message: str, hint: str = "", *, permanent: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.permanent = permanent


class Stopped(Exception):
    """The hub does not want the answer any more."""
