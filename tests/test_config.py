"""What the owner writes becomes frozen values, and every mistake is told with its place and its cure."""

from __future__ import annotations

import dataclasses
import itertools
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import voluptuous as vol
from hypothesis import given, settings
from hypothesis import strategies as st
from permissions import permissions_hold

from xiaozhi_hub.cli import main
from xiaozhi_hub.core import config as config_module
from xiaozhi_hub.core.checking import check_options
from xiaozhi_hub.core.config import (
    AssistantConfig,
    Config,
    DeviceConfig,
    HubConfig,
    LimitsConfig,
    ensure_config_folder,
    load_config,
)
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.core.schema import CONFIGURATION
from xiaozhi_hub.core.secret import Secret
from xiaozhi_hub.core.yaml_files import Reader
from xiaozhi_hub.errors import ConfigError, ConfigErrors


def load(folder: Path, text: str, environment: dict[str, str] | None = None, **files: str) -> Config:
    """Load a configuration with *text*; further *files* by name, with ``__`` for ``/`` and without ``.yaml``."""
    (folder / "configuration.yaml").write_text(text, encoding="utf-8")
    for name, content in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return load_config(folder, environment or {})


def mistakes(folder: Path, text: str, environment: dict[str, str] | None = None, **files: str) -> list[str]:
    with pytest.raises(ConfigErrors) as wrong:
        load(folder, text, environment, **files)
    return [str(error) for error in wrong.value.errors]


# -- an empty folder is a working hub -----------------------------------------------------------------------------


def test_a_missing_folder_gives_the_shipped_defaults(tmp_path: Path) -> None:
    config = load_config(tmp_path / "nowhere")
    assert config == Config(tmp_path / "nowhere", integrations={"demo": None})
    assert config.data_dir == tmp_path / "nowhere" / "data"
    assert not (tmp_path / "nowhere").exists()


