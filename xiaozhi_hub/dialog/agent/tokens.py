"""How many tokens a text comes to, where the model does not say. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from xiaozhi_hub.engines.llm import Llm, Message, ToolSpec

CONTEXT = 3000
"""For models that do not tell: what is left of the 4,096 that servers give by default, less an answer."""
_WIDE = re.compile("[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef\U0001f000-\U0003ffff]")
_CHARS = 3.4
"""Characters of a token in other scripts: 3.5 to 4.5 in English prose, 3 to 3.5 in JSON, for today's vocabularies."""
_AROUND = 6
"""What templates put around a message: its role, and where it begins and ends."""

Count = Callable[[str], int]


def estimate(text: str) -> int:
    """About how many tokens *text* comes to, rather too many: one for a Chinese character, one for 3.4 other characters."""
    wide = len(_WIDE.findall(text))
    return wide + math.ceil((len(text) - wide) / _CHARS)


def counter_of(model: Llm) -> Count:
    """Count as *model* does, or estimate."""

    def count(text: str) -> int:
        known = model.count_tokens(text)
        return estimate(text) if known is None else known

    return count


def cut(text: str, most: int, count: Count) -> str:
    """Return *text*, or its beginning where all of it comes to more than *most* tokens."""
    tokens = count(text)
    return text if tokens <= most else text[: max(0, len(text) * most // tokens - 1)].rstrip() + "…"


def cost(messages: Sequence[Message], count: Count) -> int:
    """The tokens of *messages* in a prompt."""
    total = 0
    for message in messages:
        total += _AROUND + count(message.text)
        for call in message.calls:
            total += _AROUND + count(call.name) + count(as_json(dict(call.arguments)))
    return total


def cost_of_tools(tools: Sequence[ToolSpec], count: Count) -> int:
    """The tokens of *tools* in a prompt, as most templates write them."""
    return sum(_AROUND * 2 + count(tool.name + tool.description + as_json(tool.parameters)) for tool in tools)


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=str)
