"""What is built once for all who want the same."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import ref

import pytest
from house import ENGLISH, House

from xiaozhi_hub.core.shared import Shared
from xiaozhi_hub.dialog.intents.sentence_files import SHARED, read_sentences


class Built:
    """Something that takes long to build."""


@pytest.fixture
def forgets() -> Iterator[None]:
    """The tests' own habit of holding what was shared is put aside."""
    SHARED.keep(0)
    yield
    SHARED.keep(400)


def test_what_equal_keys_stand_for_is_built_once_and_let_go_by_the_last_user() -> None:
    shared = Shared()
    first = shared.of(("a", 1), Built)
    assert shared.of(("a", 1), Built) is first
    assert shared.of(("a", 2), Built) is not first
    held = ref(first)
    del first
    gc.collect()
    assert held() is None


def test_the_latest_may_be_kept() -> None:
    shared = Shared()
    shared.keep(2)
    held = [ref(shared.of(number, Built)) for number in range(3)]
    gc.collect()
    assert [each() is not None for each in held] == [False, True, True]
    shared.keep(0)
    gc.collect()
    assert [each() is not None for each in held] == [False, False, False]


def test_who_wants_what_is_being_built_gets_the_same() -> None:
    shared, begun, go_on = Shared(), threading.Event(), threading.Event()

    def slowly() -> Built:
        begun.set()
        assert go_on.wait(20)
        return Built()

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.of, "a", slowly)
        assert begun.wait(20)
        second = threads.submit(shared.of, "a", Built)
        go_on.set()
        assert first.result(20) is second.result(20)


async def test_houses_with_the_same_names_share_their_phrasebook_and_others_do_not(forgets: None) -> None:
    one, same, empty = House(), House(), House(furnished=False)
    for house in (one, same, empty):
        await house.intents.rebuild()
    assert one.intents.book("en") is same.intents.book("en")
    assert one.intents.book("en") is not empty.intents.book("en")
    assert one.intents.book("en") is not one.intents.book("zh-Hans")
    assert one.intents.book("en").understands("turn on the bed light")
    assert not empty.intents.book("en").understands("turn on the bed light")
    one.intents.close()
    intent = same.intents.recognise("turn on the bed light", ENGLISH)
    assert intent is not None and intent.tool == "home.turn_on"


async def test_what_nobody_uses_any_more_is_let_go(forgets: None) -> None:
    house = House()
    await house.intents.rebuild()
    book, files = ref(house.intents.book("en")), [ref(file) for file in house.intents._read.values()]
    house.intents.close()
    gc.unfreeze()
    gc.collect()
    assert book() is None and [file() for file in files] == [None] * len(files)


def test_a_file_that_has_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "en.yaml"
    text = "language: en\nintents: {Hi: {data: [{sentences: [%s]}]}}\ntools: {Hi: test.hi}\n"
    path.write_text(text % "hello there")
    first = read_sentences(path)
    assert read_sentences(path) is first
    path.write_text(text % "good morning")
    assert "good morning" in str(read_sentences(path).templates.intents["Hi"].data[0].sentence_texts)
