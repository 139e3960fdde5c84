"""What the hub writes down: turns, and for how long; what was said with language models while it does not run."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from xiaozhi_hub.audio import ogg
from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.flow import Outcome, TurnRecord
from xiaozhi_hub.core.forgetting import Forget, Forgetting
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.agent import keeping
from xiaozhi_hub.dialog.agent.keeping import Kept
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.problems import Problems
from xiaozhi_hub.storage import Storage
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.devices import Devices
from xiaozhi_hub.store.history import History

DIALOGUES = "dialogues.json"
"""What was talked about with language models, in the data folder while the hub does not run."""
DAY_SECONDS = 86400.0
RETENTION_SECONDS = 6 * 3600.0
FORGET_SECONDS = 2.0
"""For turns to be written that have ended just before they are to be forgotten."""


class Archive:
    """`open` before anything else, when *storage* is open. *nobody* is the id of a device of which nothing is remembered: the
    hub's own self-test."""

    def __init__(
        self,
        config: Config,
        storage: Storage,
        bus: Bus,
        scope: TaskScope,
        problems: Problems,
        forgetting: Forgetting,
        nobody: str,
    ) -> None:
        self._config = config
        self._storage = storage
        self._bus = bus
        self._scope = scope
        self._problems = problems
        self._forgetting = forgetting
        self._nobody = nobody
        self._writing: set[asyncio.Task[None]] = set()
        self.history: History
        self.known_devices: Devices

    @property
    def folder(self) -> Path:
        """See `Storage.folder`."""
        return self._storage.folder

    @property
    def database(self) -> Database:
        return self._storage.database

    def open(self) -> None:
        """Begin to remember: the store is there."""
        history = self._config.history
        self.history = History(
            self.database,
            self.folder / "audio",
            ogg.write_ogg,
            enabled=history.enabled,
            keep_audio=history.audio and not self._storage.in_memory,
            keep_days=history.keep_days,
        )
        self.known_devices = Devices(self.database)

    def configure(self, config: Config) -> None:
        """The owner wants something else remembered. The folder stays."""
        self._config = config
        history = config.history
        self.history.configure(
            enabled=history.enabled,
            keep_audio=history.audio and not self._storage.in_memory,
            keep_days=history.keep_days,
        )

    # -- turns ----------------------------------------------------------------------------------------------------

    def remember(self, record: TurnRecord) -> None:
        """Hand a finished turn to the history; what was only noise is not worth a record."""
        if (
            record.device_id == self._nobody
            or record.outcome is Outcome.NO_SPEECH
            or (record.outcome is Outcome.INTERRUPTED and not record.heard)
        ):
            return
        self._bus.tell(TurnFinished(record))
        task = self._scope.start(self._write(record), name="remember")
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def written(self, seconds: float) -> None:
        """Wait until the turns so far are written, but no longer than *seconds*."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=seconds)

    async def _write(self, record: TurnRecord) -> None:
        try:
            await self.history.add(record)
        except StoreError as error:
            self._problems.show("history", f"Turns are not remembered: {error.message}", error.hint)
        else:
            self._problems.solved("history")

    async def retention(self, others: Iterable[Callable[[float], Awaitable[None]]]) -> None:
        """Forget what is older than the owner wishes, now and every few hours: turns, what *others* forget when they are told
        the time, and what all else hold. One that fails keeps none of the others from it. Never returns."""
        everyone = (self.history.apply_retention, *others, self._forget_old)
        while True:
            failed: StoreError | None = None
            for forget in everyone:
                try:
                    await forget(time.time())
                except StoreError as error:
                    failed = failed or error
            if failed is None:
                self._problems.solved("retention")
            else:
                self._problems.show("retention", f"Not all that is old is deleted: {failed.message}", failed.hint)
            await asyncio.sleep(RETENTION_SECONDS)

    async def _forget_old(self, now: float) -> None:
        keep_days = self._config.history.keep_days
        if keep_days > 0:
            await self._forgetting.forget(Forget(before=now - keep_days * DAY_SECONDS))

    async def forget(self, what: Forget) -> None:
        """Delete turns and recordings, those that are being written included; devices too, where they are gone."""
        await self.written(FORGET_SECONDS)
        if what.before is not None:
            return  # `retention` does that
        if what.devices is None:
            await self.history.forget_all()
        elif what.gone:
            for device_id in what.devices:
                await self.history.forget_device(device_id)
        else:
            await self.history.forget_turns(what.devices)

    async def forget_caches(self, what: Forget) -> None:
        """Delete the caches of integrations that are not running: nobody can look through them now, and they can be made again.
        What is too old in them is left."""
        if what.before is not None:
            return
        running = self._forgetting.holders

        def delete() -> None:
            for folder in (self.folder / "cache").glob("*"):
                if folder.name not in running:
                    shutil.rmtree(folder, ignore_errors=True)

        await asyncio.to_thread(delete)

    # -- dialogues ------------------------------------------------------------------------------------------------

    async def take_dialogues(self) -> list[Kept]:
        """The dialogues that were kept when the hub stopped; from now on they are kept nowhere."""
        return await asyncio.to_thread(keeping.take, self.folder / DIALOGUES)

    async def keep_dialogues(self, dialogues: Callable[[float], Iterable[Kept]]) -> None:
        """Keep what *dialogues* gives for the time of now, until the hub starts again."""
        if self._config.history.enabled:
            kept = [item for item in dialogues(time.time()) if item.device_id != self._nobody]
            await asyncio.to_thread(keeping.write, self.folder / DIALOGUES, kept)


__all__ = ["Archive"]
