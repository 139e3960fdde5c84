"""Recorded speech: one Ogg Opus file per recording, named after its content, beside the database."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.store.files import write_whole

Container = Callable[[Sequence[Packet], int], bytes]
"""Puts Opus packets as they are into an Ogg file; the second argument is the sample rate before encoding."""


@dataclass(frozen=True, slots=True)
class Recording:
    """A file in the folder of recordings."""

    id: str
    """SHA-256 of the file, in hexadecimal: the same sound is kept once."""
    bytes: int
    ms: float
    rate: int


class Recordings:
    """The folder of recordings. Blocking: for the store's own threads only."""

    def __init__(self, folder: Path, container: Container) -> None:
        self._folder = folder
        self._container = container

    def save(self, packets: Sequence[Packet], rate: int) -> Recording | None:
        """Write *packets* as they came; None when there are none."""
        if not packets:
            return None
        return self.save_file(self._container(packets, rate), sum(packet.ms for packet in packets), rate)

    def save_file(self, content: bytes, ms: float, rate: int) -> Recording:
        """Keep a finished Ogg file. It appears whole or not at all."""
        recording = Recording(hashlib.sha256(content).hexdigest(), len(content), ms, rate)
        path = self.path(recording.id)
        try:
            if path.stat().st_size == len(content):
                return recording
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        return recording

    def path(self, id: str) -> Path:
        return self._folder / id[:2] / f"{id}.ogg"

    def shelves(self) -> list[str]:
        """The sub-folders there are; each holds the recordings whose ids begin with its name."""
        try:
            return sorted(entry.name for entry in os.scandir(self._folder) if entry.is_dir() and len(entry.name) == 2)
        except FileNotFoundError:
            return []

    def on_shelf(self, shelf: str) -> Iterator[str]:
        """Ids of the recordings on one shelf."""
        for path in (self._folder / shelf).glob("*.ogg"):
            if not path.name.startswith("."):
                yield path.stem

    def remove(self, id: str) -> None:
        self.path(id).unlink(missing_ok=True)

    def remove_unfinished(self, shelf: str) -> None:
        """Remove what a crash left in the middle of writing."""
        for path in (self._folder / shelf).glob(".*"):
            path.unlink(missing_ok=True)


__all__ = ["Container", "Recording", "Recordings"]
