"""What an integration says of itself without being imported: its ``manifest.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import voluptuous as vol

from xiaozhi_hub.errors import ConfigError, Place

KINDS = ("engines", "tools", "entities", "sentences", "transports")

_SCHEMA = vol.Schema(
    {
        vol.Required("domain"): vol.All(str, vol.Match(r"^[a-z][a-z0-9_]*$", msg="expected a lower-case name")),
        vol.Required("name"): vol.All(str, vol.Length(min=1)),
        vol.Required("version"): vol.All(str, vol.Match(r"^\d+(\.\d+)*$", msg="expected a version such as 0.1.0")),
        vol.Required("kinds"): [vol.In(KINDS)],
        vol.Required("online"): bool,
        vol.Optional("default", default=False): bool,
        vol.Optional("optional", default=False): bool,
        vol.Optional("requirements", default=list): [
            vol.All(str, vol.Match(r"^[A-Za-z0-9]", msg="expected the name of a package"))
        ],
    }
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The checked content of one ``manifest.json``."""

    domain: str
    name: str
    version: str
    kinds: tuple[str, ...]
    online: bool
    """It reaches beyond the local network."""
    default: bool
    """It is set up when the configuration does not speak of it."""
    optional: bool
    """Set up by default, it is no fault that it lacks a package or a model: it is merely *available*."""
    requirements: tuple[str, ...]
    """Distribution names, as pip takes them; looked up before the integration is imported."""
    folder: Path

    @property
    def has_sentences(self) -> bool:
        return (self.folder / "sentences").is_dir()


def read_manifest(folder: Path) -> Manifest:
    """Read ``<folder>/manifest.json``; raise `ConfigError` that names the file and the key."""
    path = folder / "manifest.json"
    try:
        raw: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        data = _SCHEMA(raw)
    except OSError as error:
        raise ConfigError(f"cannot read it: {error.strerror}", Place(str(path))) from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"not valid JSON: {error.msg}", Place(str(path), error.lineno)) from error
    except UnicodeDecodeError as error:
        raise ConfigError("not valid UTF-8", Place(str(path))) from error
    except vol.Invalid as error:
        key = " → ".join(str(part) for part in error.path)
        raise ConfigError(error.error_message, Place(str(path), key=key)) from error
    if data["domain"] != folder.name:
        raise ConfigError(
            f"the domain is {data['domain']!r} but the folder is {folder.name!r}",
            Place(str(path), key="domain"),
            hint="Give both the same name.",
        )
    return Manifest(
        domain=data["domain"],
        name=data["name"],
        version=data["version"],
        kinds=tuple(data["kinds"]),
        online=data["online"],
        default=data["default"],
        optional=data["optional"],
        requirements=tuple(data["requirements"]),
        folder=folder,
    )
