"""What the owner has set, as frozen values.

`load_config` is the way from files to values. Everything has a default, so an empty folder is a working hub; the
defaults stand here and nowhere else. Nobody changes a `Config`: a change of the files makes a new one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xiaozhi_hub.core.checking import check
from xiaozhi_hub.core.documents import Document, KeyPath, place_of
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.core.schema import CONFIGURATION
from xiaozhi_hub.core.secret import Secret
from xiaozhi_hub.core.yaml_files import SECRETS_FILE, Reader, Stamp, is_there, stamp_of
from xiaozhi_hub.errors import ConfigError, ConfigErrors, Place

MAIN_FILE = "configuration.yaml"
USUAL_ASSISTANT = "default"
"""The key of the assistant of those who have chosen none; there without being written."""
OVERRIDE_FILE = "data/.config.yaml"
"""Merged over the main file. Other servers of the family keep the owner's settings there, so theirs may be copied."""


@dataclass(frozen=True, slots=True)
class HubConfig:
    """The hub itself."""

    name: str = "xiaozhi-hub"
    """The host name on the local network, without ``.local``."""
    language: str = "en"
    """The language of devices and pages that ask for none: one of `i18n.LANGUAGES`."""
    time_zone: str = ""
    """An IANA name; empty is the zone of the system."""
    data_dir: Path | None = None
    """As the owner wrote it; use `Config.data_dir`."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the hub listens."""

    ip: str = "0.0.0.0"
    port: int = 8000
    http_port: int = 8003
    auth_key: Secret = field(default_factory=Secret)


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """What the hub says about its own address."""

    public_host: str | None = None
    """Put into OTA answers in place of the address that the request arrived on."""
    websocket_urls: tuple[str, ...] = ()
    """Where devices are sent, each to one of them by its id; none means to this hub."""
    moved_to: str = ""
    """``http://host:port`` of the hub that devices are to go to instead of this one."""
    origins: tuple[str, ...] = ()
    """Addresses of web pages from elsewhere that may talk to the hub, ``scheme://host:port`` as browsers send them."""


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """Announcing the hub on the local network."""

    enabled: bool = True


@dataclass(frozen=True, slots=True)
class SilenceConfig:
    """How long a pause must be before it is the end of what a person says, in milliseconds."""

    complete_ms: int = 120
    """After a whole command that cannot go on."""
    extendable_ms: int = 300
    """After a whole command that could go on, by people of whom nothing is known."""
    unfinished_ms: int = 1000
    """After the beginning of a command."""
    unknown_ms: int = 700
    """After anything else."""
    learn: bool = True
    """Wait for less than `extendable_ms` where people here are known not to go on, and for up to `unknown_ms` where they do."""


@dataclass(frozen=True, slots=True)
class VoiceConfig:
    """Hearing and speaking. Engines are named by id, the preferred one first; none means the first available."""

    vad: tuple[str, ...] = ()
    asr: tuple[str, ...] = ()
    tts: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    vision: tuple[str, ...] = ()
    silence: SilenceConfig = SilenceConfig()
    speed: float = 1.0
    lead_ms: int = 300
    """How far ahead of what is heard the device is supplied with speech."""
    phrase_cache_mb: int = 0
    """How much speech that was said more than once is kept on the disk; 0 is none."""


@dataclass(frozen=True, slots=True)
class ConversationConfig:
    """How a conversation ends."""

    idle_s: float = 60
    """The hub hangs up when nobody has spoken for so long."""
    farewell: bool = True
    """Say goodbye before hanging up on somebody who has fallen silent."""
    check_wake_words: bool = False
    """Look once more at what devices took to be their wake word, and let go of those that were surely woken by something else."""


