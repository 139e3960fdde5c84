"""What the doctor has found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from xiaozhi_hub.core.i18n import Texts


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    """It works, but something speaks against it, or cannot be known from here."""
    ERROR = "error"
    """Something does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. Its words are the texts ``doctor.<code>`` and, for what to do, ``doctor.<code>_do``."""

    level: Level
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def message(self, texts: Texts, language: str) -> str:
        return texts.text(f"doctor.{self.code}", language, **self.values)

    def hint(self, texts: Texts, language: str) -> str:
        """What to do; empty when there is nothing."""
        key = f"doctor.{self.code}_do"
        return texts.text(key, language, **self.values) if texts.has(key, "en") else ""


def ok(code: str, **values: Any) -> Finding:
    return Finding(Level.OK, code, values)


def warning(code: str, **values: Any) -> Finding:
    return Finding(Level.WARNING, code, values)


def error(code: str, **values: Any) -> Finding:
    return Finding(Level.ERROR, code, values)


__all__ = ["Finding", "Level", "error", "ok", "warning"]
