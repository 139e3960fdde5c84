"""Integrations misbehave in every way they can, and the hub goes on: through real hubs with integrations of the owner's."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.api import Entry, EntryState
from xiaozhi_hub.plugins.loader import NAMESPACE, check_requirements
from xiaozhi_hub.plugins.manager import PATIENCE, Patience
from xiaozhi_hub.plugins.manifest import Manifest
from xiaozhi_hub.testing import FakeDevice, running_hub

BASE = """
voice: {vad: echo, asr: echo, tts: echo, llm: %s, lead_ms: 1000}
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  demo:
  echo: {%s}
"""
PLAIN = BASE % ("none", "")
STORY = BASE % (
    "echo",
    'tts: {ms: 800}, llm: {otherwise: "Once upon a time there was a hub. It was very happy there."}',
)
HASTY = Patience(start=2.0, stop=0.3, retry=(0.05,))
TOOL = """
from xiaozhi_hub.plugins.api import hookimpl, tool, TurnInfo

@tool(%r)
async def handler(turn: TurnInfo) -> str:
    "Do something."
    return %r

@hookimpl
def register_tools(register):
    register(handler)
"""

Install = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "config"


@pytest.fixture
def install(folder: Path) -> Install:
    """Write an integration into the owner's folder; it is called ``mine`` unless another domain is given."""

    def write(code: str, domain: str = "mine", manifest: Mapping[str, Any] | str | bytes = {}, **files: str) -> Path:
        home = folder / "integrations" / domain
        home.mkdir(parents=True, exist_ok=True)
        if isinstance(manifest, Mapping):
            whole = {"domain": domain, "name": "My thing", "version": "1.0", "kinds": ["tools"], "online": False}
            manifest = json.dumps({**whole, **manifest})
        data = manifest if isinstance(manifest, bytes) else manifest.encode()
        (home / "manifest.json").write_bytes(data)
        (home / "__init__.py").write_text(code, encoding="utf-8")
        for name, text in files.items():
            (home / f"{name}.py").write_text(text, encoding="utf-8")
        return home

    return write


def entry_of(hub: Hub, domain: str = "mine") -> Entry:
    return next(entry for entry in hub.plugins.entries if entry.domain == domain)


def device(hub: Hub) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/")


async def works(hub: Hub) -> bool:
    """Does the hub answer a question?"""
    record = await hub.ask("turn on the bed light", "en", "")
    return record.said == "Turned on the Bed Light."


Bad = Mapping[str, tuple[str, str]]
"""What is expected of each domain: something of the reason, and something of the hint."""


async def fail_alone(folder: Path, bad: Bad, patience: Patience = PATIENCE, **options: str) -> None:
    """Run a hub with the integrations *bad*: each has failed for its reason, and nothing else has."""
    chosen = "".join(f"  {domain}: {options.get(domain, '')}\n" for domain in bad)
    async with running_hub(folder, PLAIN + chosen, patience) as hub:
        for domain, (reason, hint) in bad.items():
            entry = entry_of(hub, domain)
            assert entry.state is EntryState.FAILED, entry
            assert reason in entry.reason
            assert hint in entry.hint
            problem = hub.problems[f"integration-{domain}"]
            assert entry.reason in problem.message
            assert problem.hint == entry.hint
        assert set(hub.problems) == {f"integration-{domain}" for domain in bad}
        assert all(entry_of(hub, domain).state is EntryState.READY for domain in ("echo", "demo"))
        assert await works(hub)


# -- whatever an integration does, the hub works --------------------------------------------------------------------


async def test_what_fails_at_import_fails_alone(folder: Path, install: Install) -> None:
    install("import a_module_that_nobody_has", "missing")
    install("raise RuntimeError('no luck today')", "unlucky")
    install("this is no Python", "prose")
    install("import sys; sys.exit(3)", "leaving")
    install("next(iter(()))", "empty")
    bad = {
        "missing": "No module named 'a_module_that_nobody_has'",
        "unlucky": "RuntimeError: no luck today",
        "prose": "SyntaxError",
        "leaving": "SystemExit: 3",
        "empty": "StopIteration",
    }
    await fail_alone(folder, {domain: (reason, "The log has the details.") for domain, reason in bad.items()})


CONTEXT = """
import asyncio, sys
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import hookimpl, NotReady, NeedsAttention

@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    {before}
    yield
    {after}
"""


async def test_what_fails_to_connect_fails_alone(folder: Path, install: Install) -> None:
    bad = {
        "wrong": ("raise ValueError('a wrong answer')", "ValueError: a wrong answer", ""),
        "slow": ("raise TimeoutError('the other side is slow')", "TimeoutError: the other side is slow", ""),
        "cancelled": ("raise asyncio.CancelledError", "CancelledError", ""),
        "leaving": ("sys.exit(1)", "SystemExit: 1", ""),
        "helpless": ("raise NeedsAttention('No password.', hint='Write one.')", "No password.", "Write one."),
    }
    for domain, (before, _, _) in bad.items():
        install(CONTEXT.format(before=before, after="pass"), domain)
    await fail_alone(folder, {domain: (reason, hint) for domain, (_, reason, hint) in bad.items()})