def test_an_empty_file_is_a_hub_without_the_demonstration_home(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config(tmp_path)
    assert load(tmp_path, "# nothing\n") == Config(tmp_path)


def test_a_new_folder_gets_the_commented_file_and_an_old_one_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "home"
    assert ensure_config_folder(folder)
    path = folder / "configuration.yaml"
    assert path.read_bytes() == (builtin("config") / "configuration.yaml").read_bytes()
    path.write_text("hub: {name: mine}\n")
    assert ensure_config_folder(folder)
    assert load_config(folder).hub.name == "mine"


def test_a_place_that_cannot_be_written_still_gives_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert not ensure_config_folder(tmp_path / "file" / "config")
    assert load_config(tmp_path / "file" / "config").integrations == {"demo": None}


def test_the_file_itself_in_place_of_its_folder_is_told(tmp_path: Path) -> None:
    path = tmp_path / "configuration.yaml"
    path.write_text("")
    with pytest.raises(ConfigErrors, match=re.escape(f"expected a folder, this is a file. Did you mean {tmp_path}?")):
        load_config(path)


# -- the shipped file ---------------------------------------------------------------------------------------------


def shipped_with_every_line_in_force() -> str:
    lines = (builtin("config") / "configuration.yaml").read_text(encoding="utf-8").splitlines()
    return "\n".join(re.sub(r"^( *)#(?=[\w\"])", r"\1", line) for line in lines)


def keys_of(schema: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if isinstance(schema, vol.Schema):
        return keys_of(schema.schema, path)
    if isinstance(schema, vol.All):
        return set().union(*(keys_of(each, path) for each in schema.validators))
    if not isinstance(schema, dict):
        return set()
    found = set()
    for key, check in schema.items():
        name = str(key) if isinstance(key, vol.Marker) else "*"
        found |= {(*path, name), *keys_of(check, (*path, name))}
    return found


def test_the_shipped_file_explains_every_key_and_shows_its_default(tmp_path: Path) -> None:
    text = shipped_with_every_line_in_force()
    (tmp_path / "configuration.yaml").write_text(text, encoding="utf-8")
    document = Reader(tmp_path, {}).read(tmp_path / "configuration.yaml")
    written = {
        tuple("*" if part in ("24:6f:28:aa:bb:cc", "storyteller") else part for part in path if isinstance(part, str))
        for path in document.places
        if path and path[:2] != ("integrations", "demo")
    }
    assert written == keys_of(CONFIGURATION) - {("integrations", "*")}
    device = {"24:6f:28:aa:bb:cc": DeviceConfig("Kitchen", "Kitchen", "en")}
    assistants = {"storyteller": AssistantConfig()}
    assert load_config(tmp_path, {}) == Config(
        tmp_path, integrations={"demo": None}, devices=device, assistants=assistants
    )


def test_each_key_of_the_shipped_file_has_a_line_of_explanation_above_it() -> None:
    lines = (builtin("config") / "configuration.yaml").read_text(encoding="utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"^ +#?\w+:", line) and not line.strip().endswith("silence:"):
            assert re.match(r"^ +# [A-Z].*\.$", above), f"{line!r} is explained by {above!r}"


def test_the_schema_and_the_values_have_the_same_keys() -> None:
    from_schema = {path for path in keys_of(CONFIGURATION) if "*" not in path}
    from_values: set[tuple[str, ...]] = set()

    def walk(kind: type[Any], path: tuple[str, ...]) -> None:
        for field in dataclasses.fields(kind):
            if path or field.name not in ("config_dir", "places", "stamps"):
                from_values.add((*path, field.name))
                inner = getattr(config_module, str(field.type), None)
                if dataclasses.is_dataclass(inner):
                    walk(inner, (*path, field.name))  # type: ignore[arg-type]

    walk(Config, ())
    # Written among the devices, kept apart from them.
    assert from_schema - {("devices", "pairing")} == from_values - {("pairing",)}


# -- values -------------------------------------------------------------------------------------------------------


def test_what_is_written_becomes_values(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
hub: {name: Villa, language: zh-CN, time_zone: Europe/Berlin, data_dir: store}
server: {ip: "::", port: 9000, http_port: 9001, auth_key: 12345}
http: {public_host: NAS.local}
discovery: {enabled: off}
voice:
  asr: phrases
  tts: [piper, espeak]
  silence: {complete_ms: 100}
  speed: 1.5
conversation: {idle_s: 30}
devices:
  AA-BB-CC-DD-EE-FF: {area: Kitchen}
  24:6f:28:aa:bb:cc:
history: {keep_days: 7, audio: no}
log: {level: Debug, folder: /var/log/hub}
limits: {devices: 5}
integrations: {demo: false, clock: , weather: {city: Ulm, days: [1, 2]}, echo: true}
""",
    )
    assert config.hub == HubConfig("villa", "zh-Hans", "Europe/Berlin", tmp_path / "store")
    assert config.data_dir == tmp_path / "store"
    assert (config.server.ip, config.server.port, config.server.http_port) == ("::", 9000, 9001)
    assert config.server.auth_key.reveal() == "12345"
    assert config.http.public_host == "nas.local"
    assert not config.discovery.enabled
    assert (config.voice.asr, config.voice.tts, config.voice.vad) == (("phrases",), ("piper", "espeak"), ())
    assert (config.voice.silence.complete_ms, config.voice.silence.unfinished_ms) == (100, 1000)
    assert config.voice.speed == 1.5
    assert config.devices == {
        "aa:bb:cc:dd:ee:ff": DeviceConfig("aa:bb:cc:dd:ee:ff", "Kitchen"),
        "24:6f:28:aa:bb:cc": DeviceConfig("24:6f:28:aa:bb:cc"),
    }
    assert (config.history.keep_days, config.history.audio, config.history.enabled) == (7, False, True)
    assert (config.log.level, config.log.folder) == ("debug", Path("/var/log/hub"))
    assert config.limits == LimitsConfig(devices=5)
    assert config.integrations == {
        "demo": False, "clock": None, "weather": {"city": "Ulm", "days": [1, 2]}, "echo": None
    }  # fmt: skip


def test_a_key_without_a_value_has_its_default(tmp_path: Path) -> None:
    assert load(tmp_path, "hub:\nserver:\n  port:\nvoice:\n  silence:\n  asr:\ndevices:\nintegrations:\n") == Config(
        tmp_path
    )


def test_values_cannot_be_changed(tmp_path: Path) -> None:
    config = load(tmp_path, "integrations: {demo: }\ndevices: {a1: {name: x}}\n")
    for change in (
        lambda: setattr(config.server, "port", 1),
        lambda: setattr(config, "hub", None),
        lambda: config.devices.update(a2=None),  # type: ignore[attr-defined]
        lambda: config.integrations.update(a=1),  # type: ignore[attr-defined]
    ):
        with pytest.raises((AttributeError, dataclasses.FrozenInstanceError)):
            change()


def test_texts_that_yaml_likes_to_reinterpret_stay_texts(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "integrations: {x: {a: 6:30, b: no, c: 007, d: 2024-01-01, e: 1.5, f: -3, g: 1_000, h: 0x1F, i: ~, 8: on}}",
    )
    assert config.integrations["x"] == {
        "a": "6:30", "b": "no", "c": "007", "d": "2024-01-01", "e": 1.5, "f": -3, "g": "1_000", "h": "0x1F", "i": None,
        "8": "on",
    }  # fmt: skip


def test_the_override_file_is_merged_over_the_main_one(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".config.yaml").write_text(
        "server:\n  port: 7001\nintegrations:\n  demo: false\n  clock: {a: 1}\nvoice: {asr: [b]}\n"
    )
    config = load(
        tmp_path, "server: {port: 7000, http_port: 7002}\nintegrations: {demo: , echo: }\nvoice: {asr: [a, c]}\n"
    )
    assert (config.server.port, config.server.http_port) == (7001, 7002)
    assert config.integrations == {"demo": False, "echo": None, "clock": {"a": 1}}
    assert config.voice.asr == ("b",)
    assert str(config.place(("server", "port"))) == "data/.config.yaml:2 server → port"
    assert str(config.place(("server", "http_port"))) == "configuration.yaml:1 server → http_port"
    assert str(config.place(("voice", "asr", 1))) == "data/.config.yaml:6 voice → asr → item 2"


def test_the_override_file_works_without_a_main_one_and_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".config.yaml").write_text("server: {http_port: 9999}\n")
    config = load_config(tmp_path)
    assert config.server.http_port == 9999
    assert config.integrations == {"demo": None}
    (tmp_path / "data" / ".config.yaml").write_text("\n")
    assert load_config(tmp_path).server.http_port == 8003


# -- secrets, other files, the environment ------------------------------------------------------------------------


def test_a_secret_comes_from_its_file_and_shows_itself_to_nobody(tmp_path: Path) -> None:
    config = load(tmp_path, "server: {auth_key: !secret door}\n", secrets="door: open sesame\nother: 1\n")
    key = config.server.auth_key
    assert key.reveal() == "open sesame"
    for shown in (repr(key), str(key), f"{key}", f"{key:>20}", f"{key!r}", repr(config), repr([key])):
        assert "sesame" not in shown
        assert "••••" in shown
    assert key == Secret("open sesame")
    assert key != "open sesame"
    assert not Secret()
    assert pickle.loads(pickle.dumps(key)) == key


def test_a_part_may_live_in_another_file(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "devices: !include parts/devices.yaml\n\nintegrations:\n  x: !include parts/empty.yaml\n",
        parts__devices="# mine\n\naa:bb:cc:dd:ee:ff: !include one.yaml\n",
        parts__one="name: Kitchen\n",
        parts__empty="",
    )
    assert config.devices["aa:bb:cc:dd:ee:ff"].name == "Kitchen"
    assert config.integrations == {"x": None}
    assert str(config.place(("devices", "aa:bb:cc:dd:ee:ff", "name"))).startswith("parts/one.yaml:1 devices")
    assert str(config.place(("devices",))) == "configuration.yaml:1 devices"


def test_variables_are_put_in_and_typed_like_what_is_written(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
server: {port: "${PORT}", auth_key: "${KEY}"}
hub:
  name: ${NAME:-villa}
  data_dir: ${HOME}/hub
history:
  audio: ${AUDIO}
  keep_days: ${DAYS:-5}
integrations:
  x: {a: "${PORT}", b: "$${PORT}", c: "$PORT", d: "${EMPTY}", e: "${EMPTY:-full}", f: 'a ${PORT} b ${KEY}'}
""",
        {"PORT": "7000", "KEY": "0042", "HOME": "/home/me", "AUDIO": "false", "EMPTY": ""},
    )
    assert config.server.port == 7000
    assert config.server.auth_key.reveal() == "0042"
    assert (config.hub.name, config.data_dir) == ("villa", Path("/home/me/hub"))
    assert (config.history.audio, config.history.keep_days) == (False, 5)
    assert config.integrations["x"] == {
        "a": "7000", "b": "${PORT}", "c": "$PORT", "d": "", "e": "full", "f": "a 7000 b 0042"
    }  # fmt: skip


def test_secrets_are_taken_literally(tmp_path: Path) -> None:
    config = load(tmp_path, "server: {auth_key: !secret a}", secrets="a: ${HOME}x\n")
    assert config.server.auth_key.reveal() == "${HOME}x"


def test_groups_may_be_shared_with_yaml_s_own_means(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "devices:\n  a1: &same {area: Attic, language: en}\n  a2:\n    <<: *same\n    area: Cellar\n  a3: *same\n",
    )
    assert config.devices["a2"] == DeviceConfig("a2", "Cellar", "en")
    assert config.devices["a3"] == DeviceConfig("a3", "Attic", "en")


# -- mistakes -----------------------------------------------------------------------------------------------------

MAIN = "configuration.yaml"
MISTAKES = {
    "an unknown key": (
        "server:\n  ip: 0.0.0.0\n  prot: 8000\n",
        f'{MAIN}:3 server → prot: there is no key "prot" here. Did you mean port?',
    ),
    "an unknown key without a value": (
        "server:\n  prot:\n",
        f'{MAIN}:2 server → prot: there is no key "prot" here. Did you mean port?',
    ),
    "an unknown group": ("severs: {}\n", f'{MAIN}:1 severs: there is no key "severs" here. Did you mean server?'),
    "a key outside of its group": (
        "http_port: 80\n",
        f'{MAIN}:1 http_port: there is no key "http_port" here. It belongs under server.',
    ),
    "a group inside another": (
        "hub:\n  voice: {}\n",
        f'{MAIN}:2 hub → voice: there is no key "voice" here. voice is a group of its own: begin it in the first column.',
    ),
    "a key that resembles none": (
        "http:\n  zzz: 1\n",
        f'{MAIN}:2 http → zzz: there is no key "zzz" here. Known here: public_host, websocket_urls, moved_to, origins.',
    ),
    "a word for a port": (
        "server:\n  port: abc\n",
        f'{MAIN}:2 server → port: expected a port number from 1 to 65535, got "abc".',
    ),
    "a port beyond the last": (
        "server: {port: 70000}",
        f"{MAIN}:1 server → port: expected a port number from 1 to 65535, got 70000.",
    ),
    "port zero": ("server: {port: 0}", f"{MAIN}:1 server → port: expected a port number from 1 to 65535, got 0."),
    "true for a port": (
        "server: {port: true}",
        f"{MAIN}:1 server → port: expected a port number from 1 to 65535, got true.",
    ),
    "a fraction for a port": (
        "server: {port: 80.5}",
        f"{MAIN}:1 server → port: expected a port number from 1 to 65535, got 80.5.",
    ),
    "a list for a port": (
        "server: {port: [1]}",
        f"{MAIN}:1 server → port: expected a port number from 1 to 65535, got a list.",
    ),
    "a name for an address": (
        "server: {ip: localhost}",
        f'{MAIN}:1 server → ip: expected an IP address of this machine, got "localhost". Did you mean 127.0.0.1?',
    ),
    "no address at all": (
        "server: {ip: 1.2.3}",
        f'{MAIN}:1 server → ip: expected an IP address of this machine, 0.0.0.0 for all of them, got "1.2.3".',
    ),
    "a key that is no text": (
        "server: {auth_key: 1.5}",
        f"{MAIN}:1 server → auth_key: expected text; what is written is secret and not shown. Put it in quotes.",
    ),
    "a word for a group": ("server: yes please\n", f'{MAIN}:1 server: expected a group of keys, got "yes please".'),
    "a list for a group": ("history:\n- audio\n", f"{MAIN}:1 history: expected a group of keys, got a list."),
    "a list for the whole file": ("- a\n- b\n", f"{MAIN}:1: expected a group of keys, got a list."),
    "a host name with blanks": (
        "hub: {name: My Hub.local}",
        f"{MAIN}:1 hub → name: expected a host name of the letters a to z, digits and hyphens, "
        'got "My Hub.local". Did you mean my-hub?',
    ),
    "an address with scheme and port": (
        "http: {public_host: 'http://nas:80/'}",
        f'{MAIN}:1 http → public_host: expected a host name or an IP address, got "http://nas:80/". Did you mean nas?',
    ),
    "another language": ("hub: {language: fr}", f'{MAIN}:1 hub → language: expected en or zh-Hans, got "fr".'),
    "a city for a time zone": (
        "hub: {time_zone: shanghai}",
        f'{MAIN}:1 hub → time_zone: expected a time zone such as Europe/Berlin, got "shanghai". Did you mean Asia/Shanghai?',
    ),
    "a way out for a time zone": (
        "hub: {time_zone: ../../etc/passwd}",
        f'{MAIN}:1 hub → time_zone: expected a time zone such as Europe/Berlin, got "../../etc/passwd".',
    ),
    "maybe for a switch": (
        "history: {audio: maybe}",
        f'{MAIN}:1 history → audio: expected true or false, got "maybe".',
    ),
    "one for a switch": ("history: {audio: 1}", f"{MAIN}:1 history → audio: expected true or false, got 1."),
    "an unknown level": (
        "log: {level: warn}",
        f'{MAIN}:1 log → level: expected one of debug, info, warning, error, got "warn". Did you mean warning?',
    ),
    "a wait as long as the device's": (
        "conversation: {idle_s: 110}",
        f"{MAIN}:1 conversation → idle_s: expected a number of seconds from 5 to 109, got 110.",
    ),
    "a number for an engine": (
        "voice: {asr: [a, 3]}",
        f"{MAIN}:1 voice → asr: expected the id of an engine, or a list of them, got a list.",
    ),
    "an inner key misspelt": (
        "voice:\n  silence:\n    complet_ms: 200\n",
        f'{MAIN}:3 voice → silence → complet_ms: there is no key "complet_ms" here. Did you mean complete_ms?',
    ),
    "a device without colons": (
        "devices:\n  246F28AABBCC: {name: x}\n",
        f'{MAIN}:2 devices → 246F28AABBCC: expected a MAC address, got "246F28AABBCC". Did you mean 24:6f:28:aa:bb:cc?',
    ),
    "a device with blanks": (
        "devices:\n  my device: {name: x}\n",
        f'{MAIN}:2 devices → my device: expected a MAC address such as 24:6f:28:aa:bb:cc, got "my device".',
    ),
    "a device twice": (
        "devices:\n  aa:bb:cc:dd:ee:ff: {}\n  AA-BB-CC-DD-EE-FF: {}\n",
        f"{MAIN}:3 devices → AA-BB-CC-DD-EE-FF: expected each device once, "
        'got "AA-BB-CC-DD-EE-FF". aa:bb:cc:dd:ee:ff is the same one.',
    ),
    "an unknown key of a device": (
        "devices:\n  a1:\n    aera: Attic\n",
        f'{MAIN}:3 devices → a1 → aera: there is no key "aera" here. Did you mean area?',
    ),
    "an integration with a hyphen": (
        "integrations:\n  my-home: {}\n",
        f'{MAIN}:2 integrations → my-home: expected the name of an integration, got "my-home". Did you mean my_home?',
    ),
    "a number for an integration": (
        "integrations:\n  demo: 3\n",
        f"{MAIN}:2 integrations → demo: expected its options, nothing to use its defaults, or false to switch it off, got 3.",
    ),
    "a key twice": (
        "hub:\n  name: a\n  language: en\n  name: b\n",
        f'{MAIN}:4 hub → name: the key "name" is written twice. It stands in line 2 already: keep one of the two.',
    ),
    "a tab": ("hub:\n\tname: x\n", f"{MAIN}:2: there is a tab. YAML wants spaces for indentation."),
    "a tab in mid-block": (
        "hub:\n  name: x\n\tlanguage: en\n",
        f"{MAIN}:3: there is a tab. YAML wants spaces for indentation.",
    ),
    "wrong indentation": (
        "hub:\n  name: x\n language: en\n",
        f"{MAIN}:3: the line is indented unlike those above it. Keys of the same group begin in the same column.",
    ),
    "two colons": (
        "hub:\n  name: a: b\n",
        f"{MAIN}:2: there is one colon too many. Indent like the line above, or put the value in quotes.",
    ),
    "no colon": ("hub:\n  name: a\nserver\n", f'{MAIN}:3: a colon is missing after the key. Write "key: value".'),
    "an open quote": (
        'hub:\n  name: "abc\n  language: en\n',
        f"{MAIN}:2: a quotation mark is opened and never closed.",
    ),
    "an open bracket": (
        "voice:\n  asr: [a, b\n",
        f"{MAIN}:2: a bracket is opened and not closed. Write texts that contain [ ] {{ }} in quotes.",
    ),
    "a value that begins with an at": (
        "hub:\n  name: @home\n",
        f"{MAIN}:2: a value must not begin with @. Put it in quotes.",
    ),
    "an unknown alias": ("hub: *x\n", f"{MAIN}:1: there is nothing that x is the name of."),
    "an alias of itself": (
        "voice: &v\n  silence: *v\n",
        f"{MAIN}:1 voice → silence: an alias (*name) stands inside the very thing that it names.",
    ),
    "two documents": (
        "hub: {}\n---\nhub: {}\n",
        f'{MAIN}:2: a second document begins (the line "---"). Keep everything in one document.',
    ),
    "an invisible character": (
        "hub:\n  name: a\x07b\n",
        f"{MAIN}:2: there is an invisible character that YAML does not allow.",
    ),
    "a group as a key": (
        "hub:\n  {a: b}: c\n",
        f"{MAIN}:2 hub: expected a name before the colon. Write texts with {{ }} in quotes.",
    ),
    "an unknown tag": (
        "hub: {name: !sceret x}\n",
        f'{MAIN}:1 hub → name: there is no "!sceret". Did you mean !secret?',
    ),
    "no file of secrets": (
        "server: {auth_key: !secret door}\n",
        f'{MAIN}:1 server → auth_key: the secret "door" is looked for in secrets.yaml, which does not exist. '
        'Make it beside configuration.yaml, with the line "door: …".',
    ),
    "a file that is not there": (
        "devices: !include devcies.yaml\n",
        f"{MAIN}:1 devices: there is no file devcies.yaml. It is looked for in {{folder}}.",
    ),
    "nothing to include": ("devices: !include\n", f"{MAIN}:1 devices: !include needs the name of a file."),
    "a file that includes itself": (
        f"hub: !include {MAIN}\n",
        f"{MAIN}:1 hub: files include each other in a circle. {MAIN} → {MAIN}.",
    ),
    "a variable that is not set": (
        "server:\n  auth_key: ${KEY}\n",
        f"{MAIN}:2 server → auth_key: the environment variable KEY is not set. Set it, or write ${{KEY:-value when it is not set}}.",
    ),
    "a variable without a name": (
        "server: {auth_key: '${}'}\n",
        f'{MAIN}:1 server → auth_key: "${{}}" names no environment variable. Write ${{NAME}} or ${{NAME:-value when it is not set}}.',
    ),
    "a wrong value from a variable": (
        "server:\n  port: ${WORD}\n",
        f'{MAIN}:2 server → port: expected a port number from 1 to 65535, got "${{WORD}}". It comes from an environment variable.',
    ),
}


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.replace(" ", "-"))
def test_a_mistake_is_told_with_place_cause_and_cure(tmp_path: Path, case: str) -> None:
    text, message = MISTAKES[case]
    assert mistakes(tmp_path, text, {"WORD": "hush"}) == [message.replace("{folder}", str(tmp_path))]


def test_all_mistakes_are_told_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    told = mistakes(
        tmp_path,
        "log: {level: loud}\nserver:\n  port: x\n  port: 3\n  auth_key: !secret nope\nhistory: !include gone.yaml\nhubs: 1\n",
        secrets="yes: 1\n",
        data__x="",
    )
    assert [re.match(r"configuration\.yaml:(\d+) (.*?):", each).groups() for each in told] == [  # type: ignore[union-attr]
        ("1", "log → level"),
        ("3", "server → port"),
        ("4", "server → port"),
        ("5", "server → auth_key"),
        ("6", "history"),
        ("7", "hubs"),
    ]


def test_several_errors_are_one_error_with_the_first_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as wrong:
        load(tmp_path, "a: 1\nb: 2\n")
    assert isinstance(wrong.value, ConfigErrors)
    assert wrong.value.place.line == 1
    assert len(str(wrong.value).splitlines()) == 2
    assert wrong.value.permanent


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ("dor: x\n", 'there is no secret "door" in secrets.yaml. Did you mean dor?'),
        ("zzz: x\n", 'there is no secret "door" in secrets.yaml. Add the line "door: …" to it.'),
        ("", 'there is no secret "door" in secrets.yaml. Add the line "door: …" to it.'),
        ("door:\n", 'the secret "door" is empty. Write its value into secrets.yaml.'),
    ],
)
def test_a_missing_secret_is_told_at_its_use(tmp_path: Path, secrets: str, message: str) -> None:
    assert mistakes(tmp_path, "server:\n  auth_key: !secret door\n", secrets=secrets) == [
        f"configuration.yaml:2 server → auth_key: {message}"
    ]


