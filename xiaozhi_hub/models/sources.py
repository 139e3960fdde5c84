"""The address of a model's file. No address of a model hub is written in this program: the owner's settings have it."""

from __future__ import annotations

import urllib.request
from urllib.parse import quote, urlsplit

from xiaozhi_hub.core.config import ModelsConfig
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.models.catalogue import CatalogueModel, ModelFile

_LAYOUTS = {
    "hub": "/{repository}/resolve/{revision}/{path}",
    "release": "/{repository}/releases/download/{revision}/{path}",
}
"""Where a base address alone is set: as the hubs and forges that models are published on have it."""


def address_of(settings: ModelsConfig, model: CatalogueModel, file: ModelFile) -> str:
    """The address of *file*; `HubError` that says which setting is missing."""
    source = model.source
    base = (settings.releases if source.kind == "release" else "") or settings.mirror
    if not base:
        key = "models: releases: (or mirror:)" if source.kind == "release" else "models: mirror:"
        raise HubError(
            "Where to download from is not set, and the hub asks nobody by itself.",
            code="no-mirror",
            hint=f"Write the address of a model hub, or of a copy of one, into configuration.yaml as {key} (docs/models.md "
            "names one). Without a network: copy the files to a stick elsewhere and run: xiaozhi-hub models import PATH",
        )
    template = base if "{path}" in base else base + _LAYOUTS[source.kind]
    return (
        template.replace("{repository}", quote(source.repository))
        .replace("{revision}", quote(source.revision))
        .replace("{path}", quote(source.path_of(file)))
    )


def proxy_for(settings: ModelsConfig, address: str) -> str | None:
    """The proxy to reach *address* through: the owner's, or the one that the environment names; `HubError` when that is none for HTTP."""
    if settings.proxy:
        return settings.proxy.reveal()
    parts = urlsplit(address)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy:
        return None
    kind, there, _ = proxy.partition("://")
    if not there:
        return f"http://{proxy}"  # as curl takes it
    if kind.lower() not in ("http", "https"):
        raise HubError(
            f"The proxy that the environment names is one for {kind}, and the hub goes through proxies for HTTP only.",
            code="proxy-unknown",
            hint="Write the address of one for HTTP into configuration.yaml as models: proxy:",
        )
    return proxy


__all__ = ["address_of", "proxy_for"]
