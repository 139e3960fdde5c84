"""Texts for people, in English and Simplified Chinese.

A text has a key such as ``spoken.failed`` or ``clock.timer_set``; integrations' keys begin with their domain. Files are JSON
objects, nested or flat; values are `str.format` templates.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xiaozhi_hub.core.places import PACKAGE

log = logging.getLogger(__name__)
LANGUAGES = ("en", "zh-Hans")


def language_of(tag: str, default: str = "en") -> str:
    """Map a locale such as ``zh-CN`` or ``en-US`` to one of `LANGUAGES`; *default* when it is none of ours."""
    head = tag.replace("_", "-").lower()
    if head.startswith("zh"):
        return "zh-Hans"
    return "en" if head.startswith("en") else default


def is_chinese(text: str) -> bool:
    """Is any of *text* written in Chinese characters?"""
    return any("一" <= character <= "鿿" for character in text)


def written_in(text: str, otherwise: str = "en") -> str:
    """The language that *text* is written in, by its characters: Chinese, or *otherwise*."""
    return "zh-Hans" if is_chinese(text) else otherwise


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flat.update(_flatten(item, f"{prefix}{key}."))
        else:
            flat[prefix + key] = str(item)
    return flat


class Texts:
    """All texts of the hub and its integrations."""

    def __init__(self) -> None:
        self._texts: dict[str, dict[str, str]] = {language: {} for language in LANGUAGES}
        self.add_folder(PACKAGE / "translations")

    def add_folder(self, folder: Path, domain: str = "") -> None:
        """Read ``<language>.json`` files; *domain* is put before every key."""
        for language in LANGUAGES:
            path = folder / f"{language}.json"
            if path.is_file():
                prefix = f"{domain}." if domain else ""
                self._texts[language].update(_flatten(json.loads(path.read_text(encoding="utf-8")), prefix))

    def has(self, key: str, language: str) -> bool:
        return key in self._texts.get(language, {})

    def text(self, key: str, language: str, /, **values: Any) -> str:
        """Return the text in *language*, in English where it is missing; the key itself when there is none at all."""
        for candidate in (language, "en"):
            template = self._texts.get(candidate, {}).get(key)
            if template is not None:
                return template.format(**values)
        log.warning("no text for %s", key)
        return key