async def test_what_fails_in_a_hook_fails_alone(folder: Path, install: Install) -> None:
    bad = {
        "raising": ("def register_tools(register):\n    raise KeyError('x')", "KeyError: 'x'", ""),
        "leaving": ("def register_tools(register):\n    raise SystemExit(2)", "SystemExit: 2", ""),
        "confused": ("def register_tools(register):\n    register('not a tool')", "AttributeError", ""),
        "waiting": ("async def register_tools(register):\n    pass", "make it a plain function", ""),
        "misspelt": ("def register_tool(register): pass", "unknown hook 'register_tool'", "register_tools"),
        "mistaken": ("def register_tools(registre): pass", "registre", "register_tools"),
    }
    for domain, (hook, _, _) in bad.items():
        install(f"from xiaozhi_hub.plugins.api import hookimpl\n@hookimpl\n{hook}\n", domain)
    await fail_alone(folder, {domain: (reason, hint) for domain, (_, reason, hint) in bad.items()})


WAIT = """
import time
from pathlib import Path
def wait():
    while not Path(__file__).with_name("go_on").exists():
        time.sleep(0.01)
"""


async def test_what_hangs_is_left_behind(folder: Path, install: Install) -> None:
    hook = "from xiaozhi_hub.plugins.api import hookimpl\n@hookimpl\ndef register_tools(register):\n    wait()\n"
    homes = [install(WAIT + "wait()\n", "at_import"), install(WAIT + hook, "in_hook")]
    install(CONTEXT.format(before="await asyncio.Event().wait()", after="pass"), "in_context")
    try:
        told = ("It did not start within 2 s.", "See the log")
        await fail_alone(folder, dict.fromkeys(("at_import", "in_hook", "in_context"), told), HASTY)
    finally:
        for home in homes:
            (home / "go_on").touch()  # or its thread would hang for ever


async def test_what_came_before_the_failure_is_taken_back(folder: Path, install: Install) -> None:
    install(TOOL % ("home.turn_on", "mine"))
    late = "\n@hookimpl\ndef register_entities(register):\n    raise ValueError('late')\n"
    install(TOOL % ("late.first", "x") + late, "late")
    async with running_hub(folder, PLAIN + "  mine:\n  late:\n") as hub:
        assert entry_of(hub).reason == "the tool home.turn_on exists already, from core"
        assert entry_of(hub, "late").reason == "ValueError: late"
        assert hub.tools.get("late.first") is None
        assert await works(hub)


async def test_a_broken_manifest_is_told_with_file_and_key(folder: Path, install: Install) -> None:
    bad: dict[str, tuple[Any, str]] = {
        "torn": ("{", "manifest.json:1: not valid JSON"),
        "listed": ("[]", "manifest.json: expected a dictionary"),
        "binary": (b"\xff\xfe", "not valid UTF-8"),
        "unversioned": ({"version": "soon"}, "manifest.json version: expected a version such as 0.1.0"),
        "magic": ({"kinds": ["magic"]}, "manifest.json kinds → 0"),
        "mistaken": ({"domain": "yours"}, "the domain is 'yours' but the folder is 'mistaken'"),
        "demanding": ({"requirements": ["=="]}, "requirements → 0: expected the name of a package"),
    }
    for domain, (manifest, _) in bad.items():
        install("", domain, manifest)
    await fail_alone(folder, {domain: (reason, "") for domain, (_, reason) in bad.items()})


SCHEMA = "import voluptuous as vol\nSCHEMA = vol.Schema({vol.Optional('speed', default=1): int})\n"


async def test_what_the_owner_got_wrong_is_told_with_the_place_and_the_way_out(folder: Path, install: Install) -> None:
    install("", "wrong", config=SCHEMA)
    install("", "unknown", config=SCHEMA)
    install("import nobody_has_this", "lacking", {"requirements": ["nobody-has-this>=1.2"]})
    line = PLAIN.count("\n") + 1
    await fail_alone(
        folder,
        {
            "wrong": (f"configuration.yaml:{line} integrations → wrong → speed: ", ""),
            "unknown": (f"configuration.yaml:{line + 1} integrations → unknown → sped: ", "Did you mean speed?"),
            "lacking": (
                "My thing needs nobody-has-this>=1.2, which is not installed.",
                f"Run: {sys.executable} -m pip install 'nobody-has-this>=1.2'",
            ),
            "nobody": ("there is no integration called 'nobody'", "Known: "),
        },
        wrong="{speed: fast}",
        unknown="{sped: 3}",
    )


