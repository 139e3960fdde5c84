"""The folder in which models lie: ``<data>/models/<engine>/<model>/``, one folder for each model with its files in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xiaozhi_hub.errors import NeedsAttention, NotInstalled

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
UNFINISHED = ".part"
"""How the name of a folder ends whose files are not all there yet."""


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A model that is there."""

    engine: str
    """The domain of the integration that runs it: ``piper``."""
    name: str
    folder: Path

    def file(self, pattern: str) -> Path:
        """The first file, by name, that *pattern* (``*.gguf``) fits; `NeedsAttention` when there is none."""
        for path in sorted(self.folder.glob(pattern)):
            if path.is_file():
                return path
        raise NeedsAttention(
            f"The model {self.name} in {self.folder} has no file {pattern}.",
            code="model-incomplete",
            hint=f"Run: xiaozhi-hub models verify {self.name}",
        )


class ModelShelf:
    """Finds models on the disk. Every call looks anew, and blocks for as long as the disk takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._preferred: dict[str, str] = {}

    def prefer(self, engine: str, name: str) -> None:
        """From now on `find` gives *name* where nobody wants a certain model of *engine*."""
        self._preferred[engine] = name

    def installed(self, engine: str) -> tuple[InstalledModel, ...]:
        """The models of *engine*, by name."""
        try:
            folders = sorted(path for path in (self.folder / engine).iterdir() if path.is_dir())
        except OSError:
            return ()
        return tuple(
            InstalledModel(engine, path.name, path)
            for path in folders
            if _NAME.fullmatch(path.name) and not path.name.endswith(UNFINISHED)
        )

    def find(self, engine: str, wanted: str = "") -> InstalledModel:
        """The model *wanted*: the name of one on the shelf, or the path of a folder or file elsewhere; empty for the one that is
        preferred, else the first.

        `NotInstalled`, with the command that gets it, where it is not there.
        """
        if wanted and ("/" in wanted or wanted.startswith(("~", "."))):
            path = Path(wanted).expanduser()
            if not path.exists():
                raise NotInstalled(f"There is no model at {path}.", code="model-missing", hint="Is the path right?")
            return InstalledModel(engine, path.stem, path if path.is_dir() else path.parent)
        there = self.installed(engine)
        if not wanted and any(model.name == self._preferred.get(engine) for model in there):
            wanted = self._preferred[engine]
        for model in there:
            if not wanted or model.name == wanted:
                return model
        if wanted:
            hint = f"Run: xiaozhi-hub models download {wanted}"
            if there:
                hint += f"   There is: {', '.join(model.name for model in there)}."
            raise NotInstalled(f"The model {wanted} is not here.", code="model-missing", hint=hint)
        raise NotInstalled(
            f"There is no model for {engine} yet.", code="model-missing", hint="Run: xiaozhi-hub models recommend"
        )


__all__ = ["UNFINISHED", "InstalledModel", "ModelShelf"]
