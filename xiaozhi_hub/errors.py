"""Everything that can go wrong, by cause.

HubError                     code, message, hint, permanent
├── ConfigError              the configuration files
│   └── ConfigErrors         several of them, found in one go
├── EntryError               an integration
│   ├── NotReady             try again later
│   └── NeedsAttention       the owner must do something
│       └── NotInstalled     a package or a model is not there
├── StageError               a turn: ``stage`` says which part of it
├── ToolError                told to the model and to the person
│   ├── UnknownTool          no tool has that name
│   ├── NotForMe             the tool was asked by mistake
│   └── MissingSlot          the person has to be asked for one more thing
├── StoreError               the database or its disk
└── ProtocolError            the other side broke the rules of the protocol
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class HubError(Exception):
    """A failure that a person can be told about.

    ``code`` is stable and machine-readable, ``message`` says what happened, ``hint`` what to do about it, and
    ``permanent`` whether trying the same thing again is pointless. None of them ever holds a secret.
    """

    code = "internal"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "", permanent: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.hint = hint
        self.permanent = permanent

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the configuration something stands."""

    file: str
    line: int | None = None
    key: str = ""
    """The path of keys, such as ``server → port``."""
    written: str = field(default="", compare=False)
    """What is written there, fit to be shown: secrets are dots, variables stand by name. Empty when that is unknown."""

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where} {self.key}".strip()


class ConfigError(HubError):
    """The configuration cannot be used; ``place`` names file, line and key."""

    code = "config-invalid"

    def __init__(self, message: str, place: Place, *, hint: str = "") -> None:
        super().__init__(message, hint=hint, permanent=True)
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {super().__str__()}"


class ConfigErrors(ConfigError):
    """All that was found wrong in one go; ``errors`` holds at least one. ``stamps`` tells of the files that were read as
    `xiaozhi_hub.core.yaml_files.stamp_of` does; empty where none were."""

    def __init__(
        self, errors: Iterable[ConfigError], stamps: Mapping[Path, tuple[int, int, int] | None] | None = None
    ) -> None:
        self.errors = tuple(errors)
        self.stamps = dict(stamps or {})
        first = self.errors[0]
        super().__init__(first.message, first.place, hint=first.hint)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


class EntryError(HubError):
    """One configured use of an integration does not work."""

    code = "entry-failed"


class NotReady(EntryError):
    """Raised by an integration that should be started again a little later."""

    code = "entry-not-ready"


class NeedsAttention(EntryError):
    """Raised by an integration that cannot work until the owner did something; the hint says what."""

    code = "entry-needs-attention"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message, code=code, hint=hint, permanent=True)


class NotInstalled(NeedsAttention):
    """Raised by an integration that lacks a package or a model; the hint is the command that gets it."""

    code = "not-installed"


class StageError(HubError):
    """One stage of a turn failed.

    ``stage`` is the engine role or part of the turn (``vad``, ``asr``, ``respond``, ``tts``, ``store``). The person
    hears the translation ``spoken.<code>`` where one exists, else ``spoken.<stage>-failed``, else ``spoken.failed``.
    """

    code = "stage-failed"

    def __init__(
        self, stage: str, message: str, *, code: str | None = None, hint: str = "", permanent: bool = False
    ) -> None:
        super().__init__(message, code=code, hint=hint, permanent=permanent)
        self.stage = stage


class ToolError(HubError):
    """A tool could not do what was asked; the message is spoken, so it is in the language of the turn."""

    code = "tool-failed"


class UnknownTool(ToolError):
    """No tool has that name."""

    code = "tool-unknown"


class NotForMe(ToolError):
    """A sentence led to a tool that turns out to know nothing of the matter: whoever comes next in the turn answers instead."""

    code = "tool-not-for-me"


class MissingSlot(ToolError):
    """A tool needs one more thing from the person; the message is the question to ask.

    The answer is put into the argument ``slot`` and the tool is called again with ``arguments`` and the answer.
    """

    code = "tool-missing-slot"

    def __init__(self, slot: str, question: str, arguments: Mapping[str, Any] | None = None) -> None:
        super().__init__(question)
        self.slot = slot
        self.arguments = dict(arguments or {})


class StoreError(HubError):
    """The database or its disk refuses; the hub goes on without remembering."""

    code = "store-failed"


class ProtocolError(HubError):
    """The other side broke the rules of the protocol. ``close`` says whether the link can go on."""

    code = "protocol"

    def __init__(self, message: str, *, code: str | None = None, close: bool = False) -> None:
        super().__init__(message, code=code)
        self.close = close


class BadAudio(HubError):
    """A sound file that cannot be read."""

    code = "audio-unreadable"

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="Give a WAV file of 8, 16, 24 or 32 bits.", permanent=True)