@pytest.mark.parametrize("wanted", ["pytest", "pytest>=1", "pytest~=1.0", "pytest!=2", "pytest [x]", "pytest;a=='b'"])
def test_a_requirement_is_looked_up_however_it_is_written(tmp_path: Path, wanted: str) -> None:
    check_requirements(Manifest("mine", "Mine", "1", (), False, False, False, (wanted,), tmp_path))


async def test_what_is_switched_off_is_not_even_looked_at(folder: Path, install: Install) -> None:
    install("raise RuntimeError", manifest={"default": True})
    install("", "broken", manifest="{")
    async with running_hub(folder, PLAIN + "  mine: false\n  broken: false\n  nobody: false\n") as hub:
        assert entry_of(hub).state is EntryState.DISABLED
        assert not hub.problems
        assert (await hub.plugins.reload("mine")).state is EntryState.DISABLED


RECOGNISER = """
from xiaozhi_hub.plugins.api import Asr, AsrStream, EngineInfo, Role, hookimpl

class Slow(Asr):
    info = EngineInfo("slow", Role.ASR, "Slow learner", languages=("en",))
    async def learn(self, book):
        raise IndexError("too many words")
    def open(self, request):
        raise NotImplementedError

@hookimpl
def register_engines(register):
    register(Slow())
"""


async def test_what_cannot_be_learned_is_told_and_the_rest_is_understood(folder: Path, install: Install) -> None:
    install(RECOGNISER)
    home = install("", "talker")
    (home / "sentences").mkdir()
    (home / "sentences" / "en.yaml").write_text("language: en\nintents: [oh\n")
    async with running_hub(folder, PLAIN + "  mine:\n  talker:\n") as hub:
        assert "IndexError: too many words" in hub.problems["learn-slow-en"].message
        assert str(home / "sentences" / "en.yaml") in hub.problems["sentences"].message
        assert await works(hub)


# -- not yet, and not without help ----------------------------------------------------------------------------------


async def test_what_is_not_ready_is_tried_again_until_it_is(folder: Path, install: Install) -> None:
    switch = "if not (hub.config.config_dir / 'plugged_in').exists(): raise NotReady('No cable.', hint='Plug it in.')"
    install(CONTEXT.format(before=switch, after="pass") + TOOL % ("mine.thing", "x"))
    async with running_hub(folder, PLAIN + "  mine:\n", Patience(stop=0.3, retry=(0.05,))) as hub:
        entry = entry_of(hub)
        async with asyncio.timeout(20):
            while entry.state is not EntryState.RETRYING:  # it may be at its next try just now
                await asyncio.sleep(0.01)
        assert (entry.reason, entry.hint) == ("No cable.", "Plug it in.")
        assert entry.retry_at is not None
        assert hub.problems["integration-mine"].hint == "Plug it in."
        assert await works(hub)
        (folder / "plugged_in").touch()
        async with asyncio.timeout(20):
            while entry.state is not EntryState.READY:
                await asyncio.sleep(0.01)
        assert hub.tools.get("mine.thing") is not None
        assert not entry.reason
        assert not entry.retry_at
        assert not hub.problems


async def test_a_hub_stops_while_something_is_not_ready(folder: Path, install: Install) -> None:
    install(CONTEXT.format(before="raise NotReady('Not yet.')", after="pass"))
    async with running_hub(folder, PLAIN + "  mine:\n", Patience(retry=(0,))) as hub:
        assert await works(hub)


# -- the owner's own, reload, stop ----------------------------------------------------------------------------------


async def test_a_folder_of_the_owner_replaces_a_built_in_one(folder: Path, install: Install) -> None:
    install(TOOL % ("clock.mine", "x"), "clock", manifest={"name": "My clock"})
    async with running_hub(folder, PLAIN + "  clock:\n") as hub:
        assert entry_of(hub, "clock").name == "My clock"
        assert [tool.name for tool in hub.tools.all() if tool.name.startswith("clock.")] == ["clock.mine"]
        assert await works(hub)


async def test_a_reload_reads_the_files_again(folder: Path, install: Install) -> None:
    install(TOOL % ("mine.old", "x"))
    async with running_hub(folder, PLAIN + "  mine:\n") as hub:
        install(TOOL % ("mine.newer", "x"), manifest={"name": "Another name"})
        entry = await hub.plugins.reload("mine")
        assert (entry.state, entry.name) == (EntryState.READY, "Another name")
        assert [tool.name for tool in hub.tools.all() if tool.name.startswith("mine.")] == ["mine.newer"]


