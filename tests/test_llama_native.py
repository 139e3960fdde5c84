"""The library itself, in this process: what it must do for the engine around it to keep its promises."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.house import House, integration

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None or importlib.util.find_spec("gguf") is None,
    reason="THE LANGUAGE MODEL IS NOT TESTED: llama-cpp-python or gguf is not installed (script/setup builds it)",
)

OPTIONS = {
    "gpu_layers": 0, "context": 4096, "batch": 4096, "threads": 1, "seed": 1,
    "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.0,
}  # fmt: skip
HARD = {
    "type": "object",
    "properties": {
        "mode": {"enum": ['a"b', "c\\d", "开"]},
        "list": {"type": "array", "items": {"type": "string"}},
        "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "free": {"type": "object"},
        "string": {"type": "string", "description": "named like a rule"},
        "odd name!": {"type": "number", "default": 3},
    },
    "required": ["mode", "odd name!"],
}


def part(name: str) -> Any:
    return integration("llama_cpp", f"native.{name}")


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Any]:
    from tests.tiny_gguf import write_tiny_gguf

    module = part("library")
    library = module.Library(write_tiny_gguf(tmp_path / "tiny.gguf", {}, "Yes."), OPTIONS, module.Stop())
    yield library
    library.close()


def test_reading_a_prompt_is_stopped_in_the_middle_of_a_batch(library: Any) -> None:
    prompt = library.tokenise("a long prompt " * 250)
    timer = threading.Timer(0.05, library.stop.set)
    timer.start()
    with pytest.raises(part("failure").Stopped):
        library.evaluate(prompt)
    timer.join()
    assert library.tokens == []
    library.stop.clear()
    library.evaluate(prompt[:20])
    assert len(library.tokens) == 20


def test_a_part_of_what_was_read_can_be_saved_and_fetched(library: Any) -> None:
    prompt = library.tokenise("what was read once need not be read again")
    library.evaluate(prompt)
    state = library.save(10)
    assert library.tokens == prompt
    assert library.restore(state, prompt[:10])
    library.evaluate(prompt[10:])
    assert library.tokens == prompt
    assert not library.restore(bytearray(b"nothing of the kind"), prompt[:10])
    assert library.tokens == []


def test_every_tool_of_the_house_has_a_grammar_that_the_library_takes(library: Any) -> None:
    tools = [{"name": tool.name, "parameters": dict(tool.parameters)} for tool in House().tools.all()]
    tools.append({"name": 'a "hard" one', "parameters": HARD})
    tools.append({"name": "broken", "parameters": {"type": "object", "properties": {"a": {"type": "colour"}}}})
    sampler = part("sampling").Sampler(library, OPTIONS)
    for offered in ([tool] for tool in tools):
        for many, opened, closing in ((False, False, "</tool_call>"), (False, True, ""), (True, False, "")):
            sampler.constrain(
                part("grammar").call_grammar(offered, "arguments", many=many, opened=opened, closing=closing)
            )
    everything = part("grammar").call_grammar(tools, "arguments", many=False, opened=False, closing="</tool_call>")
    assert len(everything) < 40_000, "it is set up for each call"
    sampler.constrain(everything)
    sampler.close()


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ('{"name": "hard", "arguments": {"mode": "开", "odd name!": 3.5}}', True),
        ('{"name": "hard", "arguments": {"mode": "a\\"b", "odd name!": 1, "free": {"x": [1, "y"]}}}', True),
        ('{ "name":"hard","arguments":{"mode":"c\\\\d","odd name!":-1,"list":["p","q"],"string":"s"}}', True),
        ('{"name": "hard", "arguments": {"odd name!": 1}}', False),
        ('{"name": "hard", "arguments": {"mode": "e", "odd name!": 1}}', False),
        ('{"name": "soft", "arguments": {"mode": "开", "odd name!": 1}}', False),
        ('{"name": "hard", "arguments": {"mode": "开", "odd name!": 1, "string": "' + "x" * 251 + '"}}', False),
    ],
)
def test_a_grammar_allows_what_the_schema_does(call: str, allowed: bool, library: Any) -> None:
    sampler = part("sampling").Sampler(library, OPTIONS)
    tools = [{"name": "hard", "parameters": HARD}]
    sampler.constrain(part("grammar").call_grammar(tools, "arguments", many=False, opened=False, closing=""))
    tokens = library.tokenise(call, special=False)
    assert all(sampler.accepts(token) for token in tokens) == allowed
    sampler.close()
