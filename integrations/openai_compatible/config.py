"""Options of the OpenAI-compatible server."""

from __future__ import annotations

from urllib.parse import urlsplit

import voluptuous as vol


def address(value: object) -> str:
    """Check the address of the API; it usually ends in ``/v1``."""
    text = value.strip().rstrip("/") if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise vol.Invalid("expected an address such as http://192.168.1.30:8080/v1")
    if parts.username or parts.password:
        raise vol.Invalid("expected an address without user and password; the key has a place of its own")
    return text


_VISION = vol.Schema(
    {
        vol.Optional("max_tokens", default=300, description="How long an answer about a picture may become"): vol.All(
            int, vol.Range(16, 2000)
        ),
        vol.Optional("prompt", default="", description="What the model is told before the question"): str,
    }
)

SCHEMA = vol.Schema(
    {
        vol.Required("url", description="Address of the API, with /v1 where it has one"): address,
        vol.Optional("model", default="", description="Name of the model; empty for the first the server has"): str,
        vol.Optional(
            "key", default="", description="The key, where the server wants one; put it into secrets.yaml"
        ): str,
        vol.Optional("timeout_s", default=20, description="Seconds after which an answer is not waited for"): vol.All(
            vol.Any(int, float), vol.Range(1, 300)
        ),
        vol.Optional("vision", default=dict, description="Answers about pictures"): _VISION,
    }
)
