"""Pictures: what is to be seen on them?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from xiaozhi_hub.core.flow import TextDelta
from xiaozhi_hub.engines.base import Engine


@dataclass(frozen=True, slots=True)
class VisionRequest:
    """A question about a picture."""

    image: bytes
    question: str
    language: str


class Vision(Engine):
    """Answers questions about pictures."""

    @abstractmethod
    def describe(self, request: VisionRequest) -> AsyncGenerator[TextDelta, None]: ...


__all__ = ["Vision", "VisionRequest"]
