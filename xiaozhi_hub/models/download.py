"""Bringing a model of the catalogue to the shelf."""

from __future__ import annotations

import asyncio
from pathlib import Path

from xiaozhi_hub.core.config import ModelsConfig
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.catalogue import CatalogueModel
from xiaozhi_hub.models.checks import Digests
from xiaozhi_hub.models.fetch import Fetcher, Stamina
from xiaozhi_hub.models.form import check_form
from xiaozhi_hub.models.progress import Progress
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.models.sources import address_of
from xiaozhi_hub.models.stock import Origin, ensure_room, growing, settle


async def download(
    model: CatalogueModel,
    shelf: ModelShelf,
    settings: ModelsConfig,
    progress: Progress,
    stamina: Stamina | None = None,
) -> InstalledModel:
    """Fetch *model* and put it on the shelf; what an earlier try brought is used. `HubError` says what is wrong.

    Whoever calls this has been asked to by a person, and that person has agreed to a licence that asks for it (`ask`).
    """
    addresses = [(file, address_of(settings, model, file)) for file in model.files]  # before anything is made
    await asyncio.to_thread(ensure_room, shelf.folder, model.size - _there(model, shelf))
    with growing(shelf, model.engine, model.name) as part:
        digests: dict[str, Digests] = {}
        async with Fetcher(settings, stamina) as fetcher:
            for file, address in addresses:
                target = part / file.name
                digests[file.name] = await fetcher.fetch(address, target, file, progress)
                if wrong := await asyncio.to_thread(check_form, target):
                    target.unlink()
                    raise HubError(
                        f"{file.name} is not what its name says: {wrong}.",
                        code="download-wrong",
                        hint="It was thrown away. Is the address in models: mirror: right?",
                    )
        source = f"{model.source.repository}@{model.source.revision}"
        origin = Origin(model.name, source, model.licence, digests)
        return await asyncio.to_thread(settle, part, model.engine, origin, model.name)


def _there(model: CatalogueModel, shelf: ModelShelf) -> int:
    """How much of *model* has come already."""
    part = shelf.folder / model.engine / f"{model.name}.part"
    return sum(_bytes(part / file.name) for file in model.files)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


__all__ = ["download"]
