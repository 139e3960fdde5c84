"""From a conversation to tokens, so that what was evaluated before comes out the same again.

A template does not write an answer into the history as the model gave it (Qwen 3 leaves the empty thoughts out), and a
tokeniser may cut the same text differently. So the tokens that the model chose are remembered with the words that were made
of them, and put in their place where these words come back.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from typing import Any

from .common import common
from .dialects import THINK, THOUGHT
from .failure import Failure
from .library import Library
from .template import Template

Json = Mapping[str, Any]
_REMEMBERED = 2000
_COUNTED = 4000
_MARK = "\ue000{}\ue001"
"""Stands for an answer while the template runs: characters for private use, which no template looks at."""


def answer_key(before: Sequence[Json], text: str, calls: Sequence[Json]) -> str:
    """What tells one answer in a history from others: its words and calls, and what was said since the question."""
    said = []
    for message in reversed(before):
        said.append(message["text"])
        if message["role"] == "user":
            break
    told = [said, text.strip(), [[call["name"], call["arguments"]] for call in calls]]
    return hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=12).hexdigest()


class Prompts:
    """Writes the tokens of conversations and remembers those of answers."""

    def __init__(self, library: Library, template: Template) -> None:
        self._library = library
        self._template = template
        self.answers: OrderedDict[str, list[int]] = OrderedDict()
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._control = sorted(
            {text for text in library.control.values() if len(text) > 2}, key=lambda text: (-len(text), text)
        )

    def remember(self, messages: Sequence[Json], text: str, calls: Sequence[Json], tokens: Sequence[int]) -> str:
        """Keep the tokens of the answer to *messages*; the same answer keeps the tokens it had first. Returns its key."""
        key = answer_key([self._harmless(message) for message in messages], self._without_control(text), calls)
        self.answers.setdefault(key, list(tokens))
        self.answers.move_to_end(key)
        while len(self.answers) > _REMEMBERED:
            self.answers.popitem(last=False)
        return key

    def forget(self, but: Container[str]) -> None:
        """Let go of all answers *but* those with these keys, and of all texts."""
        for key in tuple(self.answers):
            if key not in but:
                del self.answers[key]
        self._counts.clear()

    def tokens(self, messages: Sequence[Json], tools: Sequence[Json]) -> tuple[list[int], str, list[str]]:
        """The tokens of the prompt, what the template wrote for the answer to begin with, and the keys of known answers in it."""
        messages = [self._harmless(message) for message in messages]
        plain = self._template.write(messages, tools)
        lead = plain.removeprefix(self._template.write(messages, tools, answer=False))
        lead = lead if len(lead) < len(plain) else ""
        parts, keys = self._with_answers(messages, tools, lead)
        tokens: list[int] = []
        for part in parts or [plain]:
            tokens += self._library.tokenise(part) if isinstance(part, str) else part
        beginning = self._library.beginning()
        if beginning and self._library.wants_beginning and tokens[:1] != [beginning[0]]:
            tokens.insert(0, beginning[0])
        return tokens, lead, keys

    def written(self, messages: Sequence[Json]) -> tuple[str, str]:
        """The prompt of *messages* as text, beginning included, and what the template wrote for the answer to begin with."""
        messages = [self._harmless(message) for message in messages]
        text = self._template.write(messages, ())
        lead = text.removeprefix(self._template.write(messages, (), answer=False))
        beginning = self._library.beginning()
        if beginning and self._library.wants_beginning and not text.startswith(beginning[1]):
            text = beginning[1] + text
        return text, lead if len(lead) < len(text) else ""

    def _with_answers(
        self, messages: Sequence[Json], tools: Sequence[Json], lead: str
    ) -> tuple[list[str | list[int]], list[str]]:
        """The prompt in parts: texts, and tokens of answers that are known. Empty when the template does not play along."""
        marked: list[Json] = []
        known: list[tuple[str, str]] = []
        for number, message in enumerate(messages):
            is_answer = message["role"] == "assistant"
            key = answer_key(messages[:number], message["text"], message["calls"]) if is_answer else ""
            if key in self.answers:
                mark = _MARK.format(number)
                known.append((mark, key))
                marked.append({**message, "text": mark, "calls": []})
            else:
                marked.append(message)
        if not known:
            return [], []
        rest = self._template.write(marked, tools)
        parts: list[str | list[int]] = []
        for mark, key in known:
            before, found, rest = rest.partition(mark)
            if not found or mark in rest:
                return [], []
            parts += [before + _missing(before, lead), self.answers[key]]
        return [*parts, rest], [key for _, key in known]

    def shared(self, messages: Sequence[Json], tools: Sequence[Json], tokens: Sequence[int]) -> int:
        """How many of *tokens*, the prompt of *messages*, other conversations with the same instructions and tools begin with."""
        if not messages or messages[0]["role"] != "system":
            return 0
        other = {"role": "user", "text": "?", "tool_name": "", "calls": []}
        try:
            return common(self.tokens([messages[0], other], tools)[0], tokens)
        except Failure:
            return 0

    def count(self, text: str) -> int:
        """How many tokens *text* has."""
        found = self._counts.get(text)
        if found is None:
            found = self._counts[text] = len(self._library.tokenise(text, special=False))
        self._counts.move_to_end(text)
        while len(self._counts) > _COUNTED:
            self._counts.popitem(last=False)
        return found

    def _harmless(self, message: Json) -> Json:
        """What people, tools and pages say must not read as a border between messages."""
        return {
            **message,
            "text": self._without_control(message["text"].strip()),
            "calls": [
                {"name": call["name"], "arguments": self._without_control_inside(call["arguments"])}
                for call in message["calls"]
            ],
        }

    def _without_control(self, text: str) -> str:
        while True:
            cleaned = text
            for control in self._control:
                if control in cleaned:
                    cleaned = cleaned.replace(control, "")
            if cleaned == text:  # what is left of two halves may be a third
                return text
            text = cleaned

    def _without_control_inside(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._without_control(value)
        if isinstance(value, Mapping):
            return {key: self._without_control_inside(part) for key, part in value.items()}
        if isinstance(value, list):
            return [self._without_control_inside(part) for part in value]
        return value


def _missing(before: str, lead: str) -> str:
    """What of *lead*, with which every answer began, the template left out at the end of *before*."""
    for size in range(len(lead), 0, -1):
        if before.endswith(lead[:size]):
            return lead[size:]
    return ""


def begins_thinking(lead: str) -> bool:
    """Did the template open the model's thoughts for it?"""
    return lead.rfind(THINK) > lead.rfind(THOUGHT)
