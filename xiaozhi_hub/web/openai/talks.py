"""Conversations of the OpenAI API, which has none: each request brings all that was said so far, and by that it is known again."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.core.characters import whole
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.ids import new_id
from xiaozhi_hub.dialog.respond import Conversation
from xiaozhi_hub.engines.llm import ASIDE
from xiaozhi_hub.errors import ProtocolError

LONGEST_MESSAGE = 4000
MOST_MESSAGES = 400
_KEPT = 256
"""Conversations that are remembered, over all clients."""


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation of a client."""

    client_id: str = ""
    session_id: str = field(default_factory=new_id)
    conversation: Conversation = field(default_factory=Conversation)


Said = tuple[str, str]
"""Who said something, ``user`` or ``assistant``, and what."""


class Talks:
    """Finds the conversation that a request goes on with: the one in which just that was said before."""

    def __init__(self) -> None:
        self._talks: OrderedDict[str, Talk] = OrderedDict()

    def find(self, client_id: str, before: Sequence[Said]) -> Talk:
        """The conversation in which *before* was said, a new one when there is none."""
        return self._talks.get(_key(client_id, before)) or Talk(client_id)

    def keep(self, client_id: str, said: Sequence[Said], talk: Talk) -> None:
        """Now *said* has been said in it."""
        key = _key(client_id, said)
        self._talks[key] = talk
        self._talks.move_to_end(key)
        while len(self._talks) > _KEPT:
            self._talks.popitem(last=False)

    async def forget(self, what: Forget) -> None:
        """Let go of conversations. Those that nobody goes on with make room for others by themselves."""
        if what.before is None:
            for key, talk in tuple(self._talks.items()):
                if what.concerns(talk.client_id):
                    del self._talks[key]


def _key(client_id: str, said: Sequence[Said]) -> str:
    return hashlib.sha256(json.dumps([client_id, *said]).encode()).hexdigest()


def read_messages(value: Any) -> tuple[str, tuple[Said, ...]]:
    """Return the question of a request and what was said before it. Instructions (``system``) are the assistant's own matter and
    left out. Raises `ProtocolError`."""
    if not isinstance(value, list) or not value or len(value) > MOST_MESSAGES:
        raise ProtocolError(f"'messages' must be a list of 1 to {MOST_MESSAGES} messages.", code="messages-invalid")
    said: list[Said] = []
    for message in value:
        role = message.get("role") if isinstance(message, dict) else None
        if role in ("user", "assistant"):
            text = _text_of(message.get("content"))
            said.append((role, text.partition(ASIDE)[0]))  # of another hub, for a model and not for this one
        elif role not in ("system", "developer", "tool", "function"):
            raise ProtocolError("A message needs a 'role': system, user or assistant.", code="messages-invalid")
    if not said or said[-1][0] != "user" or not said[-1][1].strip():
        raise ProtocolError("The last message must be a question of the user.", code="messages-invalid")
    question = said[-1][1].strip()
    if len(question) > LONGEST_MESSAGE:
        raise ProtocolError(f"The question is longer than {LONGEST_MESSAGE} characters.", code="messages-invalid")
    return question, tuple(said[:-1])


def _text_of(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return whole(content)
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise ProtocolError("'content' must be a text or a list of parts.", code="messages-invalid")
    if any(part.get("type") != "text" or not isinstance(part.get("text"), str) for part in content):
        raise ProtocolError("Only parts of type 'text' are understood here.", code="content-unsupported")
    return whole("\n".join(part["text"] for part in content))


__all__ = ["Said", "Talk", "Talks", "read_messages"]
