"""Options of the OpenAI-compatible servers."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import voluptuous as vol

ROLES = ("llm", "asr", "tts", "vision")
_ID = re.compile(r"[a-z][a-z0-9_-]{0,31}")


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


def engine_id(value: object) -> str:
    """Check the name under which a server's engines are known."""
    if isinstance(value, str) and _ID.fullmatch(value):
        return value
    raise vol.Invalid("expected a short name in lower case, such as attic")


def key(value: object) -> str:
    """Check a key: one line, which a file of its own may end."""
    text = value.strip() if isinstance(value, str) else ""
    if not isinstance(value, str) or not text.isprintable():
        raise vol.Invalid("expected the key on one line")
    return text


def role_or_false(schema: vol.Schema) -> Any:
    """A group of options, or false to leave the role out."""

    def check(value: object) -> Any:
        return False if value is False else schema({} if value is None or value is True else value)

    return check


_MODEL = {vol.Optional("model", default="", description="Name of the model; empty for one that fits"): str}
_EXTRA = {
    vol.Optional("extra", default=dict, description="Sent with every request as it is, for what one server knows"): dict
}
_LLM = vol.Schema(
    {
        **_MODEL,
        **_EXTRA,
        vol.Optional("max_tokens", default=800, description="How long an answer may become"): vol.All(
            int, vol.Range(16, 32000)
        ),
        vol.Optional("context_tokens", description="What the server lets a request and its answer come to"): vol.All(
            int, vol.Range(512, 2**22)
        ),
        vol.Optional("temperature", description="0 always answers the same; left out: as the server likes"): vol.All(
            vol.Any(int, float), vol.Range(0, 2)
        ),
    }
)
_ASR = vol.Schema(
    {
        **_MODEL,
        **_EXTRA,
        vol.Optional("languages", default=list, description="Those that the model speaks; empty for any"): [str],
    }
)
_TTS = vol.Schema(
    {
        **_MODEL,
        **_EXTRA,
        vol.Optional("voice", default="alloy", description="Name of the voice"): str,
        vol.Optional("voices", default=dict, description="Voices for some languages, such as zh-Hans: zf_xiaobei"): {
            str: str
        },
        vol.Optional("languages", default=list, description="Those that the model speaks; empty for any"): [str],
        vol.Optional("format", default="wav", description="wav or pcm, as the server sends it sooner"): vol.In(
            ["wav", "pcm"]
        ),
        vol.Optional("rate", default=24000, description="Samples per second of pcm"): vol.All(
            int, vol.Range(8000, 48000)
        ),
    }
)
_VISION = vol.Schema(
    {
        **_MODEL,
        **_EXTRA,
        vol.Optional("max_tokens", default=300, description="How long an answer about a picture may become"): vol.All(
            int, vol.Range(16, 2000)
        ),
        vol.Optional("prompt", default="", description="What the model is told before the question"): str,
    }
)

_SERVER = {
    vol.Optional("model", default="", description="Name of the model; empty for the first the server has"): str,
    vol.Optional("key", default="", description="The key, where the server wants one; put it into secrets.yaml"): key,
    vol.Optional("timeout_s", default=20, description="Seconds after which an answer is not waited for"): vol.All(
        vol.Any(int, float), vol.Range(1, 300)
    ),
    vol.Optional("roles", default=list, description="What it is used for; empty: what its models are good for"): [
        vol.In(ROLES)
    ],
    vol.Optional("llm", description="Answers; false for none"): role_or_false(_LLM),
    vol.Optional("asr", description="Recognition of speech; false for none"): role_or_false(_ASR),
    vol.Optional("tts", description="A voice; false for none"): role_or_false(_TTS),
    vol.Optional("vision", description="Answers about pictures; false for none"): role_or_false(_VISION),
}
_DEFAULTS: dict[str, Any] = {"llm": _LLM({}), "asr": _ASR({}), "tts": _TTS({}), "vision": _VISION({})}
DOMAIN = "openai_compatible"


def _listed(options: dict[str, Any]) -> dict[str, Any]:
    """Bring both ways of writing into one: a list of servers, each with a name and all options."""
    servers = options.pop("servers", None)
    if servers is None:
        if "url" not in options:
            raise vol.Invalid("expected url: with the address of a server, or servers: with several")
        servers = [{"name": DOMAIN, **options}]
    elif "url" in options:
        raise vol.Invalid("expected either url: or servers:, not both")
    names: set[str] = set()
    for number, server in enumerate(servers):
        server.setdefault("name", DOMAIN if number == 0 else f"{DOMAIN}_{number + 1}")
        if server["name"] in names:
            raise vol.Invalid(f"expected a name of its own for each server; {server['name']} stands twice")
        names.add(server["name"])
        server["named"] = [role for role in ROLES if server.get(role)]
        for role, defaults in _DEFAULTS.items():
            server.setdefault(role, dict(defaults))
    return {"servers": servers}


SCHEMA = vol.Schema(
    vol.All(
        {
            vol.Optional("url", description="Address of the API, with /v1 where it has one"): address,
            **_SERVER,
            vol.Optional("servers", description="Several servers, in place of url"): vol.All(
                [
                    {
                        vol.Required("url", description="Address of the API, with /v1 where it has one"): address,
                        vol.Optional("name", description="The id of its engines, to name them under voice:"): engine_id,
                        **_SERVER,
                    }
                ],
                vol.Length(min=1, max=16),
            ),
        },
        _listed,
    )
)
