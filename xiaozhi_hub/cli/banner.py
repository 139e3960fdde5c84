"""The screen that ``xiaozhi-hub run`` shows when the hub is up."""

from __future__ import annotations

from xiaozhi_hub import __version__
from xiaozhi_hub.cli.devices import door_line
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.web.programs.devices import told_opening


def banner(hub: Hub, self_test: str) -> str:
    """Say where the hub is, what it runs on, whether it works, and what does not."""
    urls = [f"http://{host}:{hub.port}/" for host in hub.hosts]
    lines = [
        f"XiaoZhi Hub {__version__}",
        f"  Pages      {'   '.join(urls)}",
        f"  OTA URL    {urls[0]}xiaozhi/ota/      ← type this once into the device's Wi-Fi page",
        f"  Voice      {voice_line(hub)}",
        f"  Devices    {door_line(told_opening(hub.pairing.opening))}",
        f"  Self-test  {self_test}",
    ]
    lines += [f"  Problem    {problem.message} {problem.hint}".rstrip() for problem in hub.problems.values()]
    return "\n".join(lines)


def voice_line(hub: Hub) -> str:
    engines = hub.engines.all()
    parts = []
    for role, title in ((Role.VAD, "VAD"), (Role.ASR, "ASR"), (Role.TTS, "TTS"), (Role.LLM, "LLM")):
        chosen = next((engine for engine in engines if engine.role is role), None)
        if chosen is not None:
            parts.append(f"{title} {chosen.id}{_languages(chosen) if role is Role.ASR else ''}")
        elif role is Role.LLM:
            parts.append("no language model (see: xiaozhi-hub models)")
        else:
            parts.append(f"no {title}")
    parts.insert(2, "intents en, zh-Hans")
    return " · ".join(parts)


def _languages(engine: EngineInfo) -> str:
    return f" ({', '.join(engine.languages)})" if engine.languages else ""