@dataclass(frozen=True, slots=True)
class AssistantConfig:
    """One assistant. What is not set is as in `VoiceConfig`."""

    name: str = ""
    """How people call it; empty for its key."""
    persona: str = ""
    language: str | None = None
    voice: str = ""
    speed: float | None = None
    volume: float = 1.0
    asr: tuple[str, ...] = ()
    llm: tuple[str, ...] = ()
    tts: tuple[str, ...] = ()
    tools: tuple[str, ...] = ("*",)
    memory: bool = True
    rooms: tuple[str, ...] = ()
    """The areas whose devices have it."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """What the owner has said about one device."""

    name: str
    area: str | None = None
    language: str | None = None
    firmware: str | None = None
    """The one firmware version it may get, or ``hold`` for the one it has."""
    transport: str = "websocket"
    """How it reaches the hub; others than the WebSocket come from integrations."""
    assistant: str | None = None
    """Key of the assistant that answers on it."""
    framing: int = 1
    """Version of the binary framing on its WebSocket. 2 carries timestamps, which builds with echo cancellation on the server
    need; it is told at the next check-in."""


@dataclass(frozen=True, slots=True)
class DisplayConfig:
    """What devices show."""

    glyph_push: bool = False
    """Send pictures of characters to devices whose font lacks them."""
    font: Path | None = None
    """The file of the font to draw them with; None takes one that this machine has."""


@dataclass(frozen=True, slots=True)
class HistoryConfig:
    """What is remembered of conversations."""

    enabled: bool = True
    audio: bool = True
    photos: bool = False
    keep_days: int = 30


@dataclass(frozen=True, slots=True)
class MemoryConfig:
    """What people ask the hub to remember."""

    enabled: bool = True
    engine: tuple[str, ...] = ()
    """By id, the preferred one first; none means the first available."""


@dataclass(frozen=True, slots=True)
class LogConfig:
    """What is written down about the hub's own work."""

    level: str = "info"
    folder: Path | None = None
    """An absolute folder for log files; None writes to the terminal only."""
    json: bool = False
    """One JSON object per line on the terminal."""


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What one device, or all of them, may ask of the hub."""

    devices: int = 1000
    message_bytes: int = 65535
    frames_per_second: int = 60
    json_per_second: int = 50
    downloads: int = 4
    """Firmware and assets that are sent at the same time."""


@dataclass(frozen=True, slots=True)
class ModelsConfig:
    """Where models are downloaded from, when somebody asks for one."""

    mirror: str = ""
    """The address of a model hub or of a copy of it: ``https://…``, with or without ``{repository}``, ``{revision}`` and ``{path}``."""
    releases: str = ""
    """The same for models that are published as files of a release; empty for `mirror`."""
    proxy: Secret = field(default_factory=Secret)
    """The proxy to download through; empty for the one that the environment names."""


@dataclass(frozen=True)
class Config:
    """Everything the owner has set, with defaults for the rest."""

    config_dir: Path
    hub: HubConfig = HubConfig()
    server: ServerConfig = field(default_factory=ServerConfig)
    http: HttpConfig = HttpConfig()
    discovery: DiscoveryConfig = DiscoveryConfig()
    voice: VoiceConfig = VoiceConfig()
    conversation: ConversationConfig = ConversationConfig()
    assistants: Mapping[str, AssistantConfig] = field(default_factory=dict)
    devices: Mapping[str, DeviceConfig] = field(default_factory=dict)
    pairing: str | None = None
    """Written as ``devices: pairing:``: ``open``, ``approve``, or None for a first day that is open."""
    display: DisplayConfig = DisplayConfig()
    history: HistoryConfig = HistoryConfig()
    memory: MemoryConfig = MemoryConfig()
    log: LogConfig = LogConfig()
    limits: LimitsConfig = LimitsConfig()
    models: ModelsConfig = field(default_factory=ModelsConfig)
    integrations: Mapping[str, Mapping[str, Any] | bool | None] = field(default_factory=dict)
    """Options by domain, unchecked: each integration checks its own. None is *on with its defaults*, False is *off*."""
    places: Mapping[KeyPath, Place] = field(default_factory=dict, compare=False, repr=False)
    stamps: Mapping[Path, Stamp | None] = field(default_factory=dict, compare=False, repr=False)
    """The files that it was read from, or would have been if they were there, as they were at that time."""

    @property
    def data_dir(self) -> Path:
        """Where the hub keeps what must outlive it. An absolute path when `config_dir` is one; it may not exist yet."""
        return self.hub.data_dir or self.config_dir / "data"

    def place(self, path: Iterable[str | int]) -> Place:
        """Return where the keys *path* are written, or where the nearest key around them is."""
        return place_of(self.places, tuple(path), MAIN_FILE)


