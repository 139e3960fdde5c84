"""Which parts of the hub hold what was said. Integrations and the API for programs add themselves to `Forgetting`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from xiaozhi_hub.archive import Archive
from xiaozhi_hub.core.config import HistoryConfig
from xiaozhi_hub.core.forgetting import Forget, Forgetting, Holder
from xiaozhi_hub.engines.household import Household

if TYPE_CHECKING:
    from xiaozhi_hub.hub import Hub

_DAY = 86400.0


def holders_of(hub: Hub) -> Iterator[tuple[str, Holder]]:
    """They can be asked in any order."""
    yield "turns", hub.archive.forget
    yield "habits", hub.answering.waits.forget
    yield "photos", hub.services.forget
    yield "announcements", hub.messenger.forget
    yield "conversations", hub.devices.forget
    yield "phrases", hub.speaker.forget
    yield "devices", hub.reception.forget
    yield "caches", partial(_forget_caches, hub.archive, hub.forgetting)
    for memory in hub.engines.memories():  # the household's notes are there even while another memory is in use
        if isinstance(memory, Household):
            yield "memory", memory.forget_devices


async def _forget_caches(archive: Archive, forgetting: Forgetting, what: Forget) -> None:
    if what.before is None:
        await archive.forget_caches(forgetting.holders)


async def forget_old(forgetting: Forgetting, history: HistoryConfig, now: float) -> None:
    """Forget what is older than the owner wishes, where nothing else does so."""
    if history.keep_days > 0:
        await forgetting.forget(Forget(before=now - history.keep_days * _DAY))


__all__ = ["forget_old", "holders_of"]
