"""The grammar of tool calls: what a model may write once it has begun to call a tool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from llama_cpp.llama_grammar import json_schema_to_gbnf

LONGEST_TEXT = 400
"""Characters of a text argument whose schema sets no limit: a small model may not end one by itself."""
MOST_ITEMS = 20
_LONGEST_ALLOWED = 2000
_DEEPEST = 8


def call_grammar(tools: Sequence[Mapping[str, Any]], arguments: str, *, many: bool, opened: bool, closing: str) -> str:
    """GBNF for one call of one of *tools* (``name``, ``parameters``), as JSON with ``name`` and *arguments*.

    *many*: in a list with one entry; *opened*: the first brace has been written already; *closing*: what follows the JSON.
    """
    return _grammar(json.dumps(list(tools)), arguments, many, opened, closing)


@lru_cache(maxsize=16)
def _grammar(tools: str, arguments: str, many: bool, opened: bool, closing: str) -> str:
    rules: list[str] = []
    calls: list[str] = []
    for number, tool in enumerate(json.loads(tools)):
        prefix = f"t{number}"
        rules += _renamed(_arguments_rules(tool["parameters"]), prefix)
        name, key = _literal(json.dumps(tool["name"], ensure_ascii=False)), _literal(json.dumps(arguments))
        calls.append(
            f'{_literal(json.dumps("name"))} gap ":" gap {name} gap "," gap {key} gap ":" gap {prefix}-root "}}"'
        )
    body = "" if opened else '"{" '
    root = f"{body}gap ( {' | '.join(calls)} )"
    if many:
        root = f'"[" gap {root} gap "]"'
    root = f"gap {root} gap {_literal(closing)}" if closing else f"gap {root}"
    return "\n".join([f"root ::= {root}", 'gap ::= | " " | "\\n" [ \\t]{0,8}', *rules])


def _arguments_rules(schema: Mapping[str, Any]) -> str:
    """The rules of one tool's arguments; of any object, where the schema is beyond the converter."""
    for attempt in (_bounded(schema), {"type": "object"}):
        try:
            return str(json_schema_to_gbnf(json.dumps(attempt)))
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
            continue
    raise AssertionError("any object can be written as a grammar")


def _bounded(schema: Any, depth: int = 0) -> Any:
    """*schema* with an end to every text and list, and without what only people read."""
    if depth > _DEEPEST or not isinstance(schema, Mapping):
        return {}
    told = {key: value for key, value in schema.items() if key not in ("description", "title", "default", "examples")}
    kind = told.get("type")
    if kind == "string" and not {"enum", "const", "pattern", "format"} & set(told):
        longest = told.get("maxLength", LONGEST_TEXT)
        told["maxLength"] = min(longest if isinstance(longest, int) else LONGEST_TEXT, _LONGEST_ALLOWED)
    if kind == "array":
        most = told.get("maxItems", MOST_ITEMS)
        told["maxItems"] = min(most if isinstance(most, int) else MOST_ITEMS, 100)
        told["items"] = _bounded(told.get("items", {}), depth + 1)
    if isinstance(told.get("properties"), Mapping):
        told["properties"] = {name: _bounded(part, depth + 1) for name, part in told["properties"].items()}
        told["additionalProperties"] = False  # also for no properties at all: the converter would take anything
    for key in ("oneOf", "anyOf", "allOf"):
        if isinstance(told.get(key), list):
            told[key] = [_bounded(part, depth + 1) for part in told[key]]
    return told


def _renamed(rules: str, prefix: str) -> list[str]:
    """The rules of one tool under names of their own."""
    lines = [line.split(" ::= ", 1) for line in rules.splitlines()]
    names = {name for name, _ in lines}
    return [f"{prefix}-{name} ::= {_replace_names(body, names, prefix)}" for name, body in lines]


def _replace_names(body: str, names: set[str], prefix: str) -> str:
    """Rename rule names in *body*, which stand outside quotes and brackets."""
    out: list[str] = []
    word, quote = "", ""
    index = 0
    while index < len(body):
        char = body[index]
        if quote:
            out.append(char)
            if char == "\\" and index + 1 < len(body):
                index += 1
                out.append(body[index])
            elif char == quote:
                quote = ""
        elif char.isalnum() or char in "-_":
            word += char
            index += 1
            continue
        else:
            out.append(f"{prefix}-{word}" if word in names else word)
            word = ""
            quote = {'"': '"', "[": "]"}.get(char, "")
            out.append(char)
        index += 1
    out.append(f"{prefix}-{word}" if word in names else word)
    return "".join(out)


def _literal(text: str) -> str:
    """*text* as a terminal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
