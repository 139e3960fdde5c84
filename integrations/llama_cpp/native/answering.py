"""One answer: prompt, evaluation, and token after token."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .dialects import THINK, THOUGHT, read_call
from .eyes import Eyes
from .failure import Failure
from .grammar import call_grammar
from .library import Library
from .prompt import Prompts, begins_thinking
from .sampling import Sampler
from .states import States
from .template import Template
from .writing import Called, Opened, Part, Spoken, Writing

Json = Mapping[str, Any]
MOST_CALLS = 8
_MOST_REFUSED = 8
_AHEAD = 32
"""Tokens that are read ahead at once: what is thrown away at most when that has to stop."""
_ROOM = 16
"""Tokens that must be left for an answer."""


class Answering:
    """Answers conversations, one at a time."""

    def __init__(
        self, library: Library, template: Template, prompts: Prompts, states: States, options: Mapping[str, Any]
    ) -> None:
        self._library = library
        self._template = template
        self._prompts = prompts
        self._states = states
        self._options = options

    def answer(
        self,
        conversation: str,
        messages: Sequence[Json],
        tools: Sequence[Json],
        may_call: bool,
        say: Callable[[dict[str, Any]], None],
    ) -> dict[str, Any]:
        """Give what is written to *say* as it comes: ``{"text": …}`` and ``{"call": …}``. Returns what it cost."""
        began = time.monotonic()
        tokens, lead, known = self._prompts.tokens(messages, tools)
        room = self._library.context_size - len(tokens)
        if room < _ROOM:
            raise Failure(
                "llm-too-long",
                f"the conversation has {len(tokens)} tokens, the model's context {self._library.context_size}",
                "Set a larger context: for llama_cpp, or say less at once.",
            )
        prepared = self._states.prepare(conversation, tokens)
        self._library.evaluate(tokens[prepared.reused :])
        read = time.monotonic()
        writer = _Writer(self._library, self._template, tools if may_call else (), self._options, say)
        try:
            chosen = writer.write(min(self._options["max_tokens"], room - 1), begins_thinking(lead))
        finally:
            writer.close()
        if not writer.thought:
            known.append(self._prompts.remember(messages, writer.text, writer.calls, chosen))
        self._states.answered(known, tokens[: self._prompts.shared(messages, tools, tokens)])
        return {
            "prompt": len(tokens),
            "evaluated": len(tokens) - prepared.reused,
            "reused": prepared.reused,
            "restored": prepared.restored,
            "moved": prepared.moved,
            "written": len(chosen),
            "read_ms": round((read - began) * 1000, 1),
            "write_ms": round((time.monotonic() - read) * 1000, 1),
            "counts": [self._prompts.count(message["text"]) for message in messages],
        }

    def prepare(
        self, conversation: str, messages: Sequence[Json], tools: Sequence[Json], gives_way: Callable[[], bool]
    ) -> dict[str, Any]:
        """Read what `answer` would have to, as long as nobody waits; returns how many tokens that were."""
        library, states = self._library, self._states
        if not library.can_cut or not states.may_leave(conversation):
            return {"evaluated": 0}
        tokens, _, known = self._prompts.tokens(messages, tools)
        if library.context_size - len(tokens) < _ROOM or gives_way():
            return {"evaluated": 0}
        start = states.prepare(conversation, tokens).reused
        states.answered(known, tokens[: self._prompts.shared(messages, tools, tokens)])
        at = start
        while at < len(tokens) and not gives_way():
            library.evaluate(tokens[at : at + _AHEAD])
            at = min(at + _AHEAD, len(tokens))
        return {"evaluated": at - start}

    def describe(
        self, eyes: Eyes, prompt: str, question: str, picture: bytes, say: Callable[[dict[str, Any]], None]
    ) -> dict[str, Any]:
        """Answer *question* about *picture*; *prompt* says how."""
        library = self._library
        asked = f"{eyes.marker}\n{question.replace(eyes.marker, '')}"
        messages = [
            {"role": role, "text": text, "tool_name": "", "calls": []}
            for role, text in (("system", prompt), ("user", asked))
        ]
        text, lead = self._prompts.written(messages)
        self._states.put_away()
        try:
            places = eyes.read(text, picture)
            writer = _Writer(library, self._template, (), self._options, say)
            try:
                most = min(self._options["max_tokens"], library.context_size - places - 1)
                written = writer.write(most, begins_thinking(lead))
            finally:
                writer.close()
        finally:
            library.clear()  # what stands for a picture are no tokens that could be compared
        return {"prompt": places, "written": len(written)}

    def forget(self, owners: Sequence[str] | None, before: float | None) -> None:
        """As `States.forget`, in memory and on the disk."""
        self._prompts.forget(but=self._states.forget(owners, before))

    def rest(self) -> None:
        """Nobody asks at present: do what takes time."""
        self._states.write_beginning()

    def end(self, *, conversations: bool) -> None:
        """Keep for the next start what was read, with or without what was said in *conversations*."""
        self._states.write_all(self._prompts.answers, conversations=conversations)


class _Writer:
    """Writes one answer."""

    def __init__(
        self,
        library: Library,
        template: Template,
        tools: Sequence[Json],
        options: Mapping[str, Any],
        say: Callable[[dict[str, Any]], None],
    ) -> None:
        self._library = library
        self._dialect = template.dialect
        self._tools = tools
        self._options = options
        self._say = say
        self._sampler = Sampler(library, options)
        self._chosen: list[int] = []
        self._tags = {"", THINK, THOUGHT, self._dialect.opening, self._dialect.closing}
        self._waiting: list[int] = []
        """Chosen, but not evaluated yet."""
        self._refused = 0
        self.text = ""
        self.calls: list[Json] = []
        self.thought = False

    def close(self) -> None:
        self._sampler.close()

    def write(self, most: int, thinking: bool) -> list[int]:
        """Write up to *most* tokens; returns those that make up the answer."""
        writing = Writing(self._dialect, thinking=thinking)
        thoughts = 0
        finished = False
        while not finished and len(self._chosen) < most:
            self._library.evaluate(self._waiting)
            self._waiting = []
            token = self._sampler.choose()
            if self._library.ends(token):
                break
            raw = self._library.piece(token)
            if self._library.control.get(token, "") not in self._tags:
                raw = b""  # a border or a placeholder, nothing to be said
            self._choose([token])
            finished = self._follow(writing, raw)
            if writing.part is Part.THOUGHT:
                thoughts += 1
                if thoughts == self._options["max_thinking"]:
                    self._choose(self._library.tokenise(f"\n{THOUGHT}\n\n"))
                    finished = self._follow(writing, f"\n{THOUGHT}\n\n".encode())
        for piece in writing.finish():
            self._speak(piece.text)
        self.thought = writing.thought
        if self._tools and writing.half_called and not self.text and not self.calls:
            raise Failure("llm-failed", "the model did not complete its call of a tool")
        return self._chosen

    def _choose(self, tokens: list[int]) -> None:
        self._chosen += tokens
        self._waiting += tokens

    def _follow(self, writing: Writing, raw: bytes) -> bool:
        """Do what the newest bytes ask for. True when the answer is complete."""
        for event in writing.feed(raw):
            if isinstance(event, Spoken):
                self._speak(event.text)
            elif isinstance(event, Opened):
                if self._tools:
                    self._begin_call(event, raw)
                elif not self._rather_speak(writing, event, raw):
                    return True
            elif self._end_call(event):
                return True
        return False

    def _rather_speak(self, writing: Writing, opened: Opened, raw: bytes) -> bool:
        """It began a call though it may not: if that took one token, let it choose another one in its place."""
        whole = opened.bare or raw.decode("utf-8", "replace").strip() == self._dialect.opening
        self._refused += 1
        if not whole or self._refused > _MOST_REFUSED:
            return False
        self._sampler.ban(self._chosen.pop())
        self._waiting.pop()
        writing.back_to_text()
        return True

    def _speak(self, text: str) -> None:
        self.text += text
        self._say({"text": text})

    def _begin_call(self, opened: Opened, raw: bytes) -> None:
        if opened.rest:
            # The token went on behind the opening, unseen by the grammar: take only the part before that.
            cut = raw[: len(raw) - len(opened.rest.encode())]
            del self._chosen[-1:], self._waiting[-1:]
            self._choose(self._library.tokenise(cut.decode("utf-8", "replace"), special=False))
        try:
            self._sampler.constrain(self._grammar(self._tools, opened))
        except Failure:  # one schema is beyond the library: then the arguments are any object, and the hub checks them
            anything = [{**tool, "parameters": {"type": "object"}} for tool in self._tools]
            self._sampler.constrain(self._grammar(anything, opened))

    def _grammar(self, tools: Sequence[Json], opened: Opened) -> str:
        bare, dialect = opened.bare, self._dialect
        closing = "" if bare else dialect.closing
        return call_grammar(tools, dialect.arguments, many=dialect.many and not bare, opened=bare, closing=closing)

    def _end_call(self, called: Called) -> bool:
        self._sampler.release()
        call = read_call(called.text, self._dialect, self._tools)
        if call is None:
            raise Failure("llm-failed", "the model called a tool in a way that cannot be understood")
        name, arguments = call
        self.calls.append({"name": name, "arguments": arguments})
        self._say({"call": self.calls[-1]})
        return not self._dialect.closing or len(self.calls) >= MOST_CALLS
