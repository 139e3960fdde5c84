"""The chat template of a model: how messages become the text that it was trained to go on from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .dialects import TOLD, Dialect, answer_written, call_written, dialect_of, tools_told
from .failure import Failure

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""For models whose file has no template: most families understand it."""

Json = Mapping[str, Any]


class Template:
    """Writes prompts. Runs the template in a sandbox, for it comes with the model from wherever that was fetched."""

    def __init__(self, source: str | None, beginning: str, ending: str) -> None:
        self.missing = not source
        source = source or CHATML
        self.dialect: Dialect = dialect_of(source)
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _json
        environment.globals["raise_exception"] = _refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        self._given = {"bos_token": beginning, "eos_token": ending, "enable_thinking": False}
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise Failure(
                "model-broken",
                f"The chat template in the model's file cannot be read: {error}.",
                "Take another build of the model.",
                permanent=True,
            ) from error

    def write(self, messages: Sequence[Json], tools: Sequence[Json], *, answer: bool = True) -> str:
        """The prompt for *messages* (``role``, ``text``, ``tool_name``, ``calls``); with *answer* up to where the model goes on.

        A template that refuses an order or role of messages is given them in a form that it may like better.
        """
        problem: Exception | None = None
        for shape in _SHAPES:
            shaped = shape(messages, tools, self.dialect)
            given = {"tools": _functions(tools)} if self.dialect.built_in and tools and shape is not _plain else {}
            try:
                return self._template.render(messages=shaped, add_generation_prompt=answer, **given, **self._given)
            except (jinja2.TemplateError, TypeError, KeyError, ValueError, AttributeError) as error:
                problem = problem or error
        raise Failure("llm-failed", f"the model's chat template refuses the conversation: {problem}", permanent=True)


def _functions(tools: Sequence[Json]) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {key: tool[key] for key in ("name", "description", "parameters")}}
        for tool in tools
    ]


def _native(messages: Sequence[Json], tools: Sequence[Json], dialect: Dialect) -> list[dict[str, Any]]:
    """As templates that know tools want it; with tools told in words for those that do not."""
    if not dialect.built_in:
        return _told(messages, tools)
    shaped = []
    for message in messages:
        entry: dict[str, Any] = {"role": message["role"], "content": message["text"]}
        if message["role"] == "tool":
            entry["name"] = message["tool_name"]
        if message["calls"]:
            entry["tool_calls"] = [
                {"type": "function", "id": f"call{number:05}", "function": dict(call)}
                for number, call in enumerate(message["calls"])
            ]
        shaped.append(entry)
    return shaped


def _told(messages: Sequence[Json], tools: Sequence[Json]) -> list[dict[str, Any]]:
    shaped: list[dict[str, Any]] = []
    for message in messages:
        role, text = message["role"], message["text"]
        if role == "tool":
            role, text = "user", answer_written(message["tool_name"], text)
        for call in message["calls"]:
            text = f"{text}\n{call_written(call['name'], call['arguments'])}".lstrip()
        shaped.append({"role": role, "content": text})
    if tools:
        if not shaped or shaped[0]["role"] != "system":
            shaped.insert(0, {"role": "system", "content": ""})
        shaped[0]["content"] = f"{shaped[0]['content']}\n\n{tools_told(tools)}".lstrip()
    return shaped


def _alternating(messages: Sequence[Json], tools: Sequence[Json], dialect: Dialect) -> list[dict[str, Any]]:
    """Messages of the same side that follow one another are made one: some templates insist that the sides take turns."""
    return _merged(_native(messages, tools, dialect))


def _plain(messages: Sequence[Json], tools: Sequence[Json], _: Dialect) -> list[dict[str, Any]]:
    """The system's words before the first question, everything else in words: for templates that know user and assistant only."""
    shaped = _told(messages, tools)
    if shaped and shaped[0]["role"] == "system":
        shaped[0]["role"] = "user"
    return _merged(shaped)


def _merged(shaped: list[dict[str, Any]]) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for entry in shaped:
        mergeable = entry["role"] in ("user", "assistant") and "tool_calls" not in entry
        if out and mergeable and out[-1]["role"] == entry["role"] and "tool_calls" not in out[-1]:
            out[-1]["content"] += f"\n\n{entry['content']}"
        else:
            out.append(dict(entry))
    return out


_SHAPES: tuple[Callable[[Sequence[Json], Sequence[Json], Dialect], list[dict[str, Any]]], ...] = (
    _native,
    _alternating,
    _plain,
)


def _json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


__all__ = ["CHATML", "TOLD", "Template"]