@pytest.mark.parametrize(
    ("secrets", "message"),
    [
        ('door: "x\n', "secrets.yaml:1: a quotation mark is opened and never closed."),
        ("- door\n", "secrets.yaml:1: expected lines of the form name: value."),
        ("door: !secret roof\n", "secrets.yaml:1 door: a secret cannot name another secret."),
    ],
)
def test_a_broken_file_of_secrets_is_told_once(tmp_path: Path, secrets: str, message: str) -> None:
    text = "server: {auth_key: !secret door}\nhub: {name: !secret door}\n"
    assert mistakes(tmp_path, text, secrets=secrets) == [message]


def test_a_mistake_in_an_included_file_is_told_there(tmp_path: Path) -> None:
    told = mistakes(
        tmp_path,
        "devices: !include d.yaml\nhub: !include h.yaml\nvoice: !include v.yaml\n",
        d="\n\na1:\n  nmae: x\n",
        h="name: [a\n",
        v="asr: !include configuration.yaml\n",
    )
    assert told == [
        'd.yaml:4 devices → a1 → nmae: there is no key "nmae" here. Did you mean name?',
        "h.yaml:1: a bracket is opened and not closed. Write texts that contain [ ] { } in quotes.",
        "v.yaml:1 voice → asr: files include each other in a circle. configuration.yaml → v.yaml → configuration.yaml.",
    ]


