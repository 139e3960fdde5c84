"""Sentence files: what people say, and which tool it calls.

A file is a hassil template file (``language``, ``intents``, ``lists``, ``expansion_rules``, ``skip_words``) with
more keys of ours:

    tools:                        # what an intent of this file calls; its slots are the tool's arguments, by name
      StartTimer: clock.start_timer
    official:                     # an intent of home-assistant-intents that a tool serves; others are not offered
      HassGetWeather: home.get_weather
      HassLightSet: {tool: home.set_light, slots: {temperature: color_temperature}}      # a slot goes by another name
      HassTurnOn: {tool: home.turn_on, domains: {cover: home.open}}    # another tool for things of a domain
      HassGetState: {tool: home.get_state, response: question}    # the key of the official response is an argument
    answers:                      # what may be said when a tool has asked for a slot: hassil data blocks
      area: [{sentences: ["[in] [the] {area}"]}]
    first: [Stop]                 # intents that go before everything else
    often: [StartTimer]           # intents that people use more than the others: recognisers expect them
    unheard: [Forget, which]      # intents and answers that closed recognisers do not listen for: they are written, or heard by others

In a data block, ``metadata: {asks: duration}`` says that the tool will ask for this slot, because the sentences of the block lack
it ("set a timer"): whoever stops there is given time to go on.

The lists ``name``, ``area`` and ``assistant`` exist everywhere; the values of ``name`` bring ``domain`` and ``device_class`` as
context.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from hassil.errors import HassilError
from hassil.expression import Expression, Group, ListReference, RuleReference, TextChunk
from hassil.intents import Intents as Templates
from hassil.parser import ParseError

from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.core.shared import Shared
from xiaozhi_hub.errors import ConfigError, Place

SHARED_LISTS = ("name", "area", "assistant")
_HASSIL_KEYS = ("language", "settings", "intents", "lists", "expansion_rules", "skip_words")
_KEYS = (*_HASSIL_KEYS, "tools", "official", "answers", "first", "often", "unheard")
_ANSWER = "answer\n"
"""Before the name of a slot while hassil reads the answers for it among the intents; no intent is called so."""
ASKS = "asks"
"""In the metadata of a data block: the slot that its sentences lack."""
SHARED = Shared()
"""Sentences and what is compiled from them. The same ones are learned again with every change to a house, whenever an
integration is loaded anew, and by each hub of a process."""
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one where PyYAML was built with it


@dataclass(frozen=True, slots=True)
class OfficialRule:
    """How an official intent is served."""

    tool: str
    domains: Mapping[str, str] = field(default_factory=dict)
    """Tools for entities of a certain domain."""
    slots: Mapping[str, str] = field(default_factory=dict)
    """Slots that go by another name."""
    response: str = ""
    """The argument that takes the key of the official response."""

    def tools(self) -> tuple[str, ...]:
        return (self.tool, *self.domains.values())

    def tool_for(self, domain: str | None) -> str:
        return self.domains.get(domain or "", self.tool)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SentenceFile:
    """The checked content of one file."""

    path: Path
    language: str
    """One of ours, whatever tag the file bears."""
    digest: str
    templates: Templates
    """All intents but those that go first."""
    first: Templates
    tools: Mapping[str, str]
    official: Mapping[str, OfficialRule]
    answers: Mapping[str, Templates]
    """Templates by the slot they answer; the one intent in them is called like the slot."""
    often: frozenset[str]
    """Intents that people use more than the others."""
    unheard: frozenset[str]
    """Intents, and slots of `answers`, that recognisers which know only the hub's sentences do not listen for."""
    skip_words: tuple[str, ...]


