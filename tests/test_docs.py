"""The documents lead where they say they lead."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "xiaozhi_hub" / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("integrations/*/README.md")])
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
ONE_SCREEN = 45


def links_of(page: Path) -> list[str]:
    """Where *page* points to, in text and pictures, but not in examples."""
    return _LINK.findall(_FENCE.sub("", page.read_text(encoding="utf-8")))


def anchors_of(page: Path) -> set[str]:
    """The names of its headings, as they are made for links."""
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in links_of(page):
        parts = urlsplit(link)
        if parts.scheme:
            continue  # the rest of the world is not ours to check
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if not target.exists() or (parts.fragment and parts.fragment not in anchors_of(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_leads_nowhere(page: Path) -> None:
    assert broken_links(page) == []


def test_a_link_that_leads_nowhere_would_be_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One page\n[a](gone.md) [b](#one-page) [c](#two) ![d](e.png)\n```\n[f](g.md)\n```\n", encoding="utf-8"
    )
    assert broken_links(page) == ["gone.md", "#two", "e.png"]


def test_every_page_can_be_reached_from_the_first() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        inside = (urlsplit(link) for link in links_of(page))
        waiting += [(page.parent / link.path).resolve() for link in inside if not link.scheme and link.path]
    assert [page.name for page in DOCS.glob("*.md") if page not in seen] == []


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= ONE_SCREEN


def test_drawings_say_in_words_what_they_show() -> None:
    for drawing in DOCS.glob("*.svg"):
        root = ElementTree.parse(drawing).getroot()
        assert root.get("role") == "img" and root.get("aria-label"), drawing.name
        assert not [element for element in root.iter() if element.tag.endswith("script")], drawing.name