def test_a_file_that_is_a_link_to_itself_is_a_mistake_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "round.yaml").symlink_to("round.yaml")
    (told,) = mistakes(tmp_path, "devices: !include round.yaml\n")
    assert told.startswith("configuration.yaml:1 devices: round.yaml cannot be read: ")


def test_a_mistake_in_the_override_file_is_told_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / ".config.yaml").write_text("server:\n\n  port: -1\n")
    assert mistakes(tmp_path, "server: {port: 80}") == [
        "data/.config.yaml:3 server → port: expected a port number from 1 to 65535, got -1."
    ]


@pytest.mark.parametrize(
    ("written", "environment"),
    [
        ("!secret word", {}),
        ("xyzzy-123", {}),
        ("${WORD}", {"WORD": "xyzzy-123"}),
        ("${WORD:-xyzzy-123}", {"WORD": "xyzzy-123"}),
    ],
)
def test_no_message_ever_shows_a_secret(tmp_path: Path, written: str, environment: dict[str, str]) -> None:
    schema = vol.Schema({"token": int, "url": int, "pin": [int]})
    text = f"integrations:\n  x:\n    token: {written}\n"
    if written != "xyzzy-123":  # under a harmless key a plainly written word is no secret
        text += f"    url: {written}\n"
    config = load(tmp_path, text, environment, secrets="word: xyzzy-123\n")
    options = config.integrations["x"]
    assert isinstance(options, dict)
    with pytest.raises(ConfigErrors) as wrong:
        check_options(schema, options, lambda path: config.place(("integrations", "x", *path)))
    if "xyzzy" not in written:
        assert "xyzzy" not in str(wrong.value)
    assert "xyzzy" not in "\n".join(str(error) for error in wrong.value.errors if error.place.key.endswith("token"))