def ensure_config_folder(folder: Path) -> bool:
    """Make *folder* and the commented configuration file in it; what exists stays as it is.

    Returns False when the place cannot be written: the hub then works with the defaults, which `load_config` gives too.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MAIN_FILE).exists():
            shutil.copyfile(builtin("config") / MAIN_FILE, folder / MAIN_FILE)
    except OSError:
        return False
    return True


def load_config(folder: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read the configuration in *folder*; `ConfigErrors` tells all that is wrong with it at once, and ``stamps`` of it what was
    read until then.

    ``configuration.yaml`` in *folder* is read, or the shipped one when there is none; ``data/.config.yaml`` is merged
    over it. *environment* holds the variables for ``${…}``; the process's own unless given.
    """
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        hint = f"Did you mean {folder.parent}?" if folder.name == MAIN_FILE else ""
        raise ConfigErrors([ConfigError("expected a folder, this is a file.", Place(str(folder)), hint=hint)])
    reader = Reader(folder, environment)
    main, override = folder / MAIN_FILE, folder / OVERRIDE_FILE
    stamps = {path: stamp_of(path) for path in (main, override, folder / SECRETS_FILE)}
    document = reader.read(main if is_there(main) else builtin("config") / MAIN_FILE)
    if is_there(override):
        document = document.merged(reader.read(override))
    values, wrong = check(CONFIGURATION, document.value, document.place)
    errors = [*reader.errors, *wrong]
    stamps |= reader.stamps
    if errors:
        raise ConfigErrors(_in_order(errors), stamps)
    config = replace(_build(folder, values, document), stamps=MappingProxyType(stamps))
    if wrong := _wrong_assistants(config):
        raise ConfigErrors(_in_order(wrong), stamps)
    return config


def _in_order(errors: list[ConfigError]) -> list[ConfigError]:
    return sorted(errors, key=lambda error: (error.place.file, error.place.line or 0))


def _wrong_assistants(config: Config) -> list[ConfigError]:
    """Devices whose assistant does not exist, and assistants that nobody could tell apart."""
    errors: list[ConfigError] = []
    known = (*config.assistants, *(() if USUAL_ASSISTANT in config.assistants else (USUAL_ASSISTANT,)))
    for device_id, device in config.devices.items():
        if device.assistant is not None and device.assistant not in known:
            near = get_close_matches(device.assistant, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
            place = config.place(("devices", device_id, "assistant"))
            errors.append(ConfigError(f'there is no assistant "{device.assistant}".', place, hint=hint))
    called: dict[str, str] = {}
    rooms: dict[str, str] = {}
    for key, assistant in config.assistants.items():
        for what, names, taken in (
            ("name", [assistant.name] if assistant.name else [], called),
            ("rooms", assistant.rooms, rooms),
        ):
            for name in names:
                other = taken.setdefault(name.casefold(), key)
                if other != key:
                    place = config.place(("assistants", key, what))
                    errors.append(ConfigError(f'"{name}" is taken.', place, hint=f"The assistant {other} has it."))
    return errors


def _display(folder: Path, values: Mapping[str, Any]) -> DisplayConfig:
    font = {"font": folder / values["font"]} if "font" in values else {}
    return DisplayConfig(**{**values, **font})


def _build(folder: Path, values: Mapping[str, Any], document: Document) -> Config:
    """Make the frozen values; what is not in *values* is left to the defaults above."""
    hub = dict(values.get("hub", {}))
    if "data_dir" in hub:
        hub["data_dir"] = (folder / hub["data_dir"]).resolve()  # without "..", as people read it
    log = dict(values.get("log", {}))
    if "folder" in log:
        log["folder"] = folder / log["folder"]
    voice = dict(values.get("voice", {}))
    if "silence" in voice:
        voice["silence"] = SilenceConfig(**voice["silence"])
    written = dict(values.get("devices", {}))
    pairing = written.pop("pairing", None)
    devices = {device_id: DeviceConfig(**{"name": device_id, **options}) for device_id, options in written.items()}
    return Config(
        config_dir=folder,
        hub=HubConfig(**hub),
        server=ServerConfig(**values.get("server", {})),
        http=HttpConfig(**values.get("http", {})),
        discovery=DiscoveryConfig(**values.get("discovery", {})),
        voice=VoiceConfig(**voice),
        conversation=ConversationConfig(**values.get("conversation", {})),
        assistants=MappingProxyType(
            {key: AssistantConfig(**options) for key, options in values.get("assistants", {}).items()}
        ),
        devices=MappingProxyType(devices),
        pairing=pairing,
        display=_display(folder, values.get("display", {})),
        history=HistoryConfig(**values.get("history", {})),
        memory=MemoryConfig(**values.get("memory", {})),
        log=LogConfig(**log),
        limits=LimitsConfig(**values.get("limits", {})),
        models=ModelsConfig(**values.get("models", {})),
        integrations=MappingProxyType(dict(values.get("integrations", {}))),
        places=MappingProxyType(document.places),
    )
