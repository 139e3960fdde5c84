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


class Storage:
    """`open` before anything else, and `close` afterwards, even if that fails."""

    def __init__(self, data_dir: Path, problems: Problems) -> None:
        self._wanted = data_dir
        self._problems = problems
        self._stack = AsyncExitStack()
        self.folder: Path
        """The owner's data folder; a temporary one where that cannot be used."""
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
            folder = Path(tempfile.mkdtemp(prefix="xiaozhi-hub-"))
            self._stack.callback(shutil.rmtree, folder, ignore_errors=True)
            self.database = Database(folder / "hub.db")
            await self.database.open()
        self._stack.push_async_callback(self.database.close)
        self.folder = folder

    async def close(self) -> None:
        await self._stack.aclose()


def _told(folder: Path, error: OSError | StoreError) -> tuple[str, str]:
    """Why the folder cannot be used and what to do about it, for people."""
    if isinstance(error, StoreError):
        return error.message, error.hint
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{folder} is not a folder", "Move what is there away, or set data_dir to another folder."
    hint = "Let the user the hub runs as write to the folder, or set data_dir to another one."
    return f"{folder}: {error.strerror}", hint


__all__ = ["Storage"]