def test_a_password_inside_an_address_is_not_shown(tmp_path: Path) -> None:
    told = mistakes(tmp_path, "http: {public_host: 'https://me:hush@nas/'}")
    assert "hush" not in told[0].partition("Did you mean")[0]
    assert "••••@nas" in told[0]


def test_a_file_that_is_not_utf8_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_bytes("hub:\n  name: Küche\n".encode("latin-1"))
    with pytest.raises(
        ConfigErrors, match=r"configuration.yaml:2: a letter here is not UTF-8\. Save the file as UTF-8\."
    ):
        load_config(tmp_path)


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").write_bytes(b"\xef\xbb\xbfhub:\r\n  name: villa\r\n")
    assert load_config(tmp_path).hub.name == "villa"


def test_a_folder_in_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").mkdir()
    with pytest.raises(ConfigErrors, match=r"configuration.yaml: configuration.yaml cannot be read: Is a directory"):
        load_config(tmp_path)


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "configuration.yaml").touch(mode=0o000)
    with permissions_hold(), pytest.raises(ConfigErrors, match="cannot be read: Permission denied"):
        load_config(tmp_path)


def test_a_file_that_grows_without_bound_is_refused(tmp_path: Path) -> None:
    levels = "\n".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))
    told = mistakes(tmp_path, f"integrations:\n  l0: &l0 [x]\n{levels}\n")
    assert "there is far too much in here" in "\n".join(told)


