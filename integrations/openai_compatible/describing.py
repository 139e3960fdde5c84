"""What the engines of a server say of themselves."""

from __future__ import annotations

from xiaozhi_hub.plugins.api import EngineInfo, Role

from .server import Server

RANK = 20
"""Who sets up a server for this wants it to be asked before what the hub has itself."""


def info_of(server: Server, role: Role, *, languages: tuple[str, ...] = (), streams: bool = True) -> EngineInfo:
    named = "" if server.name == "openai_compatible" else f" {server.name}"
    return EngineInfo(
        id=server.name,
        role=role,
        name=f"OpenAI-compatible server{named}",
        languages=languages,
        streams_output=streams,
        offline=server.local,
        detail=server.models[role.value],
        rank=RANK,
        remote=True,
    )
