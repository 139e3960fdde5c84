"""A language model that follows a script."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from xiaozhi_hub.plugins.api import ChatRequest, EngineInfo, Llm, Message, Role, TextDelta, ToolRequest

from .behaviour import Behaviour

_TOLD_OF = re.compile(r"([\w.]+\.\w+)\{")
"""A tool in what the hub adds to a question: its name, and its arguments in braces."""
_WORD = re.compile(r"\S+\s*|\s+")


class EchoLlm(Llm):
    """Answers by script, word by word.

    Looked up in this order: ``replies`` by the whole text, ``rules`` by what the text holds (upper and lower case are the same), the
    result of a tool as it is, ``otherwise``. In what is said, ``{text}`` is what was heard and ``{result}`` what a tool answered.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.info = EngineInfo(
            "echo", Role.LLM, "Echo model", streams_output=True, licence="Apache-2.0", detail="script"
        )
        self.behaviour = Behaviour(Role.LLM, options)
        self.offered: set[str] = set()
        """The names of all tools that it could have called so far, or was told of."""
        self._word_delay: float = options["word_delay"]
        self._replies = {_plain(text): reply for text, reply in options["replies"].items()}
        self._rules: list[dict[str, Any]] = options["rules"]
        self._otherwise: str = options["otherwise"]

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        self.offered.update(tool.name for tool in request.tools)
        self.offered.update(name for message in request.messages for name in _TOLD_OF.findall(message.text))
        await self.behaviour.act()
        heard = next((message.words for message in reversed(request.messages) if message.role == "user"), "")
        last = request.messages[-1] if request.messages else Message("user", "")
        step = self._step(heard, last)
        said = step["say"].replace("{text}", heard).replace("{result}", last.words if last.role == "tool" else "")
        for word in _WORD.findall(said):
            if self._word_delay:
                await asyncio.sleep(self._word_delay)
            yield TextDelta(word)
        if step.get("fail"):
            raise self.behaviour.failure()
        if "call" in step and request.may_call:
            yield ToolRequest(step["call"]["tool"], step["call"]["arguments"])

    def _step(self, heard: str, last: Message) -> Mapping[str, Any]:
        """The rule to follow now."""
        if last.role == "tool":
            for rule in self._rules:
                if rule.get("result_of") == last.tool_name:
                    return rule
            return {"say": "{result}"}
        text = _plain(heard)
        if text in self._replies:
            return {"say": self._replies[text]}
        for rule in self._rules:
            if "heard" in rule and _plain(rule["heard"]) in text:
                return rule
        return {"say": self._otherwise}


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
