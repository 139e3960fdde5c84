"""The engines that integrations contributed, by role."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xiaozhi_hub.engines.asr import Asr
from xiaozhi_hub.engines.base import Engine, EngineInfo, Role
from xiaozhi_hub.engines.llm import Llm
from xiaozhi_hub.engines.memory import Memory
from xiaozhi_hub.engines.tts import Tts
from xiaozhi_hub.engines.vad import Vad
from xiaozhi_hub.engines.vision import Vision
from xiaozhi_hub.engines.wake import Wake
from xiaozhi_hub.errors import StageError


class EngineRegistry:
    """All engines that are ready now. Where the configuration names none, rank is preference, and then order of contribution."""

    def __init__(self) -> None:
        self._engines: dict[tuple[Role, str], tuple[Engine, str]] = {}
        self.asked: Callable[[Role], None] = lambda role: None
        """Is told each time somebody asks for the engines of a role."""

    def add(self, engine: Engine, source: str) -> None:
        """Take an engine in; ValueError when its id is taken in its role."""
        key = (engine.info.role, engine.info.id)
        if key in self._engines:
            raise ValueError(f"there is already a {key[0]} engine called {key[1]!r}, from {self._engines[key][1]}")
        self._engines[key] = (engine, source)

    def remove_source(self, source: str) -> None:
        """Take back what an integration contributed."""
        self._engines = {key: value for key, value in self._engines.items() if value[1] != source}

    def remove(self, engine: Engine) -> None:
        """Take back one engine, wherever it is from; nothing happens when it is not there."""
        self._engines = {key: value for key, value in self._engines.items() if value[0] is not engine}

    def all(self) -> tuple[EngineInfo, ...]:
        return tuple(engine.info for engine, _ in self._engines.values())

    def left_out(self) -> tuple[tuple[EngineInfo, str], ...]:
        """The engines that are asked last at present, because they fail; each with the reason."""
        engines = (engine for engine, _ in self._engines.values())
        return tuple((engine.info, engine.health.reason) for engine in engines if engine.health.left_out)

    def chain(self, role: Role, names: Sequence[str] = (), language: str | None = None) -> tuple[Engine, ...]:
        """The engines to try for *role*, best first: those *names* in that order, or all by rank when none is named.

        With *language*, engines that speak it come before those that do not care; engines of other languages are left out.
        Those whose circuit is open come last: who has no other still gets them.
        """
        self.asked(role)
        engines = [engine for (kind, _), (engine, _) in self._engines.items() if kind is role]
        if names:
            by_id = {engine.info.id: engine for engine in engines}
            engines = [by_id[name] for name in names if name in by_id]
        else:
            engines.sort(key=lambda engine: -engine.info.rank)  # stable: then in order of contribution
        if language is not None:
            engines = [e for e in engines if not e.info.languages or language in e.info.languages]
        return tuple(sorted(engines, key=lambda engine: engine.health.left_out))  # stable

    def first(self, role: Role, language: str | None = None) -> Engine:
        """The best engine for *role*; `StageError` when there is none."""
        engines = self.chain(role, (), language)
        if not engines:
            raise no_engine(role, language)
        return engines[0]

    def vads(self, names: Sequence[str] = ()) -> tuple[Vad, ...]:
        return tuple(engine for engine in self.chain(Role.VAD, names) if isinstance(engine, Vad))

    def wakes(self) -> tuple[Wake, ...]:
        return tuple(engine for engine in self.chain(Role.WAKE) if isinstance(engine, Wake))

    def asrs(self, names: Sequence[str] = (), language: str | None = None) -> tuple[Asr, ...]:
        return tuple(engine for engine in self.chain(Role.ASR, names, language) if isinstance(engine, Asr))

    def ttss(self, names: Sequence[str] = (), language: str | None = None) -> tuple[Tts, ...]:
        return tuple(engine for engine in self.chain(Role.TTS, names, language) if isinstance(engine, Tts))

    def llms(self, names: Sequence[str] = (), language: str | None = None) -> tuple[Llm, ...]:
        return tuple(engine for engine in self.chain(Role.LLM, names, language) if isinstance(engine, Llm))

    def visions(self, names: Sequence[str] = ()) -> tuple[Vision, ...]:
        return tuple(engine for engine in self.chain(Role.VISION, names) if isinstance(engine, Vision))

    def memories(self, names: Sequence[str] = ()) -> tuple[Memory, ...]:
        return tuple(engine for engine in self.chain(Role.MEMORY, names) if isinstance(engine, Memory))


def no_engine(role: Role, language: str | None = None) -> StageError:
    """The failure of a turn that lacks an engine."""
    spoken = f" for {language}" if language else ""
    return StageError(
        role.value,
        f"no {role.value} engine{spoken} is ready",
        code=f"no-{role.value}",
        hint="See the integrations on the hub's page, or run: xiaozhi-hub integrations",
    )