def test_brackets_without_end_are_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in mistakes(tmp_path, "hub: " + "[" * 2000)[0]


# -- an integration's own options ---------------------------------------------------------------------------------

OPTIONS = vol.Schema(
    {
        vol.Required("url"): vol.All(str, vol.Match(r"^tcp://", msg="expected tcp://host:port")),
        vol.Optional("language", default="zh"): vol.In(["zh", "en"]),
        vol.Optional("timeout", default=10): vol.All(int, vol.Range(1, 120)),
        vol.Optional("rooms", default=list): [{vol.Required("name"): str}],
        vol.Optional("loud", default=False): bool,
        vol.Optional("volume"): vol.Coerce(float),
    }
)


def options_of(folder: Path, text: str) -> Any:
    config = load(folder, f"integrations:\n  wyoming:\n{text}")
    raw = config.integrations["wyoming"]
    return check_options(OPTIONS, raw or {}, lambda path: config.place(("integrations", "wyoming", *path)))  # type: ignore[arg-type]


def test_an_integration_s_options_are_checked_and_completed(tmp_path: Path) -> None:
    options = options_of(tmp_path, "    url: tcp://nas:1\n    volume: 3\n")
    assert options == {
        "url": "tcp://nas:1", "language": "zh", "timeout": 10, "rooms": [], "loud": False, "volume": 3.0
    }  # fmt: skip


