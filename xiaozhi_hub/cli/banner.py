"""The screen that ``xiaozhi-hub run`` shows when the hub is up."""

from __future__ import annotations

from xiaozhi_hub import __version__
from xiaozhi_hub.cli.devices import door_line
from xiaozhi_hub.cli.table import cells, pad
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.i18n import LANGUAGES
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.web.programs.devices import told_opening

_TITLES = ("pages", "ota", "voice", "devices", "self_test", "problem")


def banner(hub: Hub, self_test: str, words: Words, titles: Words) -> str:
    """Say where the hub is, what it runs on, whether it works, and what does not. *titles* are the words before each line."""
    urls = [f"http://{host}:{hub.port}/" for host in hub.hosts]
    told = [
        ("pages", "   ".join(urls)),
        ("ota", f"{urls[0]}xiaozhi/ota/      {words('cli.run.type_once')}"),
        ("voice", voice_line(hub, words)),
        ("devices", door_line(told_opening(hub.pairing.opening), words)),
        ("self_test", self_test),
    ]
    told += [("problem", f"{problem.message} {problem.hint}".rstrip()) for problem in hub.problems.values()]
    width = max(cells(titles(f"cli.run.label.{title}")) for title in _TITLES)
    lines = [f"  {pad(titles(f'cli.run.label.{title}'), width)}  {text}" for title, text in told]
    return "\n".join([f"{words('page.title')} {__version__}", *lines])


def voice_line(hub: Hub, words: Words) -> str:
    engines = hub.engines.all()
    parts = []
    for role, title in ((Role.VAD, "VAD"), (Role.ASR, "ASR"), (Role.TTS, "TTS"), (Role.LLM, "LLM")):
        chosen = next((engine for engine in engines if engine.role is role), None)
        if chosen is not None:
            parts.append(f"{title} {chosen.id}{_languages(chosen) if role is Role.ASR else ''}")
        elif role is Role.LLM:
            parts.append(words("cli.run.no_llm"))
        else:
            parts.append(words("cli.run.no_engine", role=title))
    parts.insert(2, words("cli.run.intents", languages=", ".join(LANGUAGES)))
    return " · ".join(parts)


def _languages(engine: EngineInfo) -> str:
    return f" ({', '.join(engine.languages)})" if engine.languages else ""
