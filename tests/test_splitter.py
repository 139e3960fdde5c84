"""Cutting replies into what is spoken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xiaozhi_hub.core.flow import Emotion, Sentence
from xiaozhi_hub.dialog.speaking.splitter import Splitter


def cut(*pieces: str, language: str = "en") -> list[str]:
    splitter = Splitter(language)
    out = [item for piece in pieces for item in splitter.feed(piece)]
    out += splitter.flush()
    return [item.text if isinstance(item, Sentence) else f"<{item.name}>" for item in out]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("two sentences", "It is nine. Good night.", ["It is nine.", "Good night."]),
        ("a decimal is no end", "It is 21.5 degrees. Nice.", ["It is 21.5 degrees.", "Nice."]),
        ("an abbreviation is no end", "Dr. Who is here. Run!", ["Dr. Who is here.", "Run!"]),
        ("p.m. in the middle", "It is 9 p.m. now.", ["It is 9 p.m. now."]),
        ("Chinese needs no space", "现在九点。晚安！", ["现在九点。", "晚安！"]),
        ("thoughts are not spoken", "<think>Hmm. What?</think>Yes. Sure.", ["Yes.", "Sure."]),
        ("an unfinished thought is not spoken", "Yes. <think>no end", ["Yes."]),
        ("markdown goes", "**Bold** and `code`. See [this](http://x.y/z).", ["Bold and code.", "See this."]),
        ("a list is read line by line", "- milk\n- eggs\n", ["milk", "eggs"]),
        ("a face becomes an emotion", "Hello \U0001f642. Bye.", ["<happy>", "Hello.", "Bye."]),
        ("other pictures go", "Sun \u2600\ufe0f today.", ["Sun today."]),
        ("nothing to say", " \U0001f5ff ... \n", []),
        ("quotes stay with their sentence", 'He said "no." Then left.', ['He said "no."', "Then left."]),
        ("degrees stay", "It is 21 °C.", ["It is 21 °C."]),
    ],
)
def test_replies_are_cut_where_people_pause(name: str, text: str, expected: list[str]) -> None:
    assert cut(text) == expected, name
    assert cut(*text) == expected, f"{name}, letter by letter"


def test_a_sentence_is_spoken_before_the_reply_is_complete() -> None:
    splitter = Splitter("en")
    assert list(splitter.feed("First one. Sec")) == [Sentence("First one.", "en")]
    assert list(splitter.feed("ond one")) == []
    assert list(splitter.flush()) == [Sentence("Second one", "en")]


def test_endless_text_is_cut_at_a_comma() -> None:
    pieces = cut("word, " * 200)
    assert all(len(piece) <= 240 for piece in pieces)
    assert "".join(pieces).replace(" ", "") == "word," * 200


def clauses(text: str, *, letter_by_letter: bool = False) -> list[str]:
    splitter = Splitter("en", clause_first=True)
    out = [item for piece in (text if letter_by_letter else [text]) for item in splitter.feed(piece)]
    out += splitter.flush()
    return [item.text for item in out if isinstance(item, Sentence)]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a long sentence begins with its clause",
            "The light in the kitchen is on, and the one in the hall is off. It is late.",
            ["The light in the kitchen is on,", "and the one in the hall is off.", "It is late."],
        ),
        ("a short sentence stays whole", "Yes, the light is on. It is late.", ["Yes, the light is on.", "It is late."]),
        (
            "a short clause stays with the next",
            "Well, the light in the kitchen is on, and the one in the hall is off.",
            ["Well, the light in the kitchen is on,", "and the one in the hall is off."],
        ),
        (
            "no stub is left over",
            "The light in the kitchen is on, isn't it? Yes.",
            ["The light in the kitchen is on, isn't it?", "Yes."],
        ),
        (
            "only the first sentence is cut",
            "It is late. The light in the kitchen is on, and the one in the hall is off.",
            ["It is late.", "The light in the kitchen is on, and the one in the hall is off."],
        ),
        (
            "a number is not cut",
            "There are very many of them: about 1,000,000 lights in this house of ours.",
            ["There are very many of them:", "about 1,000,000 lights in this house of ours."],
        ),
        (
            "brackets and quotes stay whole",
            'The lights (kitchen, living room, hall and bath, too) are on and "off, on, off, on, off" in turn.',
            ['The lights (kitchen, living room, hall and bath, too) are on and "off, on, off, on, off" in turn.'],
        ),
        (
            "Chinese commas",
            "厨房和客厅的灯已经打开了，卧室的灯还是关着的。好的。",
            ["厨房和客厅的灯已经打开了，", "卧室的灯还是关着的。", "好的。"],
        ),
        ("a short Chinese sentence", "好的，灯开了。", ["好的，灯开了。"]),
        (
            "without any mark a conjunction will do",
            "The weather in the whole of the north will be warm and dry until the evening comes around and rain will follow in the night.",
            [
                "The weather in the whole of the north will be warm and dry until the evening comes around",
                "and rain will follow in the night.",
            ],
        ),
    ],
)
def test_a_late_voice_gets_a_short_beginning(name: str, text: str, expected: list[str]) -> None:
    assert clauses(text) == expected, name
    assert clauses(text, letter_by_letter=True) == expected, f"{name}, letter by letter"
    assert "".join(cut(text)).replace(" ", "") == "".join(expected).replace(" ", "")


@given(st.text(alphabet='ab ,.;，。、(")\n', max_size=160), st.lists(st.integers(1, 9), max_size=40))
def test_the_first_clause_does_not_depend_on_how_the_text_arrives(text: str, sizes: list[int]) -> None:
    splitter, rest, out = Splitter("en", clause_first=True), text, []
    for size in sizes:
        out += splitter.feed(rest[:size])
        rest = rest[size:]
    out += [*splitter.feed(rest), *splitter.flush()]
    first = [item.text for item in out if isinstance(item, Sentence)][:1]
    # A Chinese sentence is spoken at its mark: a bracket or quote that closes after it may come too late.
    assert [said.rstrip('")') for said in first] == [said.rstrip('")') for said in clauses(text)[:1]]


def test_emotion_is_one_the_device_knows() -> None:
    assert list(Splitter("en").feed("\U0001f634.\n")) == [Emotion("sleepy")]


@given(st.text(alphabet="ab. !?,。！\n\U0001f642*1\u201d", max_size=120), st.lists(st.integers(1, 9), max_size=40))
def test_no_word_depends_on_how_the_text_arrives(text: str, sizes: list[int]) -> None:
    parts, rest = [], text
    for size in sizes:
        parts.append(rest[:size])
        rest = rest[size:]

    def words(pieces: list[str]) -> str:
        return "".join(char for piece in pieces for char in piece if char.isalnum() or piece.startswith("<"))

    assert words(cut(*parts, rest)) == words(cut(text))
    assert not any("\n" in piece for piece in cut(*parts, rest))
