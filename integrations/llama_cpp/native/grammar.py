"""The grammar of tool calls: what a model may write once it has begun to call a tool."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from llama_cpp.llama_grammar import PRIMITIVE_RULES, SchemaConverter

LONGEST_TEXT = 250
"""Characters of a text argument: a small model may not end one by itself."""
MOST_ITEMS = 20
_DEEPEST = 8
_PLAIN = {"space", *PRIMITIVE_RULES}
"""The converter's rules that mean the same everywhere."""


def call_grammar(tools: Sequence[Mapping[str, Any]], arguments: str, *, many: bool, opened: bool, closing: str) -> str:
    """GBNF for one call of one of *tools* (``name``, ``parameters``), as JSON with ``name`` and *arguments*.

    *many*: in a list with one entry; *opened*: the first brace has been written already; *closing*: what follows the JSON.
    """
    return _grammar(json.dumps(list(tools)), arguments, many, opened, closing)


@lru_cache(maxsize=16)
def _grammar(tools: str, arguments: str, many: bool, opened: bool, closing: str) -> str:
    shared: dict[str, str] = {}
    rules: list[str] = []
    calls: list[str] = []
    key = _literal(json.dumps(arguments))
    for number, tool in enumerate(json.loads(tools)):
        prefix = f"t{number}"
        rules += _rules_of(tool["parameters"], prefix, shared)
        name = _literal(json.dumps(tool["name"], ensure_ascii=False)[1:])
        calls.append(f'{name} gap "," gap {key} gap ":" gap {prefix}-root')
    # All calls begin alike: what a token may be is looked up once then, and not for each tool.
    root = f'gap "\\"name\\"" gap ":" gap "\\"" ( {" | ".join(calls)} ) "}}"'
    if not opened:
        root = f'"{{" {root}'
    if many:
        root = f'"[" gap {root} gap "]"'
    root = f"gap {root} gap {_literal(closing)}" if closing else f"gap {root}"
    if "char" in shared:  # the converter's allows what JSON does not
        shared["char"] = (
            r'[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])'
        )
    if "string" in shared:
        shared["string"] = f'"\\"" char{{0,{LONGEST_TEXT}}} "\\"" space'
    lines = [f"{name} ::= {body}" for name, body in shared.items()]
    return "\n".join([f"root ::= {root}", 'gap ::= | " " | "\\n" [ \\t]{0,8}', *lines, *rules])


class _Converter(SchemaConverter):  # type: ignore[misc]  # it is not typed
    """The library's converter, which forgets the backslashes in names and values."""

    def _format_literal(self, literal: str) -> str:
        try:
            literal = json.dumps(json.loads(literal), ensure_ascii=False)
        except ValueError:
            pass  # a part of a pattern
        return _literal(literal)


def _rules_of(schema: Mapping[str, Any], prefix: str, shared: dict[str, str]) -> list[str]:
    """The rules of one tool's arguments under names of their own; those of plain values go to *shared*.

    Of any object, where the schema is beyond the converter.
    """
    for attempt in (_bounded(schema), {"type": "object"}):
        try:
            converter = _Converter(prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False)
            converter.visit(converter.resolve_refs(attempt, ""), "")
            text = str(converter.format_grammar())
        except (AssertionError, AttributeError, KeyError, TypeError, ValueError, RecursionError):
            continue
        rules = dict(line.split(" ::= ", 1) for line in text.splitlines())
        shared.update((name, body) for name, body in rules.items() if name in _PLAIN)
        own = {name for name in rules if name not in _PLAIN}
        return [f"{prefix}-{name} ::= {_replace_names(rules[name], own, prefix)}" for name in rules if name in own]
    raise AssertionError("any object can be written as a grammar")


def _bounded(schema: Any, depth: int = 0) -> Any:
    """*schema* with an end to every text and list, and without what only people read."""
    if depth > _DEEPEST or not isinstance(schema, Mapping):
        return {}
    told = {key: value for key, value in schema.items() if key not in ("description", "title", "default", "examples")}
    kind = told.get("type")
    if kind == "string" and isinstance(longest := told.get("maxLength"), int) and longest >= LONGEST_TEXT:
        del told["maxLength"]  # then it is as long as all others may become
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
