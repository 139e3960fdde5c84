"""Where everything is kept that outlives the process: the data folder and the database in it.

Where the owner's folder refuses, the hub works in a temporary one and says so.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.problems import Problems
from xiaozhi_hub.store.database import Database

IN_MEMORY = "/dev/shm"
"""A file system in memory that nearly every Linux has."""


class Storage:
    """`open` before anything else, and `close` afterwards, even if that fails."""

    def __init__(self, data_dir: Path, problems: Problems) -> None:
        self._wanted = data_dir
        self._problems = problems
        self._stack = AsyncExitStack()
        self.folder: Path
        """The owner's data folder; a temporary one where that cannot be used."""
        self.in_memory = False
        """Everything lies in memory, where there is no room for sound."""
        self.database: Database

    async def open(self) -> None:
        """Open the database; `StoreError` when even a temporary folder cannot hold it."""
        folder = self._wanted
        try:
            await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
            self.database = Database(folder / "hub.db")
            await self.database.open()
        except (OSError, StoreError) as error:
            reason, hint = _told(folder, error)
            self._problems.show("store", f"Nothing will be remembered after a restart: {reason}.", hint)
            folder = await self._open_elsewhere(reason, hint)
        self._stack.push_async_callback(self.database.close)
        self.folder = folder

    async def _open_elsewhere(self, reason: str, hint: str) -> Path:
        """Open a database for this run only. On a board with one card, what is the matter with the data folder is the matter with
        every other folder as well: then it lies in memory."""
        for parent in (None, IN_MEMORY):
            try:
                folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="xiaozhi-hub-", dir=parent))
                self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
                self.database = Database(folder / "hub.db")
                await self.database.open()
            except (OSError, StoreError):
                continue
            self.in_memory = parent is not None
            return folder
        raise StoreError(
            f"{reason[0].upper()}{reason[1:]}, and no other folder can be written either.", hint=hint, permanent=True
        )

    async def close(self) -> None:
        await self._stack.aclose()


def _told(folder: Path, error: OSError | StoreError) -> tuple[str, str]:
    """Why the folder cannot be used and what to do about it, for people."""
    if isinstance(error, StoreError):
        cure = "Free some space." if error.code == "store-full" else error.hint
        reason = error.message
    elif isinstance(error, (FileExistsError, NotADirectoryError)):
        cure = "Move what is there away, or set data_dir to another folder."
        reason = f"{folder} is not a folder"
    else:
        cure = "Let the user the hub runs as write to the folder, or set data_dir to another one."
        reason = f"{folder}: {error.strerror}"
    return reason, f"{cure} Then start the hub again."


__all__ = ["Storage"]