OPTION_MISTAKES = {
    "    url: http://nas\n": ':3 integrations → wyoming → url: expected tcp://host:port, got "http://nas".',
    "    timeout: 3\n": ':2 integrations → wyoming: the key "url" is missing.',
    "    url: tcp://x\n    tiemout: 3\n": (
        ':4 integrations → wyoming → tiemout: there is no key "tiemout" here. Did you mean timeout?'
    ),
    "    url: tcp://x\n    timeout: 0\n": (":4 integrations → wyoming → timeout: the value must be at least 1, got 0."),
    "    url: tcp://x\n    timeout: soon\n": (
        ':4 integrations → wyoming → timeout: expected a whole number, got "soon".'
    ),
    "    url: tcp://x\n    language: zn\n": (
        ':4 integrations → wyoming → language: expected one of zh, en, got "zn". Did you mean zh?'
    ),
    "    url: 12\n": ":3 integrations → wyoming → url: expected text, got 12. Put it in quotes.",
    "    url: tcp://x\n    loud: very\n": (':4 integrations → wyoming → loud: expected true or false, got "very".'),
    "    url: tcp://x\n    volume: full\n": (':4 integrations → wyoming → volume: expected a number, got "full".'),
    "    url: tcp://x\n    rooms:\n    - name: a\n    - nane: b\n": (
        ':6 integrations → wyoming → rooms → item 2 → nane: there is no key "nane" here. Did you mean name?',
        ':6 integrations → wyoming → rooms → item 2: the key "name" is missing.',
    ),
    "    url: tcp://x\n    rooms: a\n": ':4 integrations → wyoming → rooms: expected a list, got "a".',
}


