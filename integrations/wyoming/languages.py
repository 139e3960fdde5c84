"""Languages as Wyoming's services write them, and as the hub does."""

from __future__ import annotations

from collections.abc import Iterable

from xiaozhi_hub.plugins.api import LANGUAGES, language_of

_TAGS = {"en": ("en", "en-US", "en-GB"), "zh-Hans": ("zh", "zh-CN")}
_CANTONESE = ("zh-hk", "zh-mo", "yue")


def hub_languages(tags: Iterable[object]) -> tuple[str, ...]:
    """The hub's names of languages such as ``en_US``, each once. Of languages that the hub does not speak: the main part."""
    found = dict.fromkeys(_hub_language(tag) for tag in tags if isinstance(tag, str))
    return tuple(language for language in found if language)


def tag_for(language: str, tags: Iterable[object]) -> str:
    """How a service that names its languages *tags* calls one of ours."""
    for tag in tags:
        if isinstance(tag, str) and _hub_language(tag) == language:
            return tag
    return language.split("-")[0]


def tags_of(languages: Iterable[str]) -> list[str]:
    """How others may call these languages of ours; all that the hub speaks when there are none."""
    return [tag for language in (tuple(languages) or LANGUAGES) for tag in _TAGS.get(language, (language,))]


def _hub_language(tag: str) -> str:
    plain = tag.replace("_", "-").lower()
    if plain.startswith(_CANTONESE):
        return "yue"
    main = plain.split("-")[0]
    if main in ("en", "zh"):
        return language_of(main)
    return main if main.isalpha() and len(main) in (2, 3) else ""  # not *, multilingual