async def test_a_failed_reload_takes_everything_back_and_the_next_one_mends_it(folder: Path, install: Install) -> None:
    install(TOOL % ("mine.thing", "x"))
    async with running_hub(folder, PLAIN + "  mine:\n") as hub:
        install("raise RuntimeError('typing mistake')")
        assert (await hub.plugins.reload("mine")).state is EntryState.FAILED
        assert hub.tools.get("mine.thing") is None
        assert "typing mistake" in hub.problems["integration-mine"].message
        install("", manifest="{")
        assert (await hub.plugins.reload("mine")).state is EntryState.FAILED
        install(TOOL % ("mine.thing", "mended"))
        assert (await hub.plugins.reload("mine")).state is EntryState.READY
        assert hub.tools.get("mine.thing") is not None
        assert not hub.problems


async def test_two_reloads_at_once_leave_one_entry(folder: Path, install: Install) -> None:
    install(TOOL % ("mine.thing", "x"))
    async with running_hub(folder, PLAIN + "  mine:\n") as hub:
        await asyncio.gather(*(hub.plugins.reload("mine") for _ in range(3)))
        assert entry_of(hub).state is EntryState.READY
        assert hub.tools.get("mine.thing") is not None


@pytest.mark.usefixtures("speech_is_ready")
async def test_a_reload_while_a_device_talks_disturbs_nobody(folder: Path, install: Install) -> None:
    install(TOOL % ("mine.thing", "x"))
    async with running_hub(folder, STORY + "  mine:\n") as hub, device(hub) as speaker:
        answer = asyncio.create_task(speaker.ask_text("tell me a story"))
        await speaker.hears("Once upon a time")
        assert (await hub.plugins.reload("mine")).state is EntryState.READY
        assert (await hub.plugins.reload("demo")).state is EntryState.READY
        assert not answer.done()
        result = await answer
        assert result.said.endswith("It was very happy there.")
        assert (result.underruns, result.dropped_early) == (0, 0)
        assert (await speaker.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_a_voice_that_is_reloaded_while_it_speaks_speaks_again(folder: Path) -> None:
    async with running_hub(folder, STORY) as hub, device(hub) as speaker:
        answer = asyncio.create_task(speaker.ask_text("tell me a story"))
        await speaker.hears("Once upon a time")
        assert (await hub.plugins.reload("echo")).state is EntryState.READY
        assert "tts_stop" in (await answer).stamps  # to the end, or with an excuse, but never without an end
        assert (await speaker.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_stopping_leaves_the_context_then_ends_the_tasks(folder: Path, install: Install) -> None:
    install(
        """
import asyncio
from contextlib import asynccontextmanager
from xiaozhi_hub.plugins.api import hookimpl

@hookimpl
@asynccontextmanager
async def entry_context(hub, entry):
    def note(word):
        with (hub.config.config_dir / "order").open("a") as file:
            file.write(word + " ")
    async def work():
        try:
            await asyncio.Event().wait()
        finally:
            note("task")
    entry.scope.start(work(), name="work")
    await asyncio.sleep(0)
    note("in")
    yield
    note("out")
"""
        + TOOL % ("mine.thing", "x")
    )
    async with running_hub(folder, PLAIN + "  mine:\n") as hub:
        tools, entities = hub.tools, hub.entities
        assert tools.get("mine.thing") is not None
        assert entities.all()
    assert (folder / "order").read_text().split() == ["in", "out", "task"]
    assert tools.get("mine.thing") is None
    assert not entities.all()
    assert not hub.engines.all()


async def test_what_cannot_stop_does_not_keep_the_hub_from_it(folder: Path, install: Install) -> None:
    bad = {"hangs": "await asyncio.Event().wait()", "raises": "raise OSError('gone')", "leaves": "sys.exit(1)"}
    for domain, after in bad.items():
        install(CONTEXT.format(before="pass", after=after), domain)
    chosen = "".join(f"  {domain}:\n" for domain in bad)
    async with running_hub(folder, PLAIN + chosen, Patience(stop=0.3)) as hub:
        assert all(entry_of(hub, domain).state is EntryState.READY for domain in bad)
        began = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began < 20
    assert not hub.engines.all()


async def test_a_hub_stops_while_an_integration_still_starts(folder: Path, install: Install) -> None:
    install(CONTEXT.format(before="entry.scope.start(asyncio.sleep(99), name='x'); await asyncio.sleep(99)", after=""))
    waiting = asyncio.create_task(_until_ready(folder))
    async with asyncio.timeout(30):
        while f"{NAMESPACE}.mine" not in sys.modules:
            await asyncio.sleep(0.01)
    waiting.cancel()
    began = asyncio.get_running_loop().time()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert asyncio.get_running_loop().time() - began < 20


async def _until_ready(folder: Path) -> None:
    async with running_hub(folder, PLAIN + "  mine:\n"):
        raise AssertionError("it cannot be ready")
