"""How models write: texts, thoughts and calls in the notations of several families, and templates that are particular."""

from __future__ import annotations

import pytest

from tests.house import integration

dialects = integration("llama_cpp", "native.dialects")
writing = integration("llama_cpp", "native.writing")
template = integration("llama_cpp", "native.template")
failure = integration("llama_cpp", "native.failure")

TOOLS = [{"name": "home.turn_on", "description": "Turn on.", "parameters": {"type": "object", "properties": {}}}]
CALL = '{"name": "home.turn_on", "arguments": {"name": "Lamp"}}'


def message(role: str, text: str, *calls: str) -> dict[str, object]:
    named = [{"name": name, "arguments": {}} for name in calls]
    return {"role": role, "text": text, "tool_name": "home.turn_on" if role == "tool" else "", "calls": named}


def written(text: str, size: int, dialect: str = "HERMES", *, thinking: bool = False) -> tuple[str, list[str]]:
    """What is spoken and what is called when *text* comes in tokens of *size* characters."""
    reader = writing.Writing(getattr(dialects, dialect), thinking=thinking)
    spoken, calls = "", []
    raw = text.encode()
    for start in range(0, len(raw), size):
        for event in reader.feed(raw[start : start + size]):
            if isinstance(event, writing.Spoken):
                spoken += event.text
            elif isinstance(event, writing.Called):
                calls.append(event.text)
            elif event.rest:  # as the answer does it: the rest of the token is chosen anew
                for again in reader.feed(event.rest.encode()):
                    assert isinstance(again, writing.Called)
                    calls.append(again.text)
    spoken += "".join(event.text for event in reader.finish())
    return spoken, calls


CUT = [
    ("HERMES", "\n\nHello <b> there, 你好。 ", "Hello <b> there, 你好。", []),
    ("HERMES", "<think>\nhm, <tool_call>\n</think>\n\nYes.", "Yes.", []),
    ("HERMES", "It is <tool", "It is <tool", []),
    ("LLAMA", "No { braces } here", "No { braces } here", []),
    ("HERMES", f"At once.\n<tool_call>\n{CALL}\n</tool_call>", "At once.", [f"\n{CALL}\n</tool_call>"]),
    ("HERMES", CALL, "", [CALL]),
    ("MISTRAL", f"[TOOL_CALLS] [{CALL}]", "", [f" [{CALL}]"]),
    ("LLAMA", '{"name": "a}\\"{", "parameters": {}}', "", ['{"name": "a}\\"{", "parameters": {}}']),
]


@pytest.mark.parametrize(
    ("dialect", "text", "spoken", "calls", "size"),
    # The rest of a token that opens a call is chosen anew, so calls come in small pieces.
    [(*case, size) for case in CUT for size in (1, 2, 3, 7, 1000) if size <= 3 or not case[3]],
)
def test_an_answer_is_told_apart_however_it_is_cut(
    dialect: str, text: str, spoken: str, calls: list[str], size: int
) -> None:
    assert written(text, size, dialect) == (spoken, calls)


def test_thoughts_that_the_template_has_opened_are_not_spoken() -> None:
    assert written("let me see</think>It is nine.", 4, thinking=True) == ("It is nine.", [])


def test_text_is_not_held_back_longer_than_it_may_be_a_tag() -> None:
    reader = writing.Writing(dialects.HERMES, thinking=False)
    assert [event.text for event in reader.feed(b"One")] == ["One"]
    assert [event.text for event in reader.feed(b" <")] == []
    assert [event.text for event in reader.feed(b"3")] == [" <3"]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (CALL, {"name": "Lamp"}),
        ('{"name": "home.turn_on", "parameters": {"name": "Lamp"}}', {"name": "Lamp"}),
        ('{"name": "home.turn_on", "arguments": "{\\"name\\": \\"Lamp\\"}"}', {"name": "Lamp"}),
        ('[{"name": "home.turn_on", "arguments": null}]', {}),
        ('{"name": "home.turn_on"}', {}),
        ('{"name": "home.turn_on", "arguments": {"name": "La\\ud800mp\n"}}', {"name": "La?mp\n"}),
    ],
)
def test_what_is_unambiguous_in_a_call_is_repaired(text: str, arguments: dict[str, str]) -> None:
    assert dialects.read_call(text, dialects.HERMES, TOOLS) == ("home.turn_on", arguments)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "turn on the lamp",
        '{"name": "home.turn_off"}',
        '{"name": 3}',
        "[]",
        '{"name": "home.turn_on", "arguments": [1]}',
    ],
)
def test_what_is_not_a_call_of_an_offered_tool_is_refused(text: str) -> None:
    assert dialects.read_call(text, dialects.HERMES, TOOLS) is None


def test_a_template_that_insists_on_turns_gets_them() -> None:
    source = (
        "{%- for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns!') }}{% endif %}"
        "{{ '[' + m.role + ']' + m.content }}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
    )
    messages = [message("system", "Be kind."), message("user", "a"), message("user", "b"), message("assistant", "c")]
    messages.append(message("user", "d"))
    assert (
        template.Template(source, "", "").write(messages, ())
        == "[user]Be kind.\n\na\n\nb[assistant]c[user]d[assistant]"
    )


def test_a_template_cannot_reach_beyond_its_sandbox() -> None:
    evil = template.Template("{{ messages.__class__.__mro__[1].__subclasses__() }}", "", "")
    with pytest.raises(failure.Failure, match="refuses the conversation"):
        evil.write([message("user", "a")], ())


def test_a_template_that_cannot_be_read_is_told_as_the_fault_of_the_file() -> None:
    with pytest.raises(failure.Failure, match="cannot be read") as caught:
        template.Template("{% for %}", "", "")
    assert caught.value.permanent


def test_a_template_without_tools_is_given_them_calls_and_answers_in_words() -> None:
    text = template.Template(None, "", "").write(
        [
            message("system", "Be kind."),
            message("user", "on"),
            message("assistant", "", "home.turn_on"),
            message("tool", "ok"),
        ],
        TOOLS,
    )
    assert '"name": "home.turn_on"' in text.split("<|im_end|>")[0]
    assert "<|im_start|>assistant\n<tool_call>\n" in text
    assert "<|im_start|>user\n<tool_response>\nhome.turn_on: ok\n</tool_response>" in text
