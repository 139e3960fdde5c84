"""What devices say, and what is said to them."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.core.flow import EMOTIONS
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.device_messages import (
    Abort,
    DeviceHello,
    DeviceMessage,
    Goodbye,
    Iot,
    ListenDetect,
    ListenStart,
    ListenStop,
    Mcp,
    Ping,
    Unknown,
    parse_device_message,
)
from xiaozhi_hub.protocol.hub_messages import (
    Alert,
    HubHello,
    HubMessage,
    Keepalive,
    LlmEmotion,
    SentenceStart,
    Stt,
    TtsStart,
    TtsStop,
    display_text,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"session_id":"s","type":"listen","state":"start","mode":"auto"}', ListenStart("auto")),
        ('{"session_id":"","type":"listen","state":"start","mode":"manual"}', ListenStart("manual")),
        ('{"type":"listen","state":"start","mode":"realtime"}', ListenStart("realtime")),
        ('{"type":"listen","state":"start"}', ListenStart("auto")),
        ('{"type":"listen","state":"start","mode":"psychic"}', ListenStart("auto")),
        ('{"type":"listen","state":"start","mode":7}', ListenStart("auto")),
        ('{"type":"listen","state":"stop"}', ListenStop()),
        ('{"type":"listen","state":"detect","text":"你好小智"}', ListenDetect("你好小智")),
        ('{"type":"listen","state":"detect"}', ListenDetect("")),
        ('{"type":"listen","state":"detect","text":5}', ListenDetect("")),
        ('{"type":"listen","state":"detect","text":"half \\ud83d"}', ListenDetect("half ?")),
        (
            '{"type":"listen","state":"detect","text":"<detect>1 person </detect>"}',
            ListenDetect("<detect>1 person </detect>"),
        ),
        ('{"session_id":"s","type":"listen","state":"detect","text":"say "hi" twice"}', ListenDetect('say "hi" twice')),
        ('{"type":"listen","state":"dance"}', Unknown("listen")),
        ('{"type":"listen"}', Unknown("listen")),
        ('{"type":"abort"}', Abort("")),
        ('{"type":"abort","reason":"wake_word_detected"}', Abort("wake_word_detected")),
        ('{"type":"abort","reason":["x"]}', Abort("")),
        (
            '{"type":"mcp","payload":{"jsonrpc":"2.0","id":1,"result":{}}}',
            Mcp({"jsonrpc": "2.0", "id": 1, "result": {}}),
        ),
        ('{"session_id":"","type":"iot","update":true,"states":[]}', Iot({"update": True, "states": []})),
        ('{"type":"ping"}', Ping()),
        ('{"type":"goodbye"}', Goodbye()),
        ('{"type":"telepathy","session_id":3}', Unknown("telepathy")),
    ],
)
def test_messages_of_devices_are_understood(text: str, message: DeviceMessage) -> None:
    assert parse_device_message(text) == message


FIRMWARE_HELLO = """{"type":"hello","version":1,"features":{"mcp":true,"glyph_push":false},
 "text_font":{"bundle":"noto-v1","charset":"common","size":20,"bpp":4},"transport":"websocket",
 "audio_params":{"format":"opus","sample_rate":16000,"channels":1,"frame_duration":60}}"""


@pytest.mark.parametrize(
    ("name", "text", "hello"),
    [
        ("current firmware", FIRMWARE_HELLO, DeviceHello(features=frozenset({"mcp"}))),
        ("firmware before 1.6.6", '{"type":"hello","version":1,"transport":"websocket"}', DeviceHello()),
        ("a desktop client", '{"type":"hello","audio_params":{"frame_duration":20}}', DeviceHello(frame_ms=20)),
        (
            "echo cancellation by the hub",
            '{"type":"hello","features":{"aec":true}}',
            DeviceHello(features=frozenset({"aec"})),
        ),
        ("framing 3", '{"type":"hello","version":3}', DeviceHello(version=3)),
        ("an unknown framing", '{"type":"hello","version":9}', DeviceHello()),
        ("wrong types", '{"type":"hello","version":"x","features":[],"audio_params":7,"transport":1}', DeviceHello()),
        ("absurd numbers", '{"type":"hello","audio_params":{"sample_rate":-1,"frame_duration":1e9}}', DeviceHello()),
    ],
)
def test_hellos_are_understood(name: str, text: str, hello: DeviceHello) -> None:
    assert parse_device_message(text) == hello


def test_a_device_without_opus_is_sent_away() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_device_message('{"type":"hello","audio_params":{"format":"pcm"}}')
    assert caught.value.close


@pytest.mark.parametrize(
    "text",
    ["", "hello", "{", "[]", "null", "7", '"hello"', "{}", '{"type":null}', '{"type":5}', '{"type":"mcp"}',
     '{"type":"mcp","payload":null}', '{"type":"mcp","payload":[1]}', "[" * 100_000, '{"type":' + "9" * 10_000 + "}"],
)  # fmt: skip
def test_what_is_no_message_is_refused_and_the_link_goes_on(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_device_message(text)
    assert not caught.value.close


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KNOWN_KEYS = st.sampled_from(
    ["type", "state", "mode", "text", "version", "features", "audio_params", "transport", "payload", "reason"]
)
KNOWN_VALUES = st.sampled_from(["hello", "listen", "start", "detect", "abort", "mcp", "iot", "opus"])
AUDIO = st.dictionaries(st.sampled_from(["format", "sample_rate", "frame_duration"]), JSON)


@settings(deadline=None, derandomize=True)
@given(st.dictionaries(KNOWN_KEYS, KNOWN_VALUES | JSON | AUDIO))
def test_any_object_is_understood_or_refused(message: dict[str, object]) -> None:
    try:
        parsed = parse_device_message(json.dumps(message))
    except ProtocolError:
        return
    if isinstance(parsed, DeviceHello):
        assert parsed.version in (1, 2, 3)
        assert 5 <= parsed.frame_ms <= 120


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=200))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        parse_device_message(text)
    except ProtocolError:
        pass


# -- hub → device -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (
            HubHello(),
            {
                "type": "hello",
                "session_id": "s1",
                "transport": "websocket",
                "audio_params": {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
            },
        ),
        (Stt("what time is it"), {"type": "stt", "session_id": "s1", "text": "what time is it"}),
        (TtsStart(), {"type": "tts", "session_id": "s1", "state": "start"}),
        (
            SentenceStart("现在九点。"),
            {"type": "tts", "session_id": "s1", "state": "sentence_start", "text": "现在九点。"},
        ),
        (TtsStop(), {"type": "tts", "session_id": "s1", "state": "stop"}),
        (LlmEmotion("happy"), {"type": "llm", "session_id": "s1", "emotion": "happy"}),
        (LlmEmotion("ecstatic"), {"type": "llm", "session_id": "s1", "emotion": "neutral"}),
        (
            Alert("Hub", "No voice", "sad"),
            {"type": "alert", "session_id": "s1", "status": "Hub", "message": "No voice", "emotion": "sad"},
        ),
        (
            Keepalive(),
            {
                "type": "mcp",
                "session_id": "s1",
                "payload": {"jsonrpc": "2.0", "method": "notifications/keepalive"},
            },
        ),
    ],
)
def test_messages_to_devices_have_the_wire_form(message: HubMessage, wire: dict[str, object]) -> None:
    assert json.loads(message.json("s1")) == wire


def test_every_message_to_devices_has_a_frozen_form() -> None:
    for kind in HubMessage.__subclasses__():
        assert dataclasses.fields(kind) is not None
        assert kind.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is 21 °C. 😀", "It is 21 °C."),
        ("one\ntwo\r\n three\t", "one two three"),
        ("👨‍👩‍👧 family ❤️!", "family !"),
        ("灯打开了 ✅", "灯打开了"),
        ("7️⃣ up ⏰", "7 up"),
        ("№ 5 ℃ ½ – “quoted”…", "№ 5 ℃ ½ – “quoted”…"),
        ("a\x00b\x1bc\u202ed", "abcd"),
        ("broken \ud800 half", "broken half"),
        ("", ""),
    ],
)
def test_texts_are_made_fit_for_a_small_display(text: str, shown: str) -> None:
    assert display_text(text).replace("  ", " ") == shown


@settings(deadline=None, derandomize=True)
@given(st.text(), st.sampled_from([*EMOTIONS, "", "x"]))
def test_whatever_the_text_the_frame_is_small_valid_utf8(text: str, emotion: str) -> None:
    for message in (Stt(text), SentenceStart(text), Alert(text, text, emotion)):
        frame = message.json("s1").encode()
        assert len(frame) < 8192
        fields = json.loads(frame)
        assert all(isinstance(value, str) for value in fields.values())
        assert not any("\n" in value for value in fields.values())


def test_a_long_text_is_cut() -> None:
    assert len(Stt("灯" * 5000).json("s1").encode()) < 4096
