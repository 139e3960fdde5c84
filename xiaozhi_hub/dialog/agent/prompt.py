"""What a language model is told: first what never changes, and at the end of each question what has changed since."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.engines.llm import ASIDE

_CONTROL = re.compile(
    r"<\|[^|<>]{0,40}\|?>|<｜[^｜<>]{0,40}｜>|</?(?:s|think|thinking|tool_call|tool_calls|tool_response|tools|start_of_turn|"
    r"end_of_turn|bos|eos|unk)>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|<<?/?SYS>?>",
    re.IGNORECASE,
)
"""What ends or begins a message in the templates of today's models: in somebody's words it would be taken for that."""
_OWN = re.compile(r"\(hub:\s?", re.IGNORECASE)
_SEPARATOR = "; "
_MOST_TEXT = 2000
_MOST_VALUE = 200


@dataclass(frozen=True, slots=True)
class Known:
    """One thing that the model should know now."""

    key: str
    """What it is about; empty for what is told once."""
    value: str
    """It is told again when this has changed."""
    text: str


def harmless(text: str, most: int = _MOST_TEXT) -> str:
    """Return somebody's *text* without what a model would take for the hub's own, cut to *most* characters."""
    previous = None
    while previous != text:  # what is left when something was taken out of the middle may be another
        previous, text = text, _OWN.sub("(", _CONTROL.sub(" ", text))
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def line(text: str) -> str:
    """Somebody's text as a value within the hub's own words: one line that cannot end them."""
    return " ".join(harmless(text).translate(_BRACKETS).split())[:_MOST_VALUE]


_BRACKETS = str.maketrans({"(": "[", ")": "]", ";": ","})


def system_text(texts: Texts, language: str, persona: str) -> str:
    """How the model shall speak. Holds nothing that changes while people talk."""
    parts = (
        persona.strip() or texts.text("spoken.persona", language),
        *(texts.text(f"agent.{key}", language) for key in _RULES),
    )
    return "\n".join(parts)


_RULES = ("manner", "faces", "data")


def moment(texts: Texts, language: str, now: datetime) -> list[Known]:
    """The date and the time."""
    weekday = texts.text(f"agent.weekday.{now.weekday()}", language)
    return [
        Known("date", f"{now:%Y-%m-%d}", f"{now:%Y-%m-%d} {weekday}"),
        Known("time", f"{now:%H:%M}", f"{now:%H:%M}"),
    ]


def said_as(texts: Texts, language: str, kind: str, key: str, value: str) -> Known:
    """Something of a *kind* that has a text ``agent.<kind>``, such as the room."""
    return Known(key, value, texts.text(f"agent.{kind}", language, value=line(value)))


def aside(known: Iterable[Known], told: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """What the hub adds to a question: those of *known* that the model cannot read above already; and what that tells."""
    new = [item for item in known if not item.key or told.get(item.key) != item.value]
    if not new:
        return "", {}
    words = _SEPARATOR.join(item.text for item in new)
    return f"{ASIDE}{words})", {item.key: item.value for item in new if item.key}


def question(
    text: str, known: Sequence[Known], told: Mapping[str, str], shorten: Callable[[str], str]
) -> tuple[str, dict[str, str]]:
    """A person's words as the model gets them, and what their aside tells."""
    added, tells = aside(known, told)
    return shorten(harmless(text).strip()) + added, tells
