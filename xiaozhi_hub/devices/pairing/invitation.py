"""Plain clients: a person's phone or page, let in by the owner with a token that is shown once."""

from __future__ import annotations

import re
import secrets

_ID = re.compile(r"client-[0-9a-f]{12}")


def new_client_id() -> str:
    """Return a name for a client that no other has."""
    return f"client-{secrets.token_hex(6)}"


def is_client(device_id: str) -> bool:
    """Is this the name of a plain client? No device comes in under such a name, however open the door is."""
    return _ID.fullmatch(device_id) is not None


def join_token(client_id: str, secret: str) -> str:
    """Return the token that the owner gives to the client: it says who it is and proves it."""
    return f"{client_id}.{secret}"


def split_token(token: str) -> tuple[str, str] | None:
    """Return the client's name and what proves it; None when *token* is of another form."""
    client_id, dot, secret = token.strip().partition(".")
    return (client_id, secret) if dot and is_client(client_id) and token.isascii() else None


__all__ = ["is_client", "join_token", "new_client_id", "split_token"]
