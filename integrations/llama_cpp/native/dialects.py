"""How models write tool calls, and where their thoughts are: each family was trained on a notation of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

THINK, THOUGHT = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The notation of one family."""

    opening: str
    """What begins a call; empty: a brace at the very beginning of the answer."""
    closing: str = ""
    many: bool = False
    """The call stands in a list."""
    arguments: str = "arguments"
    built_in: bool = True
    """The model's own template tells it about tools; otherwise `tools_told` does."""


HERMES = Dialect("<tool_call>", "</tool_call>")
LLAMA = Dialect("", arguments="parameters")
MISTRAL = Dialect("[TOOL_CALLS]", many=True)
TOLD = Dialect("<tool_call>", "</tool_call>", built_in=False)


def dialect_of(template: str) -> Dialect:
    """The notation that the author of *template* had in mind; ours, where it is silent or not one of these."""
    if "tools" not in template:
        return TOLD
    if "<tool_call>" in template and "arguments" in template and "<function=" not in template:
        return HERMES
    if "[TOOL_CALLS]" in template and "[ARGS]" not in template and "[CALL_ID]" not in template:
        return MISTRAL
    if "parameters" in template and "python_tag" in template:
        return LLAMA
    return TOLD


_TOLD = """# Tools

You can call these tools. Each line is one of them:
{tools}

To call one, write nothing but this, with the tool's name and its arguments as JSON:
<tool_call>
{{"name": "...", "arguments": {{}}}}
</tool_call>
You are then told what it answered. Call a tool only when it is needed; otherwise just answer."""


def tools_told(tools: Sequence[Mapping[str, Any]]) -> str:
    """What a model is told of *tools* when its template does not do that."""
    lines = (
        json.dumps({key: tool[key] for key in ("name", "description", "parameters")}, ensure_ascii=False)
        for tool in tools
    )
    return _TOLD.format(tools="\n".join(lines))


def call_written(name: str, arguments: Mapping[str, Any]) -> str:
    """A call as `tools_told` asks for it."""
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}\n</tool_call>"


def answer_written(tool: str, text: str) -> str:
    """What a tool answered, for a template that knows nothing of tools."""
    return f"<tool_response>\n{tool}: {text}\n</tool_response>"


def read_call(text: str, dialect: Dialect, tools: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]] | None:
    """The call that *text* holds, with what is unambiguous repaired; None when it is none, or of no tool that was offered."""
    text = text.strip()
    if dialect.closing:
        text = text.removesuffix(dialect.closing).rstrip()
    try:
        told = json.loads(text, strict=False)  # a line break inside a text is meant as one
    except (ValueError, RecursionError):
        return None
    if isinstance(told, list) and len(told) == 1:
        told = told[0]
    if not isinstance(told, dict):
        return None
    name = told.get("name")
    arguments: Any = next((told[key] for key in (dialect.arguments, "arguments", "parameters") if key in told), {})
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None
    if arguments is None:
        arguments = {}
    offered = {tool["name"] for tool in tools}
    if not isinstance(arguments, dict) or not isinstance(name, str) or name not in offered:
        return None
    whole = json.dumps(arguments, ensure_ascii=False).encode("utf-8", "replace")  # half a character may be escaped
    return name, json.loads(whole)
