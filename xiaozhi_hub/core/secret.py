"""Words that must not be shown."""

from __future__ import annotations

MASK = "••••"


class Secret:
    """A password, token or key that shows itself to nobody by accident.

    Printing, logging and formatting give dots; only `reveal` gives the words. An empty secret is false.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str = "") -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the words themselves; do not keep or log what you get."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)