@pytest.mark.parametrize("text", OPTION_MISTAKES)
def test_a_mistake_in_options_is_told_like_any_other(tmp_path: Path, text: str) -> None:
    expected = OPTION_MISTAKES[text]
    with pytest.raises(ConfigErrors) as wrong:
        options_of(tmp_path, text)
    lines = (expected,) if isinstance(expected, str) else expected
    assert [str(error) for error in wrong.value.errors] == [f"configuration.yaml{line}" for line in lines]


# -- anything at all ----------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text("abc:{}[]&*!|>'\"%@`#-?,.$ \n\t01", max_size=40))
def test_any_text_is_a_configuration_or_a_told_mistake(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    try:
        load(folder, text)
    except ConfigErrors as wrong:
        assert all(error.place.file and error.message.endswith(".") for error in wrong.errors)


_leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
_tree = st.recursive(
    _leaf, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner), max_leaves=5
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(path for path in keys_of(CONFIGURATION) if "*" not in path)), _tree)
def test_any_value_under_any_key_is_accepted_or_told(path: tuple[str, ...], value: Any) -> None:
    for key in reversed(path):
        value = {key: value}
    try:
        CONFIGURATION(value)
    except vol.MultipleInvalid as wrong:
        assert all(tuple(error.path[: len(path)])[:1] == path[:1] for error in wrong.errors)


# -- the commands -------------------------------------------------------------------------------------------------


def test_check_config_says_ok_and_what_is_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configuration.yaml").write_text(
        "hub: {name: villa}\nserver: {auth_key: hush-hush}\nvoice: {tts: espeak}\n"
    )
    assert main(["check-config", "-c", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("OK")
    assert "villa.local" in out
    assert "tts espeak" in out
    assert "hush" not in out + err


def test_check_config_lists_all_mistakes_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configuration.yaml").write_text("hub: {nam: villa}\nserver: {port: x}\n")
    assert main(["check-config", "-c", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "configuration.yaml:1 hub → nam" in err
    assert "configuration.yaml:2 server → port" in err
    assert err.splitlines()[-1] == f"2 mistakes in {tmp_path}"


def test_check_config_knows_the_integrations_and_their_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "integrations" / "lamp"
    own.mkdir(parents=True)
    manifest = '{"domain": "lamp", "name": "Lamp", "version": "1", "kinds": ["tools"], "online": false}'
    (own / "manifest.json").write_text(manifest)
    (own / "__init__.py").write_text("")
    (own / "config.py").write_text("import voluptuous as vol\nSCHEMA = vol.Schema({vol.Optional('watts'): int})\n")
    (tmp_path / "configuration.yaml").write_text("integrations:\n  lamp: {wats: 60}\n  lmap:\n  gone: false\n")
    assert main(["check-config", "-c", str(tmp_path)]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[:2] == [
        'configuration.yaml:2 integrations → lamp → wats: there is no key "wats" here. Did you mean watts?',
        'configuration.yaml:3 integrations → lmap: there is no integration "lmap". Did you mean lamp?',
    ]
    (tmp_path / "configuration.yaml").write_text("integrations:\n  lamp: {watts: 60}\n")
    assert main(["check-config", "-c", str(tmp_path)]) == 0


def test_help_and_version_load_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom xiaozhi_hub.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: assert not end.code\n"
        "heavy = {'numpy', 'aiohttp', 'voluptuous', 'yaml', 'asyncio'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    for words in (["--help"], ["--version"]):
        run = subprocess.run(
            [sys.executable, "-c", program, *words],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        )  # fmt: skip
        assert run.returncode == 0, run.stderr
        assert "xiaozhi-hub" in run.stdout or "XiaoZhi Hub" in run.stdout
        assert run.stderr == ""


def test_a_wrong_command_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["fly"])
    assert end.value.code == 2
    assert "check-config" in capsys.readouterr().err
