"""Services that recognise intents: they understand, the hub carries out, and what they do not know goes on to the next."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from talking_model import ScriptedModel, call
from wyoming.event import Event
from wyoming.intent import Intent
from wyoming_remote import Remote, meaning, serving, understanding

from xiaozhi_hub.core.flow import TurnRecord
from xiaozhi_hub.engines.health import Circuit
from xiaozhi_hub.engines.llm import NOT_RECOGNISED, ChatRequest, Message
from xiaozhi_hub.errors import StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

CONFIG = """
voice: {vad: echo, asr: echo, tts: echo, llm: %(llm)s}
assistants: {mute: {tools: ["clock.*"]}}
integrations:
  echo:
  demo:
  silero_vad: false
  phrases: false
  espeak: false
  wyoming: %(wyoming)s
"""
HubMaker = Callable[..., AbstractAsyncContextManager[Hub]]


@pytest.fixture
async def remote() -> AsyncIterator[Remote]:
    async with serving(Remote(understanding())) as remote:
        yield remote


@pytest.fixture
def hub_with(tmp_path: Path, remote: Remote) -> HubMaker:
    """A hub that uses the service, before *llm*."""

    def make(*llm: str, **more: Any) -> AbstractAsyncContextManager[Hub]:
        services = [{"uri": remote.uri, "name": "far", **more}]
        names = json.dumps(["wyoming/far/intent", *llm])
        wyoming = json.dumps({"services": services, "timeout_s": 3})
        return running_hub(tmp_path / "config", CONFIG % {"llm": names, "wyoming": wyoming})

    return make


def is_on(hub: Hub, name: str) -> bool:
    return next(entity for entity in hub.entities.all() if entity.name == name).state.value == "on"


async def asked(hub: Hub, text: str) -> TurnRecord:
    return await hub.ask(text, "en", "")


async def test_what_a_service_recognises_the_hub_does_and_tells(hub_with: HubMaker, remote: Remote) -> None:
    remote.means["let there be light above my bed"] = [meaning("HassTurnOn", name="Bed Light", domain="light")]
    async with hub_with() as hub:
        record = await asked(hub, "let there be light above my bed")
        assert record.said == "Turned on the Bed Light." and is_on(hub, "Bed Light")
        assert [(done.name, dict(done.arguments)) for done in record.tool_calls] == [
            ("home.turn_on", {"name": "Bed Light", "domain": "light"})
        ]
        (wanted,) = remote.of("recognize")
        assert wanted["text"] == "let there be light above my bed" and wanted["context"]["conversation_id"]


async def test_a_device_hears_the_words_of_the_service_once_it_is_done(hub_with: HubMaker, remote: Remote) -> None:
    remote.means["bed time"] = [meaning("HassTurnOn", "Sweet dreams are waiting.", name="Bed Light")]
    async with hub_with() as hub:
        async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01") as speaker:
            result = await speaker.ask_text("bed time")
        assert result.sentences == ("Sweet dreams are waiting.",)
        assert is_on(hub, "Bed Light")


async def test_several_intents_are_several_deeds(hub_with: HubMaker, remote: Remote) -> None:
    remote.means["movie night"] = [
        meaning("HassTurnOn", name="Bed Light"),
        meaning("HassStartTimer", minutes=90),
    ]
    async with hub_with() as hub:
        record = await asked(hub, "movie night")
        assert [done.name for done in record.tool_calls] == ["home.turn_on", "clock.start_timer"]
        assert "Bed Light" in record.said and "timer" in record.said


async def test_a_service_means_so_much_with_one_sentence_and_says_so_much(hub_with: HubMaker, remote: Remote) -> None:
    remote.means["count"] = [meaning("clock.start_timer", "la " * 3000, minutes=10 + many) for many in range(9)]
    async with hub_with() as hub:
        record = await asked(hub, "count")
        assert len(record.tool_calls) == 4 and 0 < len(record.said) <= 4 * (4096 + 1)


async def test_a_tool_of_the_hub_may_be_named_and_an_intent_may_be_given_one(
    hub_with: HubMaker, remote: Remote
) -> None:
    remote.means["what hour has struck"] = [meaning("clock.get_time")]
    remote.means["lumos"] = [meaning("CastSpell", name="Bed Light")]
    async with hub_with(intents={"CastSpell": "home.turn_on"}) as hub:
        assert "It is" in (await asked(hub, "what hour has struck")).said
        assert (await asked(hub, "lumos")).said == "Turned on the Bed Light."


async def test_what_it_does_not_recognise_the_next_model_answers_and_nobody_is_blamed(
    hub_with: HubMaker, remote: Remote
) -> None:
    remote.means["say the magic word"] = [meaning("SayMagicWord")]
    model = ScriptedModel([["It is high."], ["It is higher."], ["Please."]], "second")
    async with hub_with("second") as hub:
        hub.engines.add(model, "test")
        assert (await asked(hub, "how high is the moon")).said == "It is high."
        assert (await asked(hub, "how high is the sun")).said == "It is higher."
        assert (await asked(hub, "say the magic word")).said == "Please."  # an intent that nobody here knows
        (engine,) = hub.engines.llms(["wyoming/far/intent"])[:1]
        assert engine.health.circuit is Circuit.CLOSED and len(remote.of("recognize")) == 3


async def test_a_model_that_goes_on_with_its_own_tools_is_not_interrupted(hub_with: HubMaker, remote: Remote) -> None:
    remote.means["light please"] = [meaning("HassTurnOn", name="Bed Light")]
    model = ScriptedModel([[call("home.get_state", name="Bed Light")], ["So it is on."]], "second")
    async with hub_with("second") as hub:
        hub.engines.add(model, "test")
        await asked(hub, "light please")
        assert (await asked(hub, "is it dark where I sleep")).said == "So it is on."
        assert len(model.requests) == 2


async def test_what_another_one_has_done_it_does_not_take_for_its_own(hub_with: HubMaker, remote: Remote) -> None:
    """It was overtaken: what it had asked for was not carried out."""
    remote.means["light please"] = [meaning("HassTurnOn", "All is bright.", name="Bed Light")]
    async with hub_with() as hub:
        engine = hub.engines.llms(["wyoming/far/intent"])[0]

        async def told(*messages: Message) -> list[Any]:
            request = ChatRequest((Message("user", "light please"), *messages), conversation="c")
            return [piece async for piece in engine.chat(request)]

        (mine,) = await told()
        done = Message("tool", "Turned off.", tool_name="home.turn_off")
        with pytest.raises(StageError) as caught:
            await told(Message("assistant", "", calls=(call("home.turn_off", name="Bed Light"),)), done)
        assert caught.value.code == NOT_RECOGNISED
        (mine,) = await told()
        assert [piece.text for piece in await told(Message("assistant", "", calls=(mine,)), done)] == ["All is bright."]


async def test_alone_it_leaves_the_hub_without_an_answer_and_not_with_a_failure(
    hub_with: HubMaker, remote: Remote
) -> None:
    async with hub_with() as hub:
        record = await asked(hub, "how high is the moon")
        assert record.outcome.value == "not_understood" and not record.error


async def test_without_a_list_it_is_asked_before_models_and_after_the_hub_s_own_sentences(
    tmp_path: Path, remote: Remote
) -> None:
    remote.means["turn on the bed light"] = [meaning("HassTurnOff", name="Bed Light")]
    remote.means["bed time"] = [meaning("HassTurnOn", "Good night.", name="Bed Light")]
    services = json.dumps({"services": [{"uri": remote.uri, "name": "far"}]})
    async with running_hub(tmp_path / "config", CONFIG % {"llm": "[]", "wyoming": services}) as hub:
        model = ScriptedModel([["A model has answered."]], "second")
        model.info = replace(model.info, rank=20)  # as servers have that the owner has listed
        hub.engines.add(model, "test")
        assert (await asked(hub, "turn on the bed light")).said == "Turned on the Bed Light."
        assert remote.of("recognize") == []
        assert (await asked(hub, "bed time")).said == "Good night."
        assert (await asked(hub, "how high is the moon")).said == "A model has answered."


async def test_a_service_that_is_gone_leaves_the_question_to_the_next(hub_with: HubMaker, remote: Remote) -> None:
    model = ScriptedModel([["It is high."]], "second")
    async with hub_with("second") as hub:
        hub.engines.add(model, "test")
        await remote.stop()
        assert (await asked(hub, "how high is the moon")).said == "It is high."


@pytest.mark.parametrize(
    "data",
    [{}, {"name": 7}, {"name": ""}, {"name": "HassTurnOn", "entities": "all"}, {"name": "HassTurnOn", "entities": [{}]},
     {"name": "HassTurnOn", "entities": [{"name": 3, "value": 1}]}, {"name": "HassTurnOn", "text": 5}],
)  # fmt: skip
async def test_an_intent_that_is_none_is_a_failure_of_the_service(
    hub_with: HubMaker, remote: Remote, data: dict[str, Any]
) -> None:
    class Nonsense(Intent):
        def event(self) -> Event:
            return Event("intent", data)

    remote.means["do it"] = [Nonsense("")]
    model = ScriptedModel([["It is high."]], "second")
    async with hub_with("second") as hub:
        hub.engines.add(model, "test")
        assert (await asked(hub, "do it")).said == "It is high."
        (engine,) = hub.engines.llms(["wyoming/far/intent"])[:1]
        assert "cannot be understood" in engine.health.reason


REFUSED: list[tuple[Intent, str]] = [
    (meaning("HassTurnOn", "All is bright.", name="the lamp that is not there"), "bright"),
    (meaning("HassTurnOff", "Dark upstairs.", floor="upstairs"), "Dark"),
    (meaning("memory.forget_everything", "Everything is forgotten."), "Everything is forgotten"),
    (meaning("HassTurnOn", "All is bright.", name=["a", {"b": 1}]), "bright"),
]


@pytest.mark.parametrize(("intent", "claimed"), REFUSED, ids=lambda value: getattr(value, "name", ""))
async def test_what_cannot_be_done_is_not_claimed(
    hub_with: HubMaker, remote: Remote, intent: Intent, claimed: str
) -> None:
    remote.means["do it"] = [intent]
    async with hub_with() as hub:
        before = {entity.id: entity.state.value for entity in hub.entities.all()}
        record = await asked(hub, "do it")
        assert record.said and claimed not in record.said
        assert {entity.id: entity.state.value for entity in hub.entities.all()} == before


async def test_an_assistant_without_the_tool_cannot_do_it_by_intent(hub_with: HubMaker, remote: Remote) -> None:
    remote.means["let there be light"] = [meaning("HassTurnOn", name="Bed Light")]
    async with hub_with() as hub:
        async with aclosing(hub.ask_stream("let there be light", "en", "", "mute")) as pieces:
            spoken = [piece async for piece in pieces]
        assert len(spoken) > 1 and not is_on(hub, "Bed Light")
