"""The words of the commands. All that they print for people stands in the translation files, under ``cli`` or beside the words of
the pages, and is said in one language."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.core.i18n import Texts, language_of

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config

_LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")


class Words:
    """``words("cli.devices.revoked", device=…)``: a text in this language."""

    def __init__(self, language: str, texts: Texts | None = None) -> None:
        self.language = language
        self.texts = texts if texts is not None else _all_texts()

    def __call__(self, key: str, /, **values: Any) -> str:
        return self.texts.text(key, self.language, **values)

    def named(self, group: str, code: str) -> str:
        """What *code* is called in *group*; the code itself where it has no name: a hub may be newer than this command."""
        key = f"{group}.{code}"
        return self(key) if self.texts.has(key, "en") else code

    def joined(self, items: Iterable[str]) -> str:
        """*items* one after the other."""
        return self("home.comma").join(items)

    def counted(self, key: str, count: int, /, **values: Any) -> str:
        """The text ``<key>.one`` for a single thing, ``<key>.many`` for none and for several; both may say ``{count}``."""
        return self(f"{key}.{'one' if count == 1 else 'many'}", count=count, **values)


def words_for(config: Config | None = None, texts: Texts | None = None) -> Words:
    """The words of a command: in the language that ``hub: language:`` says, where a configuration was read and says one;
    otherwise in that of the terminal; English where that is none of ours."""
    return Words(language_for(config, os.environ), texts)


def language_for(config: Config | None, environment: Mapping[str, str]) -> str:
    """The rule of `words_for`."""
    if config is not None and ("hub", "language") in config.places:
        return language_of(config.hub.language)
    return language_of(next((tag for name in _LOCALE if (tag := environment.get(name, ""))), ""))


@cache
def _all_texts() -> Texts:
    return Texts()


__all__ = ["Words", "language_for", "words_for"]