def read_sentences(path: Path) -> SentenceFile:
    """Read and check a file. Blocking: parses every template. Raises `ConfigError` that names what is wrong."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", Place(str(path))) from error
    digest = hashlib.sha256(raw).hexdigest()
    return SHARED.of(("file", path, digest), lambda: _parsed(path, raw, digest))


def _parsed(path: Path, raw: bytes, digest: str) -> SentenceFile:
    try:
        data = yaml.load(raw, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else None
        raise ConfigError(f"not valid YAML: {error.problem}", Place(str(path), line)) from error
    if not isinstance(data, dict) or not isinstance(data.get("language"), str):
        raise ConfigError("a sentence file begins with its language", Place(str(path), key="language"))
    for key in data:
        if key not in _KEYS:
            hint = f"Known: {', '.join(_KEYS)}."
            raise ConfigError(f"unknown key {key!r}", Place(str(path), key=str(key)), hint=hint)
    try:
        return _read(path, data, digest)
    except (HassilError, ParseError, KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise ConfigError(f"not a hassil file: {type(error).__name__}: {error}", Place(str(path))) from error


def _read(path: Path, data: dict[str, Any], digest: str) -> SentenceFile:
    language = language_of(data["language"])
    intents: dict[str, Any] = data.get("intents") or {}
    tools: dict[str, str] = data.get("tools") or {}
    first_names = set(data.get("first") or ())
    often = frozenset(data.get("often") or ())
    unheard = frozenset(data.get("unheard") or ())
    for name in intents:
        if name not in tools:
            hint = f"Add {name}: <tool> below tools."
            raise ConfigError(f"the intent {name} calls no tool", Place(str(path), key=f"intents → {name}"), hint=hint)
    answered = set(data.get("answers") or ())
    for key, names in (
        ("first", first_names),
        ("often", often),
        ("unheard", unheard - answered),
        ("tools", set(tools)),
    ):
        if unknown := sorted(names - set(intents)):
            raise ConfigError(f"there is no intent {unknown[0]}", Place(str(path), key=key))
    skip_words = data.get("skip_words") or []
    answering: dict[str, Any] = data.get("answers") or {}
    # hassil reads them all at once: the lists and rules of a file take as long to parse as its sentences.
    whole = Templates.from_dict(
        {
            "language": hassil_language(language),
            "settings": {"ignore_whitespace": language.startswith("zh"), **(data.get("settings") or {})},
            "lists": data.get("lists") or {},
            "expansion_rules": data.get("expansion_rules") or {},
            "skip_words": skip_words,
            "intents": intents | {_ANSWER + slot: {"data": blocks} for slot, blocks in answering.items()},
        }
    )
    templates = replace(whole, intents={k: whole.intents[k] for k in intents if k not in first_names})
    first = replace(whole, intents={k: whole.intents[k] for k in intents if k in first_names})
    answers = {
        slot: replace(whole, intents={slot: replace(whole.intents[_ANSWER + slot], name=slot)}) for slot in answering
    }
    for part in (templates, first, *answers.values()):
        _check_references(path, part)
    official = {name: _rule(rule) for name, rule in (data.get("official") or {}).items()}
    return SentenceFile(
        path=path,
        language=language,
        digest=digest,
        templates=templates,
        first=first,
        tools=tools,
        official=official,
        answers=answers,
        often=often,
        unheard=unheard,
        skip_words=tuple(skip_words),
    )


def hassil_language(language: str) -> str:
    """The tag under which hassil finds the number words of one of our languages."""
    return "zh" if language.startswith("zh") else language


def _rule(rule: str | Mapping[str, Any]) -> OfficialRule:
    return OfficialRule(rule) if isinstance(rule, str) else OfficialRule(**rule)


def _check_references(path: Path, templates: Templates) -> None:
    """hassil finds a missing rule or list only when somebody says the sentence; an author wants to know at once."""
    rules = {name: rule.expression for name, rule in templates.expansion_rules.items()}
    for name, intent in templates.intents.items():
        for block in intent.data:
            metadata = block.metadata or {}
            if set(metadata) - {ASKS} or not isinstance(metadata.get(ASKS, ""), str):
                place = Place(str(path), key=f"intents → {name} → metadata")
                raise ConfigError("metadata names the slot that is asked for", place, hint=f"{ASKS}: <slot>")
            known_lists = {*SHARED_LISTS, *templates.slot_lists, *block.slot_lists}
            known_rules = {*rules, *block.expansion_rules}
            for sentence in block.sentences:
                for kind, wanted in _references(sentence.expression):
                    known = known_lists if kind == "list" else known_rules
                    if wanted not in known:
                        place = Place(str(path), key=f"intents → {name}")
                        raise ConfigError(f"{sentence.text!r} refers to an unknown {kind} {wanted!r}", place)
    for name, expression in rules.items():
        for kind, wanted in _references(expression):
            known = {*SHARED_LISTS, *templates.slot_lists} if kind == "list" else set(rules)
            if wanted not in known:
                raise ConfigError(
                    f"it refers to an unknown {kind} {wanted!r}", Place(str(path), key=f"expansion_rules → {name}")
                )


def _references(expression: Expression) -> Iterator[tuple[str, str]]:
    if isinstance(expression, ListReference):
        if not expression.is_inline_range:
            yield "list", expression.list_name
    elif isinstance(expression, RuleReference):
        yield "rule", expression.rule_name
    elif isinstance(expression, Group):
        for item in expression.items:
            yield from _references(item)


# -- the official ones --------------------------------------------------------------------------------------------

_OPTIONAL = re.compile(r"\[[^\[\]]*\]")
_SLOT = re.compile(r"\{([^{}]+)\}")
_NOTHING_SAID = re.compile(r"[\s();|]|\{(?:name|area)\}")


def wording(files: Iterable[SentenceFile]) -> dict[str, str]:
    """The words of all sentences for each tool, by its name; names, numbers and other values are left out."""
    said: dict[str, dict[str, None]] = {}
    for file in files:
        for templates in (file.templates, file.first):
            rules = {name: rule.expression for name, rule in templates.expansion_rules.items()}
            for name, intent in templates.intents.items():
                words = said.setdefault(file.tools[name], {})
                for block in intent.data:
                    for sentence in block.sentences:
                        words.update(dict.fromkeys(_words(sentence.expression, rules)))
    return {tool: " ".join(words) for tool, words in said.items()}


def _words(expression: Expression, rules: Mapping[str, Expression]) -> Iterator[str]:
    """The literal words of an expression and of the rules in it."""
    if isinstance(expression, TextChunk):
        if text := expression.original_text.strip():
            yield text
    elif isinstance(expression, RuleReference):
        if expression.rule_name in rules:
            others = {name: rule for name, rule in rules.items() if name != expression.rule_name}  # none holds itself
            yield from _words(rules[expression.rule_name], others)
    elif isinstance(expression, Group):
        for item in expression.items:
            yield from _words(item, rules)


def official_templates(
    data: Mapping[str, Any],
    rules: Mapping[str, OfficialRule],
    parameters: Mapping[str, Sequence[str]],
    domains: Sequence[str],
) -> Templates:
    """Choose from the official data of a language what *rules* serve.

    Left out: sentences with slots that the tool does not take (*parameters*, by tool), blocks for domains not
    in *domains*, and bare names: "Kitchen lights" is what people say when they are interrupted, not a command.
    """
    intents: dict[str, Any] = {}
    for name, rule in rules.items():
        blocks = []
        taken = set(parameters.get(rule.tool, ()))
        for block in data["intents"].get(name, {}).get("data", ()):
            if not _is_served(block, domains):
                continue
            commands = (_without_bare_name(text) for text in block["sentences"])
            sentences = [text for text in commands if text is not None and _fits(text, rule, taken)]
            if sentences:
                blocks.append({**block, "sentences": sentences})
        if blocks:
            intents[name] = {"data": blocks}
    return Templates.from_dict({**data, "intents": intents})


def _is_served(block: Mapping[str, Any], domains: Sequence[str]) -> bool:
    for where in (block.get("slots", {}), block.get("requires_context", {})):
        wanted = where.get("domain")
        if isinstance(wanted, str):
            wanted = [wanted]
        if wanted and not set(wanted) & set(domains):
            return False
    return True


def _fits(text: str, rule: OfficialRule, parameters: set[str]) -> bool:
    slots = {reference.partition(":")[2] or reference for reference in _SLOT.findall(text)}
    return all(rule.slots.get(slot, slot) in parameters for slot in slots)


def _without_bare_name(text: str) -> str | None:
    """Make the verb of a sentence necessary whose every word may be left out; None where there is no verb."""
    required = text
    while required != (shorter := _OPTIONAL.sub("", required)):
        required = shorter
    if _NOTHING_SAID.sub("", required):
        return text
    verb = _first_optional(text)
    if verb is None or verb in ("<the>", "the"):
        return None
    return f"({verb}){text[len(verb) + 2 :]}"


def _first_optional(text: str) -> str | None:
    """The content of the brackets that *text* begins with."""
    depth = 0
    for index, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if depth == 0:
            return text[1:index] if index else None
    return None


__all__ = [
    "SHARED",
    "OfficialRule",
    "SentenceFile",
    "hassil_language",
    "official_templates",
    "read_sentences",
    "wording",
]
