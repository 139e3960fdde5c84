"""The engines that a Wyoming service brings, from what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from wyoming.info import Artifact, AsrModel, HandleModel, Info, IntentModel, TtsVoice, WakeModel

from xiaozhi_hub.plugins.api import Engine, EngineInfo, Role, TaskScope

from .answering import WyomingAgent
from .hearing import WyomingAsr
from .intents import WyomingIntents
from .languages import hub_languages
from .service import Service
from .speaking import WyomingTts
from .waking import WyomingWake

MOST_PROGRAMS = 4
MOST_MODELS = 16
"""Recognisers that one program may bring; what more it lists is not used."""
MOST_VOICES = 1000
_LONGEST_NAME = 100
_SHOWN = 3
A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True, slots=True)
class Offering:
    """How the engines of a service shall be."""

    voices: Mapping[str, str]
    """For each language, where the owner has chosen one."""
    rank: int
    scope: TaskScope
    guesses: bool = True
    """Recognisers are asked for what was said while it is not sure yet that the person has finished."""
    intents: Mapping[str, str] = field(default_factory=dict)
    """Tools of the hub for the names of intents, where the owner has chosen some."""
    has_tool: Callable[[str], bool] = lambda _: False
    """Has the hub a tool of this name now?"""


def engines_of(service: Service, info: Info, how: Offering) -> list[Engine]:
    """The engines for what is installed there. Their ids are ``wyoming/<service>`` and, for all but the first in a role, the
    name of the model or program."""
    engines = [
        *_recognisers(service, info, how),
        *_voices(service, info, how),
        *_detectors(service, info, how),
        *_agents(service, info, how),
        *_minds(service, info, how),
    ]
    return list({(engine.info.role, engine.info.id): engine for engine in reversed(engines)}.values())[::-1]


def _recognisers(service: Service, info: Info, how: Offering) -> list[Engine]:
    made: list[Engine] = []
    for program in _installed(info.asr)[:MOST_PROGRAMS]:
        for number, model in enumerate(_installed(program.models)[:MOST_MODELS]):
            tags = _tags([model])
            told = _info(Role.ASR, service, how, program, [model], tags, own=model.name if made else "", hears=True)
            named = model.name if number else None
            made.append(WyomingAsr(told, service, _chosen(program, info.asr), named, tags, how.scope, how.guesses))
    return made


def _voices(service: Service, info: Info, how: Offering) -> list[Engine]:
    made: list[Engine] = []
    for program in _installed(info.tts)[:MOST_PROGRAMS]:
        voices: list[TtsVoice] = _installed(program.voices)[:MOST_VOICES]
        told = _info(
            Role.TTS,
            service,
            how,
            program,
            voices,
            _tags(voices),
            own=program.name if made else "",
            streams=program.supports_synthesize_streaming is True,
        )
        tags = {voice.name: _tags([voice]) for voice in voices}
        made.append(WyomingTts(told, service, _chosen(program, info.tts), tags, how.voices))
    return made


def _detectors(service: Service, info: Info, how: Offering) -> list[Engine]:
    made: list[Engine] = []
    for program in _installed(info.wake)[:MOST_PROGRAMS]:
        words: list[WakeModel] = _installed(program.models)
        own = program.name if made else ""
        told = _info(Role.WAKE, service, how, program, words, (), own=own, hears=True)
        made.append(WyomingWake(told, service, _chosen(program, info.wake), [w.name for w in words], how.scope))
    return made


def _minds(service: Service, info: Info, how: Offering) -> list[Engine]:
    made: list[Engine] = []
    for program in _installed(info.intent)[:MOST_PROGRAMS]:
        models: list[IntentModel] = _installed(program.models)
        own = program.name if made else ""
        told = _info(Role.LLM, service, how, program, models, _tags(models), own=own)
        # It only understands: unlike what acts, it may be asked beside another one. It is quick, and so asked before models.
        remote = not service.uri.startswith("unix:")
        told = replace(told, id=f"{told.id}/intent"[:_LONGEST_NAME], rank=how.rank + 1, remote=remote)
        made.append(WyomingIntents(told, service, _chosen(program, info.intent), how.intents, how.has_tool))
    return made


def _agents(service: Service, info: Info, how: Offering) -> list[Engine]:
    made: list[Engine] = []
    for program in _installed(info.handle)[:MOST_PROGRAMS]:
        models: list[HandleModel] = _installed(program.models)
        tags, own = _tags(models), program.name if made else ""
        streams = program.supports_handled_streaming is True
        told = _info(Role.LLM, service, how, program, models, tags, own=own, streams=streams)
        made.append(WyomingAgent(replace(told, acts=True), service, _chosen(program, info.handle), tags))
    return made


def _info(
    role: Role,
    service: Service,
    how: Offering,
    program: Artifact,
    artifacts: Sequence[Artifact],
    tags: Sequence[str],
    *,
    own: str,
    hears: bool = False,
    streams: bool = False,
) -> EngineInfo:
    shown = ", ".join(artifact.name for artifact in artifacts[:_SHOWN])
    return EngineInfo(
        id=f"wyoming/{service.name}{f'/{own}' if own else ''}"[:_LONGEST_NAME],
        role=role,
        name=f"{program.name} ({service.name})"[:_LONGEST_NAME],
        languages=hub_languages(tags),
        streams_input=hears,
        streams_output=streams,
        detail=f"{shown} …" if len(artifacts) > _SHOWN else shown,
        rank=how.rank,
        # Agents do what they are asked to: no second one may be asked because the first is slow.
        remote=role in (Role.ASR, Role.TTS) and not service.uri.startswith("unix:"),
    )


def _installed(artifacts: Sequence[A]) -> list[A]:
    """Those that can be used, as far as the other side can be believed to have written sense."""
    return [each for each in artifacts if _can_be_used(each)] if isinstance(artifacts, list) else []


def _can_be_used(artifact: object) -> bool:
    return (
        isinstance(artifact, Artifact)
        and artifact.installed is True
        and isinstance(artifact.name, str)
        and bool(artifact.name)
    )


def _chosen(program: Artifact, programs: Sequence[Artifact]) -> str | None:
    """What a program has to be called by: its name, or nothing when it is the one that is used anyway."""
    return None if program is programs[0] else program.name


def _tags(artifacts: Sequence[AsrModel | TtsVoice | HandleModel | IntentModel]) -> tuple[str, ...]:
    listed = [each.languages for each in artifacts if isinstance(each.languages, list)]
    return tuple(tag for tags in listed for tag in tags if isinstance(tag, str))
